"""Coordinates: the only place that converts between frame, window, grid and heatmap; a leaf of the flow.

Continuous image coordinates: the left and top edges are 0, the centre of the top-left pixel is
(0.5, 0.5). `xy_px` is at the clip's native resolution, `xy_norm` is divided by width and height.
Every function is plain arithmetic on the last axis, so NumPy arrays and torch tensors both work, and
nan (an invisible point) stays nan.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Array = TypeVar("Array", bound=Any)  # NumPy array or torch tensor; what comes in comes out
SizeHW = tuple[int, int]

CANONICAL_HW: SizeHW = (720, 1280)  # the resolution at which one stage-2 input pixel is one native pixel
GRID512_HW: SizeHW = (288, 512)  # the grid on which the TrackNet papers count a hit
FULLHD_HW: SizeHW = (1080, 1920)  # the resolution at which pixel errors of all clips can be compared


@dataclass(frozen=True)
class Window:
    """A rectangle of a frame sampled onto a network input.

    Attributes:
        x0, y0: left and top edge in the frame, native px; may lie outside it (padded with black).
        w, h: extent in the frame, native px.
        out_h, out_w: extent of the network input, px.
    """

    x0: float
    y0: float
    w: float
    h: float
    out_h: int
    out_w: int


def canonical_scale(size_hw: SizeHW) -> float:
    """Canonical px (1280x720) per native px: 1 at 1280x720, 2/3 at 1920x1080.

    The tighter side decides, so that a letterboxed frame fits for any aspect ratio.
    """
    return min(CANONICAL_HW[0] / size_hw[0], CANONICAL_HW[1] / size_hw[1])


def full_window(size_hw: SizeHW, out_hw: SizeHW) -> Window:
    """The whole frame, letterboxed and centred on an `out_hw` input (stage 1)."""
    scale = min(out_hw[0] / size_hw[0], out_hw[1] / size_hw[1])
    h, w = out_hw[0] / scale, out_hw[1] / scale
    return Window((size_hw[1] - w) / 2, (size_hw[0] - h) / 2, w, h, *out_hw)


def crop_window(center_xy_px: np.ndarray, size_hw: SizeHW, out_px: int, zoom: float = 1.0) -> Window:
    """A square crop around a point at the canonical scale (stage 2).

    Args:
        center_xy_px: (2,) centre in the frame, native px.
        size_hw: the frame's size.
        out_px: side of the network input, px.
        zoom: above 1 shows a smaller region larger (scale augmentation).

    The corner is rounded to even native pixels: at 1280x720 the crop is then an exact copy of
    pixels, of chroma-subsampled ones too.
    """
    side = out_px / (canonical_scale(size_hw) * zoom)
    x0, y0 = (2 * round((float(c) - side / 2) / 2) for c in center_xy_px)
    return Window(x0, y0, side, side, out_px, out_px)


def frame_to_window(xy_px: Array, window: Window) -> Array:
    """Native frame px (..., 2) to network-input px (..., 2)."""
    scale = _like(xy_px, (window.out_w / window.w, window.out_h / window.h))
    return (xy_px - _like(xy_px, (window.x0, window.y0))) * scale


def window_to_frame(xy: Array, window: Window) -> Array:
    """Network-input px (..., 2) to native frame px (..., 2)."""
    scale = _like(xy, (window.w / window.out_w, window.h / window.out_h))
    return xy * scale + _like(xy, (window.x0, window.y0))


def norm_to_px(xy_norm: Array, size_hw: SizeHW) -> Array:
    """Fractions of width and height (..., 2) to native px (..., 2)."""
    return xy_norm * _like(xy_norm, (size_hw[1], size_hw[0]))


def rescale(xy_px: Array, from_hw: SizeHW, to_hw: SizeHW) -> Array:
    """Points (..., 2) of one frame size to another (each axis by its own factor)."""
    return norm_to_px(xy_px / _like(xy_px, (from_hw[1], from_hw[0])), to_hw)


def cell_to_px(xy_cell: Array, stride: int) -> Array:
    """Continuous heatmap coordinates (..., 2), cell centres at +0.5, to network-input px (..., 2)."""
    return xy_cell * stride


def px_to_cell(xy: Array, stride: int) -> Array:
    """Network-input px (..., 2) to continuous heatmap coordinates (..., 2)."""
    return xy / stride


def _like(array: Any, pair: tuple[float, float]) -> Any:
    """The pair as an array of the same kind (NumPy or torch), dtype and device."""
    if hasattr(array, "new_tensor"):
        return array.new_tensor(pair)
    return np.asarray(pair, dtype=np.asarray(array).dtype)
