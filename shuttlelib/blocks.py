"""The parts networks are built from: backbones, fusion, necks, priors, visibility heads, decoding.

Stands before `networks` in the flow. Modules take flat values; shapes use B batch, T frames, C channels,
(H, W) input px, (h, w) heatmap cells. Heatmap coordinates follow `geometry`: the centre of the first cell
is 0.5.
"""

from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shuttlelib.errors import ShuttleError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DISC_RADIUS_CELLS = 2.5  # of the target that a U-Net learns, as in TrackNetV2's training code
DISC_CELLS = 21  # centres within that radius of a cell's centre
LUMA = (0.299, 0.587, 0.114)
RECENT = 6 * 3 + 5 * 2  # values of `recent_track`
DIFFERENCE_GAIN = 4.0  # a shuttle changes the grey level by about a quarter of the range at most


def backbone(name: str, pretrained: bool, **options: Any) -> Any:
    """A timm model, with fresh or with ImageNet weights.

    Raises:
        ShuttleError: this timm has no such model, or its ImageNet weights cannot be fetched.
    """
    if not timm.is_model(name):
        raise ShuttleError(f"backbone {name!r}: not in timm {timm.__version__}; update it, or choose another")
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        raise ShuttleError(
            f"ImageNet weights of {name} could not be fetched ({type(error).__name__}); connect to the Hub "
            "once, or train without (--no-pretrained)"
        ) from error


def normalize(frames: Tensor, kind: str = "imagenet") -> Tensor:
    """RGB (..., 3, H, W) in 0..255, uint8 or float, to floats: ImageNet-standardized, or in 0..1 ("unit")."""
    if kind == "unit":
        return frames / 255
    return (frames - 255 * _channels(IMAGENET_MEAN, frames)) / (255 * _channels(IMAGENET_STD, frames))


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    """(3, 1, 1) where another tensor is, without a copy from the host, which no CUDA graph may hold."""
    return torch.cat([like.new_full((1, 1, 1), value, dtype=torch.float32) for value in values])


def fuse_early(frames: Tensor, normalization: str = "imagenet", current: int = -1) -> Tensor:
    """Frames as one image: colour of the current one and its signed grey changes.

    Args:
        frames: (B, T, 3, H, W) in 0..255, uint8 or float, oldest first.
        normalization: see `normalize`.
        current: which of the frames is the current one; the last one unless given.

    Returns:
        (B, 2 + T, H, W): normalized RGB of the current frame, then its grey minus that of each other frame.
    """
    # Grey by one channel after the other would cost a third of a deployed network's time
    grey = (frames * _channels(LUMA, frames)).sum(2)
    now = current % frames.shape[1]
    others = [part for part in (grey[:, :now], grey[:, now + 1 :]) if part.shape[1]]
    motion = (grey[:, now : now + 1] - torch.cat(others, 1)) * (DIFFERENCE_GAIN / 255)
    return torch.cat([normalize(frames[:, now], normalization), motion], 1)


