"""The command `shuttle track`; thin, over `tracking.track_source`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shuttlelib.cli_data import Folder
from shuttlelib.errors import ShuttleError, UsageError

if TYPE_CHECKING:
    from shuttlelib.sources import Source


def track(
    videos: Annotated[list[str], typer.Argument(help="Video files, any format FFmpeg reads, or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for <stem>.csv, <stem>.json and <stem>.mp4.")],
    mode: Annotated[str, typer.Option(help="smart, fast, calibration, or whole: stage 1 alone.")] = "smart",
    backend: Annotated[str, typer.Option(help="auto, onnx, torch or tensorrt.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also write the video with the track on it.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores if left out.")] = None,
    models: Annotated[
        Path | None, typer.Option(**Folder, help="Folder of models; the shipped ones if left out.")
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Also print each row as a line of JSON, at once.")
    ] = False,
) -> None:
    """Find the shuttle in every frame: one CSV row a frame."""
    from shuttlelib import runtime, sources, tracking

    for name, value, known in (
        ("--mode", mode, (*tracking.MODES, tracking.WHOLE)),
        ("--backend", backend, runtime.BACKENDS),
        ("--device", device, runtime.DEVICES),
    ):
        if value not in known:
            raise UsageError(f"{name} {value}: choose one of {', '.join(known)}")
    found = [source for video in videos for source in sources.find(video)]
    tracking.check_stems(found)
    for source in found:
        tracking.check_outputs(source, out, overlay)
    networks = tracking.load_networks(backend, device, threads, models, mode=mode)
    done: list[dict[str, Any]] = []
    failed = False
    for source in found:
        try:
            summary = _track(source, out, networks, mode, overlay, jsonl)
        except UsageError:
            raise
        except ShuttleError as error:
            failed = True
            complain(f"error: {error}")
            continue
        done.append(summary)
        failed = failed or bool(summary["warning"])
    if done:
        print(_last_line(done), file=sys.stderr if jsonl else sys.stdout)
    if failed:
        raise typer.Exit(1)


def complain(line: str) -> None:
    """Say something on standard error."""
    print(line, file=sys.stderr, flush=True)


def _track(
    source: "Source", out: Path, networks: Any, mode: str, overlay: bool, jsonl: bool
) -> dict[str, Any]:
    """Track one source and say what the person should know; its summary."""
    from shuttlelib import tracking
    from shuttlelib.outputs import json_rows

    also = [json_rows(sys.stdout, source.shown)] if jsonl else []
    with _Bar(source.shown) as bar:
        result = tracking.track_source(source, out, networks, mode, overlay, on_frame=bar.update, also=also)
    for kind in ("note", "warning"):
        if result.summary[kind]:
            complain(f"{kind}: {result.summary[kind]}")
    return result.summary


def _last_line(done: list[dict[str, Any]]) -> str:
    frames = sum(summary["frames"] for summary in done)
    seconds = sum(summary["seconds"] for summary in done)
    share = sum(summary["visible_share"] * summary["frames"] for summary in done) / frames
    return (
        f"frames {frames}, seconds {seconds:.2f}, fps {frames / seconds:.1f}, visible share {share:.3f}, "
        f"backend {done[-1]['backend']}, device {done[-1]['device']}"
    )


class _Bar:
    """A progress bar on standard error, only where a person watches."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None

    def __enter__(self) -> "_Bar":
        return self

    def update(self, frames: int, info: Any) -> None:
        """Show that many frames of the video as done."""
        if self._bar is None:
            from tqdm import tqdm

            total = info.frame_count or None
            self._bar = tqdm(
                total=total, desc=self._name, unit="frame", disable=not sys.stderr.isatty(), leave=False
            )
        self._bar.update(frames - self._bar.n)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
