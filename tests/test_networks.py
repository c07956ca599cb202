import json
import math
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import load_file

from shuttlelib import blocks, losses, networks, versions
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.frames import PAST
from shuttlelib.prediction import CANDIDATES, Prediction, ShuttleNet

SIDE = 64
# No gradient in the first step: the track modulates by nothing yet, so what computes it is not asked
LATE_LEARNERS = ("film.project",)


def small(name, **changes):
    """Any row's spec at a size that a test can afford."""
    thin = {"neck_channels": 8} if versions.resolve(name).network == "unet" else {}
    return versions.resolve(name, **{"pretrained": False, "input_hw": (SIDE, SIDE), **thin, **changes})


def small_net(name, seed=0, **changes):
    torch.manual_seed(seed)
    return networks.build(small(name, **changes))


def batch_for(spec, n=2):
    """Frames; a track that moves through the middle; a visible and an invisible head."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (n, spec.frames, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    along = torch.linspace(0.2, 0.5, PAST)
    history = torch.stack([along, 0.9 - along, torch.ones_like(along)], 1).expand(n, -1, -1)
    xy = torch.tensor([[SIDE * 0.3, SIDE * 0.6], [torch.nan, torch.nan]])[:n]
    return frames, history, xy


@pytest.fixture(scope="module", params=versions.names())
def row(request):
    return small_net(request.param)


def test_a_row_learns_in_all_its_parts(row):
    frames, history, xy = batch_for(row.spec)
    prediction = row.train()(frames, history)
    assert prediction.visible_logit.shape == (2,)
    if row.spec.network == "pooled":
        assert prediction.points.shape == (2, row.spec.points, 2)
    else:
        assert prediction.heatmap.shape == (
            2,
            SIDE // row.spec.heatmap_stride,
            SIDE // row.spec.heatmap_stride,
        )
    loss = losses.training_loss(row.spec, prediction, xy, history)["loss"]
    row.zero_grad()
    loss.backward()
    gradients = {name: p.grad for name, p in row.named_parameters()}
    assert torch.isfinite(loss)
    assert [name for name, g in gradients.items() if g is None or not torch.isfinite(g).all()] == []
    still = [name for name, g in gradients.items() if not g.any()]
    assert [name for name in still if not name.startswith(LATE_LEARNERS)] == []


def test_a_row_bears_a_batch_without_a_shuttle(row):
    frames, history, xy = batch_for(row.spec)
    loss = losses.training_loss(row.spec, row.train()(frames), xy.fill_(torch.nan), 0 * history)["loss"]
    row.zero_grad()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in row.parameters())


def test_a_row_round_trips_and_answers_in_range(row, tmp_path):
    with torch.no_grad():
        for value in row.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())
    networks.save(row, tmp_path)
    again = networks.load(tmp_path)
    assert again.net.spec == row.spec
    frames, history, _ = batch_for(row.spec)
    pixels = frames.permute(0, 1, 3, 4, 2)
    with torch.no_grad():
        answers = networks.Deployed(row.eval())(pixels, history)
        assert all(map(torch.equal, answers, again(pixels, history)))
        shown = row.probabilities(row(frames, history))
    xy, score, visible = answers
    assert xy.shape == (2, CANDIDATES, 2)
    assert ((xy[:, 0] > -SIDE) & (xy[:, 0] < 2 * SIDE)).all()
    assert ((score >= 0) & (score <= 1)).all()
    assert (score.diff(dim=1) <= 0).all()
    assert ((visible >= 0) & (visible <= 1)).all()
    assert shown.ndim == 3
    assert ((shown >= 0) & (shown <= 1)).all()
    card = json.loads((tmp_path / "version.json").read_text())
    assert card["history"] == (
        not torch.equal(answers[0], again(pixels)[0])
    )  # who says so looks at the track


@pytest.mark.parametrize(("name", "looks"), [("stage1_v5", 2), ("stage2_v8", 2), ("stage2_v5", 8)])
def test_early_fusion_needs_one_backbone_pass_where_late_needs_four(name, looks):
    net = small_net(name).eval()
    seen = []
    net.backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    with torch.no_grad():
        net(*batch_for(net.spec)[:2])
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


def test_early_fusion_takes_the_current_frame_from_between_the_others():
    frames = torch.stack([torch.full((3, 8, 8), value) for value in (10.0, 20.0, 50.0, 70.0, 110.0)])[None]
    fused = blocks.fuse_early(frames, "unit", current=2)
    assert fused[0, :3, 0, 0].tolist() == pytest.approx([50 / 255] * 3)
    changes = fused[0, 3:, 0, 0] * 255 / blocks.DIFFERENCE_GAIN
    assert changes.tolist() == pytest.approx([40, 30, -20, -60], abs=1e-3)


def test_what_half_precision_cannot_hold_is_kept_in_full(tmp_path):
    net = small_net("stage2_v9")
    variance = net.neck.smooth[-1][1].running_var
    variance[:2] = torch.tensor([70_000.0, 3e6])
    networks.save(net, tmp_path)
    again = networks.load(tmp_path).net.neck.smooth[-1][1].running_var
    assert again[:2].tolist() == [70_000.0, 3e6]
    stored = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16, torch.float32, torch.int64}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_not_written(tmp_path, value):
    net = small_net("stage2_v9")
    net.neck.smooth[-1][1].running_var[0] = value
    with pytest.raises(ShuttleError, match=r"neck\.smooth\.3\.1\.running_var is not finite \(1 of"):
        networks.save(net, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_graphs_of_earlier_weights_go_with_them_and_with_nothing_else(tmp_path):
    net = small_net("stage2_v8")
    names = ["model.onnx", "model.fp16.onnx", "model.int8-tensorrt.onnx", "model-sm86.engine", "README.md"]
    for name in names:
        (tmp_path / name).touch()
    networks.save(net, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "version.json", "README.md"}
    (tmp_path / "model.onnx").touch()
    broken = small_net("stage2_v8")
    next(broken.parameters()).data.fill_(float("nan"))
    with pytest.raises(ShuttleError, match="nothing was written"):
        networks.save(broken, tmp_path)
    assert (tmp_path / "model.onnx").exists()
    networks.mean(tmp_path, tmp_path, 0.5, tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def test_weights_may_be_read_by_whom_their_card_may(tmp_path):
    networks.save(small_net("stage2_v8"), tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "version.json").stat().st_mode


def test_what_was_measured_of_earlier_weights_goes_with_them(tmp_path):
    networks.save(small_net("stage2_v8"), tmp_path / "mean")
    for name in ("metrics.json", "README.md", "export.csv", "notes.txt"):
        (tmp_path / "mean" / name).touch()
    networks.mean(tmp_path / "mean", tmp_path / "mean", 0.5, tmp_path / "mean")
    names = {path.name for path in (tmp_path / "mean").iterdir()}
    assert names == {"model.safetensors", "version.json", "notes.txt"}


def test_weights_of_a_network_that_sees_other_frames_are_a_start(tmp_path):
    old = small_net("stage2_v8").eval()
    networks.save(old, tmp_path)
    old = networks.load(tmp_path).net
    new = networks.build(replace(old.spec, frames=5, ahead=2)).eval()
    card = json.loads((tmp_path / "version.json").read_text())
    (tmp_path / "version.json").write_text(json.dumps({**card, "frames": 5, "ahead": 2}))
    with pytest.raises(ShuttleError, match="do not fit"):
        networks.load(tmp_path)
    (tmp_path / "version.json").write_text(json.dumps(card))
    networks.start_from(new, tmp_path)
    frames = torch.randint(0, 255, (1, 5, 3, *old.spec.input_hw)).float()
    # three looks back are not seen any more: show the old network no change there
    before = torch.cat([frames[:, 2:3], frames[:, 0:3]], 1)
    with torch.no_grad():
        mine, theirs = new(frames), old(before)
    assert torch.allclose(mine.heatmap, theirs.heatmap, atol=1e-4)
    other = networks.build(replace(new.spec, neck_channels=16))
    with pytest.raises(ShuttleError, match="do not fit"):
        networks.start_from(other, tmp_path)


def test_the_mean_of_two_lies_between_them(tmp_path):
    nets = {name: small_net("stage2_v8", seed) for seed, name in enumerate(("first", "second"))}
    for name, net in nets.items():
        networks.save(net, tmp_path / name)
    networks.mean(tmp_path / "first", tmp_path / "second", 0.25, tmp_path / "out")
    first, second, mean = (
        networks.load(tmp_path / name).net.state_dict() for name in ("first", "second", "out")
    )
    for name, value in mean.items():
        if value.is_floating_point():
            assert torch.allclose(value, 0.75 * first[name] + 0.25 * second[name], atol=1e-3), name
    assert json.loads((tmp_path / "out" / "version.json").read_text())["mean_share"] == 0.25
    networks.save(small_net("stage2_v8", neck_channels=16), tmp_path / "other")
    with pytest.raises(ShuttleError, match=r"other.*do not fit"):
        networks.mean(tmp_path / "first", tmp_path / "other", 0.25, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_temperature_of_the_spec_is_the_one_used():
    heatmap = torch.zeros(1, 6, 6)
    heatmap[0, 1, 4] = 1.0
    prediction = Prediction(heatmap, torch.zeros(1, 2, 6, 6), torch.zeros(1))
    near, far = (
        ShuttleNet(small("stage2_v5", tau=tau)).decode(prediction, 1)[0][0, 0] for tau in (0.05, 5.0)
    )
    peak = torch.tensor([4.5 * 16, 1.5 * 16])
    assert torch.dist(near, peak) < 1.0
    assert torch.dist(far, torch.tensor([48.0, 48.0])) < 5.0
    assert (versions.resolve("stage2_v6").tau, versions.resolve("stage2_v7").tau) == (1.0, 0.7)


@pytest.mark.parametrize(("seen", "expected"), [((1, 1, 1), 7.0), ((0, 1, 1), 5.0), ((1, 0, 1), None)])
def test_extrapolation_needs_two_points_and_bends_with_three(seen, expected):
    history = torch.zeros(1, PAST, 3)
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


def test_disc_peaks_find_a_disc_to_a_fraction_of_a_cell_and_the_larger_of_two():
    x, y = blocks.cell_centers(40, 60, torch.zeros(1))
    logits = torch.full((1, 40, 60), -9.0)
    for cx, cy, radius in ((20.3, 11.8, 2.5), (44.0, 30.0, 1.2)):
        logits[(x - cx) ** 2 + (y - cy) ** 2 <= radius**2] = 9.0
    xy, score = blocks.disc_peaks(logits, 2)
    assert torch.allclose(xy[0, 0], torch.tensor([20.3, 11.8]), atol=0.25)
    assert torch.allclose(xy[0, 1], torch.tensor([44.0, 30.0]), atol=0.5)
    assert score[0, 0] > 0.8 > 0.3 > score[0, 1] > 0.1


def test_a_u_net_sees_the_shuttle_as_clearly_as_its_peak_is_high():
    net = small_net("unet_3in3").eval()
    frames, history, _ = batch_for(net.spec)
    with torch.no_grad():
        prediction = net(frames, history)
        _, _, visible = networks.Deployed(net)(frames.permute(0, 1, 3, 4, 2))
    assert prediction.past.shape == (2, 2, SIDE, SIDE)
    assert torch.allclose(visible, torch.sigmoid(prediction.heatmap).amax((1, 2)))


def test_three_places_of_one_head_are_three_candidates():
    net = small_net("stage1_v3").eval()
    points = torch.tensor([[[0.1, 0.2], [0.5, 0.5], [0.9, 0.3]]])
    prediction = Prediction(torch.zeros(1, 0, 0), torch.zeros(1, 2, 0, 0), torch.ones(1), points)
    xy, score = net.decode(prediction, 4)
    assert torch.allclose(xy[0, :3], points[0] * SIDE)
    assert (score[0, :3] > 0.5).all()
    assert score[0, 3] == 0


def test_the_recent_track_has_no_step_where_a_point_is_missing():
    history = torch.zeros(1, PAST, 3)
    history[0, -4:] = torch.tensor([[0.1, 0.2, 1], [0.2, 0.4, 1], [0.9, 0.9, 0], [0.5, 0.5, 1]])
    values = blocks.recent_track(history)[0]
    assert values.shape == (blocks.RECENT,)
    assert values[:18].view(6, 3)[-2].tolist() == [0, 0, 0]
    steps = values[18:].view(5, 2)
    assert torch.allclose(steps[2], torch.tensor([0.1, 0.2]))
    assert steps[[0, 1, 3, 4]].abs().sum() == 0


def test_the_heatmap_is_read_from_the_pyramid_level_of_its_stride():
    maps = [torch.zeros(1, 4, SIDE // s, SIDE // s) for s in (4, 8, 16, 32)]
    neck = blocks.BiFPN([4] * 4, 4, rounds=2, level=2, maps=2)
    assert [m.shape[-1] for m in neck(maps)] == [SIDE // 16, SIDE // 32]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("stage2_v8", {"network": "transformer"}, "network 'transformer'.*pyramid"),
        ("stage2_v8", {"neck": "none"}, "stage2_v8: neck 'none'.*'fpn' or 'bifpn'"),
        ("stage2_v8", {"loss": "relaxed_l2"}, "loss 'relaxed_l2'.*'cross_entropy'.*decode 'offset'"),
        ("stage2_v8", {"visible_loss": "l1"}, "visible_loss 'l1'.*'mse'"),
        ("stage2_v8", {"input_hw": (64, 96)}, r"input_hw \(64, 96\).*square"),
        ("stage2_v8", {"heatmap_stride": 2}, "heatmap_stride 2.*taps"),
        ("stage2_v8", {"heatmap_stride": 8}, r"taps \(4, 8, 16, 32\).*\(8, 16, 32\)"),
        ("stage2_v8", {"taps": (4, 6)}, r"strides \[6\].*mobilenet"),
        ("stage2_v6", {"head_maps": 3}, "head_maps 3.*1 to 2"),
        ("stage2_v7", {"tau": 0.0}, "tau 0.0.*more than 0"),
        ("stage2_v1", {"film": True}, "film True.*False goes with network 'pooled'"),
        ("stage1_v1", {"frames": 1}, "frames 1.*at least 2"),
        ("stage2_v8", {"ahead": 4}, "ahead 4.*0 to 3"),
        ("stage2_v5", {"ahead": 1}, "ahead 1.*early fusion.*use 0"),
        ("unet_3in3", {"input_hw": (60, 64)}, r"input_hw \(60, 64\).*multiples of 8"),
        ("unet_3in3", {"stage": 2}, "stage 2.*1 goes with network 'unet'"),
    ],
)
def test_values_that_do_not_go_together_are_named(name, changes, words):
    with pytest.raises(UsageError, match=words):
        networks.build(small(name, **changes))


def test_missing_and_foreign_weights_are_named(tmp_path):
    with pytest.raises(ShuttleError, match=r"version\.json is missing"):
        networks.load(tmp_path)
    networks.save(small_net("stage2_v8"), tmp_path)
    card = json.loads((tmp_path / "version.json").read_text())
    (tmp_path / "version.json").write_text(json.dumps({**card, "neck_channels": 16}))
    with pytest.raises(ShuttleError, match=r"do not fit stage2_v8: size mismatch for .* …$"):
        networks.load(tmp_path)
    fresh = small_net("stage2_v8")
    for damage, read in (
        ({"neck_channels": None}, networks.load),
        ({"frames": "many"}, networks.load),
        ({"frames": "many"}, lambda folder: networks.start_from(fresh, folder)),
    ):
        (tmp_path / "version.json").write_text(json.dumps({**card, **damage}))
        with pytest.raises(ShuttleError, match=r"version\.json: damaged"):
            read(tmp_path)
    (tmp_path / "version.json").write_text(json.dumps(card))
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ShuttleError, match=r"model\.safetensors: only a pointer .* run `git lfs pull`"):
        networks.load(tmp_path)


def test_a_backbone_that_timm_does_not_know_is_named():
    with pytest.raises(ShuttleError, match=r"backbone 'resnet_of_tomorrow': not in timm \d"):
        networks.build(versions.resolve("stage2_v8", backbone="resnet_of_tomorrow"))


def test_pretrained_without_a_hub_says_so(monkeypatch):
    def unreachable(name, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("no route to host")
        return create(name, pretrained=False, **kwargs)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ShuttleError, match="--no-pretrained"):
        networks.build(versions.resolve("stage2_v5"), pretrained=True)
