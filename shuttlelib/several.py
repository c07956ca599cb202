"""Several trackers at once: what they want to see in a step goes through each network as one batch.

Between tracker and tracking. Each tracker is a generator of looks (`looks.Look`) that ends with its result.
"""

from collections.abc import Generator, Iterable
from itertools import islice
from typing import Any, TypeVar

from shuttlelib.errors import ShuttleError
from shuttlelib.looks import Look
from shuttlelib.runtime import Candidates
from shuttlelib.together import Take

Result = TypeVar("Result")


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
