"""What a tracker wants to see, and how it is asked and answered; between frames and the tracker."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from shuttlelib.frames import Frame, windows_of
from shuttlelib.geometry import SizeHW, Window, crop_window, full_window
from shuttlelib.runtime import Candidates

Result = TypeVar("Result")


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
