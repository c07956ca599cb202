"""Decoding on an NVIDIA GPU (NVDEC), where FFmpeg can; beside video.

The pictures come back to the host as the CPU's decoder would give them, so nothing after differs; what is
saved is the CPU's time, what is lost the way back. Source: PyAV's `av.codec.hwaccel`.
"""

from pathlib import Path

import av
from av.codec.hwaccel import HWAccel

from shuttlelib.pictures import note_once

DECODERS = ("cpu", "nvdec", "auto")


def open_on_gpu(path: Path, notes: list[str], decoder: str) -> "av.container.InputContainer | None":
    """A video file opened for NVDEC; None where it cannot be, and why as a note if `decoder` is nvdec."""
    container, reason = None, "the GPU does not decode its codec"
    try:
        container = av.open(str(path), hwaccel=HWAccel("cuda", allow_software_fallback=True))
    except (av.FFmpegError, OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    if container and any(video.codec_context.is_hwaccel for video in container.streams.video):
        return container
    if decoder == "nvdec":
        note_once(notes, f"NVDEC cannot be used ({reason}), so it was decoded on the CPU")
    return None
