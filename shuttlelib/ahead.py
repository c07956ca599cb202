"""Frames and batches made before they are asked for, by a thread of their own; a leaf of the flow."""

import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
NICE = 3  # how much such a thread steps back for those that look at what it made, and for other programs
DEPTH = 8  # frames that wait: enough to hide a calibration, 25 MB at 1920x1080


def read_ahead(
    source: Callable[[], Generator[Item, None, None]], depth: int = DEPTH
) -> Generator[Item, None, None]:
    """The items of a generator, in order, made by another thread while this one does something else.

    Everything of the generator happens in that thread, its end too. Closing this one stops it and waits.

    Args:
        source: gives the generator; called by the thread.
        depth: the most items that wait.

    Raises:
        Exception: what the generator raised, after the items before it.
    """
    made: SimpleQueue[tuple[Item | None, BaseException | None]] = SimpleQueue()
    room, stop = threading.Semaphore(depth), threading.Event()

    def make() -> None:
        try:
            _step_back()
            with closing(source()) as items:
                while room.acquire() and not stop.is_set():
                    made.put((next(items), None))
        except BaseException as end:  # StopIteration among them
            made.put((None, end))

    thread = threading.Thread(target=make, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, end = made.get()
            if isinstance(end, StopIteration):
                return
            if end is not None:
                raise end
            room.release()
            yield item  # type: ignore[misc]  # an item wherever there is no end
    finally:
        stop.set()
        room.release()
        thread.join()


def _step_back() -> None:
    """Lower this thread's priority on Linux, where each has one and passes it on to those that it starts."""
    if sys.platform == "linux":
        with suppress(OSError):
            mine = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), mine + NICE)
