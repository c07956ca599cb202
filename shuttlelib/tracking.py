"""Track video files: models and a video in; CSV, summary and overlay out; between tracker and metrics.

The state machine that does the finding is in `tracker`.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from shuttlelib import __version__, runtime
from shuttlelib.errors import UsageError
from shuttlelib.files import atomic_write
from shuttlelib.frames import Frame
from shuttlelib.tracker import MODES, WHOLE, Row, Tracker, TrackParams
from shuttlelib.video import TruncatedVideoError, VideoInfo, VideoWriter, probe, read_frames

__all__ = [
    "COLUMNS",
    "MODES",
    "WHOLE",
    "Networks",
    "Row",
    "TrackParams",
    "TrackResult",
    "Tracker",
    "check_outputs",
    "check_stems",
    "load_networks",
    "track_video",
]

COLUMNS = ("frame", "time_s", "visible", "x_px", "y_px", "confidence", "source")


@dataclass(frozen=True)
class Networks:
    """The loaded pair, and how to turn the last one's probability into a confidence.

    Without a stage 2 only mode "whole" is possible.
    """

    stage1: runtime.Backend
    stage2: runtime.Backend | None
    calibration: dict[str, Any] | None = None
    why: str = "given"

    @property
    def last(self) -> runtime.Backend:
        """The one that places the head."""
        return self.stage2 or self.stage1

    def alone(self) -> "Networks":
        """Stage 1 without stage 2, whose calibration does not hold for it."""
        return self if self.stage2 is None else Networks(self.stage1, None, None, self.why)


@dataclass(frozen=True)
class TrackResult:
    """What tracking one video gave.

    Attributes:
        csv, overlay, summary_json: the files written; overlay is None unless asked for.
        summary: what the JSON holds.
        warning: one line when the video gave fewer frames than it promised, else empty.
    """

    csv: Path
    overlay: Path | None
    summary_json: Path
    summary: dict[str, Any]
    warning: str = ""


def load_networks(
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    models_dir: Path | None = None,
    versions: Sequence[str] = (),
    mode: str = "smart",
) -> Networks:
    """Load a stage-1 and a stage-2 version, or a stage-1 version alone.

    Args:
        backend, device, threads: see `runtime.load`.
        models_dir: folder of models, or in mode "whole" a model folder; None is the repository's.
        versions: names of the two, or of stage 1 alone; empty takes the default pair.
        mode: of tracking; "whole" needs no stage 2.

    Raises:
        ShuttleError: see `runtime.load`.
    """
    root = Path(models_dir or runtime.paths.MODELS)
    if mode == WHOLE and (root / "version.json").is_file():
        dirs = [root]
    else:
        dirs = [root / version for version in versions] or list(runtime.default_pair(root))
        dirs = dirs[:1] if mode == WHOLE else dirs
    name, where, why = runtime.choose(dirs[-1], backend, device)
    loaded = [runtime.load(folder, name, where, threads) for folder in dirs]
    calibration = runtime.read_card(dirs[-1]).get("calibration")
    return Networks(loaded[0], loaded[1] if len(dirs) > 1 else None, calibration, why)


def check_stems(videos: Sequence[Path]) -> None:
    """Refuse videos whose outputs would overwrite each other.

    Raises:
        UsageError: two of them have the same stem.
    """
    seen: dict[str, Path] = {}
    for path in map(Path, videos):
        if path.stem in seen:
            first = seen[path.stem]
            raise UsageError(
                f"{first} and {path} would both write {path.stem}.csv; track them into two folders"
            )
        seen[path.stem] = path


def check_outputs(path: str | Path, out_dir: str | Path, overlay: bool = False) -> None:
    """Refuse a folder where tracking would overwrite anything but an earlier track.

    Args:
        path, out_dir, overlay: as for `track_video`.

    Raises:
        UsageError: the overlay would replace the video itself, or a file in the way is not a track's.
    """
    path, out_dir = Path(path), Path(out_dir)
    csv, report, video = (out_dir / f"{path.stem}.{suffix}" for suffix in ("csv", "json", "mp4"))
    fix = "move it away or choose another --out"
    if overlay and video.exists() and path.exists() and video.samefile(path):
        raise UsageError(f"--out {out_dir}: the overlay would replace {path}; choose another folder")
    if csv.is_file() and not csv.read_bytes().startswith(",".join(COLUMNS).encode()):
        raise UsageError(f"{csv}: is no track and would be overwritten; {fix}")
    ours = _is_summary(report)
    if report.is_file() and not ours:
        raise UsageError(f"{report}: is no track's summary and would be overwritten; {fix}")
    if overlay and video.is_file() and not ours:
        raise UsageError(f"{video}: is no track's overlay (no {report.name}) and would be overwritten; {fix}")


def _is_summary(path: Path) -> bool:
    try:
        return "versions" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def track_video(
    path: str | Path,
    out_dir: str | Path,
    mode: str = "smart",
    backend: str = "auto",
    device: str = "auto",
    overlay: bool = False,
    threads: int | None = None,
    models_dir: Path | None = None,
    params: TrackParams | None = None,
    networks: Networks | None = None,
    on_frame: Callable[[int, VideoInfo], None] | None = None,
) -> TrackResult:
    """Find the shuttle in every frame of a video.

    Writes `<stem>.csv` (one row a decoded frame), `<stem>.json` (summary) and with `overlay`
    `<stem>.mp4` into `out_dir`; each appears complete or not at all.

    Args:
        path: the video.
        out_dir: folder for the outputs, made if missing.
        mode: smart, fast, calibration or whole.
        backend, device, threads, models_dir: see `load_networks`; unused when `networks` is given.
        overlay: also write the video with the track drawn over it.
        params: thresholds.
        networks: a loaded pair, to track many videos without loading again.
        on_frame: called after each row with the number of rows so far, for progress bars.

    Raises:
        VideoError: nothing of the video can be decoded.
        WriteError: `out_dir` cannot be written.
        UsageError: an unknown mode, backend or device, or see `check_outputs`.
    """
    path, out_dir = Path(path), Path(out_dir)
    files = {suffix: out_dir / f"{path.stem}.{suffix}" for suffix in ("csv", "json", "mp4")}
    check_outputs(path, out_dir, overlay)
    info = probe(path)
    nets = networks or load_networks(backend, device, threads, models_dir, mode=mode)
    size_hw = info.even_hw
    nets = nets.alone() if mode == WHOLE else nets
    tracker = Tracker(nets.stage1, nets.stage2, size_hw, info.fps, mode, params, nets.calibration)
    warning, note, frames, visible, start = "", "", 0, 0, time.perf_counter()
    with ExitStack() as outputs:
        report = outputs.enter_context(atomic_write(files["json"]))  # entered first, so renamed last
        csv = outputs.enter_context(outputs.enter_context(atomic_write(files["csv"])).open("w", newline="\n"))
        emit = _emitter(csv, _overlay_writer(files["mp4"], size_hw, info.fps, outputs) if overlay else None)
        try:
            for frame, row in tracker.track(read_frames(path)):
                emit(frame, row)
                note = note or _note(path, frame)
                frames, visible = frames + 1, visible + row.visible
                if on_frame is not None:
                    on_frame(frames, info)
        except TruncatedVideoError as error:
            warning = str(error)
        seconds = time.perf_counter() - start
        summary = _summary(info, nets, tracker, frames, visible, seconds)
        summary |= {"warning": warning, "note": note}
        report.write_text(json.dumps(summary, indent=2) + "\n")
    return TrackResult(files["csv"], files["mp4"] if overlay else None, files["json"], summary, warning)


def _note(path: Path, frame: Frame) -> str:
    if not frame.rotation:
        return ""
    return f"{path}: players turn it by {frame.rotation}°; coordinates are those of the picture as stored"


def _overlay_writer(
    path: Path, size_hw: tuple[int, int], fps: float, outputs: ExitStack
) -> Callable[[Frame, Row], None]:
    from shuttlelib.overlay import Overlay

    writer = outputs.enter_context(VideoWriter(path, size_hw, fps))
    drawing = Overlay(size_hw[0], fps)
    return lambda frame, row: writer.write(drawing.draw(frame.rgb, row))


def _emitter(csv: TextIO, draw: Callable[[Frame, Row], None] | None) -> Callable[[Frame, Row], None]:
    """What is done with each final row."""
    csv.write(",".join(COLUMNS) + "\n")

    def emit(frame: Frame, row: Row) -> None:
        place = f"{row.x_px:.3f},{row.y_px:.3f}" if row.visible else ","
        csv.write(
            f"{row.frame},{row.time_s:.6f},{int(row.visible)},{place},{row.confidence:.4f},{row.source}\n"
        )
        if draw is not None:
            draw(frame, row)

    return emit


def _summary(
    info: VideoInfo, nets: Networks, tracker: Tracker, frames: int, visible: int, seconds: float
) -> dict[str, Any]:
    stage2 = nets.stage2.version if nets.stage2 is not None else None
    return {
        "video": info.path.name,
        "width": info.width,
        "height": info.height,
        "fps": info.fps,
        "frames": frames,
        "frames_expected": info.frame_count,
        "visible_share": round(visible / frames, 4),
        "seconds": round(seconds, 3),
        "speed_fps": round(frames / seconds, 1),
        "backend": nets.last.name,
        "backend_why": nets.why,
        "device": nets.last.device,
        "mode": tracker.mode,
        "versions": {"stage1": nets.stage1.version, "stage2": stage2, "shuttlelib": __version__},
        "counts": dict(tracker.counts),
        "params": asdict(tracker.params),
    }
