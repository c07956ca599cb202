"""Encodes the videos that real life sends: other formats, turned, interlaced, untimed, cut, torn."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

SIZE_HW = (96, 160)


def bar(index: float, scale: int = 1) -> np.ndarray:
    """A dark picture with a light bar, whose left edge is at 20 + 8 a frame."""
    rgb = np.full((*SIZE_HW, 3), 40, np.uint8)
    left = int(20 + 8 * index)
    rgb[20:80, left : left + 12] = 230
    return rgb.repeat(scale, 0).repeat(scale, 1)


def bar_at(rgb: np.ndarray) -> int:
    """The left edge of the bar."""
    return int(np.argmax(rgb[rgb.shape[0] // 2, :, 0] > 135))


def encode(
    path: Path,
    pictures: Iterable[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Iterable[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    full_range: bool = False,
    turn: tuple[int, bool, bool] | None = None,
    pixel_aspect: Fraction | None = None,
    **options: str,
) -> Path:
    """Write RGB pictures; `times` are in `time_base`; `turn` is degrees, mirrored left-right, top-bottom."""
    stamps = None if times is None else iter(times)
    with av.open(str(path), "w") as container:
        stream = None
        for index, rgb in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(codec, 1 / time_base if stamps is None else 25, options=options)
                stream.height, stream.width = rgb.shape[:2]
                stream.pix_fmt = pix_fmt
                if stamps is not None:
                    stream.codec_context.time_base = time_base
                if pixel_aspect is not None:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
                if full_range:
                    stream.codec_context.color_range = ColorRange.JPEG
                if turn is not None:
                    stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
                format=pix_fmt,
                dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
                dst_colorspace=Colorspace.ITU601,
            )
            picture.pts = index if stamps is None else next(stamps)
            picture.time_base = time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path
