"""What the server remembers of each open page: its video, its tracking, its corrections."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from shuttlelib.apps.web.folders import Folders
from shuttlelib.apps.web.jobs import WATCH_S, Job
from shuttlelib.apps.web.options import Options
from shuttlelib.apps.web.tracks import Track
from shuttlelib.errors import ShuttleError


class Gone(ShuttleError):
    """What was asked about is not there any more."""


@dataclass
class Desk:
    """One open page.

    Attributes:
        folder: of its video; every tracking writes to a sub-folder of its own.
        video: the file, in the folder unless it is the sample.
        job: the tracking, from its start on.
        track: the last result, once there is one; a tracking that is stopped or fails leaves it.
        corrections: frame to native px, None where not visible.
    """

    folder: Path | None = None
    video: Path | None = None
    job: Job | None = None
    track: Track | None = None
    corrections: dict[int, tuple[float, float] | None] = field(default_factory=dict)

    def take(self, track: Track) -> None:
        """Put a result in the place of the one before; corrections stay, they are the same video's."""
        self.forget_track()
        self.track = track
        self.corrections = {f: place for f, place in self.corrections.items() if f < len(track.rows)}

    def forget_track(self) -> None:
        """Delete a result."""
        if self.track is not None:
            self.track.delete()
        self.track = None


class Desks:
    """The open pages by Gradio's name of the session."""

    def __init__(self, folders: Folders, options: Options) -> None:
        self.folders, self.options = folders, options
        self._by_session: dict[str, Desk] = {}
        self._line: list[Job] = []  # the first `at_once` are tracked, the others wait
        self._entering = threading.Lock()

    def of(self, session: str) -> Desk:
        """The page's desk, empty at first.

        Raises:
            Gone: its files were deleted meanwhile.
        """
        desk = self._by_session.setdefault(session, Desk())
        if desk.folder is not None:
            if not desk.folder.is_dir():
                self.leave(session)
                raise Gone("This video was deleted because nobody looked at it for a while; give it again.")
            self.folders.touch(desk.folder)
        return desk

    def place(self, session: str, video: Path, folder: Path) -> Desk:
        """Put a video on a page's desk; the one before and all that was made of it are deleted."""
        self.leave(session)
        desk = self._by_session[session] = Desk(folder, video)
        return desk

    def run(self, desk: Desk, mode: str) -> Iterator[Job]:
        """Track a desk's video once it is its turn, yielding the job now and then; `job.ahead` others wait.

        Leaving the loop early cancels it.
        """
        assert desk.folder is not None
        assert desk.video is not None
        if desk.job is not None:
            desk.job.cancel()
        job = desk.job = Job(desk.video, Path(mkdtemp(prefix="track-", dir=desk.folder)), mode, self.options)
        for _ in self._in_turn(job):
            self.folders.touch(desk.folder)
            yield job
        if job.result is not None and desk.job is job:
            desk.take(Track.read(desk.video, job.result))
        else:
            rmtree(job.out, ignore_errors=True)

    def _in_turn(self, job: Job) -> Iterator[None]:
        with self._entering:
            if len(self._line) >= self.options.at_once + self.options.waiting:
                job.error = "Too many videos are waiting; try again in a few minutes."
                return
            self._line.append(job)
        try:
            while (place := self._line.index(job)) >= self.options.at_once and not job.stopping:
                job.ahead = place - self.options.at_once + 1
                yield
                time.sleep(WATCH_S)
            job.ahead = 0
            yield from job.watch()
        finally:
            self._line.remove(job)

    def leave(self, session: str) -> None:
        """A page was closed, or gets another video: stop its tracking, delete its files."""
        desk = self._by_session.pop(session, None)
        if desk is None:
            return
        if desk.job is not None:
            desk.job.cancel()
            desk.job.join()
        desk.forget_track()
        if desk.folder is not None:
            self.folders.remove(desk.folder)

    def close(self) -> None:
        """Stop all trackings: the server ends."""
        for session in list(self._by_session):
            self.leave(session)
