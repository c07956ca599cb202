"""Stopping at a good place when asked to; a leaf of the flow."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_when_asked() -> Iterator[Callable[[], bool]]:
    """Hold the first Ctrl-C or SIGTERM back until the work is at a good place; yields whether there was one.

    A second one acts as if nobody held it.
    """
    asked = False
    kinds = (signal.SIGINT, signal.SIGTERM)

    def restore() -> None:
        for kind, before in zip(kinds, handlers):
            signal.signal(kind, before)

    def note(*_: object) -> None:
        nonlocal asked
        asked = True
        restore()

    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield lambda: False
        return
    handlers = [signal.signal(kind, note) for kind in kinds]
    try:
        yield lambda: asked
    finally:
        restore()
