"""Decoding on an NVIDIA GPU (NVDEC), where FFmpeg can; beside video.

The pictures come back to the host as the CPU's decoder would give them, so nothing after differs; what is
saved is the CPU's time, what is lost the way back. Source: PyAV's `av.codec.hwaccel`.
"""

from pathlib import Path

import av
from av.codec.hwaccel import HWAccel

from shuttlelib.files import as_url
from shuttlelib.pictures import note_once

DECODERS = ("cpu", "nvdec", "auto")


def open_on_gpu(path: Path, notes: list[str], decoder: str) -> "av.container.InputContainer | None":
    """A video file opened for NVDEC; None where it cannot be, and why as a note if `decoder` is nvdec."""
    reason = "the GPU does not decode its codec"
    try:
        with _open(path) as trial:
            on_gpu = any(video.codec_context.is_hwaccel for video in trial.streams.video)
            # A codec that the GPU knows may still come in a size or in colours that it does not decode
            works = on_gpu and next(trial.decode(video=0), None) is not None
        if works:
            return _open(path)
    except (av.FFmpegError, OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    if decoder == "nvdec":
        note_once(notes, f"NVDEC cannot be used ({reason}), so it was decoded on the CPU")
    return None


def _open(path: Path) -> "av.container.InputContainer":
    return av.open(as_url(path), hwaccel=HWAccel("cuda", allow_software_fallback=False))
