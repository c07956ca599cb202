"""The command `shuttle bench`; thin, over `bench.bench`."""

import os
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from shuttlelib.cli_data import Folder, Models, listed
from shuttlelib.errors import ShuttleError, UsageError


def bench(
    video: Annotated[Path | None, typer.Argument(help="Video file; the sample if left out.")] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="As for track; again or with commas for more. All if left out.")
    ] = None,
    mode: Annotated[list[str] | None, typer.Option(help="smart if left out; again for more.")] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="Of the networks; again for more, each backend's own choice if left out."),
    ] = None,
    streams: Annotated[
        list[str] | None, typer.Option(help="Videos at once: 1 if left out; again for more.")
    ] = None,
    threads: Annotated[
        list[str] | None, typer.Option(help="CPU threads: all cores if left out; again for more.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Passes over the video that count.")] = 3,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that one of them may take.")] = 600.0,
    out: Annotated[
        Path, typer.Option(help="Folder for bench.json, bench.txt, bench.png and bench.svg.")
    ] = Path("runs/bench"),
    data: Annotated[
        Path | None, typer.Option(**Folder, help="Labelled clips: also judge each on their val split.")
    ] = None,
    models: Models = None,
) -> None:
    """Measure how fast tracking is here: startup, each stage, end to end; backends side by side."""
    from shuttlelib import bench as benching
    from shuttlelib import paths, runtime, tracker
    from shuttlelib.bench_run import Setup
    from shuttlelib.files import writing

    every = tuple(name for name in runtime.BACKENDS if name != "auto")
    backends = _chosen("--backend", backend, every, runtime.BACKENDS)
    modes = _chosen("--mode", mode, ("smart",), (*tracker.MODES, tracker.WHOLE))
    precisions = _chosen("--precision", precision, ("auto",), ("auto", *runtime.PRECISIONS))
    counts = [_whole("--streams", value) for value in _parts(streams, ("1",))]
    cores = [_whole("--threads", value) for value in _parts(threads, (str(os.cpu_count() or 1),))]
    setups = [Setup(*values) for values in product(backends, modes, precisions, counts, cores)]
    with writing(out):  # minutes before it is needed
        out.mkdir(parents=True, exist_ok=True)
    report = benching.bench(
        video or paths.SAMPLES / "rally.mp4",
        setups,
        repeat,
        models,
        data,
        lambda line: print(line, flush=True),
        out,
        limit,
    )
    print(benching.table(report), end="")
    for path in benching.write(report, out):
        print(path)
    failed = [row["reason"] for row in report["rows"]]
    if all(failed):
        raise ShuttleError(f"nothing could be measured: {'; '.join(dict.fromkeys(failed))}")


def _parts(given: list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """What an option says, once or again, with commas or without."""
    return tuple(listed(",".join(given or ()))) or default


def _chosen(
    name: str, given: list[str] | None, default: tuple[str, ...], known: tuple[str, ...]
) -> tuple[str, ...]:
    chosen = _parts(given, default)
    for value in chosen:
        if value not in known:
            raise UsageError(f"{name} {value}: choose from {', '.join(known)}")
    return chosen


def _whole(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise UsageError(f"{name} {value}: give a whole number from 1")
    return int(value)
