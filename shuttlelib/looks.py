"""What a tracker wants to see, and how it is asked and answered; between frames and the tracker."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from shuttlelib.frames import FAR_STEP, Frame, windows_of
from shuttlelib.geometry import SizeHW, Window, crop_window, full_window
from shuttlelib.runtime import Candidates

Result = TypeVar("Result")
THUMB = 16  # every so many rows and columns are compared
UNLIKE = 20.0  # levels of mean change that a camera makes, not what it shows


class Look(NamedTuple):
    """One batch that the tracker wants a network to see.

    Attributes:
        stage: which network, 1 or 2.
        windows: one an input.
        frames: what each of them shows: a frame and its neighbours, oldest first.
        history: see `Backend.run`; None where the network has no use for it.
    """

    stage: int
    windows: list[Window]
    frames: list[list[Frame]]
    history: np.ndarray | None

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, T, h, w, 3) of its pixels."""
        window = self.windows[0]
        return len(self.windows), len(self.frames[0]), window.out_h, window.out_w, 3

    def pixels(self, out: np.ndarray | None = None) -> np.ndarray:
        """uint8 (B, T, h, w, 3): the frames through each window, written to `out` if given."""
        out = np.empty(self.shape, np.uint8) if out is None else out
        for frames, window, pixels in zip(self.frames, self.windows, out):
            windows_of(frames, window, pixels)
        return out


class LongAgo:
    """Some of the frames of longer ago, for networks that look far back: few of many, to keep memory small.

    A cut, or a camera that moves, makes everything look new: then the latest frame stands for them, so that
    nothing does.

    Args:
        far: the longest ago that will be asked for, in looks; 0 keeps nothing.
        stride: frames from one look to the next.
    """

    def __init__(self, far: int, stride: int) -> None:
        self._stride, self._step = stride, FAR_STEP * stride
        self._kept: deque[tuple[Frame, np.ndarray]] = deque(maxlen=-(-far // FAR_STEP) + 1 if far else 0)
        self._count = 0

    def add(self, frame: Frame) -> None:
        """The next frame of the video."""
        if not self._kept.maxlen:
            return
        self._latest = frame, frame.luma[::THUMB, ::THUMB].copy()
        if self._count % self._step == 0:
            self._kept.append(self._latest)
        self._count += 1

    def at(self, back: int) -> Frame:
        """A frame `back` looks before the latest or up to `FAR_STEP` more, or the first there was."""
        now = self._count - 1
        newer = now // self._step - (now - back * self._stride) // self._step
        (frame, small), (latest, current) = self._kept[max(0, len(self._kept) - 1 - newer)], self._latest
        return frame if cv2.norm(small, current, cv2.NORM_L1) < UNLIKE * small.size else latest


def sample_window(stage: int, input_hw: SizeHW, size_hw: SizeHW) -> Window:
    """A window of a stage in frames of a size."""
    if stage == 1:
        return full_window(size_hw, input_hw)
    return crop_window(np.array([size_hw[1] / 2, size_hw[0] / 2]), size_hw, input_hw[0])


def answer_all(asking: Generator[Look, Candidates, Result], see: Callable[[Look], Candidates]) -> Result:
    """What a generator returns once each of its looks is taken; it is closed if one fails."""
    try:
        look = next(asking)
        while True:
            look = asking.send(see(look))
    except StopIteration as done:
        return done.value
    finally:
        asking.close()


def with_coming(frames: Iterable[Frame], ahead: int) -> Iterator[tuple[Frame, Sequence[Frame]]]:
    """Each frame with up to `ahead` frames after it: fewer only at the end.

    When `frames` raises, those read so far come out first.
    """
    known: deque[Frame] = deque()
    try:
        for frame in frames:
            known.append(frame)
            if len(known) > ahead:
                yield known.popleft(), known
    except Exception:
        yield from _rest(known)
        raise
    yield from _rest(known)


def _rest(known: deque[Frame]) -> Iterator[tuple[Frame, Sequence[Frame]]]:
    while known:
        yield known.popleft(), known
