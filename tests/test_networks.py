import json

import pytest
import torch

from shuttlelib import blocks, losses, networks, versions
from shuttlelib.errors import ShuttleError

SMALL = {1: (96, 160), 2: (96, 96)}


def small_net(name, seed=0):
    """Any row at a size that a test can afford; the square stage-1 row stays square."""
    torch.manual_seed(seed)
    spec = versions.resolve(name, pretrained=False)
    hw = SMALL[spec.stage] if spec.input_hw[0] != spec.input_hw[1] or spec.stage == 2 else (96, 96)
    return networks.build(versions.resolve(name, pretrained=False, input_hw=hw))


def batch_for(net, n=2):
    h, w = net.spec.input_hw
    frames = torch.randint(0, 256, (n, 4, 3, h, w), dtype=torch.uint8)
    history = torch.rand(n, networks.HISTORY, 3).round(decimals=2)
    xy = torch.tensor([[w * 0.3, h * 0.6], [torch.nan, torch.nan]])[:n]
    return frames, history, xy


@pytest.mark.parametrize("name", versions.names())
def test_row_builds_learns_and_round_trips(name, tmp_path):
    net = small_net(name)
    frames, history, xy = batch_for(net)
    prediction = net(frames, history)
    h, w = (side // net.spec.heatmap_stride for side in net.spec.input_hw)
    assert prediction.heatmap.shape == (2, h, w)
    assert prediction.offset.shape == (2, 2, h, w)
    assert prediction.visible_logit.shape == (2,)
    loss = losses.training_loss(net.spec, prediction, xy)["loss"]
    loss.backward()
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in grads)
    assert sum(float(g.abs().sum()) for g in grads) > 0
    networks.save(net.eval(), tmp_path)
    again = networks.load(tmp_path)
    assert again.net.spec == net.spec
    with torch.no_grad():
        mine, theirs = net(frames, history), again.net(frames, history)
    assert torch.allclose(mine.heatmap, theirs.heatmap, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", versions.names())
def test_deployed_outputs_are_in_range(name):
    net = small_net(name).eval()
    frames, history, _ = batch_for(net)
    with torch.no_grad():
        xy, score, visible = networks.Deployed(net)(frames.permute(0, 1, 3, 4, 2), history)
    limit = max(net.spec.input_hw)
    assert xy.shape == (2, networks.CANDIDATES, 2)
    assert ((xy[:, 0] > -limit) & (xy[:, 0] < 2 * limit)).all()
    assert ((score >= 0) & (score <= 1)).all()
    assert (score.diff(dim=1) <= 0).all()
    assert ((visible >= 0) & (visible <= 1)).all()


@pytest.mark.parametrize(("name", "looks"), [("stage1_v5", 2), ("stage2_v8", 2), ("stage2_v5", 8)])
def test_early_fusion_needs_one_backbone_pass_where_late_needs_four(name, looks):
    net = small_net(name).eval()
    seen = []
    net.backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    with torch.no_grad():
        net(*batch_for(net)[:2])
    assert seen == [looks]  # images that went through, for a batch of two


def test_early_fusion_sees_motion_with_its_sign():
    frames = torch.full((1, 4, 3, 8, 8), 100.0)
    frames[:, -1] += 20
    fused = blocks.fuse_early(frames)
    assert fused.shape == (1, 6, 8, 8)
    assert torch.allclose(fused[:, 3:], torch.tensor(20 / 255 * blocks.DIFFERENCE_GAIN), atol=1e-4)
    swapped = frames[:, [3, 1, 2, 0]]
    assert torch.allclose(blocks.fuse_early(swapped)[:, 3], -fused[:, 3], atol=1e-4)
    assert torch.allclose(blocks.fuse_early(frames.to(torch.uint8)), fused, atol=1e-5)


def test_temperature_of_the_spec_is_the_one_used():
    sharp, flat = (
        versions.resolve("stage2_v5", pretrained=False, input_hw=(96, 96), tau=t) for t in (0.05, 5.0)
    )
    heatmap = torch.zeros(1, 6, 6)
    heatmap[0, 1, 4] = 1.0
    prediction = networks.Prediction(heatmap, torch.zeros(1, 2, 6, 6), torch.zeros(1))
    nets = [networks.build(spec) for spec in (sharp, flat)]
    near, far = (net.decode(prediction, 1)[0][0, 0] for net in nets)
    peak = torch.tensor([4.5 * 16, 1.5 * 16])
    assert torch.dist(near, peak) < 1.0
    assert torch.dist(far, torch.tensor([48.0, 48.0])) < 5.0


@pytest.mark.parametrize(("seen", "expected"), [((1, 1, 1), 7.0), ((0, 1, 1), 5.0), ((1, 0, 1), None)])
def test_extrapolation_needs_two_points_and_bends_with_three(seen, expected):
    history = torch.zeros(1, networks.HISTORY, 3)
    history[0, -3:, 0] = torch.tensor([0.0, 1.0, 3.0]) + torch.tensor([1.0, 0.0, 0.0])
    history[0, -3:, 2] = torch.tensor(seen, dtype=torch.float32)
    xy, present = blocks.extrapolate(history)
    if expected is None:
        assert not present[0]
    else:
        assert xy[0, 0] == pytest.approx(expected)


def test_local_peaks_find_two_places_to_a_fraction_of_a_cell():
    logits = torch.full((1, 20, 30), -12.0)
    offset = torch.zeros(1, 2, 20, 30)
    logits[0, 4, 7], logits[0, 15, 22] = 6.0, 4.0
    offset[0, :, 4, 7] = torch.tensor([0.3, -0.2])
    xy, score = blocks.local_peaks(logits, offset, 3)
    assert torch.allclose(xy[0, 0], torch.tensor([7.8, 4.3]), atol=0.02)
    assert torch.allclose(xy[0, 1], torch.tensor([22.5, 15.5]), atol=0.02)
    assert score[0, 0] > score[0, 1] > 10 * score[0, 2]


def test_nowhere_wins_when_nothing_stands_out():
    p = blocks.cell_probabilities(torch.full((1, 8, 8), -10.0))
    assert float(p.sum()) < 0.01


def test_visibility_of_the_historic_row_reads_probabilities():
    head = blocks.MaxMeanVisibility()
    with torch.no_grad():
        head.linear.weight.fill_(1.0)
    low, high = torch.full((1, 4, 4), -20.0), torch.full((1, 4, 4), -20.0)
    high[0, 2, 2] = 8.0
    features = torch.zeros(1, 1, 4, 4)
    with torch.no_grad():
        gain = float(head(high, features) - head(low, features))
    assert gain == pytest.approx(2.0, abs=0.01)  # from "no probability anywhere" to "all of it in a cell"


def test_a_confident_nowhere_still_has_its_best_place():
    logits = torch.full((1, 12, 24), -40.0)
    logits[0, 10, 20] = -25.0
    xy, score = blocks.local_peaks(logits, torch.zeros(1, 2, 12, 24), 1)
    assert torch.allclose(xy[0, 0], torch.tensor([20.5, 10.5]), atol=0.01)
    assert score[0, 0] < 1e-9


def test_missing_and_foreign_weights_are_named(tmp_path):
    with pytest.raises(ShuttleError, match=r"version\.json is missing"):
        networks.load(tmp_path)
    networks.save(small_net("stage2_v8"), tmp_path)
    card = json.loads((tmp_path / "version.json").read_text())
    (tmp_path / "version.json").write_text(json.dumps({**card, "neck_channels": 16}))
    with pytest.raises(ShuttleError, match="do not fit stage2_v8"):
        networks.load(tmp_path)


def test_pretrained_without_a_hub_says_so(monkeypatch):
    def unreachable(name, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("no route to host")
        return create(name, pretrained=False, **kwargs)

    create = networks.timm.create_model
    monkeypatch.setattr(networks.timm, "create_model", unreachable)
    with pytest.raises(ShuttleError, match="--no-pretrained"):
        networks.build(versions.resolve("stage2_v5"), pretrained=True)
