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

EVERY = 4  # of the rows and columns are compared, px: a shuttle is larger
LEVELS = 24  # no pixel of a repeat differs by more: coding changes it too, but less than anything that moves
SHARE = 0.25  # of the second largest change lately: one may be a cut, and where nothing moves all are small
RECENT = 12  # frames that say what that is, and how many pictures are new
MOST = 4  # repeats of one picture: 24 pictures a second at 120 fps


class Repeats:
    """Tells the frames that show the picture before them once more.

    Attributes:
        pace: the share of the last frames that showed a new picture.
    """

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._changes: deque[float] = deque(maxlen=RECENT)
        self._told: deque[bool] = deque([False] * RECENT, maxlen=RECENT)

    @property
    def pace(self) -> float:
        return 1 - sum(self._told) / RECENT

    def __call__(self, luma: np.ndarray) -> bool:
        """Whether a picture, uint8 (H, W), repeats the one given before."""
        size = (-(-luma.shape[1] // EVERY), -(-luma.shape[0] // EVERY))
        sampled = cv2.resize(luma, size, interpolation=cv2.INTER_NEAREST)
        before, self._before = self._before, sampled
        if before is None or before.shape != sampled.shape:
            return False
        change = float(cv2.absdiff(sampled, before).max())
        lately = sorted(self._changes)[-2] if len(self._changes) == RECENT else 0.0
        alike = change <= LEVELS and change < SHARE * lately
        self._changes.append(change)
        self._told.append(alike and not all(list(self._told)[-MOST:]))
        return self._told[-1]


def once(frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
    """The frames that show something new; those that repeat one are added to its `again`.

    All of them are there once the next frame, or the end, has come.
    """
    repeats, last = Repeats(), None
    with closing(frames):
        for frame in frames:
            if repeats(frame.luma) and last is not None:
                last.again.append(frame)
                continue
            frame.pace, last = repeats.pace, frame
            yield frame


def rows_of(frame: Frame, row: Row) -> Iterator[tuple[Frame, Row]]:
    """A frame with its row, and the frames that repeat it with theirs."""
    yield frame, row
    for again in frame.again:
        yield again, replace(row, frame=again.index, time_s=again.time_s)
