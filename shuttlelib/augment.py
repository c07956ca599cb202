"""Augmentation: what is drawn for each sample of a batch, and its arithmetic on pictures; before samples.

Drawing and doing are apart: `Augmentation.draw` makes the numbers of a whole batch at once, each a
function of (seed, draw number); `change` applies them to one sample with OpenCV, `batches` to a whole
batch on a device, with the same result. Points are in `geometry`'s continuous coordinates and move by
the same matrix as the pixels; which of them are visible is never touched, so the invisible stays so.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from shuttlelib import degradation
from shuttlelib.degradation import BLUE, GREEN, RED, Degradation
from shuttlelib.draws import Draws
from shuttlelib.frames import PAST
from shuttlelib.geometry import SizeHW

TILE_SIZE = 1 << 23  # half of it must hold a frame
TILE_STD = 32  # grey levels
_GREY = np.tile(np.array([RED, GREEN, BLUE]), (3, 1))
# the cross product with the grey axis
_ABOUT_GREY = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)


class Changes(NamedTuple):
    """What happens to the pictures of a batch of B samples with T frames each, and to their points.

    Attributes:
        matrix: (B, 3, 3) homography from input px before to input px after.
        colour: (B, 3, 4) from RGB and 1 to RGB.
        level: (B, T) standard deviation of the noise, grey levels.
        start: (B, T) where a frame's noise begins in the tile.
        jitter: (B, 31, 2) px, of the head (always 0) and of the past positions, nearest first.
        poor: of the samples that look like poor footage; its exposure and noise are in the fields above.
    """

    matrix: np.ndarray
    colour: np.ndarray
    level: np.ndarray
    start: np.ndarray
    jitter: np.ndarray
    poor: Degradation | None = None


@dataclass(frozen=True)
class Augmentation:
    """How training samples of a version vary.

    Attributes:
        noise_std: largest level of the sensor noise, fraction of the range.
        noise: "uniform" draws each frame's level from U(0, noise_std); "constant" always uses noise_std.
        scale: zoom range of the picture; (1, 1) leaves the scale to the crop (stage 2).
        colour: half-width of the ranges of brightness, contrast, saturation and channel gains.
        hue: how often all colours turn by any angle about grey, so that courts and shirts take every colour
            and a white shuttle stays white.
        shift: largest shift, fraction of the width and height.
        roll_deg: largest rotation; perspective: largest change of scale from the centre to an edge.
        flip, affine, colour_share: how often the picture is mirrored; zoomed, shifted, rolled; tinted.
        jitter_norm: standard deviation of the past positions, fraction of the width: a tracker's own past
            is never exact.
        poor: how often the pictures are those of a poor lens, exposure, sensor or codec (see `degradation`).
    """

    noise_std: float = 0.02
    noise: str = "uniform"
    scale: tuple[float, float] = (1.0, 1.0)
    colour: float = 0.3
    hue: float = 0.5
    shift: float = 0.08
    roll_deg: float = 0.0
    perspective: float = 0.0
    flip: float = 0.5
    affine: float = 0.5
    colour_share: float = 0.8
    jitter_norm: float = 0.003
    poor: float = 0.0

    @property
    def warps(self) -> bool:
        """Whether pictures are zoomed, shifted or turned, beyond the flip."""
        return self.scale != (1.0, 1.0) or bool(self.roll_deg or self.perspective)

    def draw(self, draws: Draws, size_hw: SizeHW, frames: int) -> Changes:
        """The changes of a batch of pictures of one size."""
        b, w = len(draws.state), size_hw[1]
        matrix = np.tile(np.eye(3), (b, 1, 1))
        flip = draws.chance(self.flip)
        matrix[flip, 0, 0], matrix[flip, 0, 2] = -1, w
        if self.warps:
            chosen = draws.chance(self.affine)[:, None, None]
            matrix = np.where(chosen, self._warp(draws, size_hw) @ matrix, matrix)
        colour = np.where(draws.chance(self.colour_share)[:, None, None], self._colour(draws), np.eye(3, 4))
        level = np.full((b, frames), self.noise_std)
        if self.noise == "uniform":
            level = draws.uniform(0, self.noise_std, (frames,))
        jitter = draws.normal((1 + PAST, 2)) * self.jitter_norm * w
        jitter[:, 0] = 0
        level, start = 255 * level, draws.below(TILE_SIZE // 2, (frames,))
        poor = degradation.draw(draws, self.poor) if self.poor else None
        if poor is not None:
            colour = colour * poor.gain[:, None, None]
            colour[..., 3] += poor.offset[:, None]
            level = np.hypot(level, poor.noise[:, None])
        return Changes(matrix, colour, level, start, jitter, poor)

    def steps(self) -> dict[str, "Augmentation"]:
        """Each change that `draw` makes, by its name, alone and never left to chance."""
        off = replace(self, noise_std=0.0, flip=0.0, affine=0.0, colour_share=0.0, jitter_norm=0.0, poor=0.0)
        alone = {"flip": replace(off, flip=1.0)}
        if self.warps:
            alone["affine"] = replace(off, affine=1.0)
        alone["colour"] = replace(off, colour_share=1.0)
        alone["noise"] = replace(off, noise_std=self.noise_std)
        if self.poor:
            alone["poor"] = replace(off, poor=1.0)
        if self.jitter_norm:
            alone["jitter"] = replace(off, jitter_norm=self.jitter_norm)
        return alone

    def __call__(self, frames: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
        """Apply one draw of torch's generator, for a look at single samples.

        Args:
            frames: (T, 3, H, W) uint8.
            xy: (N, 2) input px, the head first; nan where invisible.

        Returns:
            The same shapes; nan stays nan.
        """
        draws = Draws(int(torch.randint(1 << 60, ())), np.zeros(1))
        changes = self.draw(draws, (frames.shape[2], frames.shape[3]), len(frames))
        images = change(frames.permute(0, 2, 3, 1).contiguous().numpy(), changes, 0)
        moved = move(xy[None].double().numpy(), changes.matrix)[0] + changes.jitter[0, : len(xy)]
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(moved).to(xy.dtype)

    def _warp(self, draws: Draws, size_hw: SizeHW) -> np.ndarray:
        """(B, 3, 3): zoom, roll and perspective about the centre, then a shift."""
        size = np.array([size_hw[1], size_hw[0]], float)
        zoom, shift = draws.uniform(*self.scale), draws.uniform(-self.shift, self.shift, (2,)) * size
        angle = np.radians(draws.uniform(-self.roll_deg, self.roll_deg))
        tilt = draws.uniform(-self.perspective, self.perspective, (2,)) / (size / 2)
        to_center, about, back = (np.tile(np.eye(3), (len(zoom), 1, 1)) for _ in range(3))
        to_center[:, :2, 2], back[:, :2, 2] = -size / 2, size / 2 + shift
        about[:, 0, 0] = about[:, 1, 1] = zoom * np.cos(angle)
        about[:, 1, 0], about[:, 0, 1] = zoom * np.sin(angle), -zoom * np.sin(angle)
        about[:, 2, :2] = tilt
        return back @ about @ to_center

    def _colour(self, draws: Draws) -> np.ndarray:
        """(B, 3, 4): contrast, saturation, tint, brightness, in one matrix for all frames of a sample."""
        s = self.colour
        contrast, saturation = draws.uniform(1 - s, 1 + s, (2, 1, 1)).transpose(1, 0, 2, 3)
        tint = draws.uniform(1 - s / 4, 1 + s / 4, (3, 1))
        shift = 128 * (1 - contrast) + 255 * draws.uniform(-s, s, (1, 1)) / 2
        angle = np.where(draws.chance(self.hue), draws.uniform(-np.pi, np.pi), 0.0)[:, None, None]
        turn = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) / 3 + np.sin(angle) * _ABOUT_GREY
        gain = contrast * tint * (saturation * np.eye(3) + (1 - saturation) * _GREY) @ turn
        return np.concatenate([gain, np.tile(shift, (1, 3, 1))], 2)


def move(xy: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (B, N, 2) under homographies (B, 3, 3); nan stays nan."""
    moved = xy @ matrix[:, :2, :2].transpose(0, 2, 1) + matrix[:, None, :2, 2]
    return moved / (xy @ matrix[:, 2, :2, None] + matrix[:, 2:, 2:])


