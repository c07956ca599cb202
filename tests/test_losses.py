import pytest
import torch
from torch.overrides import TorchFunctionMode

from shuttlelib import blocks, losses, networks, versions
from shuttlelib.prediction import Prediction

SPEC = versions.resolve("stage2_v8", input_hw=(64, 64))


def perfect(xy_cell, hw=(16, 16)):
    """Logits of a sharp Gaussian at a place, and exact offsets."""
    target = blocks.bump(xy_cell, torch.isfinite(xy_cell).all(1), hw, losses.TARGET_SIGMA_CELLS)
    heatmap = torch.log(target.clamp(min=1e-9)) + 12
    x, y = blocks.cell_centers(*hw, heatmap)
    offset = torch.stack(
        [(xy_cell[:, :1, None] - x).expand(-1, *hw), (xy_cell[:, 1:, None] - y).expand(-1, *hw)], 1
    )
    return heatmap, offset


def test_a_perfect_answer_costs_almost_nothing_and_a_wrong_one_much():
    xy = torch.tensor([[22.0, 37.0]])
    heatmap, offset = perfect(xy / 4)
    right = losses.training_loss(SPEC, Prediction(heatmap, offset, torch.tensor([9.0])), xy)["loss"]
    wrong = losses.training_loss(SPEC, Prediction(heatmap, offset, torch.tensor([9.0])), xy + 20)["loss"]
    assert right < 0.01
    assert wrong > 5


def test_invisible_samples_ask_for_nowhere_and_have_no_place():
    nowhere = torch.full((1, 16, 16), -20.0)
    peak = nowhere.clone()
    peak[0, 3, 3] = 8
    xy = torch.full((1, 2), torch.nan)
    quiet, loud = (
        losses.training_loss(SPEC, Prediction(h, torch.ones(1, 2, 16, 16), torch.tensor([-9.0])), xy)
        for h in (nowhere, peak)
    )
    assert quiet["loss"] < 0.01 < 5 < loud["place"]
    assert quiet["offset"] == 0


def test_relaxed_l2_is_zero_inside_the_margin_and_ignores_the_invisible():
    places = torch.tensor([[[0.5, 0.5]], [[0.1, 0.1]]])
    visible = torch.tensor([True, False])
    near, far = (torch.tensor([[0.5 + gap, 0.5], [torch.nan, torch.nan]]) for gap in (0.09, 0.3))
    assert losses.relaxed_l2(places, near, visible, 0.1, squared=False) == pytest.approx(0, abs=1e-6)
    assert losses.relaxed_l2(places, far, visible, 0.1, squared=False) == pytest.approx(0.2, rel=1e-3)
    assert losses.relaxed_l2(places, far, visible, 0.1, squared=True) == pytest.approx(0.04, rel=1e-3)


def test_of_three_places_one_good_one_is_enough_and_all_have_a_slope():
    places = torch.tensor([[[0.5, 0.5], [0.9, 0.9], [0.1, 0.9]]], requires_grad=True)
    truth, seen = torch.tensor([[0.5, 0.5]]), torch.tensor([True])
    loss = losses.relaxed_l2(places, truth, seen, 0.03, squared=True)
    loss.backward()
    assert torch.isfinite(places.grad).all()
    all_wrong = losses.relaxed_l2(places.detach(), 1 - truth + 0.2, seen, 0.03, squared=True)
    assert loss < 0.02 < 2 * loss + all_wrong


