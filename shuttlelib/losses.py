"""What training minimizes; between models and training."""

import torch
import torch.nn.functional as F
from torch import Tensor

from shuttlelib import blocks, geometry
from shuttlelib.networks import Prediction
from shuttlelib.versions import Spec

TARGET_SIGMA_CELLS = 0.8
OFFSET_REACH_CELLS = 1.5
OFFSET_WEIGHT = 1.0
VISIBLE_WEIGHT = 0.5


def training_loss(spec: Spec, prediction: Prediction, xy: Tensor) -> dict[str, Tensor]:
    """The loss of a version and its parts.

    Args:
        prediction: of the network.
        xy: (B, 2) the head in input px, nan where it is not visible.

    Returns:
        {"loss": the sum, "place": …, "visible": …, and "offset" for rows with offsets}, scalars.
    """
    visible = torch.isfinite(xy).all(1)
    parts = {"visible": VISIBLE_WEIGHT * _bce(prediction.visible_logit, visible)}
    if spec.loss == "relaxed_l2":
        parts["place"] = relaxed_l2(spec, prediction.heatmap, xy, visible)
        if spec.visibility == "none":
            parts.pop("visible")
    else:
        cells = geometry.px_to_cell(xy, spec.heatmap_stride)
        parts["place"] = cell_cross_entropy(prediction.heatmap, cells, visible)
        parts["offset"] = OFFSET_WEIGHT * offset_loss(prediction.offset, cells, visible)
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def relaxed_l2(spec: Spec, heatmap: Tensor, xy: Tensor, visible: Tensor) -> Tensor:
    """Squared distance of the soft-argmax beyond a margin, in fractions of the input; visible samples only.

    Source: the predecessor's position loss; zero inside `margin_norm`, where label noise rules.
    """
    h, w = spec.input_hw
    size = xy.new_tensor((w, h))
    found = geometry.cell_to_px(blocks.soft_argmax(heatmap, spec.tau), spec.heatmap_stride) / size
    gap = found - torch.where(visible[:, None], xy / size, found.detach())
    distance = torch.sqrt(gap.square().sum(1) + 1e-12)
    beyond = F.relu(distance - spec.margin_norm).square()
    return (beyond * visible).sum() / visible.sum().clamp(min=1)


def cell_cross_entropy(heatmap: Tensor, xy_cell: Tensor, visible: Tensor) -> Tensor:
    """Cross-entropy between softmax over cells plus "nowhere" (logit 0) and a Gaussian at the head.

    One proper score for both questions, where and whether: false places compete with the true one, so
    a white shoe costs as much as it distracts.

    Args:
        heatmap: (B, h, w) logits; xy_cell: (B, 2) in cells, nan allowed where not visible;
        visible: (B,) bool.
    """
    target = blocks.bump(xy_cell, visible, heatmap.shape[-2:], TARGET_SIGMA_CELLS).flatten(1)
    target = target / target.sum(1, keepdim=True).clamp(min=1e-9)
    flat = torch.cat([heatmap.flatten(1), heatmap.new_zeros(len(heatmap), 1)], 1)
    log_p = F.log_softmax(flat, 1)
    entropy = -(target * torch.log(target.clamp(min=1e-9))).sum(1)
    placed = -(target * log_p[:, :-1]).sum(1) - entropy
    return torch.where(visible, placed, -log_p[:, -1]).mean()


def offset_loss(offset: Tensor, xy_cell: Tensor, visible: Tensor) -> Tensor:
    """L1 between predicted and true offsets in the cells around the head, in cells.

    Args:
        offset: (B, 2, h, w); xy_cell, visible: as for `cell_cross_entropy`.
    """
    h, w = offset.shape[-2:]
    head = torch.where(visible[:, None], xy_cell, torch.zeros_like(xy_cell))
    x, y = blocks.cell_centers(h, w, head)
    dx, dy = head[:, :1, None] - x, head[:, 1:, None] - y
    dx, dy = dx.expand(-1, h, w), dy.expand(-1, h, w)
    near = (dx.abs() < OFFSET_REACH_CELLS) & (dy.abs() < OFFSET_REACH_CELLS) & visible[:, None, None]
    error = (offset - torch.stack([dx, dy], 1)).abs().sum(1)
    return (error * near).sum() / near.sum().clamp(min=1)


def _bce(logit: Tensor, truth: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, truth.to(logit.dtype))
