"""Where rows go once they are final: CSV, JSON lines and the overlay video; between tracker and tracking.

While a CSV grows it is called `<stem>.partial-<process>.csv`: a run that is killed leaves that file, which
holds every final row and looks like no finished track.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TextIO

import av

from shuttlelib.errors import UsageError
from shuttlelib.files import as_url, atomic_write, writing
from shuttlelib.frames import Frame
from shuttlelib.rows import Row
from shuttlelib.sources import Source
from shuttlelib.video import VideoInfo, VideoWriter

COLUMNS = ("frame", "time_s", "visible", "x_px", "y_px", "confidence", "source")
_NOTE = "shuttle overlay"  # a video that says so of itself may be overwritten
# What every summary so far holds, and says the versions of, to be told from another program's JSON
_SUMMARY = {"video", "frames", "visible_share", "backend", "mode", "versions", "counts", "params"}
_VERSIONS = {"stage1", "stage2", "shuttlelib"}

Emit = Callable[[Frame, Row], None]


def json_rows(file: TextIO, video: str) -> Emit:
    """Write each row as one line: a JSON object of `video` and the CSV's columns, null where empty."""

    def emit(_: Frame, row: Row) -> None:
        x_px, y_px = (round(row.x_px, 3), round(row.y_px, 3)) if row.visible else (None, None)
        values = (row.frame, round(row.time_s, 6), int(row.visible), x_px, y_px, round(row.confidence, 4))
        line = {"video": video, **dict(zip(COLUMNS, (*values, row.source)))}
        with writing("standard output"):
            print(json.dumps(line), file=file, flush=True)

    return emit


def overlay_video(path: Path, info: VideoInfo, outputs: ExitStack) -> Emit:
    """Draw each row on its frame; the video is whole when `outputs` close. Without a row there is none.

    `info`: of the video whose frames they are, which it plays like.
    """
    from shuttlelib.overlay import Overlay

    drawing = Overlay(info.even_hw[0])
    writer = VideoWriter(path, info.even_hw, info.fps, note=_NOTE, pixel_aspect=info.pixel_aspect)
    opened = cache(lambda: outputs.enter_context(writer))
    return lambda frame, row: opened().write(drawing.draw(frame.rgb, row), frame.time_s)


def growing_csv(path: Path, outputs: ExitStack, keep: bool) -> Emit:
    """A CSV that others may read while it grows, named `path` when `outputs` close without an error.

    `keep`: after an error the rows so far stay under the name they had while growing.
    """
    temp = outputs.enter_context(atomic_write(path, keep))
    file = outputs.enter_context(temp.open("w", buffering=1, newline="\n"))
    file.write(",".join(COLUMNS) + "\n")

    def emit(_: Frame, row: Row) -> None:
        place = f"{row.x_px:.3f},{row.y_px:.3f}" if row.visible else ","
        seen = f"{int(row.visible)},{place},{row.confidence:.4f},{row.source}"
        file.write(f"{row.frame},{row.time_s:.6f},{seen}\n")

    return emit


def check_stems(sources: Sequence[Source]) -> None:
    """Refuse sources whose outputs would overwrite each other.

    Raises:
        UsageError: two of them have the same stem.
    """
    seen: dict[str, str] = {}
    for source in sources:
        if source.stem in seen:
            both = f"{seen[source.stem]} and {source.name}"
            fix = "rename one, or track each alone, with an --out of its own"
            raise UsageError(f"{both} would both write {source.stem}.csv; {fix}")
        seen[source.stem] = source.name


def check_outputs(source: Source, out_dir: Path, overlay: bool = False) -> None:
    """Refuse a folder where tracking would overwrite anything but an earlier track.

    Raises:
        UsageError: the overlay would replace the video itself, or a file in the way is not a track's.
    """
    csv, report, video = (out_dir / f"{source.stem}.{suffix}" for suffix in ("csv", "json", "mp4"))
    original = Path(source.name)
    if overlay and video.exists() and original.exists() and video.samefile(original):
        raise UsageError(f"--out {out_dir}: the overlay would replace {original}; choose another folder")
    kinds = {csv: "track", report: "track's summary"} | ({video: "track's overlay"} if overlay else {})
    for path, kind in kinds.items():
        if path.exists() and not is_ours(path):
            raise UsageError(f"{path}: is no {kind} but in its place; move it away or choose another --out")


def overlay_left(source: Source, out_dir: Path) -> Path | None:
    """The overlay of an earlier track there, which tracking without one leaves as it is; None without it."""
    path, original = out_dir / f"{source.stem}.mp4", Path(source.name)
    if not path.exists() or (original.exists() and path.samefile(original)):
        return None
    return path if is_ours(path) else None


def is_ours(path: Path) -> bool:
    """Whether tracking wrote a file, by a CSV's header, what a summary holds or a video's note."""
    try:
        if path.suffix == ".csv":
            return path.read_bytes().startswith(",".join(COLUMNS).encode())
        if path.suffix == ".json":
            summary = json.loads(path.read_bytes())
            return set(summary) >= _SUMMARY and set(summary["versions"]) == _VERSIONS
        with av.open(as_url(path)) as container:
            return container.metadata.get("comment") == _NOTE
    except (OSError, ValueError, TypeError, av.FFmpegError):
        return False
