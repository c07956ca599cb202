"""The command `shuttle track`; thin, over `tracking.track_source`."""

import sys
import time
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shuttlelib.cli_data import Device, Folder, Models, Threads
from shuttlelib.errors import ShuttleError, StoppedError, UsageError, check_choice
from shuttlelib.stopping import Asked, stop_at_once, stop_when_asked

if TYPE_CHECKING:
    from shuttlelib.sources import Source


Videos = Annotated[
    list[str],
    typer.Argument(
        help="Video files, folders of them, a camera's number, an rtsp:// or http:// address, "
        "or - for standard input."
    ),
]
Live = Annotated[
    bool | None,
    typer.Option(
        help="Drop frames rather than fall behind, as cameras and RTSP do; files play at their own rate."
    ),
]
LatencyMs = Annotated[
    int, typer.Option(min=1, help="When live: the longest that a frame may wait for the tracker.")
]
ReconnectS = Annotated[float, typer.Option(min=0, help="How long to try to get a lost connection back.")]
Raw = Annotated[
    str, typer.Option(help="Standard input is raw video: WIDTHxHEIGHT@FPS, or …:FORMAT (yuv420p, rgb24).")
]
Camera = Annotated[str, typer.Option(help="What to ask a camera for, like 1280x720@60:mjpeg.")]
Decoder = Annotated[
    str, typer.Option(help="Of files: cpu; nvdec, NVIDIA's, or the CPU with a note; auto, without a note.")
]
Streams = Annotated[
    int,
    typer.Option(
        "--streams", min=1, help="Videos tracked at once, in shared batches: worth it on a GPU only."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="fp32, fp16, bf16 or int8 (what is not shipped, `shuttle export` writes); auto is bf16 where "
        "OpenVINO is installed and the CPU has bfloat16, else fp32."
    ),
]
Name = Annotated[str, typer.Option(help="Stem of the outputs, instead of the file's or of source and time.")]
Overlay = Annotated[bool, typer.Option("--overlay", help="Also write the video with the track on it.")]
Mode = Annotated[
    str, typer.Option(help="smart, fast, calibration, offline (reads twice), or whole: stage 1 alone.")
]
BackendName = Annotated[
    str, typer.Option(help="auto, onnx, openvino, torch, torch-compile, torch-graph or tensorrt.")
]
Param = Annotated[
    list[str] | None,
    typer.Option(help="A threshold of the tracker, as name=value; repeatable. A wrong name lists them all."),
]
VoteOption = Annotated[
    list[Path] | None,
    typer.Option(**Folder, help="Folder of another stage-2 model that votes on visibility; repeatable."),
]
Jsonl = Annotated[
    bool, typer.Option("--jsonl", help="Also print each row as a line of JSON, once it is final.")
]


def track(
    videos: Videos,
    out: Annotated[Path, typer.Option(help="Folder for <stem>.csv, <stem>.json and <stem>.mp4.")],
    mode: Mode = "smart",
    backend: BackendName = "auto",
    device: Device = "auto",
    overlay: Overlay = False,
    threads: Threads = None,
    models: Models = None,
    param: Param = None,
    vote: VoteOption = None,
    jsonl: Jsonl = False,
    live: Live = None,
    latency_ms: LatencyMs = 200,
    reconnect_s: ReconnectS = 30,
    raw: Raw = "",
    camera: Camera = "",
    name: Name = "",
    at_once: Streams = 1,
    decoder: Decoder = "cpu",
    precision: Precision = "auto",
) -> None:
    """Find the shuttle in every frame: one CSV row a frame.

    Ctrl-C or SIGTERM ends a camera or a live stream with its files complete and exit status 0.
    """
    from shuttlelib import nvdec, outputs, streams, tracker, tracking
    from shuttlelib.track_params import TrackParams

    check_choice("--mode", mode, (*tracker.MODES, tracker.WHOLE))
    check_choice("--decoder", decoder, nvdec.DECODERS)
    params = TrackParams.parse(param or ())
    settings = streams.Settings(live, latency_ms / 1000, reconnect_s, raw=raw, camera=camera, decoder=decoder)
    found = _named([source for video in videos for source in _found(video, settings)], name)
    streams.refuse_idle(settings, videos, found[0].endless)
    outputs.check_stems(found)
    for source in found:
        tracking.check_rereadable(source, mode)
        outputs.check_outputs(source, out, overlay)
        if not overlay and (left := outputs.overlay_left(source, out)):
            complain(f"note: {left}: shows an earlier track and stays as it is; --overlay draws the new one")
    networks = tracking.load_networks(
        backend, device, threads, models, mode=mode, precision=precision, vote=vote or ()
    )
    began = time.perf_counter()
    with (
        _held(found) as asked,
        closing(_track_all(found, out, networks, mode, params, overlay, jsonl, at_once, asked)) as outcomes,
    ):
        done, failed = _told(outcomes)
    if asked() and (failed or not found[0].endless):  # stopping is how an endless one ends
        failed = True
        complain("interrupted")
    if done:
        seconds = time.perf_counter() - began if at_once > 1 else sum(summary["seconds"] for summary in done)
        print(_last_line(done, seconds), file=sys.stderr if jsonl else sys.stdout)
    if failed or any(summary["warning"] for summary in done):
        raise typer.Exit(1)


