"""Reading in a thread of its own, and dropping frames rather than falling behind; beside `streams`.

The thread lets the tracker wait for a frame without being deaf to Ctrl-C, whatever the network does.
"""

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

from shuttlelib.errors import StoppedError
from shuttlelib.frames import Frame
from shuttlelib.sources import Footage, Source
from shuttlelib.video import VideoInfo

Clock = Callable[[], float]

_AHEAD = 8  # frames read ahead of a tracker that wants them all
_LOOK_UP_S = 0.1  # how often a waiting tracker looks whether it was asked to stop
_PATIENCE_S = 1.0  # for a thread that is stuck in the network when nobody wants its frames any more


class Waiting:
    """Frames that have come and wait for the tracker: all of them, or none for longer than the budget.

    A frame whose wait exceeds the budget is dropped if a newer one is there; so with a tracker that is too
    slow, the dropped ones are spread evenly.

    Args:
        budget_s: longest wait; None drops nothing, and whoever reads must stop while it is `full`.
    """

    def __init__(self, budget_s: float | None) -> None:
        self.budget_s = budget_s
        self.dropped = 0
        self._frames: deque[tuple[float, Frame]] = deque()
        self._taken: deque[tuple[float, Frame]] = deque()  # whose rows are not out yet
        self._latency_ms: Counter[int] = Counter()

    @property
    def full(self) -> bool:
        """Whether reading must pause."""
        return self.budget_s is None and len(self._frames) >= _AHEAD

    def put(self, frame: Frame, now_s: float) -> None:
        """A frame has come."""
        self._frames.append((now_s, frame))
        self._drop(now_s)

    def take(self, now_s: float) -> Frame | None:
        """The frame to track next, if one waits."""
        self._drop(now_s)
        if not self._frames:
            return None
        self._taken.append(self._frames.popleft())
        return self._taken[-1][1]

    def done(self, frame: Frame, now_s: float) -> None:
        """The row of a frame, and of those before it, is out."""
        while self._taken and self._taken[0][1].index <= frame.index:
            came_s, _ = self._taken.popleft()
            self._latency_ms[min(60_000, round(1000 * (now_s - came_s)))] += 1

    def _drop(self, now_s: float) -> None:
        while self.budget_s is not None and len(self._frames) > 1:
            if now_s - self._frames[0][0] <= self.budget_s:
                return
            self._frames.popleft()
            self.dropped += 1

    def facts(self) -> dict[str, Any]:
        """For the summary: the budget, how many frames were dropped, and from a frame's coming to its row."""
        if self.budget_s is None:
            return {}
        count = sum(self._latency_ms.values())
        shares = {"median": 0.5, "p95": 0.95, "max": 1.0}
        latency = {name: _quantile(self._latency_ms, share * count) for name, share in shares.items()}
        budget_ms = round(1000 * self.budget_s)
        return {"live": {"budget_ms": budget_ms, "dropped": self.dropped, "latency_ms": latency}}


def _quantile(counts: Counter[int], rank: float) -> int | None:
    """The value at that rank of the sorted values; None without any."""
    passed = 0
    for value in sorted(counts):
        passed += counts[value]
        if passed >= rank:
            return value
    return None


class Reader:
    """Frames that a thread reads, and another uses.

    Args:
        feed: gives a VideoInfo, then frames; run, and closed, by the thread.
        stopped: says, when asked, whether to stop waiting for frames.
        closing: set when nobody wants frames any more; the feed does not wait for long once it is.
        budget_s: see `Waiting`.
        now: the time, s.
    """

    def __init__(
        self,
        feed: Generator[VideoInfo | Frame, None, None],
        stopped: Callable[[], bool],
        closing: threading.Event,
        budget_s: float | None,
        now: Clock = time.monotonic,
    ) -> None:
        self._feed, self._stopped, self._closing, self._now = feed, stopped, closing, now
        self.waiting = Waiting(budget_s)
        self._info: VideoInfo | None = None
        self._error: Exception | None = None
        self._ended = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for item in self._feed:
                with self._change:
                    if isinstance(item, VideoInfo):
                        self._info = item
                    else:
                        self.waiting.put(item, self._now())
                    self._change.notify_all()
                    while self.waiting.full and not self._closing.is_set():
                        self._change.wait()
                if self._closing.is_set():
                    break
        except Exception as error:  # told to whoever waits for frames
            self._error = error
        finally:
            self._feed.close()
            with self._change:
                self._ended = True
                self._change.notify_all()

    def footage(self, notes: list[str], facts: Callable[[], dict[str, Any]]) -> Footage:
        """What is read, once the source says what it is; `notes` and `facts` are the feed's.

        Raises:
            VideoError: it cannot be opened.
            StoppedError: somebody asked to stop before it was.
        """
        with self._change:
            while self._info is None and not self._ended:
                if self._stopped():
                    self._closing.set()
                    raise StoppedError("interrupted before it was opened")
                self._change.wait(_LOOK_UP_S)
        if self._info is None:
            raise self._error or RuntimeError("a feed that says nothing")
        frames = self._frames()
        next(frames)  # only what has begun is closed at its end
        return Footage(self._info, frames, notes, lambda: facts() | self.waiting.facts(), self._done)

    def _done(self, frame: Frame) -> None:
        with self._change:
            self.waiting.done(frame, self._now())

    def _frames(self) -> Generator[Frame, None, None]:
        try:
            yield  # type: ignore[misc]  # to `footage`, nothing yet
            while (frame := self._next()) is not None:
                yield frame
            if self._error is not None:
                raise self._error
        finally:
            with self._change:
                self._closing.set()
                self._change.notify_all()
            self._thread.join(_PATIENCE_S)

    def _next(self) -> Frame | None:
        with self._change:
            while not self._stopped():
                frame = self.waiting.take(self._now())
                if frame is not None or self._ended:
                    self._change.notify_all()
                    return frame
                self._change.wait(_LOOK_UP_S)
        return None


def played(source: Source, budget_s: float, now: Clock = time.monotonic) -> Source:
    """A file as if it came from a camera: at its own rate, with frames dropped beyond the budget.

    Its outputs have a stem of their own, so that they replace no track of every frame.
    """

    def open_(stopped: Callable[[], bool]) -> Footage:
        footage, closing = source.open(stopped), threading.Event()

        def feed() -> Generator[VideoInfo | Frame, None, None]:
            with contextlib.closing(footage.frames):
                yield footage.info
                yield from paced(footage.frames, now, closing.wait)

        return Reader(feed(), stopped, closing, budget_s, now).footage(footage.notes, footage.facts)

    return replace(source, stem=f"{source.stem}-live", open=open_, rereadable=False)


def paced(
    frames: Iterator[Frame], now: Clock, wait: Callable[[float], object]
) -> Generator[Frame, None, None]:
    """Each frame when it is due, counted from the first; one that is late at once."""
    start_s: float | None = None
    for frame in frames:
        start_s = now() - frame.time_s if start_s is None else start_s
        if (early_s := start_s + frame.time_s - now()) > 0:
            wait(early_s)
        yield frame
