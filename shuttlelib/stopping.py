"""Stopping at a good place when asked to; a leaf of the flow."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Asked = Callable[[], bool]


@contextmanager
def stop_when_asked() -> Iterator[Asked]:
    """Hold the first Ctrl-C or SIGTERM back until the work is at a good place; yields whether there was one.

    A second one acts as if nobody held it. Who does several things at a time holds it once for all of them:
    those that end in another order than they began would leave each other's handlers behind.
    """
    asked = False

    def restore() -> None:
        for kind, before in handlers.items():
            signal.signal(kind, before)

    def note(*_: object) -> None:
        nonlocal asked
        asked = True
        restore()

    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield lambda: False
        return
    handlers = {kind: signal.signal(kind, note) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        restore()


@contextmanager
def stop_at_once() -> Iterator[Asked]:
    """Have SIGTERM act as Ctrl-C does, so that it leaves nothing half-written; nobody is ever asked."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if main else None
    try:
        yield lambda: False
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
