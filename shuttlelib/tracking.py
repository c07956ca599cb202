"""Track videos: models and a source in; CSV, summary and overlay out; on top of tracker.

The state machine that does the finding is in `tracker`, what can be tracked in `sources`, where rows go in
`outputs`.
"""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from shuttlelib import __version__
from shuttlelib.errors import UsageError
from shuttlelib.files import atomic_write
from shuttlelib.frames import Frame
from shuttlelib.looks import Look, answer_all
from shuttlelib.offline import Memory, places_between
from shuttlelib.outputs import Emit, check_outputs, growing_csv, overlay_video
from shuttlelib.pair import Networks, load_networks
from shuttlelib.rectify import Filler
from shuttlelib.repeats import once, rows_of
from shuttlelib.rows import Row
from shuttlelib.runtime import Candidates
from shuttlelib.sources import Footage, Source, in_parts, longest_s, video_file
from shuttlelib.stopping import Asked, stop_when_asked
from shuttlelib.track_params import TrackParams
from shuttlelib.tracker import FIRED_KEPT, OFFLINE, WHOLE, Tracker
from shuttlelib.video import EndedEarlyError, VideoInfo, probe


@dataclass(frozen=True)
class TrackResult:
    """What tracking one source gave.

    Attributes:
        csv, overlay, summary_json: the files written; overlay is None if not asked for, or without a row.
        summary: what the JSON holds.
        warning: one line when the source gave less than it promised or was lost, else empty.
    """

    csv: Path
    overlay: Path | None
    summary_json: Path
    summary: dict[str, Any]
    warning: str = ""


def track_video(
    path: str | Path,
    out_dir: str | Path,
    mode: str = "smart",
    overlay: bool = False,
    params: TrackParams | None = None,
    networks: Networks | None = None,
    on_frame: Callable[[int, VideoInfo], None] | None = None,
) -> TrackResult:
    """Find the shuttle in every frame of a video file.

    Args:
        path: the video.
        networks: a loaded pair; None loads the repository's for this video.
        out_dir, mode, overlay, params, on_frame: see `tracking_source`.

    Raises:
        ShuttleError: as `tracking_source` and `load_networks`.
    """
    source = video_file(path)
    if networks is None:  # nothing is loaded for a video that cannot be tracked
        check_outputs(source, Path(out_dir), overlay)
        probe(path)
        networks = load_networks(mode=mode)
    return track_source(source, out_dir, networks, mode, overlay=overlay, params=params, on_frame=on_frame)


def track_source(
    source: Source, out_dir: str | Path, networks: Networks, mode: str = "smart", **options: Any
) -> TrackResult:
    """Find the shuttle in every frame of a source: see `tracking_source` for what may be given."""
    tracking = tracking_source(source, out_dir, networks, mode, **options)
    return answer_all(tracking, lambda look: networks.take([look])[0])


