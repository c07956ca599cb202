"""What every network says of a batch, and how places are read from it; between blocks and networks."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shuttlelib import blocks, geometry
from shuttlelib.frames import PAST
from shuttlelib.spec import Spec

CANDIDATES = 4
ALWAYS_VISIBLE = 4.0  # the logit of rows without a visibility head: they place the shuttle in every frame
_NONE = torch.empty(0)


class Prediction(NamedTuple):
    """What a network says of a batch; parts that its kind does not have are empty.

    Attributes:
        heatmap: (B, h, w) logits of the current frame's cells; "nowhere" has logit 0. (B, 0, 0) from a
            pooled head.
        offset: (B, 2, h, w) from each cell's centre to the head, in cells; zero for rows without offsets.
        visible_logit: (B,).
        points: (B, P, 2) places of a pooled head, in fractions of the input.
        past: (B, T - 1, h, w) logits of the past frames' cells, oldest first, of a U-Net.
    """

    heatmap: Tensor
    offset: Tensor
    visible_logit: Tensor
    points: Tensor = _NONE
    past: Tensor = _NONE


class ShuttleNet(nn.Module):
    """A version's network: forward(frames, history) gives a `Prediction`.

    `frames` are (B, T, 3, H, W) RGB in 0..255, uint8 or float, oldest first; the last `spec.ahead` come
    after the current one. `history` is (B, 30, 3) past x, y in [0, 1] of the input and visible, oldest
    first. Rows that do not look at the track ignore it, others take None as "no track yet".
    """

    def __init__(self, spec: Spec):
        super().__init__()
        self.spec = spec

    def decode(self, prediction: Prediction, k: int = CANDIDATES) -> tuple[Tensor, Tensor]:
        """The k best places: xy (B, k, 2) in input px and score (B, k) in [0, 1], best first.

        Rows that give fewer places repeat the last one with score 0.
        """
        spec = self.spec
        if spec.decode == "offset":
            xy, score = blocks.local_peaks(prediction.heatmap, prediction.offset, k)
            return geometry.cell_to_px(xy, spec.heatmap_stride), score
        if spec.decode == "centroid":
            xy, score = blocks.disc_peaks(prediction.heatmap, k)
            return geometry.cell_to_px(xy, spec.heatmap_stride), score
        xy = places(spec, prediction)[:, :k]
        score = torch.sigmoid(prediction.visible_logit)[:, None].expand(-1, xy.shape[1])
        missing = k - xy.shape[1]
        return torch.cat([xy, xy[:, -1:].expand(-1, missing, -1)], 1), F.pad(score, (0, missing))

    def probabilities(self, prediction: Prediction) -> Tensor:
        """(B, h, w) probability of each cell, for the eye; "nowhere" holds the rest.

        A U-Net's cells are independent of each other. A pooled head has no heatmap: its places are drawn
        as cells of a 32nd of the input, with the probability that the shuttle is visible.
        """
        if self.spec.decode == "centroid":
            return torch.sigmoid(prediction.heatmap)
        if self.spec.decode != "points":
            return blocks.cell_probabilities(prediction.heatmap)
        cells = (prediction.points.clamp(0, 0.999) * 32).long()
        drawn = F.one_hot(cells[..., 1] * 32 + cells[..., 0], 32 * 32).amax(1).unflatten(1, (32, 32))
        return drawn * torch.sigmoid(prediction.visible_logit)[:, None, None]


def places(spec: Spec, prediction: Prediction) -> Tensor:
    """(B, P, 2) in input px, of a pooled head or of a soft-argmax; differentiable."""
    if spec.decode == "points":
        h, w = spec.input_hw
        return torch.stack([prediction.points[..., 0] * w, prediction.points[..., 1] * h], -1)
    xy = blocks.soft_argmax(prediction.heatmap, spec.tau)
    return geometry.cell_to_px(xy, spec.heatmap_stride)[:, None]


def no_track(frames: Tensor, history: Tensor | None) -> Tensor:
    """The history given, or that of a track that has not begun: (B, 30, 3)."""
    return torch.zeros(frames.shape[0], PAST, 3, device=frames.device) if history is None else history