class EarlyFusion(nn.Module):
    """`fuse_early` as a part of a network, which deployment may fold away."""

    def __init__(self, normalization: str, current: int):
        super().__init__()
        self.normalization, self.current = normalization, current

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, 3, H, W) to (B, 2 + T, H, W)."""
        return fuse_early(frames, self.normalization, self.current)


def conv(c_in: int, c_out: int, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU at the same resolution."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class FPN(nn.Module):
    """Top-down feature pyramid.

    (B, C_i, H/s_i, W/s_i) per tap, finest first, to the same with `channels` channels.
    Source: Lin et al. 2017, arXiv:1612.03144; here each sum is smoothed by one 3x3 convolution.
    """

    def __init__(self, in_channels: list[int], channels: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.smooth = nn.ModuleList(conv(channels, channels) for _ in in_channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        laterals = [layer(f) for layer, f in zip(self.lateral, features, strict=True)]
        outputs = [self.smooth[-1](laterals[-1])]
        for lateral, smooth in zip(laterals[-2::-1], list(self.smooth)[-2::-1], strict=True):
            up = F.interpolate(outputs[0], size=lateral.shape[-2:], mode="nearest")
            outputs.insert(0, smooth(lateral + up))
        return outputs


class BiFPN(nn.Module):
    """Repeated top-down and bottom-up rounds over all taps; as `FPN`, but gives `maps` from `level` on.

    Source: Tan et al. 2020, arXiv:1911.09070; plain sums in place of learned fusion weights.
    """

    def __init__(self, in_channels: list[int], channels: int, rounds: int, level: int, maps: int):
        super().__init__()
        self.level = level
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        # of the last round only the maps that are asked for
        self.outputs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range((rounds - 1) * len(in_channels) + maps)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        maps = [layer(f) for layer, f in zip(self.lateral, features, strict=True)]
        for first in range(0, len(self.outputs), len(maps)):
            for i in range(len(maps) - 2, -1, -1):
                maps[i] = maps[i] + F.interpolate(
                    maps[i + 1], size=maps[i].shape[-2:], mode="bilinear", align_corners=False
                )
            for i in range(1, len(maps)):
                down = F.max_pool2d(maps[i - 1], 3, 2, 1)
                maps[i] = maps[i] + F.interpolate(down, size=maps[i].shape[-2:], mode="nearest")
            layers = self.outputs[first : first + len(maps)]
            if len(layers) < len(maps):
                maps = maps[self.level : self.level + len(layers)]
            maps = [layer(m) for layer, m in zip(layers, maps, strict=True)]
        return maps


def recent_track(history: Tensor) -> Tensor:
    """The last six triplets, then their five deltas: (B, 30, 3) x, y in [0, 1], visible, to (B, 28).

    Zero where one that is needed was not visible.
    """
    last = history[:, -6:]
    seen = last[..., 2:] > 0.5
    both = seen[:, 1:] & seen[:, :-1]
    deltas = torch.where(both, last[:, 1:, :2] - last[:, :-1, :2], 0.0)
    raw = torch.where(seen, last, torch.zeros_like(last))
    return torch.cat([raw.flatten(1), deltas.flatten(1)], 1)


class Film(nn.Module):
    """Scale and shift features by the recent track; starts as the identity.

    Source: Perez et al. 2018, arXiv:1709.07871; features of the track as in the predecessor.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = 64
        self.project = nn.Sequential(nn.Linear(RECENT, hidden), nn.ReLU(inplace=True))
        self.modulate = nn.Linear(hidden, 2 * channels)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, features: Tensor, history: Tensor) -> Tensor:
        """(B, C, h, w) and (B, 30, 3) x, y in [0, 1], visible, to (B, C, h, w)."""
        gain, shift = self.modulate(self.project(recent_track(history))).chunk(2, 1)
        return features * (1 + gain[..., None, None]) + shift[..., None, None]