def tracking_source(
    source: Source,
    out_dir: str | Path,
    networks: Networks,
    mode: str = "smart",
    overlay: bool = False,
    params: TrackParams | None = None,
    on_frame: Callable[[int, VideoInfo], None] | None = None,
    also: Sequence[Emit] = (),
    asked: Asked | None = None,
) -> Generator[Look, Candidates, TrackResult]:
    """Find the shuttle in every frame of a source.

    Writes `<stem>.csv` (one row a frame, each as soon as it is final), `<stem>.json` (summary) and with
    `overlay` `<stem>.mp4` into `out_dir`. What can be read again appears complete or not at all. Of what
    cannot, no row is lost: the first Ctrl-C or SIGTERM finishes the files, whose summary then says
    `interrupted`, and after an error the rows stay in `<stem>.partial-<process>.csv`.

    The looks that come out want to be taken (see `Networks.take`), those of several sources at once perhaps.

    Args:
        source, out_dir, networks: what to track, into which folder (made if missing), with which pair.
        mode: smart, fast, calibration, offline or whole.
        overlay: also write the video with the track drawn over it.
        params: thresholds.
        on_frame: called after each row with the number of rows so far, for progress bars.
        also: called with each frame and its final row.
        asked: whether to stop what cannot be read again; give `stop_when_asked`'s if several run at once.

    Raises:
        VideoError, WriteError: nothing of the source can be decoded, or `out_dir` cannot be written.
        UsageError: an unknown mode, one that the source is not fit for, or see `check_outputs`.
    """
    out_dir = Path(out_dir)
    check_outputs(source, out_dir, overlay)
    check_rereadable(source, mode)
    csv, mp4, report = (out_dir / f"{source.stem}.{suffix}" for suffix in ("csv", "mp4", "json"))
    with _until_asked(source, asked) as asked, ExitStack() as outputs:
        leaving = threading.Event()  # who waits for frames, perhaps in another thread, then waits no longer
        footage = source.open(lambda: leaving.is_set() or asked())
        outputs.callback(footage.frames.close)
        if not source.rereadable:
            networks.warm_up(footage.info.even_hw)
        run = _Run(source, footage, networks.alone() if mode == WHOLE else networks, mode, params)
        summary_to = outputs.enter_context(atomic_write(report))  # entered first, so renamed last
        emits = [growing_csv(csv, outputs, keep=not source.rereadable), *also]
        if overlay:
            emits.append(overlay_video(mp4, footage.info, outputs))
        emits.append(lambda frame, _: footage.done(frame))
        if on_frame is not None:
            emits.append(lambda *_: on_frame(run.frames, footage.info))
        yield from run.looks(asked, emits, leaving)
        summary = run.summary(interrupted=asked() or run.left is not None)
        summary_to.write_text(json.dumps(summary, indent=2) + "\n")
    if run.left is not None:
        raise run.left
    return TrackResult(csv, mp4 if overlay and run.frames else None, report, summary, summary["warning"])


def _until_asked(source: Source, asked: Asked | None) -> AbstractContextManager[Asked]:
    """Whether somebody asked to stop what cannot be read again."""
    if source.rereadable:
        return nullcontext(lambda: False)
    return nullcontext(asked) if asked else stop_when_asked()


def check_rereadable(source: Source, mode: str) -> None:
    """Refuse a mode that reads twice for what can be read once.

    Raises:
        UsageError: it is one.
    """
    if mode == OFFLINE and not source.rereadable:
        raise UsageError(
            f"--mode {OFFLINE}: {source.name} can only be read once; use --mode smart, or record it first"
        )