def _found(video: str, settings: Any) -> "list[Source]":
    """The sources that a name stands for; the overlays beside their tracks in a folder are no footage."""
    from shuttlelib import outputs, streams

    found = streams.find(video, settings)
    if not Path(video).is_dir():
        return found
    paths = [Path(source.name) for source in found]
    drawn = [path.with_suffix(".csv").exists() and outputs.is_ours(path) for path in paths]
    if all(drawn):
        raise UsageError(f"{video}: the folder has overlays of tracks alone; name the one with the videos")
    return [source for source, ours in zip(found, drawn) if not ours]


def _named(found: "list[Source]", name: str) -> "list[Source]":
    """The sources, the only one under the name that is asked for."""
    if len(found) > 1 and (endless := next((source for source in found if source.endless), None)):
        raise UsageError(f"{endless.name}: does not end by itself; track it alone")
    if not name:
        return found
    if len(found) > 1 or Path(name).name != name or not name.strip() or name.startswith("."):
        raise UsageError(f"--name {name}: give one video, and a name without a folder")
    return [replace(found[0], stem=name)]


def complain(line: str) -> None:
    """Say something on standard error."""
    print(line, file=sys.stderr, flush=True)


def _track_all(
    found: "list[Source]",
    out: Path,
    networks: Any,
    mode: str,
    params: Any,
    overlay: bool,
    jsonl: bool,
    at_once: int,
    asked: Asked,
) -> "Generator[dict[str, Any] | ShuttleError, None, None]":
    """Track all, each with a bar of its own; the summary or error of each, in the order of their ends.

    Once somebody asked to stop, none begins: a stream ends there, and nothing is left of a file.
    """
    from shuttlelib import tracking
    from shuttlelib.looks import answer_together
    from shuttlelib.outputs import json_rows

    def asking(source: "Source") -> Any:
        also = [json_rows(sys.stdout, source.shown)] if jsonl else []

        def on_frame(frames: int, info: Any) -> None:
            bar.update(frames, info)
            if source.rereadable and asked():
                raise StoppedError(f"{source.name}: interrupted")

        with Bar(source.shown) as bar:
            return (
                yield from tracking.tracking_source(
                    source, out, networks, mode, overlay, params, on_frame, also, asked
                )
            )

    askings = map(asking, takewhile(lambda _: not asked(), found))
    with closing(answer_together(askings, networks.take, at_once)) as ends:
        for _, result in ends:
            yield result if isinstance(result, ShuttleError) else result.summary


def _held(found: "list[Source]") -> AbstractContextManager[Asked]:
    """Whether somebody asked to stop; held back where something cannot be read again, at once for all."""
    return stop_at_once() if all(source.rereadable for source in found) else stop_when_asked()


def _told(outcomes: "Iterable[dict[str, Any] | ShuttleError]") -> tuple[list[dict[str, Any]], bool]:
    """Tell what a person should know of each that ends; the summaries, and whether any failed."""
    done, failed = [], False
    for outcome in outcomes:
        if isinstance(outcome, UsageError):
            raise outcome
        if isinstance(outcome, ShuttleError):
            failed = True
            if not isinstance(outcome, StoppedError):
                complain(f"error: {outcome}")
            continue
        done.append(outcome)
        for kind in ("note", "warning"):
            if outcome[kind]:
                complain(f"{kind}: {outcome[kind]}")
    return done, failed


def _last_line(done: list[dict[str, Any]], seconds: float) -> str:
    frames = sum(summary["frames"] for summary in done)
    share = sum(summary["visible_share"] * summary["frames"] for summary in done) / max(frames, 1)
    return (
        f"frames {frames}, seconds {seconds:.2f}, fps {frames / seconds:.1f}, visible share {share:.3f}, "
        f"backend {done[-1]['backend']}, device {done[-1]['device']}"
    )


class Bar:
    """A progress bar on standard error, only where a person watches."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None

    def __enter__(self) -> "Bar":
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
