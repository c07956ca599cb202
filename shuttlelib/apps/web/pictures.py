"""Single frames of a video for the page, found by their time; only here are videos seeked in.

Where a frame is sought by time, its own time stamp must agree; else the video is read from its start, as
everything else here does, and the picture is the one that was tracked in either case.
"""

import base64
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from shuttlelib.video import TruncatedVideoError, read_frames, video_stream

_WIDEST_PX = 1280  # of a picture sent to the browser
_STEP = 40  # frames ahead that are reached by decoding on instead of seeking


class Box(NamedTuple):
    """A part of a frame, px."""

    x: float
    y: float
    w: float
    h: float


class Pictures:
    """Frames of one video at random.

    Args:
        path: the video.
        time_s: (N,) seconds of each frame since the first one, as tracked.
    """

    def __init__(self, path: Path, time_s: np.ndarray) -> None:
        self.path, self.time_s = path, time_s
        steps_s = np.diff(time_s)
        self._half_s = max(float(steps_s.min()) / 2, 1e-4) if len(steps_s) else 1.0
        self._lock = threading.Lock()
        self._container: av.container.InputContainer | None = None
        self._ahead: Iterator[tuple[float, av.VideoFrame]] = iter(())
        self._first_s, self._at = 0.0, -1
        self._last: tuple[int, np.ndarray] | None = None

    def read(self, index: int) -> np.ndarray:
        """Frame number `index`, uint8 RGB (H, W, 3), of native size."""
        with self._lock:
            if self._last is None or self._last[0] != index:
                found = self._seek(index)
                self._last = (index, self._from_start(index) if found is None else found)
            return self._last[1]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._container is not None:
                self._container.close()
            self._container = None

    def _seek(self, index: int) -> np.ndarray | None:
        try:
            if self._container is None:
                self._open()
            wanted = float(self.time_s[index])
            if not 0 <= index - self._at <= _STEP:
                self._jump(wanted)
            for at_s, picture in self._ahead:
                if at_s > wanted - self._half_s:
                    self._at = index + 1
                    return picture.to_ndarray(format="rgb24") if at_s < wanted + self._half_s else None
        except av.FFmpegError:
            pass
        self._at = -1 - _STEP
        return None

    def _open(self) -> None:
        self._container = av.open(str(self.path))
        self._stream = video_stream(self._container, self.path)
        self._stream.thread_type = "AUTO"
        self._first_s = next((at_s for at_s, _ in self._decode()), 0.0)
        self._at = -1 - _STEP

    def _jump(self, wanted_s: float) -> None:
        assert self._container is not None
        target = int((self._first_s + wanted_s) / self._stream.time_base)
        self._container.seek(target, stream=self._stream)
        first_s = self._first_s
        self._ahead = ((at_s - first_s, picture) for at_s, picture in self._decode())

    def _decode(self) -> Iterator[tuple[float, av.VideoFrame]]:
        assert self._container is not None
        for picture in self._container.decode(self._stream):
            if picture.pts is not None:
                yield float(picture.pts * self._stream.time_base), picture

    def _from_start(self, index: int) -> np.ndarray:
        try:
            return next(islice(read_frames(self.path), index, None)).rgb
        except TruncatedVideoError:
            return np.zeros((16, 16, 3), np.uint8)


def as_jpeg(rgb: np.ndarray, box: Box | None = None, widest_px: int = _WIDEST_PX) -> str:
    """A picture, or the whole pixels of a box of it, as a data address; shrunk when wide."""
    if box is not None:
        rgb = rgb[int(box.y) : int(box.y + box.h), int(box.x) : int(box.x + box.w)]
    if rgb.shape[1] > widest_px:
        size = widest_px, max(1, round(rgb.shape[0] * widest_px / rgb.shape[1]))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def whole(rgb: np.ndarray) -> Box:
    """The box of a whole picture."""
    return Box(0, 0, rgb.shape[1], rgb.shape[0])


def around(rgb: np.ndarray, x: float, y: float, share: float = 0.2) -> Box:
    """A box of whole pixels, `share` of the picture wide and high, as near a place as the edges allow."""
    height, width = rgb.shape[:2]
    w, h = max(16, round(width * share)), max(16, round(height * share))
    w, h = min(w, width), min(h, height)
    return Box(
        int(np.clip(round(x - w / 2), 0, width - w)), int(np.clip(round(y - h / 2), 0, height - h)), w, h
    )