class _Run:
    """One source on its way through the tracker, which starts afresh after each gap and with another rate."""

    def __init__(
        self, source: Source, footage: Footage, nets: Networks, mode: str, params: TrackParams | None
    ) -> None:
        self._source, self._footage, self._nets, self._mode = source, footage, nets, mode
        self._params = params or TrackParams()
        self._tracker = self._new_tracker(footage.info.fps)
        self._longest_s = longest_s(footage.info.fps)
        self._counts: Counter[str] = Counter()
        self._fired: dict[str, deque[int]] = {}  # the frames in which each trigger fired, the last ones
        self._gaps: list[dict[str, float]] = []
        self._warning = ""
        self.left: BrokenPipeError | None = None  # who read the rows of what cannot be read again left early
        self.frames = self._visible = 0
        self._start = time.perf_counter()

    def _new_tracker(self, rate: float, memory: Memory | None = None) -> Tracker:
        size_hw, nets, curves = self._footage.info.even_hw, self._nets, self._nets.calibration or {}
        curves = curves.get(self._mode, curves)  # of one mode, or of all as in cards of old
        return Tracker(
            *(nets.stage1, nets.stage2, size_hw, rate, self._mode, self._params, curves), memory=memory
        )

    def looks(
        self, asked: Asked, emits: Sequence[Emit], leaving: threading.Event
    ) -> Generator[Look, Candidates, None]:
        """What the tracker wants to see, until the source ends or somebody asked to stop; rows go to all.

        Args:
            leaving: set at the end, before the frames are closed.
        """
        last: Row | None = None
        takers = list(emits)

        def final(frame: Frame, row: Row) -> None:
            nonlocal last
            if last is not None and row.time_s - last.time_s > self._longest_s:
                self._gaps.append({"from_s": round(last.time_s, 3), "to_s": round(row.time_s, 3)})
            self._counts["repeated_rows"] += len(frame.again)
            for shown, last in rows_of(frame, row):
                out(shown, last)

        def out(frame: Frame, row: Row) -> None:
            self.frames, self._visible = self.frames + 1, self._visible + row.visible
            self._counts["rectified_rows"] += row.source == "rectified"
            for emit in tuple(takers):
                try:
                    emit(frame, row)
                except BrokenPipeError as error:
                    if self._source.rereadable:
                        raise
                    self.left = error
                    takers.remove(emit)  # the others get the rows that are under way

        def stop() -> bool:
            return self.left is not None or asked()

        try:
            memories = (yield from self._first_pass(asked)) if self._mode == OFFLINE else repeat(None)
            ahead = self._nets.ahead(once(_until(stop, self._footage.frames), self._longest_s))
            with closing(ahead) as frames, ExitStack() as first:
                first.callback(leaving.set)
                for (rate, part), memory in zip(in_parts(frames, self._footage.info.fps), memories):
                    self._tracker = self._new_tracker(rate, memory)
                    with self._filling(final) if memory else nullcontext(final) as last_emit:
                        yield from self._tracker.tracking(part, last_emit)
                    self._count()
        except EndedEarlyError as error:
            self._warning = str(error)
            self._count()

    def _first_pass(self, asked: Asked) -> Generator[Look, Candidates, list[Memory]]:
        """What a pass in smart mode leaves of each part of the source."""
        footage, memories = self._source.open(asked), []
        size_hw, fps = footage.info.even_hw, footage.info.fps
        ahead = self._nets.ahead(once(_until(asked, footage.frames), self._longest_s))
        try:
            with closing(ahead) as frames:
                for rate, part in in_parts(frames, fps):
                    rows: list[Row] = []
                    self._tracker = self._new_tracker(rate)
                    try:
                        yield from self._tracker.tracking(part, _collect(rows))
                    finally:  # what an early end leaves is a part too
                        places = places_between(rows, self._params, size_hw[0], rate)
                        memories.append(Memory(self._tracker.sightings, places))
                        self._count()
        except EndedEarlyError:
            pass  # so will the second pass end, and say so
        return memories

    def _filling(self, emit: Emit) -> "closing[Filler]":
        """An emit that fills the gaps that physics can fill, and passes the rows on."""
        size_hw, rate, told = self._footage.info.even_hw, self._tracker.fps, self._tracker.confidence
        return closing(Filler(self._params, size_hw, rate, emit, lambda p: told("rectified", p)))

    def _count(self) -> None:
        self._counts += self._tracker.counts
        for name, frames in self._tracker.fired.items():
            self._fired.setdefault(name, deque(maxlen=FIRED_KEPT)).extend(frames)

    def summary(self, interrupted: bool) -> dict[str, Any]:
        """What the JSON holds."""
        info, nets, seconds = self._footage.info, self._nets, time.perf_counter() - self._start
        stage2 = nets.stage2.version if nets.stage2 is not None else None
        notes = "; ".join([*self._footage.notes, *nets.notes])
        return {
            "video": self._source.shown,
            "width": info.width,
            "height": info.height,
            "fps": info.fps,
            "frames": self.frames,
            "frames_expected": info.frame_count,
            "visible_share": round(self._visible / max(self.frames, 1), 4),
            "seconds": round(seconds, 3),
            "speed_fps": round(self.frames / seconds, 1),
            "backend": nets.last.name,
            "backend_why": nets.why,
            "device": nets.last.device,
            "mode": self._mode,
            "versions": {"stage1": nets.stage1.version, "stage2": stage2, "shuttlelib": __version__},
            "counts": dict(self._counts),
            "triggers": {name: list(frames) for name, frames in self._fired.items()},
            "params": asdict(self._params),
            "interrupted": interrupted,
            "gaps": self._gaps,
            **self._footage.facts(),
            "warning": self._warning,
            "note": notes and f"{self._source.name}: {notes}",
        }


def _until(asked: Asked, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
    with closing(frames):
        for frame in frames:
            if asked():
                return
            yield frame


def _collect(rows: list[Row]) -> Emit:
    return lambda _, row: rows.append(row)
