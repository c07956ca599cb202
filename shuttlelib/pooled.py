"""The pooled design: a feature vector per frame, the track, an MLP; between blocks and networks.

What the lineage began with. Global average pooling keeps what is in a frame and throws away where.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from shuttlelib import blocks
from shuttlelib.prediction import ALWAYS_VISIBLE, Prediction, ShuttleNet, no_track
from shuttlelib.spec import Spec

DROPOUT = 0.3
BRANCH = 128  # width of a branch of a split head
ATTENTION = 256
TRACK = 64  # features of the track


class PooledNet(ShuttleNet):
    """Pooled features of the current frame, of the past ones by attention, and of the track, to places.

    Source: the predecessor's first designs; here a place is linear and starts at the centre.
    """

    def __init__(self, spec: Spec, pretrained: bool):
        super().__init__(spec)
        self.backbone = blocks.backbone(spec.backbone, pretrained, num_classes=0)
        c: int = self.backbone.head_hidden_size  # of what it pools: some backbones widen it once more
        self.attention = nn.Sequential(nn.Linear(c, ATTENTION), nn.ReLU(), nn.Linear(ATTENTION, 1))
        kinds = {"conv": ConvTrack, "recent": RecentTrack}
        self.track = kinds[spec.trajectory]() if spec.trajectory in kinds else None
        widths = (2 * c + (TRACK if self.track else 0), *spec.hidden)
        self.trunk = nn.Sequential(*(_layer(a, b) for a, b in pairwise(widths)))
        make = _branch if spec.visibility == "split" else nn.Linear
        self.place = make(widths[-1], 2 * spec.points)
        self.visible = None if spec.visibility == "none" else make(widths[-1], 1)

    def forward(self, frames: Tensor, history: Tensor | None = None) -> Prediction:
        """Predict; see `ShuttleNet`."""
        b, t = frames.shape[:2]
        pixels = blocks.normalize(frames, self.spec.normalization).flatten(0, 1)
        features = self.backbone(pixels).unflatten(0, (b, t))
        past, parts = features[:, :-1], [features[:, -1]]
        parts.append((past * torch.softmax(self.attention(past), 1)).sum(1))
        if self.track is not None:
            parts.append(self.track(no_track(frames, history)))
        hidden = self.trunk(torch.cat(parts, 1))
        points = 0.5 + self.place(hidden).float().unflatten(1, (self.spec.points, 2))
        if self.visible is None:
            visible_logit = torch.full_like(points[:, 0, 0], ALWAYS_VISIBLE)
        else:
            visible_logit = self.visible(hidden).float().squeeze(1)
        return Prediction(points.new_empty(b, 0, 0), points.new_empty(b, 2, 0, 0), visible_logit, points)


class ConvTrack(nn.Module):
    """1-D convolutions over the past triplets, averaged over time: (B, 30, 3) to (B, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv1d(3, TRACK // 2, 3, padding=1), nn.ReLU(), nn.Conv1d(TRACK // 2, TRACK, 3, padding=1)
        )

    def forward(self, history: Tensor) -> Tensor:
        return torch.relu(self.convs(history.transpose(1, 2))).mean(2)


class RecentTrack(nn.Module):
    """The last six triplets and their five deltas through one layer: (B, 30, 3) to (B, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(blocks.RECENT, TRACK)

    def forward(self, history: Tensor) -> Tensor:
        return torch.relu(self.project(blocks.recent_track(history)))


def _layer(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(c_in, c_out), nn.ReLU(), nn.Dropout(DROPOUT))


def _branch(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(c_in, BRANCH), nn.ReLU(), nn.Linear(BRANCH, c_out))
