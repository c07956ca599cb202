"""Several trackers at once: what they want to see in a step goes through each network as one batch.

Between tracker and tracking. Each tracker is a generator of looks (`tracker.Look`) that ends with its result.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from shuttlelib.errors import ShuttleError
from shuttlelib.geometry import SizeHW
from shuttlelib.runtime import Backend, Candidates
from shuttlelib.tracker import Look

Result = TypeVar("Result")
Kind = TypeVar("Kind", int, tuple[int, SizeHW])
MOST = 16  # inputs of one run

Take = Callable[[Sequence[Look]], list[Candidates]]


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


def take_on_host(network_of: Mapping[int, Backend | None], looks: Sequence[Look]) -> list[Candidates]:
    """The answer to each look: pixels are cut on the host and run, each stage's, as one batch."""

    def run(stage: int, some: Sequence[Look]) -> Candidates:
        network = network_of[stage]
        assert network is not None  # no tracker asks for a network that it was not given
        pixels = [look.pixels() for look in some]
        return network.run(pixels[0] if len(some) == 1 else np.concatenate(pixels), joined_history(some))

    return take_grouped(looks, lambda look: look.stage, run)


def take_grouped(
    looks: Sequence[Look], kind: Callable[[Look], Kind], run: Callable[[Kind, Sequence[Look]], Candidates]
) -> list[Candidates]:
    """Run looks of one kind together, at most `MOST` inputs at once (or one look); the answer to each."""
    if len(looks) == 1:
        return [run(kind(looks[0]), looks)]
    answers: dict[int, Candidates] = {}
    for one in dict.fromkeys(map(kind, looks)):
        waiting = [index for index, look in enumerate(looks) if kind(look) == one]
        while waiting:
            ends = np.cumsum([len(looks[index].windows) for index in waiting])
            count = max(1, int((ends <= MOST).sum()))
            group, waiting = waiting[:count], waiting[count:]
            result = run(one, [looks[index] for index in group])
            parts = zip(*(np.split(values, ends[: count - 1]) for values in result))
            answers |= dict(zip(group, map(Candidates._make, parts)))
    return [answers[index] for index in range(len(looks))]


def joined_history(looks: Sequence[Look]) -> np.ndarray | None:
    """The histories of looks of one stage, as one batch."""
    parts = [look.history for look in looks if look.history is not None]
    return np.concatenate(parts) if parts else None
