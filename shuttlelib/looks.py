"""What a tracker wants to see, and how it is asked and answered; between frames and the tracker."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from shuttlelib.errors import ShuttleError
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


Take = Callable[[Sequence[Look]], list[Candidates]]  # the answer to each look


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


def answer_together(
    askings: Iterable[Generator[Look, Candidates, Result]], take: Take, at_once: int
) -> Generator[tuple[int, Result | ShuttleError], None, None]:
    """Answer what several generators ask, of `at_once` at a time; the next begins when one has ended.

    A generator's own ShuttleError ends it alone; an error while looking ends all and is raised.

    Yields:
        The number of each that has ended, from 0, and its result or error, in the order of their ends.
    """
    coming = enumerate(askings)
    active: dict[int, Generator[Look, Candidates, Result]] = {}
    answers: dict[int, Any] = {}
    try:
        while True:
            new = dict(islice(coming, at_once - len(active)))
            active |= new
            if not active:
                return
            looks = {}
            for number, answer in (answers | dict.fromkeys(new)).items():
                try:
                    looks[number] = active[number].send(answer)
                except (StopIteration, ShuttleError) as end:
                    del active[number]
                    yield number, end.value if isinstance(end, StopIteration) else end
            answers = dict(zip(looks, take(list(looks.values()))))
    finally:
        for asking in active.values():
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
