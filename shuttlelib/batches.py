"""Batches on the training device, from plans; after samples, before training.

Two ways lead to the same pictures. "cpu" cuts and changes every sample with OpenCV, in worker processes
if asked. "device" plans batches in a background thread and does the pixels on the device: decoded frames
stay there where they fit, else the pieces that a batch needs are read from the memory-mapped caches
and sent over. Neither draws from torch's generators.
"""

import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from shuttlelib import augment, degradation
from shuttlelib.ahead import read_ahead
from shuttlelib.augment import TILE_SIZE, TILE_STD, Changes
from shuttlelib.geometry import SizeHW
from shuttlelib.samples import Item, Plan, Samples

FREE_SHARE = 0.6  # of the device's memory that is free, or that torch keeps free, for decoded frames
PATHS = ("auto", "cpu", "device")
AHEAD = 3  # batches planned in advance
Batch = dict[str, Tensor]


class Arriving:
    """A tensor on its way to the host: asked for only when it is there, it does not hold up a GPU."""

    def __init__(self, tensor: Tensor) -> None:
        self._host = tensor.to("cpu", non_blocking=True)
        self._arrived = torch.cuda.Event() if tensor.is_cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def wait(self) -> Tensor:
        """The tensor, on the host; waits for what was launched before it, and for nothing after."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host


class Source:
    """Batches of samples, on a device, as fast as the path allows.

    Args:
        samples: what to cut them from.
        device: where they are wanted.
        path: "cpu", "device", or "auto": "device" on a GPU whose free memory holds the frames.
        workers: loader processes of the CPU path.
    """

    def __init__(
        self, samples: Samples, device: torch.device | str = "cpu", path: str = "cpu", workers: int = 0
    ):
        self.samples, self.device, self.workers = samples, torch.device(device), workers
        fits = _fits(samples, self.device)
        self.path = path if path != "auto" else "device" if fits else "cpu"
        self.pixels = Pixels(samples, self.device, fits) if self.path == "device" else None

    def batches(self, lists: Iterable[Sequence[Item]]) -> Iterator[Batch]:
        """One batch a list of items (see `Samples`): frames, xy, history and index, on the device."""
        if self.pixels is not None:
            return self._planned(lists, self.pixels)
        return self._loaded(lists)

    def _loaded(self, lists: Iterable[Sequence[Item]]) -> Iterator[Batch]:
        loader = DataLoader(
            self.samples,
            batch_sampler=lists,  # type: ignore[arg-type]
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_parent,
            generator=torch.Generator(),  # an iterator draws a seed: not from the generator of the training
        )
        for batch in loader:
            yield {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def _planned(self, lists: Iterable[Sequence[Item]], pixels: "Pixels") -> Iterator[Batch]:
        def prepared() -> Generator[tuple[Plan, Tensor], None, None]:
            for items in lists:
                plan = self.samples.plan(items)
                yield plan, pixels.read(plan)

        for plan, read in read_ahead(prepared, AHEAD):
            yield pixels.batch(plan, read)


class Pixels:
    """The frames of samples as tensors, and what turns a plan into a batch.

    Args:
        samples: whose caches are used.
        device: where the pictures are made.
        resident: hold all frames there, one after the other; else read them when they are needed.
    """

    def __init__(self, samples: Samples, device: torch.device, resident: bool):
        self.samples, self.caches, self.device, self.spec = samples, samples.caches, device, samples.spec
        sizes = [cache.frames[0].size for cache in self.caches]
        self.frame_size = np.array(sizes, int)
        self.size_hw = np.array([cache.clip.info.even_hw for cache in self.caches], int).reshape(-1, 2)
        whole = np.array([cache.frames.size for cache in self.caches], int)
        self.start = np.cumsum(whole) - whole
        self.flat = torch.empty(int(whole.sum()) if resident else 0, dtype=torch.uint8, device=device)
        self.resident = resident
        for cache, start in zip(self.caches if resident else (), self.start):
            pixels = torch.from_numpy(np.array(cache.frames).reshape(-1))
            self.flat[start : start + len(pixels)] = pixels
        self.tile = torch.from_numpy(augment.noise_tile()).to(device)

    def read(self, plan: Plan) -> Tensor:
        """What can be done ahead, on the host: pieces of frames or where they begin."""
        return self._pinned(self._read(plan))

    def batch(self, plan: Plan, read: Tensor) -> Batch:
        """The batch of a plan and what `read` made of it; the same pictures whoever asks, autocast or not."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            frames = self._look(read.to(self.device, non_blocking=True), plan.clip, plan.window)
            if plan.changes is not None:
                frames = self._change(frames, plan.changes)
        rest = {"xy": plan.xy, "history": plan.history, "index": plan.number}
        sent = {key: self._sent(value) for key, value in rest.items()}
        return {"frames": frames.to(torch.uint8), **sent}

    def _read(self, plan: Plan) -> Tensor:
        clip, looks = plan.clip, plan.looks
        if self.resident:
            return torch.from_numpy(self.start[clip][:, None] + self.frame_size[clip][:, None] * looks)
        if self.spec.stage == 1:
            images = [[self.caches[c].frames[f] for f in row] for c, row in zip(clip, looks)]
            return torch.from_numpy(np.array(images))
        corner, side = _patches(plan.window)
        pieces = np.zeros((*looks.shape, side * 3 // 2, side), np.uint8)
        for i, (c, row) in enumerate(zip(clip, looks)):
            for t, f in enumerate(row):
                _cut(self.caches[c].frames[f], self.size_hw[c], corner[i], pieces[i, t])
        return torch.from_numpy(pieces)

    def _look(self, read: Tensor, clip: np.ndarray, window: np.ndarray) -> Tensor:
        """(B, T, 3, H, W) float grey levels, whole numbers, of every sample's window."""
        h, w = self.spec.input_hw
        if self.spec.stage == 1:
            if self.resident:
                read = self.flat.view(-1, h * w * 3)[read // (h * w * 3)]
            return read.view(*read.shape[:2], h, w, 3).permute(0, 1, 4, 2, 3).float()
        corner, side = _patches(window)
        size_hw = self.size_hw[clip]
        if self.resident:
            read = self._gather(read, self._sent(corner), self._sent(size_hw), side)
        shown = self._sent(_shown(window, corner, size_hw, side))
        rgb = _rgb(read, side) * (shown[:, 1, :, None] & shown[:, 0, None])[:, None, None]
        # where an input pixel covers several of the frame, that many looks are averaged
        dense = np.maximum(1, np.ceil(window[:, 2] / w - 0.05)).astype(int)
        pieces = rgb.flatten(1, 2)
        views = pieces.new_empty(*pieces.shape[:2], h, w)
        for looks in np.unique(dense):
            chosen = dense == looks
            theta = self._on(_theta(window[chosen], corner[chosen], side))
            rows = self._sent(np.flatnonzero(chosen))
            views[rows] = _crop(pieces[rows], theta, (h, w), int(looks))
        return views.unflatten(1, (-1, 3))

    def _gather(self, start: Tensor, corner: Tensor, size: Tensor, side: int) -> Tensor:
        """I420 pieces (B, T, side * 3 // 2, side) around corners (B, 2) of resident frames."""
        h, w = size[:, :1], size[:, 1:]
        along = torch.arange(side, device=self.device)
        x, y = ((corner[:, i : i + 1] + along).clamp(min=0) for i in (0, 1))
        luma = torch.minimum(y, h - 1)[:, :, None] * w[:, None] + torch.minimum(x, w - 1)[:, None]
        half_x = torch.minimum(x[:, ::2] // 2, w // 2 - 1)[:, None]
        half_y = torch.minimum(y[:, ::2] // 2, h // 2 - 1)[:, :, None]
        chroma = (h * w)[:, None] + half_y * (w // 2)[:, None] + half_x
        both = torch.cat([chroma, chroma + (h * w // 4)[:, None]], 1).flatten(1)
        place = torch.cat([luma.flatten(1), both], 1)[:, None] + start[:, :, None]
        return self.flat[place].view(*start.shape, side * 3 // 2, side)

    def _change(self, frames: Tensor, changes: Changes) -> Tensor:
        """As `augment.change`, of a batch."""
        h, w = frames.shape[-2:]
        mirrored = augment.is_flip(changes.matrix, w)
        other = ~mirrored & ~(changes.matrix == np.eye(3)).all((1, 2))
        flip = self._sent(mirrored)[:, None, None, None, None]
        frames = torch.where(flip, frames.flip(-1), frames)
        self._affect(frames, other, _warp, np.linalg.inv(changes.matrix))
        poor = changes.poor
        if poor is not None:
            self._affect(frames, poor.sigma_px > 0, degradation.defocus, poor.sigma_px)
        colour = self._on(changes.colour)
        mixed = torch.einsum("bij,btjhw->btihw", colour[:, :, :3], frames)
        frames = (mixed + colour[:, None, :, 3, None, None]).round_().clamp_(0, 255)
        gain = self._on(changes.level)[:, :, None, None, None] / TILE_STD
        count = h * w * 3
        runs = self.tile.as_strided((TILE_SIZE - count + 1, count), (1, 1))
        start = self._sent(changes.start)
        noise = runs[start].view(*start.shape, h, w, 3).permute(0, 1, 4, 2, 3).float() - 128
        frames = frames.add_(noise * gain).round_().clamp_(0, 255)
        if poor is not None:
            self._affect(frames, poor.step > 0, degradation.compress, poor.step, poor.corner)
        return frames

    def _affect(
        self, frames: Tensor, chosen: np.ndarray, effect: Callable[..., Tensor], *values: np.ndarray
    ) -> None:
        """Put the chosen samples (B,) through an effect, in place, each with its part of values (B, ...)."""
        if chosen.any():
            rows = self._sent(np.flatnonzero(chosen))
            frames[rows] = effect(frames[rows], *(self._sent(value[chosen]) for value in values))

    def _on(self, values: np.ndarray) -> Tensor:
        return self._sent(np.ascontiguousarray(values, np.float32))

    def _sent(self, values: np.ndarray) -> Tensor:
        """An array on the device, without waiting for what it is doing."""
        return self._pinned(torch.from_numpy(values)).to(self.device, non_blocking=True)

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self.device.type == "cuda" else tensor


def _fits(samples: Samples, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for reuse
    free = torch.cuda.mem_get_info(device)[0] + kept
    return sum(cache.frames.nbytes for cache in samples.caches) < FREE_SHARE * free


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches the whole process group, but the training process decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _patches(window: np.ndarray) -> tuple[np.ndarray, int]:
    """Even corners (B, 2) as x, y, and one even side, px, of squares that cover windows (B, 4)."""
    corner = 2 * np.floor(window[:, :2] / 2).astype(int) - 2
    return corner, 2 * int(np.ceil(window[:, 2:].max() / 2)) + 6


def _cut(planes: np.ndarray, size_hw: np.ndarray, corner: np.ndarray, out: np.ndarray) -> None:
    """Copy a square of I420 planes (H * 3 // 2, W) into `out` (side * 3 // 2, side); outside, `out` stays."""
    (h, w), (x, y), side = size_hw, corner, out.shape[1]
    x0, y0, x1, y1 = max(0, x), max(0, y), min(w, x + side), min(h, y + side)
    if x0 >= x1 or y0 >= y1:
        return
    out[y0 - y : y1 - y, x0 - x : x1 - x] = planes[y0:y1, x0:x1]
    chroma, target = planes[h:].reshape(2, h // 2, w // 2), out[side:].reshape(2, side // 2, side // 2)
    half = np.s_[:, (y0 - y) // 2 : (y1 - y) // 2, (x0 - x) // 2 : (x1 - x) // 2]
    target[half] = chroma[:, y0 // 2 : y1 // 2, x0 // 2 : x1 // 2]


def _rgb(planes: Tensor, side: int) -> Tensor:
    """I420 (B, T, side * 3 // 2, side) uint8 to RGB (B, T, 3, side, side) float, limited-range BT.601."""
    luma = 1.164 * (planes[..., :side, :].float() - 16).clamp(min=0)
    chroma = planes[..., side:, :].reshape(*planes.shape[:2], 2, side // 2, side // 2).float() - 128
    u, v = chroma.repeat_interleave(2, -1).repeat_interleave(2, -2).unbind(2)
    rgb = torch.stack([luma + 1.596 * v, luma - 0.813 * v - 0.391 * u, luma + 2.018 * u], 2)
    return rgb.round_().clamp_(0, 255)


def _shown(window: np.ndarray, corner: np.ndarray, size_hw: np.ndarray, side: int) -> np.ndarray:
    """(B, 2, side) whether a column, and a row, of a piece is in the frame and in the window's even span."""
    along = corner[:, :, None] + np.arange(side)
    low = np.maximum(0, 2 * np.floor(window[:, :2] / 2))[..., None]
    high = np.minimum(size_hw[:, ::-1], 2 * np.ceil((window[:, :2] + window[:, 2:]) / 2))[..., None]
    return (along >= low) & (along < high)


def _theta(window: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """(B, 2, 3) for `affine_grid`: windows (B, 4) of pieces with sides of `side` px at `corner` (B, 2)."""
    theta = np.zeros((len(window), 2, 3), np.float32)
    theta[:, [0, 1], [0, 1]] = window[:, 2:] / side
    theta[:, :, 2] = 2 * (window[:, :2] + window[:, 2:] / 2 - corner) / side - 1
    return theta


def _crop(pieces: Tensor, theta: Tensor, out_hw: SizeHW, dense: int) -> Tensor:
    """Windows of pieces (B, C, side, side) by `_theta` (B, 2, 3), as (B, C, *out_hw)."""
    shape = [len(theta), 1, out_hw[0] * dense, out_hw[1] * dense]
    grid = F.affine_grid(theta, shape, align_corners=False)
    views = F.grid_sample(pieces, grid, mode="bilinear", align_corners=False)
    return (F.avg_pool2d(views, dense) if dense > 1 else views).round_().clamp_(0, 255)


def _warp(frames: Tensor, inverse: Tensor) -> Tensor:
    """Frames (B, T, 3, H, W) under homographies, given from after to before (B, 3, 3), input px."""
    h, w = frames.shape[-2:]
    y, x = (torch.arange(n, device=frames.device) + 0.5 for n in (h, w))
    places = torch.stack([x.expand(h, w), y[:, None].expand(h, w), torch.ones_like(x).expand(h, w)], -1)
    found = torch.einsum("bij,hwj->bhwi", inverse.to(frames), places)
    size = torch.stack([found.new_full((), 2 / n) for n in (w, h)])  # a copy from the host would wait
    grid = found[..., :2] / found[..., 2:] * size - 1
    warped = F.grid_sample(frames.flatten(1, 2), grid, align_corners=False)
    return warped.unflatten(1, frames.shape[1:3]).round_()
