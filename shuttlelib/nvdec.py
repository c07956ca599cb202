"""Decoding on an NVIDIA GPU (NVDEC), where FFmpeg can; beside video.

The pictures come back to the host as the CPU's decoder would give them, so nothing after differs; what is
saved is the CPU's time, what is lost the way back. Source: PyAV's `av.codec.hwaccel`.
"""

from pathlib import Path

import av
from av.codec.hwaccel import HWAccel

DECODERS = ("cpu", "nvdec", "auto")


def open_on_gpu(path: Path) -> "tuple[av.container.InputContainer | None, str]":
    """A readable video file opened for NVDEC; or None, and why it cannot be."""
    try:
        container = av.open(str(path), hwaccel=HWAccel("cuda", allow_software_fallback=True))
    except (av.FFmpegError, OSError, RuntimeError, ValueError) as error:
        return None, getattr(error, "strerror", None) or str(error)
    video = next(iter(container.streams.video), None)
    if video is not None and video.codec_context is not None and not video.codec_context.is_hwaccel:
        container.close()
        return None, f"it does not decode {video.codec_context.name}"
    return container, ""
