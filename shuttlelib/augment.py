"""Augmentation: torchvision v2 transforms on the frames of a sample and their points together.

Between samples and models. Frames are a `tv_tensors.Video` (T, 3, H, W) uint8, points a
`tv_tensors.KeyPoints` (1 + 30, 2): the head now, then the past ones, oldest first, in `geometry`'s
continuous coordinates. torchvision 0.29 moves points so under an affine map, but flips them as if pixel
centres were whole numbers (x to W - 1 - x), a pixel off: hence `Flip`. Which
points are visible never passes through a transform, so the invisible stays invisible.
"""

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

_NOISE_TILE = 1 << 22


def uniform(low: float, high: float) -> float:
    """One draw from U(low, high) of torch's generator."""
    return float(torch.empty(1).uniform_(low, high))


class Flip(v2.RandomHorizontalFlip):
    """Horizontal flip of frames and points, x to W - x."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to frames and points."""
        if not isinstance(inpt, tv_tensors.KeyPoints):
            return super().transform(inpt, params)
        points = inpt.as_subclass(Tensor).clone()
        points[..., 0] = inpt.canvas_size[1] - points[..., 0]
        return tv_tensors.wrap(points, like=inpt)


class SharedColour(v2.Transform):
    """Brightness, contrast, saturation and channel gains, the same for all frames of a sample.

    One 3x4 colour matrix a sample; the same changes through `v2.ColorJitter` take twenty times longer
    on a CPU, more than the training step.

    Args:
        strength: half-width of the gains' ranges.
    """

    def __init__(self, strength: float = 0.3):
        super().__init__()
        self.strength = strength

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the colour matrix (3, 4)."""
        s = self.strength
        contrast, saturation = 1 + uniform(-s, s), 1 + uniform(-s, s)
        tint = np.array([1 + uniform(-s, s) / 4 for _ in range(3)])
        grey = np.tile(np.array([0.299, 0.587, 0.114]), (3, 1))
        matrix = contrast * tint[:, None] * (saturation * np.eye(3) + (1 - saturation) * grey)
        shift = 128 * (1 - contrast) + 255 * uniform(-s, s) / 2
        return {"matrix": np.concatenate([matrix, np.full((3, 1), shift)], 1).astype(np.float32)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to the frames; points pass."""
        if not isinstance(inpt, tv_tensors.Video):
            return inpt
        return _per_frame(inpt, lambda image: cv2.transform(image, params["matrix"]))


class FrameNoise(v2.Transform):
    """Gaussian sensor noise, drawn anew for every frame.

    Args:
        std: largest level, in fractions of the range.
        kind: "uniform" draws each frame's level from U(0, std); "constant" always uses std.
    """

    _tile: np.ndarray | None = None

    def __init__(self, std: float = 0.02, kind: str = "uniform"):
        super().__init__()
        self.std, self.kind = std, kind

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw a level and a place in the noise tile for each frame."""
        count = next(len(x) for x in flat_inputs if isinstance(x, tv_tensors.Video))
        levels = [self.std if self.kind == "constant" else uniform(0, self.std) for _ in range(count)]
        starts = torch.randint(_NOISE_TILE // 2, (count,)).tolist()
        return {"levels": levels, "starts": starts}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to the frames; points pass."""
        if not isinstance(inpt, tv_tensors.Video):
            return inpt
        if FrameNoise._tile is None:  # level 32 of 255 around 128; drawing normals afresh costs 3 ms a frame
            tile = np.random.default_rng(0).normal(128, 32, _NOISE_TILE)
            FrameNoise._tile = tile.clip(0, 255).astype(np.uint8)
        draws = iter(zip(params["levels"], params["starts"], strict=True))

        def add(image: np.ndarray) -> np.ndarray:
            level, start = next(draws)
            tile = _stretch(FrameNoise._tile, start, image.size).reshape(image.shape)  # type: ignore[arg-type]
            gain = level * 255 / 32
            return cv2.addWeighted(image, 1.0, tile, gain, -128 * gain)

        return _per_frame(inpt, add)


class PastJitter(v2.Transform):
    """Gaussian jitter of the past positions, since a tracker's own past is never exact.

    Args:
        std_norm: standard deviation as a fraction of the input's width.
    """

    def __init__(self, std_norm: float = 0.003):
        super().__init__()
        self.std_norm = std_norm

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to all points but the first; frames pass."""
        if not isinstance(inpt, tv_tensors.KeyPoints):
            return inpt
        noise = torch.randn(inpt.shape) * self.std_norm * inpt.canvas_size[1]
        noise[0] = 0
        return tv_tensors.wrap(inpt.as_subclass(Tensor) + noise, like=inpt)


class Augmentation:
    """The training pipeline of a version: frames and points in, frames and points out.

    Args:
        noise_std, noise: see `FrameNoise`.
        scale: zoom range of the frames; (1, 1) leaves the scale to the crop (stage 2).
        colour: see `SharedColour`.
        jitter_past: move the past points a little, for versions that look at them; for others they may
            be targets.
    """

    def __init__(
        self,
        noise_std: float = 0.02,
        noise: str = "uniform",
        scale: tuple[float, float] = (1.0, 1.0),
        colour: float = 0.3,
        jitter_past: bool = True,
    ):
        steps: list[v2.Transform] = [Flip(0.5)]
        if scale != (1.0, 1.0):
            bilinear = v2.InterpolationMode.BILINEAR
            affine = v2.RandomAffine(0, translate=(0.08, 0.08), scale=scale, interpolation=bilinear)
            steps.append(v2.RandomApply([affine], 0.5))
        steps += [v2.RandomApply([SharedColour(colour)], 0.8), FrameNoise(noise_std, noise)]
        steps += [PastJitter()] if jitter_past else []
        self.pipeline = v2.Compose(steps)

    def __call__(self, frames: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
        """Apply one random draw of torch's generator.

        Args:
            frames: (T, 3, H, W) uint8.
            xy: (N, 2) input px; nan where invisible.

        Returns:
            The same shapes; nan stays nan.
        """
        seen = torch.isfinite(xy)
        video = tv_tensors.Video(frames)
        points = tv_tensors.KeyPoints(torch.where(seen, xy, 0.0), canvas_size=frames.shape[-2:])
        video, points = self.pipeline(video, points)
        return video.as_subclass(Tensor), torch.where(seen, points.as_subclass(Tensor), torch.nan)


def _stretch(tile: np.ndarray, start: int, length: int) -> np.ndarray:
    """`length` values of a tile from `start` on, beginning again where it ends."""
    return tile[start : start + length] if start + length <= len(tile) else np.resize(tile[start:], length)


def _per_frame(video: tv_tensors.Video, change: Any) -> tv_tensors.Video:
    """Apply a uint8 (H, W, 3) array function to each frame."""
    images = video.as_subclass(Tensor).permute(0, 2, 3, 1).contiguous().numpy()
    changed = torch.from_numpy(np.stack([change(image) for image in images]))
    return tv_tensors.Video(changed.permute(0, 3, 1, 2))
