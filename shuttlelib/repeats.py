"""Pictures that a video shows more than once; between sources and the tracker.

Footage of 25 pictures a second that is stored at 30 frames a second shows every fifth picture twice; film in
a 60 fps file shows its pictures two and three times in turn. Time seems to stand there, and another look at
the same picture says nothing new. So networks see each picture once, and the frames that repeat it share its
row.
"""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np

from shuttlelib.frames import Frame
from shuttlelib.rows import Row

HEIGHT = 180  # rows that are compared, about, and columns as dense: what lies between is less than a shuttle
LEVELS = 24  # no pixel of a repeat differs by more: coding changes it too, but mostly less than what moves
SHARE = 0.25  # of the third largest change lately: a flash is two, and where nothing moves all are small
RECENT = 16  # frames that say what that is
MOST = 4  # repeats of one picture: 24 pictures a second at 120 fps
RHYTHM = 60  # frames after which it is judged anew how many of them show a picture


class Repeats:
    """Tells the frames that show the picture before them once more.

    Attributes:
        times: how many frames show a picture, in general: 1 where 25 pictures a second are stored at 30.
    """

    def __init__(self) -> None:
        self.times = 1
        self._before: np.ndarray | None = None
        self._changes: deque[float] = deque(maxlen=RECENT)
        self._told: list[bool] = []

    def __call__(self, luma: np.ndarray) -> bool:
        """Whether a picture, uint8 (H, W), repeats the one given before."""
        before, self._before = self._before, luma
        if before is None or before.shape != luma.shape:
            return False
        change, lately = _change(before, luma), sorted(self._changes)
        self._changes.append(change)
        if len(lately) < RECENT:
            return False
        if len(self._told) == RHYTHM:
            shown = RHYTHM / (RHYTHM - sum(self._told))
            if abs(shown - self.times) > 0.75:  # 24 pictures a second at 60 fps are shown 2.5 times
                self.times = round(shown)
            del self._told[:-MOST]
        alike = change <= LEVELS and change < SHARE * lately[-3]
        self._told.append(alike and self._told[-MOST:] != [True] * MOST)
        return self._told[-1]


def _change(before: np.ndarray, luma: np.ndarray) -> float:
    """The largest change of a pixel, in levels; where it is large, of few rows, which is known sooner."""
    every = max(1, round(luma.shape[0] / HEIGHT))
    change = cv2.norm(before[:: 4 * every], luma[:: 4 * every], cv2.NORM_INF)
    if change > 2 * LEVELS:
        return change
    size = (-(-luma.shape[1] // every), -(-luma.shape[0] // every))
    a, b = (cv2.resize(y, size, interpolation=cv2.INTER_NEAREST) for y in (before, luma))
    return cv2.norm(a, b, cv2.NORM_INF)


def once(frames: Generator[Frame, None, None], longest_s: float) -> Generator[Frame, None, None]:
    """The frames that show something new; those that repeat one are added to its `again`.

    All of them are there once the next frame, or the end, has come. What comes more than `longest_s` later
    is new.
    """
    repeats, last = Repeats(), None
    with closing(frames):
        for frame in frames:
            alike = repeats(frame.luma)
            if alike and last and frame.time_s - [last, *last.again][-1].time_s <= longest_s:
                last.again.append(frame)
                continue
            frame.times, last = repeats.times, frame
            yield frame


def rows_of(frame: Frame, row: Row) -> Iterator[tuple[Frame, Row]]:
    """A frame with its row, and the frames that repeat it with theirs."""
    yield frame, row
    for again in frame.again:
        yield again, replace(row, frame=again.index, time_s=again.time_s)
