"""One tracking run for the page: in a thread of its own, watched, cancelled and limited in time."""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from shuttlelib.apps.web.options import Options
from shuttlelib.errors import ShuttleError
from shuttlelib.frames import Frame
from shuttlelib.sources import Footage, Source, video_file
from shuttlelib.tracking import TrackResult, load_networks, track_source
from shuttlelib.video import TruncatedVideoError, VideoInfo

WATCH_S = 0.3  # between two looks at a job
_LOG = logging.getLogger(__name__)


class _Cancelled(BaseException):
    """The visitor does not want it any more: nothing is kept, and no frame that waits is looked at."""


class _OutOfTime(TruncatedVideoError):
    """The time is over: as after a video that stops early, the rows that there are stay."""

    def __init__(self, info: VideoInfo, frames: int, limit_s: float) -> None:
        super().__init__(info.path, frames, info.frame_count, 0)
        of = f" of {info.frame_count:,}" if info.frame_count else ""
        self.args = (f"The time limit of {limit_s:g} s was reached after {frames:,}{of} frames",)


class Job:
    """The tracking of one video.

    Args:
        video: the file.
        out: folder for CSV, summary and overlay; empty again after a cancel or an error.
        mode: of tracking.
        options: limits and backend.
        clock: seconds, for the limit and the speed.

    Attributes:
        looked: frames that the tracker has taken; in mode offline all of them before the first is done.
        frames: done so far.
        ahead: videos to be tracked before it.
        expected: frames that the video promises, 0 if unknown.
        result: what came out, once finished; None after a cancel or an error.
        error: what went wrong, in words for the visitor; "" when nothing did.
    """

    def __init__(
        self, video: Path, out: Path, mode: str, options: Options, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.video, self.out, self.mode, self.options = video, out, mode, options
        self.ahead = self.looked = self.frames = self.expected = 0
        self.result: TrackResult | None = None
        self.error = ""
        self._clock, self._began_s = clock, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def watch(self, every_s: float = WATCH_S) -> Iterator[None]:
        """Run it, yielding now and then until it has ended; leaving the loop early cancels it."""
        if self.stopping:
            return
        self._thread.start()
        try:
            while self._thread.is_alive():
                yield
                self._thread.join(every_s)
        finally:
            self.cancel()
            self._thread.join()

    def cancel(self) -> None:
        """Stop at the next frame."""
        self._stop.set()

    def join(self, timeout_s: float = 10.0) -> None:
        """Wait until it has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def stopping(self) -> bool:
        """Whether it was cancelled."""
        return self._stop.is_set()

    @property
    def fps(self) -> float:
        """Frames a second since the first one."""
        return self.frames / max(self._clock() - self._began_s, 1e-3) if self.frames else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated; None while unknown."""
        if not (self.frames and self.expected):
            return None
        return max(0.0, (self.expected - self.frames) / self.fps)

    def _run(self) -> None:
        options = self.options
        try:
            networks = load_networks(
                options.backend,
                options.device,
                options.threads,
                options.models,
                mode=self.mode,
                precision="auto",
            )
            if self.stopping:  # loading can outlast the wait of whoever cancels, and the folder be gone
                return
            self._began_s = self._clock()
            self.result = track_source(
                self._limited(video_file(self.video)),
                self.out,
                networks,
                self.mode,
                overlay=True,
                on_frame=self._on_frame,
            )
        except _Cancelled:
            pass
        except ShuttleError as error:
            self.error = in_plain_words(error, self.video)
        except Exception:
            _LOG.exception("tracking %s", self.video)
            self.error = "Something went wrong while tracking; the server's log has the details."

    def _limited(self, source: Source) -> Source:
        """The source, ending when the visitor or the clock says so; read again it ends in the same place."""
        cut: int | None = None

        def over(frame: Frame) -> bool:
            late = self._clock() - self._began_s > self.options.time_limit_s
            return frame.index > 0 and (late if cut is None else frame.index >= cut)  # no frame is no track

        def frames(footage: Footage) -> Generator[Frame, None, None]:
            nonlocal cut
            with closing(footage.frames):
                for frame in footage.frames:
                    if self.stopping:
                        raise _Cancelled
                    if over(frame):
                        cut = frame.index
                        raise _OutOfTime(footage.info, cut, self.options.time_limit_s)
                    self.looked, self.expected = frame.index + 1, footage.info.frame_count
                    yield frame

        def open_(asked: Callable[[], bool]) -> Footage:
            footage = source.open(asked)
            return replace(footage, frames=frames(footage))

        return replace(source, open=open_)

    def _on_frame(self, frames: int, _: VideoInfo) -> None:
        self.frames = frames


def in_plain_words(error: Exception | str, video: Path) -> str:
    """A message for the visitor, to whom the server's folders mean nothing."""
    return str(error).replace(str(video), video.name).replace(f"{video.parent}/", "")
