"""What can be tracked, behind one small interface; between video and tracking.

Files are here; cameras, network streams and pipes, which can be read once, are in `streams`.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shuttlelib.ahead import read_ahead
from shuttlelib.errors import UsageError
from shuttlelib.frames import Frame
from shuttlelib.video import VIDEO_SUFFIXES, VideoInfo, is_video, probe, read_frames

GAP_S = 0.5  # frames farther apart than this (and than three frames) do not show one flight


@dataclass(frozen=True)
class Footage:
    """One pass through a source.

    Attributes:
        info: size, rate and, for files, length.
        frames: each frame, in order; closing it stops whatever feeds it. One thread may read it, any thread.
        notes: gets a line for each thing a reader of the coordinates should know.
        facts: what reading found, for the summary; asked for once the rows are through.
        done: told each frame whose row is out.
    """

    info: VideoInfo
    frames: Generator[Frame, None, None]
    notes: list[str] = field(default_factory=list)
    facts: Callable[[], dict[str, Any]] = dict
    done: Callable[[Frame], None] = lambda _: None


@dataclass(frozen=True)
class Source:
    """Something to track.

    Attributes:
        name: what messages call it; never holds a password.
        shown: what the summary calls it.
        stem: of the output files.
        open: starts a pass; its argument says, when asked, whether to stop waiting for frames.
        rereadable: whether it can be opened again and gives the same frames, as a file does.
        endless: whether it ends only by being stopped or lost, as a camera does.
    """

    name: str
    shown: str
    stem: str
    open: Callable[[Callable[[], bool]], Footage]
    rereadable: bool = False
    endless: bool = False


def video_file(path: str | Path, decoder: str = "cpu") -> Source:
    """A video file; see `video.read_frames` for `decoder`."""

    def open_(_: Callable[[], bool]) -> Footage:
        notes: list[str] = []
        return Footage(probe(path), read_ahead(lambda: read_frames(path, notes, decoder)), notes)

    return Source(str(path), Path(path).name, Path(path).stem, open_, rereadable=True)


def find(video: str, decoder: str = "cpu") -> list[Source]:
    """The sources that a name stands for: a file, or all videos of a folder by name, without its sub-folders.

    Raises:
        UsageError: an empty name, or a folder without videos.
    """
    if not video:  # as a path it would be the current folder
        raise UsageError('"": the name is empty; give a video, a folder of them, a camera, an address or -')
    folder = Path(video)
    if not folder.is_dir():
        return [video_file(video, decoder)]
    paths = sorted(filter(is_video, folder.iterdir()))
    if not paths:
        raise UsageError(f"{video}: the folder has no video ({', '.join(VIDEO_SUFFIXES)}); name another one")
    return [video_file(path, decoder) for path in paths]


def longest_s(fps: float) -> float:
    """Time between two frames, s, up to which they may show one flight."""
    return max(GAP_S, 3.5 / fps)


def in_parts(frames: Iterator[Frame], fps: float) -> Iterator[tuple[float, Iterator[Frame]]]:
    """Split frames where pictures are missing, or their rate changes; use each part up before the next.

    Returns:
        New pictures a second, and the frames.
    """
    ahead = next(frames, None)

    def part(frame: Frame) -> Iterator[Frame]:
        nonlocal ahead
        ahead = None
        yield frame
        for ahead in frames:
            gap_s = ahead.time_s - [frame, *frame.again][-1].time_s
            if gap_s > longest_s(fps) or ahead.times != frame.times:
                return
            frame = ahead
            yield frame
        ahead = None

    while ahead is not None:
        yield fps / ahead.times, part(ahead)
