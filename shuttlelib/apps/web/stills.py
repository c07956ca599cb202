"""Single frames of a video for the page, found by their time; only here are videos seeked in.

Where a frame is sought by time, its own time stamp must agree; else the video is read from its start, as
everything else here does, and the picture is the one that was tracked in either case.
"""

import base64
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from shuttlelib.files import as_url
from shuttlelib.frames import Frame
from shuttlelib.pictures import Converter, Pictures
from shuttlelib.video import read_frames, video_stream

_WIDEST_PX = 1280  # of a picture sent to the browser
_CLOSE_S = 0.002  # by which a time stamp may miss the time that was written down, rounded, for its frame
_STEP = 40  # frames ahead that are reached by decoding on instead of seeking


class Box(NamedTuple):
    """A part of a frame, px."""

    x: float
    y: float
    w: float
    h: float


class Stills:
    """Frames of one video at random.

    Args:
        path: the video.
        time_s: (N,) seconds of each frame since the first one, as tracked.
    """

    def __init__(self, path: Path, time_s: np.ndarray) -> None:
        self.path, self.time_s = path, time_s
        steps_s = np.diff(time_s)
        self._close_s = float(np.clip(steps_s.min(initial=1) / 2, 1e-5, _CLOSE_S))
        self._lock = threading.Lock()
        self._container: av.container.InputContainer | None = None
        self._ahead: Iterator[tuple[float | None, Any]] = iter(())
        self._next = 0  # number of the frame that `_ahead` gives next
        self._first_s = 0.0
        self._last: tuple[int, np.ndarray] | None = None

    def read(self, index: int) -> np.ndarray:
        """Frame number `index`, uint8 RGB (H, W, 3), of native size.

        Raises:
            ShuttleError: the file is gone.
        """
        with self._lock:
            if self._last is None or self._last[0] != index:
                found = self._sought(index)
                if found is None:
                    found = next(islice(read_frames(self.path), index, None))
                self._last = (index, found.rgb)
            return self._last[1]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._container is not None:
                self._container.close()
            self._container = None

    def _sought(self, index: int) -> Frame | None:
        """The frame by its time; None where the file's time stamps do not lead to it."""
        wanted_s = float(self.time_s[index])
        try:
            if self._container is None:
                self._container = av.open(as_url(self.path))
                video_stream(self._container, self.path).thread_type = "AUTO"
                self._ahead, self._next = self._decode(), 1
                self._first_s = next(self._ahead)[0] or 0.0
            if not 0 <= index - self._next <= _STEP:
                stream = video_stream(self._container, self.path)
                self._container.seek(int((self._first_s + wanted_s) / stream.time_base), stream=stream)
                self._ahead = self._decode()
            for at_s, picture in self._ahead:
                off_s = -1.0 if at_s is None else at_s - self._first_s - wanted_s
                if off_s > -self._close_s:
                    self._next = index + 1
                    return Frame(index, wanted_s, picture) if off_s < self._close_s else None
        except (av.FFmpegError, StopIteration):
            pass
        self._next = len(self.time_s)  # no frame is ahead: the next one is sought anew
        return None

    def _decode(self) -> Iterator[tuple[float | None, Any]]:
        """Time stamps and pictures from where the container stands, made alike as for tracking."""
        assert self._container is not None
        stream = video_stream(self._container, self.path)
        return Converter([]).convert(iter(Pictures(self._container, stream)), stream.time_base)


def as_jpeg(rgb: np.ndarray, box: Box | None = None, widest_px: int = _WIDEST_PX) -> str:
    """A picture, or the whole pixels of a box of it, as a data address; shrunk when wide."""
    if box is not None:
        rgb = rgb[int(box.y) : int(box.y + box.h), int(box.x) : int(box.x + box.w)]
    if rgb.shape[1] > widest_px:
        size = widest_px, max(1, round(rgb.shape[0] * widest_px / rgb.shape[1]))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


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
