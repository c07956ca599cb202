"""One video frame and the pixel windows networks see; stands between video files and every model.

Pixels stay in YUV planes until a network asks for a window of them: most of a frame is never converted
to RGB. All conversions read the planes as limited-range BT.601, whatever the file claims, so that
decoded frames, cached planes and written videos agree to the bit.
"""

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from shuttlelib.geometry import SizeHW, Window

# The exact flags cost nothing measurable and keep the pixels the same on every processor
_AREA = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
BASE_FPS = 30.0  # the frames a network sees together lie one thirtieth of a second apart
ROUNDING_S = 1e-9  # six frames of a sixtieth of a second are a tenth, whatever their sum is in binary
PAST = 30  # positions before, as far apart, that a network may be told
_LOCAL = threading.local()  # swscale contexts are reused, and must not be shared between threads


def history_stride(fps: float) -> int:
    """Frames between two looks: the nearest whole number to one thirtieth of a second, at least 1."""
    return max(1, round(fps / BASE_FPS))


class Turn(NamedTuple):
    """How a stored picture is shown: transposed or not, then mirrored left to right, then top to bottom."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False


UPRIGHT = Turn()


class Frame:
    """One picture, held as YUV 4:2:0 planes; every other view is computed when asked for, and once.

    An odd width or height loses its last column or row, which 4:2:0 chroma cannot describe.

    Args:
        picture: a decoded one, or the stored `planes` of one, which give identical pixels.

    Attributes:
        index: number of the frame, from 0.
        time_s: seconds since the first frame.
        size_hw: height and width, px, both even.
        again: the frames after it that show the same picture; see `repeats`.
        times: how many frames show a picture, in general.
    """

    def __init__(self, index: int, time_s: float, picture: "av.VideoFrame | np.ndarray") -> None:
        self.index, self.time_s = index, time_s
        self._picture = picture
        self._yuv = _plane_views(picture)
        self.size_hw: SizeHW = self._yuv[0].shape
        self._whole: dict[Window, np.ndarray] = {}
        self.again: list[Frame] = []
        self.times = 1

    @cached_property
    def planes(self) -> np.ndarray:
        """The I420 planes, uint8 (H*3//2, W): Y, then U and V at half size."""
        if isinstance(self._picture, np.ndarray):
            return np.ascontiguousarray(self._picture)
        return _pack(*self._yuv)

    @property
    def luma(self) -> np.ndarray:
        """The Y plane, uint8 (H, W)."""
        return self._yuv[0]

    def planes_into(self, out: np.ndarray) -> None:
        """Write `planes` to memory of that shape, in one copy."""
        _pack(*self._yuv, out)

    @cached_property
    def rgb(self) -> np.ndarray:
        """The whole frame, uint8 (H, W, 3)."""
        return cv2.cvtColor(self.planes, cv2.COLOR_YUV2RGB_I420)

    def window(self, window: Window) -> np.ndarray:
        """The pixels a network sees, uint8 (out_h, out_w, 3) RGB; black outside the frame.

        Downscaling averages areas, upscaling is bilinear. At scale 1 the result is an exact copy of
        `rgb`. Windows over the whole frame are kept, since the next frames ask for them again.
        """
        if _covered(window, self.size_hw) != (0, 0, *self.size_hw[::-1]):
            return windows_of([self], window)[0]
        if window not in self._whole:
            small_h, small_w = _shrunk_hw(self.size_hw, window)
            same = (small_h, small_w) == self.size_hw
            pixels = self.rgb if same else self._scaled_rgb(small_h, small_w)
            self._whole[window] = _place(pixels, (0, 0, *self.size_hw[::-1]), window)
        return self._whole[window]

    def _scaled_rgb(self, height: int, width: int) -> np.ndarray:
        """RGB of the whole frame at a smaller even size.

        Scaling the planes and converting the few pixels left costs a third of scaling to RGB. Each plane
        goes alone, as grey: no copy, and no hidden chroma location to tell decoded from stored frames.
        """
        y, u, v = self._yuv
        half_h, half_w = height // 2, width // 2
        small = (_area(y, height, width, "Y"), _area(u, half_h, half_w, "UV"), _area(v, half_h, half_w, "UV"))
        return cv2.cvtColor(_pack(*small), cv2.COLOR_YUV2RGB_I420)


def windows_of(frames: Sequence[Frame], window: Window, out: np.ndarray | None = None) -> np.ndarray:
    """The same window of frames of one size, uint8 (T, out_h, out_w, 3); see `Frame.window`.

    What has to be done to all of them is done once, to their pixels on top of each other. `out` is memory of
    that shape, contiguous, to write to: new memory costs as much as the pixels.
    """
    out = np.empty((len(frames), window.out_h, window.out_w, 3), np.uint8) if out is None else out
    size_hw = frames[0].size_hw
    x0, y0, x1, y1 = _covered(window, size_hw)
    if x0 >= x1 or y0 >= y1:
        out[:] = 0
        return out
    if (x0, y0, x1, y1) == (0, 0, *size_hw[::-1]):
        for frame, pixels in zip(frames, out):
            pixels[:] = frame.window(window)
        return out
    planes, (high, wide) = _regions(frames, x0, y0, x1, y1), _shrunk_hw((y1 - y0, x1 - x0), window)
    as_asked = (x0, y0, x1 - x0, y1 - y0) == (window.x0, window.y0, window.w, window.h)
    if as_asked and (high, wide) == (window.out_h, window.out_w):
        _to_rgb(planes, len(frames) * high, wide, out.reshape(-1, wide, 3))
        return out
    parts = _to_rgb(planes, len(frames) * high, wide).reshape(len(frames), high, wide, 3)
    for part, pixels in zip(parts, out):
        pixels[:] = _place(part, (x0, y0, x1 - x0, y1 - y0), window)
    return out


def _covered(window: Window, size_hw: SizeHW) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the even-aligned pixels of the frame that a window touches."""
    x0, x1 = _even_span(window.x0, window.w, size_hw[1])
    y0, y1 = _even_span(window.y0, window.h, size_hw[0])
    return x0, y0, x1, y1


def _regions(frames: Sequence[Frame], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """The I420 planes of an even-aligned rectangle of each frame, one below the other."""
    count, height, width = len(frames), y1 - y0, x1 - x0
    packed = np.empty((count * height * 3 // 2, width), np.uint8)
    luma = packed[: count * height].reshape(count, height, width)
    chroma = packed[count * height :].reshape(2, count, height // 2, width // 2)
    half = np.s_[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2]
    for n, frame in enumerate(frames):
        y, u, v = frame._yuv
        luma[n], chroma[0, n], chroma[1, n] = y[y0:y1, x0:x1], u[half], v[half]
    return packed


def _to_rgb(planes: np.ndarray, height: int, width: int, out: np.ndarray | None = None) -> np.ndarray:
    """I420 planes as RGB (height, width, 3), averaged down to that."""
    if (planes.shape[0] // 3 * 2, planes.shape[1]) == (height, width):
        return cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420, dst=out)
    rgb = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)
    return cv2.resize(rgb, (width, height), dst=out, interpolation=cv2.INTER_AREA)


def turned(picture: "av.VideoFrame", turn: Turn) -> np.ndarray:
    """The I420 planes (H*3//2, W) of an 8-bit 4:2:0 picture as it is shown."""
    return _pack(*(_turned(plane, turn) for plane in _plane_views(picture)))


def _turned(plane: np.ndarray, turn: Turn) -> np.ndarray:
    plane = cv2.transpose(plane) if turn.transpose else plane
    if not (turn.mirror_x or turn.mirror_y):
        return plane
    return cv2.flip(plane, -1 if turn.mirror_x and turn.mirror_y else int(turn.mirror_x))


def reformatter(use: str) -> VideoReformatter:
    """This thread's swscale for one use: as long as the use stays the same, its tables are kept."""
    uses = _LOCAL.__dict__
    if use not in uses:
        uses[use] = VideoReformatter()
    return uses[use]


def _area(plane: np.ndarray, height: int, width: int, use: str) -> np.ndarray:
    """A plane averaged down to (height, width)."""
    picture = av.VideoFrame.from_numpy_buffer(plane, format="gray")
    small = reformatter(use).reformat(picture, width, height, interpolation=_AREA, threads=1)
    return _rows(small.planes[0])[:height, :width]


def _rows(plane: "av.VideoPlane") -> np.ndarray:
    """A plane's memory as rows, padding included."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


def _plane_views(picture: "av.VideoFrame | np.ndarray") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y (H, W), U and V (H/2, W/2) of a picture without copying, cropped to even size."""
    if isinstance(picture, np.ndarray):
        height, width = picture.shape[0] * 2 // 3, picture.shape[1]
        chroma = picture[height:].reshape(2, height // 2, width // 2)
        return picture[:height], chroma[0], chroma[1]
    height, width = picture.height // 2 * 2, picture.width // 2 * 2
    y, u, v = map(_rows, picture.planes)
    half = np.s_[: height // 2, : width // 2]
    return y[:height, :width], u[half], v[half]


def _pack(y: np.ndarray, u: np.ndarray, v: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Planes of even size as one I420 array (H*3//2, W)."""
    height, width = y.shape
    packed = np.empty((height * 3 // 2, width), np.uint8) if out is None else out
    packed[:height] = y
    chroma = packed[height:].reshape(2, height // 2, width // 2)
    chroma[0], chroma[1] = u, v
    return packed


def _even_span(start: float, length: float, limit: int) -> tuple[int, int]:
    """The even-aligned integer interval that covers [start, start + length), inside [0, limit)."""
    low = int(np.floor(start / 2)) * 2
    high = int(np.ceil((start + length) / 2)) * 2
    return max(0, low), min(limit, high)


def _shrunk_hw(size_hw: SizeHW, window: Window) -> SizeHW:
    """Even size of the pixels a window touches, once areas are averaged; at scales above 1 none are."""
    sides = zip(size_hw, (window.out_h / window.h, window.out_w / window.w))
    height, width = (n if scale >= 1 else max(2, 2 * round(n * scale / 2)) for n, scale in sides)
    return height, width


def _place(pixels: np.ndarray, rect: tuple[int, int, int, int], window: Window) -> np.ndarray:
    """Put the pixels of a frame rectangle (x, y, w, h) where the window wants them; black around.

    A whole-pixel shift is a copy; anything else is one bilinear warp, so positions stay exact to a
    fraction of a pixel at every frame size.
    """
    x, y, w, h = rect
    out_w, out_h = window.out_w, window.out_h
    scale_x, scale_y = out_w / window.w * w / pixels.shape[1], out_h / window.h * h / pixels.shape[0]
    shift_x, shift_y = (x - window.x0) * out_w / window.w, (y - window.y0) * out_h / window.h
    off_x, off_y = round(shift_x), round(shift_y)
    exact = max(abs(scale_x - 1), abs(scale_y - 1), abs(shift_x - off_x), abs(shift_y - off_y)) < 1e-6
    if not exact:
        # OpenCV counts pixel centres from 0, we count edges: hence the halves
        matrix = np.array(
            [[scale_x, 0, shift_x + scale_x / 2 - 0.5], [0, scale_y, shift_y + scale_y / 2 - 0.5]]
        )
        return cv2.warpAffine(pixels, matrix, (out_w, out_h), flags=cv2.INTER_LINEAR)
    if (off_x, off_y) == (0, 0) and pixels.shape[:2] == (out_h, out_w):
        return pixels
    result = np.zeros((out_h, out_w, 3), np.uint8)
    x0, x1 = max(0, off_x), min(out_w, off_x + pixels.shape[1])
    y0, y1 = max(0, off_y), min(out_h, off_y + pixels.shape[0])
    if x0 < x1 and y0 < y1:
        result[y0:y1, x0:x1] = pixels[y0 - off_y : y1 - off_y, x0 - off_x : x1 - off_x]
    return result
