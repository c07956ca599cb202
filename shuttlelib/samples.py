"""Samples: a few frames, the head in the current one, and the track before it; between clips and models.

Stage 1 sees the whole frame letterboxed, stage 2 a crop at the canonical scale around a point that is
near the shuttle the way a tracker's guess is, or somewhere else entirely. The frames lie one
thirtieth of a second apart, so a 60 fps clip skips every other frame; those that repeat a picture are left
out, as the tracker does. What a batch shows is first planned as plain numbers, then cut and changed: here
on the CPU, in `batches` on a device. Every draw is a function of (seed, draw number): the same in any
worker, after any resume.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shuttlelib import augment, geometry
from shuttlelib.augment import Augmentation, Changes
from shuttlelib.cache import FrameCache
from shuttlelib.draws import Draws
from shuttlelib.frames import PAST, history_stride
from shuttlelib.geometry import Window
from shuttlelib.spec import Spec

Item = int | tuple[int, int]  # a sample's number, or (number, draw number)
CONTENT = 0  # stream of the draws that say how a sample looks


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
    zoom: tuple[float, float] = (0.6, 1.5)


class Plan(NamedTuple):
    """All that is known of a batch of B samples of T frames before a pixel is read.

    Attributes:
        number, clip: (B,) the sample, and its clip. looks: (B, T) frame numbers, oldest first.
        window: (B, 4) x0, y0, w, h, native px.
        xy: (B, 2) float32, the head after all changes, input px; nan where not visible.
        history: (B, 30, 3) float32, see `Samples`.
        changes: None changes nothing.
    """

    number: np.ndarray
    clip: np.ndarray
    looks: np.ndarray
    window: np.ndarray
    xy: np.ndarray
    history: np.ndarray
    changes: Changes | None = None


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
        self.points = [_points(cache) for cache in self.caches]
        self.index = [
            (c, int(f)) for c, points in enumerate(self.points) for f in np.flatnonzero(points[:, 3] > 0)
        ]
        self._where = np.array(self.index, int).reshape(-1, 2)
        # tables of all clips one after the other, so that a batch is looked up at once
        self._length = np.array([len(points) for points in self.points], int)
        self._base = np.cumsum(self._length) - self._length
        self._flat = np.concatenate([np.empty((0, 4)), *self.points])
        self._last_seen = np.concatenate([np.empty(0, int), *(_last_seen(points) for points in self.points)])
        given = [centers[cache.clip.name][: len(cache)] for cache in self.caches] if centers else []
        self._given = np.concatenate(given) if given else None
        self.false_places, self._false_count = _false_places(self.caches, distractors or {})
        infos = [cache.clip.info for cache in self.caches]
        self._size = np.array([info.even_hw[::-1] for info in infos], float).reshape(-1, 2)
        self._scale = np.array([geometry.canonical_scale(info.even_hw) for info in infos], float)
        new = [np.isin(np.arange(len(cache)), cache.new) for cache in self.caches]
        self._picture = np.cumsum(np.concatenate([np.empty(0, bool), *new])) - 1  # counted through all clips
        self._number = np.concatenate([np.empty(0, int), *map(np.flatnonzero, new)])
        rates = [info.fps * shown.mean() for info, shown in zip(infos, new)]
        self._stride = np.array([history_stride(rate) for rate in rates], int)
        full = [geometry.full_window(info.even_hw, spec.input_hw) for info in infos]
        self._full = np.array([(f.x0, f.y0, f.w, f.h) for f in full]).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: Item) -> dict[str, Tensor]:
        """A sample by its index, or by (index, draw number) for a reproducible augmentation.

        Returns:
            frames: (T, 3, H, W) uint8, oldest first; T is the spec's `frames`, the last `ahead` yet to come.
            xy: (2,) of the head, input px, nan when it is not visible in this input.
            history: (30, 3) past x, y in [0, 1] of the input (0 when invisible) and visible, which is nan
                where a U-Net sees a frame that has no label.
            index: () the sample's number.
        """
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[Item]) -> list[dict[str, Tensor]]:
        """Several samples: planned together, then cut and changed one by one with OpenCV."""
        plan = self.plan(items)
        numbers, xy, history = (torch.from_numpy(x) for x in (plan.number, plan.xy, plan.history))
        result = []
        for i in range(len(items)):
            images = self.look(plan, i)
            if plan.changes is not None:
                images = augment.change(images, plan.changes, i)
            frames = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
            result.append({"frames": frames, "xy": xy[i], "history": history[i], "index": numbers[i]})
        return result

    def plan(self, items: Sequence[Item]) -> Plan:
        """What a batch of samples will show."""
        pairs = np.array([item if isinstance(item, tuple) else (item, item) for item in items], np.int64)
        number, draws = pairs[:, 0], Draws(self.seed, pairs[:, 1], CONTENT)
        (clip, frame), a = self._where[number].T, self.augmentation
        t, ahead = self.spec.frames, self.spec.ahead
        window = self._windows(clip, frame, draws)
        changes = a.draw(draws, self.spec.input_hw, t) if a else None
        back = np.arange(-ahead, 1 + PAST)[None]
        times = self._times(clip, frame, back)
        looks = self._inside(clip, times[:, t - 1 :: -1])
        asks_all = self.spec.network == "unet"  # for each frame it sees, copies at the start of a clip too
        if asks_all:
            times[:, :t] = looks[:, ::-1]
        xy = self._seen(clip, times[:, ahead:], window)
        if changes is not None:
            xy = augment.move(xy, changes.matrix) + changes.jitter
        head, history = self._targets(xy)
        if asks_all:
            labelled = self._flat[self._base[clip][:, None] + looks[:, :-1], 3] > 0
            history[:, 1 - t :, 2] = np.where(labelled, history[:, 1 - t :, 2], np.nan)
        return Plan(number, clip, looks, window, head, history, changes)

    def window(self, number: int, draw: int) -> Window:
        """The window a draw of a sample looks through (for placing predictions back in the frame)."""
        clip, frame = self._where[[number]].T
        values = self._windows(clip, frame, Draws(self.seed, np.array([draw]), CONTENT))[0]
        return self._view(values)

    def look(self, plan: Plan, i: int) -> np.ndarray:
        """uint8 (T, H, W, 3) of one sample of a plan, before its changes."""
        view, cache = self._view(plan.window[i]), self.caches[plan.clip[i]]
        return np.stack([cache.window(int(f), view) for f in plan.looks[i]])

    def _view(self, window: np.ndarray) -> Window:
        x0, y0, w, h = window.tolist()
        return Window(x0, y0, w, h, *self.spec.input_hw)

    def _times(self, clip: np.ndarray, frame: np.ndarray, back: np.ndarray) -> np.ndarray:
        """(B, n) frame numbers so many looks `back`: -1 before the clip, its length after it."""
        base, length = self._base[clip], self._length[clip]
        first, last = (self._picture[row][:, None] for row in (base, base + length - 1))
        picture = self._picture[base + frame][:, None] - self._stride[clip][:, None] * back
        number = self._number[np.clip(picture, first, last)]
        number = np.where(picture > last, length[:, None], np.where(picture < first, -1, number))
        return np.where(back == 0, frame[:, None], number)

    def _inside(self, clip: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Frame numbers (B, n) moved into their clips."""
        return np.clip(times, 0, self._length[clip][:, None] - 1)

    def _seen(self, clip: np.ndarray, times: np.ndarray, window: np.ndarray) -> np.ndarray:
        """(B, n, 2) labels at frame numbers (B, n), input px; nan where invisible or outside the clip."""
        points = self._flat[self._base[clip][:, None] + self._inside(clip, times)]
        known = (times >= 0) & (times < self._length[clip][:, None]) & (points[..., 2] > 0)
        h, w = self.spec.input_hw
        xy = (points[..., :2] - window[:, None, :2]) * (np.array([w, h]) / window[:, None, 2:])
        return np.where(known[..., None], xy, np.nan)

    def _targets(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (B, 31, 2), nearest first, to the head and the history, which is oldest first."""
        size = np.array(self.spec.input_hw[::-1])
        head, past = xy[:, 0], xy[:, :0:-1]
        inside = np.logical_and(head >= 0, head < size).all(1, keepdims=True)  # false for nan
        known = np.isfinite(past).all(2, keepdims=True)
        history = np.concatenate([np.where(known, past / size, 0.0), known], 2)
        return np.where(inside, head, np.nan).astype(np.float32), history.astype(np.float32)

    def _windows(self, clip: np.ndarray, frame: np.ndarray, draws: Draws) -> np.ndarray:
        """(B, 4) what each sample looks through."""
        if self.spec.stage == 1:
            return self._full[clip]
        low, high = self.policy.zoom if self.augmentation is not None else (1.0, 1.0)
        out = self.spec.input_hw[0]
        center = self._centers(clip, frame, (out / self._scale[clip])[:, None], draws)
        side = out / (self._scale[clip] * np.exp(draws.uniform(np.log(low), np.log(high))))
        corner = 2 * np.round((center - side[:, None] / 2) / 2)  # as `geometry.crop_window`
        return np.column_stack([corner, side, side])

    def _centers(self, clip: np.ndarray, frame: np.ndarray, side: np.ndarray, draws: Draws) -> np.ndarray:
        """(B, 2) centres of stage-2 crops, native px; side: (B, 1)."""
        policy, base = self.policy, self._base[clip]
        row = base + frame
        if self._given is not None:
            return self._given[row]
        before = self._flat[base + np.maximum(0, self._times(clip, frame, np.array([[1]]))[:, 0])]
        now = self._flat[row]
        other = self._flat[base + draws.below(self._length[clip])]
        last = self._flat[np.maximum(self._last_seen[row], 0) + base]
        nudge = draws.normal((2,)) * policy.jitter_px * side / self.spec.input_hw[0]
        anywhere, kind = draws.uniform(0, self._size[clip], (2,)), draws.uniform()
        elsewhere = np.where(_both(other[:, 2] > 0, draws.chance(0.5)), other[:, :2] + nudge, anywhere)
        count = self._false_count[row]
        false = self.false_places[row, draws.below(np.maximum(count, 1))] + nudge
        elsewhere = np.where(_both(count > 0, draws.chance(0.6)), false, elsewhere)
        gone = np.where((self._last_seen[row] >= 0)[:, None], last[:, :2] + nudge, anywhere)
        on = now[:, :2] + draws.uniform(-1, 1, (2,)) * policy.spread * side / 2
        follows = _both(kind < policy.elsewhere_share + policy.follow_share, before[:, 2] > 0)
        near = np.where((now[:, 2] > 0)[:, None], np.where(follows, before[:, :2] + nudge, on), gone)
        return np.where((kind < policy.elsewhere_share)[:, None], elsewhere, near)


def _points(cache: FrameCache) -> np.ndarray:
    """(frames, 4): x_px, y_px (0 when invisible), visible, labelled."""
    table = cache.clip.table.astype({"visible": float}).assign(labelled=1.0)
    table = table.set_index("frame").reindex(range(len(cache)))
    return table[["x_px", "y_px", "visible", "labelled"]].fillna(0.0).to_numpy()


def _last_seen(points: np.ndarray) -> np.ndarray:
    """(frames,) the latest frame up to each in which the shuttle is visible; -1 where there is none."""
    return np.maximum.accumulate(np.where(points[:, 2] > 0, np.arange(len(points)), -1))


def _false_places(
    caches: Sequence[FrameCache], places: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Distractors of all clips' frames, (N, K, 2) with the finite ones first, and how many, (N,)."""
    most = max([1, *(x.shape[1] for x in places.values())])
    tables = [np.empty((0, most, 2))]
    for cache in caches:
        table = np.full((len(cache), most, 2), np.nan)
        given = places.get(cache.clip.name, np.empty((0, 0, 2)))[: len(cache)]
        table[: len(given), : given.shape[1]] = given
        order = np.argsort(~np.isfinite(table).all(2), axis=1, kind="stable")
        tables.append(np.take_along_axis(table, order[..., None], 1))
    joined = np.concatenate(tables)
    return joined, np.isfinite(joined).all(2).sum(1)


def _both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a & b)[:, None]