def cell_centers(h: int, w: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """x (1, 1, w) and y (1, h, 1) of the cell centres, in cells."""
    x = torch.arange(w, device=like.device, dtype=like.dtype) + 0.5
    y = torch.arange(h, device=like.device, dtype=like.dtype) + 0.5
    return x.view(1, 1, w), y.view(1, h, 1)


def bump(xy_cell: Tensor, present: Tensor, hw: Sequence[int], sigma: float) -> Tensor:
    """Gaussian peaks of height 1.

    Args:
        xy_cell: (B, 2) centres in cells; ignored where not present, nan allowed there.
        present: (B,) bool.
        hw: (h, w) of the map.
        sigma: width in cells.

    Returns:
        (B, h, w), zero where not present.
    """
    xy_cell = torch.where(present[:, None], xy_cell, torch.zeros_like(xy_cell))
    x, y = cell_centers(hw[0], hw[1], xy_cell)
    d2 = (x - xy_cell[:, :1, None]) ** 2 + (y - xy_cell[:, 1:, None]) ** 2
    return torch.exp(-d2 / (2 * sigma**2)) * present[:, None, None]


def extrapolate(history: Tensor) -> tuple[Tensor, Tensor]:
    """Where the track should be now: x̂ = x₋₃ − 3x₋₂ + 3x₋₁, linear with two past points, else nowhere.

    Args:
        history: (B, 30, 3) x, y, visible; oldest first.

    Returns:
        xy (B, 2) and present (B,) bool.
    """
    seen = history[:, -3:, 2] > 0.5
    p3, p2, p1 = history[:, -3, :2], history[:, -2, :2], history[:, -1, :2]
    two = seen[:, 1] & seen[:, 2]
    three = two & seen[:, 0]
    xy = torch.where(three[:, None], p3 - 3 * p2 + 3 * p1, 2 * p1 - p2)
    return xy, two


def soft_argmax(logits: Tensor, tau: float) -> Tensor:
    """Expected position of softmax(logits / tau): (B, h, w) to (B, 2) in cells."""
    b, h, w = logits.shape
    p = F.softmax(logits.flatten(1) / tau, 1).view(b, h, w)
    x, y = cell_centers(h, w, p)
    return torch.stack([(p * x).sum((1, 2)), (p * y).sum((1, 2))], 1)


def cell_probabilities(logits: Tensor) -> Tensor:
    """P(shuttle in this cell) with "nowhere" as one more outcome at logit 0: (B, h, w) to (B, h, w)."""
    b, h, w = logits.shape
    flat = torch.cat([logits.flatten(1), logits.new_zeros(b, 1)], 1)
    return F.softmax(flat, 1)[:, :-1].view(b, h, w)


def local_peaks(logits: Tensor, offset: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best places of a heatmap with offsets.

    Each 3x3 neighbourhood votes: its probability is the score, the probability-weighted mean of
    cell + offset its position, so one noisy offset does not decide.

    Args:
        logits: (B, h, w); offset: (B, 2, h, w) from each cell's centre, in cells.
        k: how many.

    Returns:
        xy (B, k, 2) in cells and score (B, k) in [0, 1], best first.
    """
    p = cell_probabilities(logits)[:, None]
    mass = F.avg_pool2d(p, 3, 1, 1) * 9
    mean = F.avg_pool2d(p * (_centers(logits) + offset), 3, 1, 1) * 9 / mass.clamp(min=1e-30)
    return _best(mass * (F.max_pool2d(p, 3, 1, 1) == p).to(mass.dtype), mean, k)


def disc_peaks(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best discs of a heatmap whose cells are independent of each other.

    A disc is where a 5x5 neighbourhood is fullest; its place is the centre of mass of 7x7 cells, its score
    how full it is, so that of two equally high peaks the larger wins, as in the field's decoding.

    Args:
        logits: (B, h, w).
        k: how many.

    Returns:
        xy (B, k, 2) in cells and score (B, k) in [0, 1], best first.
    """
    p = torch.sigmoid(logits)[:, None]
    fill = F.avg_pool2d(p, 5, 1, 2) * (25 / DISC_CELLS)
    mean = F.avg_pool2d(p * _centers(logits), 7, 1, 3) / F.avg_pool2d(p, 7, 1, 3).clamp(min=1e-30)
    return _best(fill * (F.max_pool2d(fill, 5, 1, 2) == fill).to(fill.dtype), mean, k)


def _centers(logits: Tensor) -> Tensor:
    """(B, 2, h, w) x and y of the cell centres of heatmaps (B, h, w), in cells."""
    x, y = cell_centers(logits.shape[1], logits.shape[2], logits)
    return torch.stack([x.expand(logits.shape), y.expand(logits.shape)], 1)


def _best(scores: Tensor, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The places (B, 2, h, w) of the k highest scores (B, 1, h, w): xy (B, k, 2), and these in [0, 1]."""
    score, where = scores.flatten(1).topk(k, 1)
    xy = places.flatten(2).gather(2, where[:, None].expand(-1, 2, -1)).transpose(1, 2)
    return xy, score.clamp(0, 1)


class MaxMeanVisibility(nn.Module):
    """Visibility logit from the heatmap's largest and mean probability.

    The predecessor used unnormalized logits here, whose level drifts freely; probabilities do not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        """(B, h, w), (B, C, h, w) to (B,)."""
        p = cell_probabilities(logits).flatten(1)
        return self.linear(torch.stack([p.amax(1), p.sum(1)], 1)).squeeze(1)


class AttendedVisibility(nn.Module):
    """Visibility logit from the heatmap's evidence and the features it attends to."""

    def __init__(self, channels: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels + 2, 32), nn.ReLU(inplace=True), nn.Linear(32, 1))

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        """(B, h, w), (B, C, h, w) to (B,)."""
        flat = logits.flatten(1)
        evidence = torch.stack([torch.logsumexp(flat, 1), flat.amax(1)], 1)
        attended = (features.flatten(2) * F.softmax(flat, 1)[:, None]).sum(2)
        return self.mlp(torch.cat([attended, 0.1 * evidence], 1)).squeeze(1)