def change(images: np.ndarray, changes: Changes, i: int) -> np.ndarray:
    """The pictures of sample `i` of a batch, uint8 (T, H, W, 3), after its changes."""
    matrix, colour, level = changes.matrix[i], changes.colour[i], changes.level[i]
    bright = not np.array_equal(colour, np.eye(3, 4))
    out, poor = np.empty_like(images), changes.poor
    warped = [_warped(image, matrix) for image in images]
    if poor is not None and poor.sigma_px[i]:
        warped[:] = degradation.on_pictures(np.stack(warped), degradation.defocus, poor.sigma_px[[i]])
    for t, image in enumerate(warped):
        if bright:
            image = cv2.transform(image, colour)
        if level[t]:
            gain, start = level[t] / TILE_STD, changes.start[i, t]
            noise = noise_tile()[start : start + image.size].reshape(image.shape)
            image = cv2.addWeighted(image, 1.0, noise, gain, -128 * gain)
        out[t] = image
    if poor is not None and poor.step[i]:
        out = degradation.on_pictures(out, degradation.compress, poor.step[[i]], poor.corner[[i]])
    return out


@cache
def noise_tile() -> np.ndarray:
    """Normal noise around 128, uint8 (TILE_SIZE,): drawing it afresh costs 3 ms a frame."""
    tile = np.random.default_rng(0).normal(128, TILE_STD, TILE_SIZE)
    return tile.round().clip(0, 255).astype(np.uint8)


def is_flip(matrix: np.ndarray, width: int) -> np.ndarray:
    """(...) whether homographies (..., 3, 3) only mirror."""
    return (matrix == np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]])).all((-2, -1))


def _warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) under a homography, bilinear, black outside."""
    h, w = image.shape[:2]
    if np.array_equal(matrix, np.eye(3)):
        return image
    if is_flip(matrix, w):
        return cv2.flip(image, 1)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts pixel centres from 0, we edges
    shifted = np.linalg.inv(half) @ matrix @ half
    if not matrix[2, :2].any():
        return cv2.warpAffine(image, shifted[:2], (w, h), flags=cv2.INTER_LINEAR)
    return cv2.warpPerspective(image, shifted, (w, h), flags=cv2.INTER_LINEAR)
