import pytest
import torch

from shuttlelib import blocks, losses, versions
from shuttlelib.networks import Prediction

SPEC = versions.resolve("stage2_v8", input_hw=(64, 64))
L2 = versions.resolve(
    "stage2_v5", input_hw=(64, 64), heatmap_stride=4, tau=1.0, margin_norm=0.1, pretrained=False
)


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
    heatmap = torch.full((2, 16, 16), -20.0)
    heatmap[:, 8, 8] = 20
    at = torch.tensor([[34.0 + 5, 34.0], [torch.nan, torch.nan]])
    visible = torch.tensor([True, False])
    assert losses.relaxed_l2(L2, heatmap, at, visible) == pytest.approx(0, abs=1e-6)
    far = at + torch.tensor([12.0, 0.0])
    assert losses.relaxed_l2(L2, heatmap, far, visible) == pytest.approx((17 / 64 - 0.1) ** 2, rel=1e-3)
