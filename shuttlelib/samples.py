"""Samples: a few frames, the head in the last one, and the track before it; between clips and models.

Stage 1 sees the whole frame letterboxed, stage 2 a crop at the canonical scale around a point that is
near the shuttle the way a tracker's guess is, or somewhere else entirely. Past frames lie one
thirtieth of a second apart, so a 60 fps clip skips every other frame. Every draw is a function of
(seed, draw number): the same in any worker, after any resume.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from shuttlelib import geometry
from shuttlelib.augment import Augmentation
from shuttlelib.cache import FrameCache
from shuttlelib.frames import history_stride
from shuttlelib.geometry import Window
from shuttlelib.versions import Spec

PAST = 30


@dataclass(frozen=True)
class CropPolicy:
    """Where stage-2 training crops are centred.

    Attributes:
        follow_share: share centred as a following tracker would, near the previous position.
        jitter_px: standard deviation around that, canonical px.
        spread: other crops on a visible shuttle put it anywhere within this fraction of the half side.
        elsewhere_share: share of crops meant to show no shuttle: at stage 1's false places where those
            are known, at places where the shuttle is at another time, or anywhere.
        zoom: range of the scale.
    """

    follow_share: float = 0.5
    jitter_px: float = 8.0
    spread: float = 0.85
    elsewhere_share: float = 0.35
    zoom: tuple[float, float] = (0.75, 1.33)


class Samples(Dataset):
    """Labelled frames of cached clips.

    Args:
        caches: one a clip; for stage 1 of whole frames at the spec's input, for stage 2 of planes.
        spec: the version.
        augmentation: None for validation: no randomness, crops centred near the label by a fixed draw.
        seed: of all draws.
        policy: of stage-2 crops.
        distractors: {clip: (frames, K, 2)} native px, nan where there are fewer than K: what stage 1 took
            for the shuttle (`mining.distractors`), so that stage 2 learns to reject it.
        centers: {clip: (frames, 2)} native px: stage-2 crops lie exactly there, whatever the policy.
    """

    def __init__(
        self,
        caches: Sequence[FrameCache],
        spec: Spec,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        policy: CropPolicy | None = None,
        distractors: Mapping[str, np.ndarray] | None = None,
        centers: Mapping[str, np.ndarray] | None = None,
    ):
        self.caches, self.spec = list(caches), spec
        self.augmentation, self.seed = augmentation, seed
        self.policy = policy or CropPolicy()
        self.distractors, self.centers = distractors or {}, centers or {}
        self.points = [_points(cache) for cache in self.caches]
        self.index = [
            (c, int(f)) for c, points in enumerate(self.points) for f in np.flatnonzero(points[:, 3] > 0)
        ]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: "int | tuple[int, int]") -> dict[str, Tensor]:
        """A sample by its index, or by (index, draw number) for a reproducible augmentation.

        Returns:
            frames: (T, 3, H, W) uint8, oldest first; T is the spec's `frames`.
            xy: (2,) of the head, input px, nan when it is not visible in this input.
            history: (30, 3) past x, y in [0, 1] of the input (0 when invisible) and visible.
            index: () the sample's number.
        """
        number, draw = item if isinstance(item, tuple) else (item, item)
        clip, frame = self.index[number]
        rng = np.random.default_rng((self.seed, draw))
        window = self._window(clip, frame, rng)
        frames, xy, past = self._look(clip, frame, window)
        if self.augmentation is not None:
            with torch.random.fork_rng(devices=[]):
                # the CPU generator alone: torch.manual_seed also notes a stack trace for CUDA, 1 ms a sample
                torch.default_generator.manual_seed(int(rng.integers(2**63 - 1)))
                frames, xy = self.augmentation(frames, xy)
        return {**_targets(frames, xy, past), "index": torch.tensor(number)}

    def window(self, number: int, draw: int = 0) -> Window:
        """The window a draw of a sample looks through (for placing predictions back in the frame)."""
        clip, frame = self.index[number]
        return self._window(clip, frame, np.random.default_rng((self.seed, draw)))

    def _look(self, clip: int, frame: int, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (T, 3, H, W); points (31, 2) in input px, nan where invisible; which of the past exist."""
        stride = history_stride(self.caches[clip].clip.info.fps)
        looks = [max(0, frame - stride * back) for back in reversed(range(self.spec.frames))]
        images = np.stack([self.caches[clip].window(f, window) for f in looks])
        numbers = np.array([frame] + [frame - stride * back for back in range(PAST, 0, -1)])
        points = self.points[clip][np.maximum(numbers, 0)]
        known = (numbers >= 0) & (points[:, 2] > 0)
        xy = np.where(known[:, None], geometry.frame_to_window(points[:, :2], window), np.nan)
        frames = torch.from_numpy(images).permute(0, 3, 1, 2)
        return frames, torch.from_numpy(xy).float(), torch.from_numpy(known[1:])

    def _window(self, clip: int, frame: int, rng: np.random.Generator) -> Window:
        info = self.caches[clip].clip.info
        size_hw = info.even_hw
        if self.spec.stage == 1:
            return geometry.full_window(size_hw, self.spec.input_hw)
        side = self.spec.input_hw[0]
        scale = geometry.canonical_scale(size_hw)
        low, high = self.policy.zoom if self.augmentation is not None else (1.0, 1.0)
        center = self._center(clip, frame, size_hw, side / scale, rng)
        return geometry.crop_window(
            center, size_hw, side, zoom=float(np.exp(rng.uniform(np.log(low), np.log(high))))
        )

    def _center(
        self, clip: int, frame: int, size_hw: tuple[int, int], side: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Centre of a stage-2 crop, native px."""
        if self.centers:
            return self.centers[self.caches[clip].clip.name][frame]
        points, policy = self.points[clip], self.policy
        stride = history_stride(self.caches[clip].clip.info.fps)
        anywhere = rng.uniform((0, 0), (size_hw[1], size_hw[0]))
        now, before = points[frame], points[max(0, frame - stride)]
        kind, nudge = rng.random(), rng.normal(0, policy.jitter_px * side / self.spec.input_hw[0], 2)
        if kind < policy.elsewhere_share:
            false = self.distractors.get(self.caches[clip].clip.name, np.empty((frame + 1, 0, 2)))[frame]
            false = false[np.isfinite(false).all(1)]
            if len(false) and rng.random() < 0.6:
                return false[rng.integers(len(false))] + nudge
            other = points[rng.integers(len(points))]
            return other[:2] + nudge if other[2] > 0 and rng.random() < 0.5 else anywhere
        if not now[2]:
            seen = np.flatnonzero(points[: frame + 1, 2] > 0)
            return points[seen[-1], :2] + nudge if len(seen) else anywhere
        if kind < policy.elsewhere_share + policy.follow_share and before[2]:
            return before[:2] + nudge
        return now[:2] + rng.uniform(-1, 1, 2) * policy.spread * side / 2


class RandomAccessSampler(Sampler):
    """Weighted draws with replacement, each a function of (seed, draw number), from `start` to `stop`.

    Args:
        weights: (N,) relative frequency of each sample.
        seed: of the draws.
        start, stop: draw numbers; resuming at a step is a larger `start`.
    """

    def __init__(self, weights: np.ndarray, seed: int, start: int, stop: int):
        self.cumulative = np.cumsum(weights, dtype=np.float64)
        self.seed, self.start, self.stop = seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for draw in range(self.start, self.stop):
            u = np.random.default_rng((self.seed, 1, draw)).random() * self.cumulative[-1]
            yield int(np.searchsorted(self.cumulative, u, side="right")), draw


def mixing_weights(samples: Samples, rendered_share: float) -> np.ndarray:
    """(N,) weights that give rendered rallies their share, equal within each kind.

    Where only one kind is present it gets everything.
    """
    rendered = np.array(
        [samples.caches[c].clip.table["origin"].iloc[0] == "synthetic" for c, _ in samples.index]
    )
    weights = np.ones(len(rendered))
    if 0 < rendered.sum() < len(rendered):
        weights[rendered] = rendered_share / rendered.sum()
        weights[~rendered] = (1 - rendered_share) / (~rendered).sum()
    return weights


def _points(cache: FrameCache) -> np.ndarray:
    """(frames, 4): x_px, y_px (0 when invisible), visible, labelled."""
    table = cache.clip.table
    table = table[table["frame"].between(0, len(cache) - 1)]
    points = np.zeros((len(cache), 4))
    rows = table["frame"].to_numpy()
    points[rows, :2] = table[["x_px", "y_px"]].fillna(0.0).to_numpy()
    points[rows, 2] = table["visible"].to_numpy()
    points[rows, 3] = 1
    return points


def _targets(frames: Tensor, xy: Tensor, past_known: Tensor) -> dict[str, Tensor]:
    h, w = frames.shape[-2:]
    inside = (xy[0] >= 0).all() & (xy[0, 0] < w) & (xy[0, 1] < h)
    head = xy[0] if bool(inside) else torch.full((2,), torch.nan)
    past = torch.nan_to_num(xy[1:] / xy.new_tensor((w, h)))
    history = torch.cat([past, past_known[:, None].to(past.dtype)], 1)
    return {"frames": frames.contiguous(), "xy": head, "history": history}
