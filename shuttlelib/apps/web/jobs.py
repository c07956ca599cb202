"""One tracking run for the page: in a thread of its own, watched, cancelled and limited in time."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from shuttlelib.apps.web.options import Options
from shuttlelib.errors import ShuttleError
from shuttlelib.tracking import TrackResult, load_networks, track_video
from shuttlelib.video import TruncatedVideoError, VideoInfo

_LOG = logging.getLogger(__name__)


class _Cancelled(Exception):
    """The visitor does not want it any more: nothing is kept."""


class _OutOfTime(TruncatedVideoError):
    """The time is over: like a video that stops early, it keeps the rows that there are."""

    def __init__(self, path: Path, frames: int, expected: int, limit_s: float) -> None:
        super().__init__(path, frames, expected, 0)
        of = f" of {expected:,}" if expected else ""
        self.args = (
            f"time limit of {limit_s:g} s reached after {frames:,}{of} frames; the rest was not looked at",
        )


class Job:
    """The tracking of one video.

    Args:
        video: the file.
        out: folder for CSV, summary and overlay; empty again after a cancel or an error.
        mode: of tracking.
        options: limits and backend.

    Attributes:
        frames: done so far.
        expected: frames that the video promises, 0 if unknown.
        result: what came out, once finished; None after a cancel or an error.
        error: what went wrong, in words for the visitor; "" when nothing did.
    """

    def __init__(self, video: Path, out: Path, mode: str, options: Options) -> None:
        self.video, self.out, self.mode, self.options = video, out, mode, options
        self.frames = self.expected = 0
        self.result: TrackResult | None = None
        self.error = ""
        self._began_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def watch(self, every_s: float = 0.3) -> Iterator[None]:
        """Run it, yielding now and then until it has ended; leaving the loop early cancels it."""
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
    def cancelled(self) -> bool:
        """Whether it ended without a result and without an error."""
        return not self._thread.is_alive() and self.result is None and not self.error

    @property
    def fps(self) -> float:
        """Frames a second since the first one."""
        return self.frames / max(time.monotonic() - self._began_s, 1e-3) if self.frames else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated; None while unknown."""
        if not (self.frames and self.expected):
            return None
        return max(0.0, (self.expected - self.frames) / self.fps)

    def _run(self) -> None:
        options = self.options
        self._began_s = time.monotonic()
        try:
            networks = load_networks(
                options.backend, options.device, options.threads, options.models, mode=self.mode
            )
            self._began_s = time.monotonic()
            self.result = track_video(
                self.video, self.out, self.mode, overlay=True, networks=networks, on_frame=self._on_frame
            )
        except _Cancelled:
            pass
        except ShuttleError as error:
            self.error = in_plain_words(error, self.video)
        except Exception:
            _LOG.exception("tracking %s", self.video)
            self.error = "Something went wrong while tracking; the server's log has the details."

    def _on_frame(self, frames: int, info: VideoInfo) -> None:
        self.frames, self.expected = frames, info.frame_count
        if self._stop.is_set():
            raise _Cancelled
        if time.monotonic() - self._began_s > self.options.time_limit_s:
            raise _OutOfTime(self.video, frames, info.frame_count, self.options.time_limit_s)


def in_plain_words(error: Exception | str, video: Path) -> str:
    """A message for the visitor, to whom the server's folders mean nothing."""
    text = str(error).replace(str(video), video.name).replace(f"{video.parent}/", "")
    return text[:1].upper() + text[1:]