def test_places_of_one_head_are_kept_apart():
    apart = torch.tensor([[[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]])
    together = torch.tensor([[[0.1, 0.1], [0.5, 0.5], [0.5, 0.51]]])
    seen = torch.tensor([True])
    assert losses.diversity_loss(apart, seen) == 0
    assert losses.diversity_loss(together, seen) == pytest.approx(0.04**2, rel=1e-3)
    assert losses.diversity_loss(together, ~seen) == 0


def test_squared_visibility_asks_for_no_certainty():
    logit = torch.logit(torch.tensor([0.9, 0.1]))
    visible = torch.tensor([True, False])
    assert losses.visible_loss(logit, visible, "mse") == pytest.approx(0, abs=1e-9)
    assert (
        losses.visible_loss(5 * logit, visible, "mse")
        > 0.005
        > losses.visible_loss(5 * logit, visible, "bce")
    )


def test_every_frame_of_a_u_net_is_judged_by_its_own_place():
    spec = versions.resolve("unet_3in3", input_hw=(32, 48))
    history = torch.zeros(1, 30, 3)  # nothing two frames ago …
    history[0, -1] = torch.tensor([12.5 / 48, 16.5 / 32, 1])  # … the head one frame ago …
    xy = torch.tensor([[30.5, 20.5]])  # … and now
    x, y = blocks.cell_centers(32, 48, xy)
    maps = torch.full((1, 3, 32, 48), -12.0)
    for frame, (cx, cy) in ((1, (12.5, 16.5)), (2, (30.5, 20.5))):
        maps[0, frame][((x - cx) ** 2 + (y - cy) ** 2 <= 2.5**2)[0]] = 12

    def loss(maps, history=history):
        prediction = Prediction(maps[:, -1], torch.zeros(0), maps[:, -1].amax((1, 2)), past=maps[:, :-1])
        return float(losses.training_loss(spec, prediction, xy, history)["loss"])

    assert loss(maps) < 1e-3
    assert loss(maps.flip(1)) > 1
    assert loss(maps, torch.zeros_like(history)) > 1
    two_missed = loss(torch.full_like(maps, -12.0))
    assert two_missed == pytest.approx(2 / 3 * 12, rel=0.01)  # discs of three frames, at 12 nats a cell
    unlabelled = history.clone()
    unlabelled[0, -1, 2] = torch.nan
    assert loss(maps, unlabelled) < 1e-3
    other = maps.clone()
    other[0, 1] = 12.0  # whatever it says there
    assert loss(other, unlabelled) == loss(maps, unlabelled)
    assert loss(other) > 1


def dots(generator, n=8):
    """Three noisy frames of 32x48 with a dot that jumps, and where it is; a fifth of the frames have none."""
    heads = torch.rand(n, 3, 2, generator=generator) * torch.tensor([40.0, 24.0]) + 4
    seen = torch.rand(n, 3, generator=generator) > 0.2
    x, y = blocks.cell_centers(32, 48, heads)
    light = torch.exp(-((x - heads[..., :1, None]) ** 2 + (y - heads[..., 1:, None]) ** 2) / 4)
    grey = 60 * torch.rand(n, 3, 32, 48, generator=generator) + 150 * light * seen[..., None, None]
    history = torch.zeros(n, 30, 3)
    history[:, -2:] = torch.cat([heads[:, :2] / torch.tensor([48.0, 32.0]), seen[:, :2, None]], 2)
    return (
        grey[:, :, None].expand(-1, -1, 3, -1, -1),
        history,
        torch.where(seen[:, 2:], heads[:, 2], torch.nan),
    )


@pytest.mark.slow
def test_a_u_net_learns_where_and_whether():
    torch.manual_seed(0)
    net = networks.build(versions.resolve("unet_3in3", input_hw=(32, 48), neck_channels=8))
    optimizer, generator = torch.optim.AdamW(net.parameters(), 3e-3), torch.Generator().manual_seed(0)
    for _ in range(80):
        frames, history, xy = dots(generator)
        optimizer.zero_grad()
        losses.training_loss(net.spec, net(frames, history), xy, history)["loss"].backward()
        optimizer.step()
    frames, _, xy = dots(generator, 32)
    with torch.no_grad():
        prediction = net.eval()(frames)
    visible = torch.isfinite(xy[:, 0])
    error = torch.linalg.norm(net.decode(prediction, 1)[0][visible, 0] - xy[visible], dim=1)
    assert error.median() < 0.5
    assert ((prediction.visible_logit > 0) == visible).float().mean() > 0.9


class NoPythonNumbers(TorchFunctionMode):
    """Refuses what copies Python numbers to the device, which waits for a GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["stage1_v1", "stage2_v4", "stage1_v5", "stage2_v8", "unet_3in3"])
def test_no_loss_waits_for_numbers_from_the_host(name):
    spec = versions.resolve(name)
    h, w = (side // spec.heatmap_stride for side in spec.input_hw)
    predicted = Prediction(
        heatmap=torch.zeros(2, h, w),
        offset=torch.zeros(2, 2, h, w),
        visible_logit=torch.zeros(2),
        points=torch.full((2, spec.points, 2), 0.5),
        past=torch.zeros(2, spec.frames - 1, h, w),
    )
    xy, history = torch.tensor([[20.25, 30.5], [float("nan")] * 2]), torch.rand(2, 30, 3)
    with NoPythonNumbers():
        parts = losses.training_loss(spec, predicted, xy, history)
    assert parts["loss"].isfinite()
    assert torch.equal(losses._size(spec, xy), xy.new_tensor(spec.input_hw[::-1]))
