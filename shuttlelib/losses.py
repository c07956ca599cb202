"""What training minimizes; between models and training."""

import torch
import torch.nn.functional as F
from torch import Tensor

from shuttlelib import blocks, geometry, prediction
from shuttlelib.prediction import Prediction
from shuttlelib.spec import Spec

TARGET_SIGMA_CELLS = 0.8
OFFSET_REACH_CELLS = 1.5
VISIBLE_WEIGHT = 0.5
DIVERSITY_NORM = 0.05  # nearest that places of one head may come to each other, of the input
SMOOTHING = 0.1  # what "mse" asks for is this far from certain


def training_loss(
    spec: Spec, predicted: Prediction, xy: Tensor, history: Tensor | None = None
) -> dict[str, Tensor]:
    """The loss of a version and its parts.

    Args:
        predicted: by the network.
        xy: (B, 2) the head in input px, nan where it is not visible.
        history: (B, 30, 3) where it was, for rows that are asked for their past frames too ("weighted_bce").

    Returns:
        {"loss": the sum, "place": …, and for rows that have them "offset", "diversity" and "visible"},
        scalars.
    """
    visible = torch.isfinite(xy).all(1)
    if spec.loss == "cross_entropy":
        cells = geometry.px_to_cell(xy, spec.heatmap_stride)
        parts = {
            "place": cell_cross_entropy(predicted.heatmap, cells, visible),
            "offset": offset_loss(predicted.offset, cells, visible),
        }
    elif spec.loss == "weighted_bce":
        parts = {"place": weighted_bce(*_all_frames(spec, predicted, xy, visible, history))}
    else:
        size = _size(spec, xy)
        found = prediction.places(spec, predicted) / size
        squared = spec.loss == "relaxed_l2_squared"
        parts = {"place": relaxed_l2(found, xy / size, visible, spec.margin_norm, squared)}
        if spec.points > 1:
            parts["diversity"] = diversity_loss(found, visible)
    if spec.visibility not in ("none", "peak"):
        parts["visible"] = VISIBLE_WEIGHT * visible_loss(predicted.visible_logit, visible, spec.visible_loss)
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def relaxed_l2(places: Tensor, truth: Tensor, visible: Tensor, margin: float, squared: bool) -> Tensor:
    """Distance beyond a margin, inside of which label noise rules; visible samples only.

    Source: the predecessor's position loss; of several places it takes the geometric mean, so that one
    good place is enough.

    Args:
        places: (B, P, 2) in fractions of the input; truth: (B, 2), nan allowed where not visible.
        visible: (B,) bool.
        margin: in fractions of the input.
    """
    gap = places - torch.where(visible[:, None], truth, places[:, 0].detach())[:, None]
    beyond = F.relu(torch.sqrt(gap.square().sum(2) + 1e-12) - margin)
    beyond = beyond.square() if squared else beyond
    if places.shape[1] > 1:  # the root of a product has no slope at zero: hence the small term
        beyond = torch.log(beyond + 1e-6).mean(1, keepdim=True).exp()
    return (beyond[:, 0] * visible).sum() / visible.sum().clamp(min=1)


def diversity_loss(places: Tensor, visible: Tensor) -> Tensor:
    """How far the nearest two of the places (B, P, 2) are inside `DIVERSITY_NORM` of each other, squared."""
    first, second = torch.combinations(torch.arange(places.shape[1], device=places.device)).unbind(1)
    gaps = (places[:, first] - places[:, second]).square().sum(2)
    short = F.relu(DIVERSITY_NORM - torch.sqrt(gaps + 1e-12).amin(1)).square()
    return (short * visible).sum() / visible.sum().clamp(min=1)


def visible_loss(logit: Tensor, visible: Tensor, kind: str) -> Tensor:
    """Cross-entropy ("bce"), or the squared error of the probability against 0.1 and 0.9 ("mse")."""
    truth = visible.to(logit.dtype)
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logit, truth)
    return F.mse_loss(torch.sigmoid(logit), SMOOTHING + (1 - 2 * SMOOTHING) * truth)


def weighted_bce(logits: Tensor, xy_cell: Tensor, visible: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of each cell, weighted by how wrong it is, against a disc at the head.

    Source: Sun et al. 2020 (TrackNetV2, doi:10.1109/ICPAI51961.2020.00023), a focal loss (Lin et al. 2017,
    arXiv:1708.02002) of exponent 2; here summed over a frame's cells in units of one disc.

    Args:
        logits: (B, T, h, w); xy_cell: (B, T, 2) in cells, nan allowed where not visible;
        visible: (B, T) bool.
        known: (B, T) bool, whether the frame has a label; the others do not count.
    """
    h, w = logits.shape[-2:]
    head = torch.where(visible[..., None], xy_cell, torch.full_like(xy_cell, -1e4))
    x, y = blocks.cell_centers(h, w, logits)
    squares = (x - head[..., :1, None]) ** 2 + (y - head[..., 1:, None]) ** 2
    p, inside = torch.sigmoid(logits), squares <= blocks.DISC_RADIUS_CELLS**2
    found, empty = (1 - p) ** 2 * F.logsigmoid(logits), p**2 * F.logsigmoid(-logits)
    wrong = -torch.where(inside, found, empty).sum((2, 3)) / blocks.DISC_CELLS
    return (wrong * known).sum() / known.sum().clamp(min=1)


def _all_frames(
    spec: Spec, predicted: Prediction, xy: Tensor, visible: Tensor, history: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, heads in cells, visibility, and whether there is a label; of every frame seen, oldest first."""
    past = prediction.no_track(xy, history)[:, 1 - spec.frames :]
    heads = torch.cat([past[..., :2] * _size(spec, xy), xy[:, None]], 1)
    logits = torch.cat([predicted.past, predicted.heatmap[:, None]], 1)
    seen = torch.cat([past[..., 2] > 0.5, visible[:, None]], 1)
    known = torch.cat([past[..., 2].isfinite(), torch.ones_like(visible)[:, None]], 1)
    return logits, geometry.px_to_cell(heads, spec.heatmap_stride), seen, known


def _size(spec: Spec, like: Tensor) -> Tensor:
    """(width, height) of the input, made on the device: a copy from the host would wait for a GPU's work."""
    return torch.stack([like.new_full((), side) for side in spec.input_hw[::-1]])


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
    truth = torch.stack(torch.broadcast_tensors(head[:, :1, None] - x, head[:, 1:, None] - y), 1)
    near = (truth.abs() < OFFSET_REACH_CELLS).all(1) & visible[:, None, None]
    error = (offset - truth).abs().sum(1)
    return (error * near).sum() / near.sum().clamp(min=1)
