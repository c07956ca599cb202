"""Looks of one kind taken together, as one batch; between looks and what takes them on a host or a device."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from shuttlelib.geometry import SizeHW
from shuttlelib.looks import Look
from shuttlelib.runtime import Backend, Candidates

Kind = TypeVar("Kind", int, tuple[int, SizeHW])
MOST = 16  # inputs of one run

_LOCAL = threading.local()  # pixels of looks, by their shape


def take_on_host(network_of: Mapping[int, Backend | None], looks: Sequence[Look]) -> list[Candidates]:
    """The answer to each look: pixels are cut on the host and run, each stage's, as one batch."""

    def run(stage: int, some: Sequence[Look]) -> Candidates:
        network = network_of[stage]
        assert network is not None  # no tracker asks for a network that it was not given
        return network.run(pixels_of(some), joined_history(some))

    return take_grouped(looks, lambda look: look.stage, run)


def pixels_of(looks: Sequence[Look]) -> np.ndarray:
    """The pixels of looks of one stage, as one batch, in memory that this thread's next call uses again."""
    shape = (sum(len(look.windows) for look in looks), *looks[0].shape[1:])
    key = str(shape[1:])
    kept = _LOCAL.__dict__.get(key)
    if kept is None or len(kept) < shape[0]:
        kept = _LOCAL.__dict__[key] = np.empty(shape, np.uint8)
    batch, first = kept[: shape[0]], 0
    for look in looks:
        look.pixels(batch[first : first + len(look.windows)])
        first += len(look.windows)
    return batch


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
