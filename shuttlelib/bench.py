"""How fast tracking is here: behind `shuttle bench`, on top of tracking.

Each configuration is measured in a fresh process (`bench_run`), its startup by running `shuttle track`.
Writes bench.json, anew after each of them, and in the end bench.txt (the table), bench.png and bench.svg. The
JSON holds

- schema: "shuttle-bench-1"; environment: see `runs.environment`; video: name, width, height, fps, frames
  (those read where the container does not say, 0 if nothing ran); data: name of the folder that accuracy
  was judged on, "" where it was not;
- rows, one a configuration: backend, mode, precision, streams, threads, and `reason`. Where that is not "",
  it says why the configuration does not run here, and nothing else is there. Else:
  - device and notes (how it went; an old file has none), for people; versions: stage1, stage2 (null: none);
  - end_to_end: decoding and writing included, all streams together: fps (median of the passes), fps_best,
    fps_runs, frames (of a pass), and frame_ms from one frame of a stream to its next: p50, p95, p99;
  - stages: decode (waiting for a picture that another thread decodes; its repeats are told apart here),
    preprocess, stage1, stage2, post (the state machine and writing): ms_per_frame, calls, and p50, p95, p99
    in ms a call; {} of what did not run. From a pass of its own, which ran at clocked_fps. Only of one
    stream;
  - peak_rss_mb: the most memory the process held; null where the system does not say;
  - startup_s: from the start of the process to the first row: warm, and cold (what it reads was taken out of
    the page cache; null where that cannot be done); both null for several streams;
  - accuracy: accuracy and f1 at 4 px of 512x288, and frames, on the val split; null if not asked for.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shuttlelib import clips, runs
from shuttlelib.bench_run import Setup
from shuttlelib.bench_startup import startup_s
from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write, write_json
from shuttlelib.video import probe

SCHEMA = "shuttle-bench-1"


def bench(
    video: Path,
    setups: Sequence[Setup],
    repeat: int = 3,
    models_dir: Path | None = None,
    data: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
    out_dir: Path | None = None,
    limit_s: float = 600.0,
) -> dict[str, Any]:
    """Measure configurations one after the other.

    Args:
        repeat: passes over the video that count, for each.
        models_dir: folder of models; None is the repository's.
        data: labelled clips, whose val split says the accuracy.
        tell: called with a line before each configuration.
        out_dir: gets bench.json after each, so that a stop loses none of those before.
        limit_s: so long one may take, without its startup; one that takes longer is given up.

    Returns:
        What the JSON holds; see the module.

    Raises:
        VideoError: the video cannot be read.
        ShuttleError: `data` has no val split.
    """
    info = probe(video)
    if data is not None and not clips.split(clips.load_dataset(data), "val"):
        raise ShuttleError(f"{data}: has no val clip to judge on; run `shuttle data split` on it")
    shown = {"name": video.name, "width": info.width, "height": info.height, "fps": info.fps}
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "environment": runs.environment(),
        "video": shown | {"frames": info.frame_count},
        "data": "" if data is None else data.name,
        "rows": [],
    }
    for setup in setups:
        tell(f"{setup.backend}, {setup.mode}, {setup.precision}, {setup.streams} at once …")
        row = asdict(setup) | _row(setup, video, repeat, models_dir, data, limit_s)
        report["rows"].append(row)
        if "end_to_end" in row:
            report["video"]["frames"] = info.frame_count or row["end_to_end"]["frames"] // setup.streams
        if out_dir is not None:
            write_json(out_dir / "bench.json", report)
    return report


def _row(
    setup: Setup, video: Path, repeat: int, models_dir: Path | None, data: Path | None, limit_s: float
) -> dict[str, Any]:
    asked = {"setup": asdict(setup), "video": str(video), "repeat": repeat}
    asked |= {"models_dir": models_dir and str(models_dir), "data": str(data or "")}
    command = [sys.executable, "-m", "shuttlelib.bench_run", json.dumps(asked)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"reason": f"took longer than {limit_s:g} s; give it more by --limit"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        return {"reason": f"failed: {lines[-1]}"}
    row = json.loads(done.stdout.splitlines()[-1])
    if "reason" in row:
        return row
    alone = setup.streams == 1
    try:
        started = startup_s(setup, video, models_dir) if alone else {"warm": None, "cold": None}
    except ShuttleError as error:
        return {"reason": str(error)}
    return {"reason": "", **row, "startup_s": started}


def table(report: dict[str, Any]) -> str:
    """The report as text, a line a configuration."""
    head = ["backend", "mode", "precision", "streams", "threads", "fps", "best", "p50 ms", "p95 ms", "p99 ms"]
    head += ["start s", "cold s", "RSS MB", "accuracy", "device"]
    ran = [row for row in report["rows"] if not row["reason"]]
    lines = [head, *(_cells(row) for row in ran)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines]
    for row in report["rows"]:
        for said in filter(None, (row["reason"], *row.get("notes", ()))):
            text.append(f"{row['backend']} {row['mode']} {row['precision']}: {said}")
    return "\n".join([headline(report), *text]) + "\n"


def headline(report: Mapping[str, Any]) -> str:
    """Video and hardware in words."""
    video, here = report["video"], report["environment"]
    devices = {row["device"] for row in report["rows"] if row.get("device", "cpu").startswith("cuda")}
    where = ", ".join([f"{here['cpu']}, {here['cores']} cores", *sorted(devices)])
    return f"{video['name']} {video['width']}x{video['height']}, {video['frames']} frames; {where}"


def _cells(row: dict[str, Any]) -> list[str]:
    took, started, right = row["end_to_end"], row["startup_s"], row["accuracy"] or {}
    names = [str(row[name]) for name in ("backend", "mode", "precision", "streams", "threads")]
    numbers = (
        *(_number(took[name], 1) for name in ("fps", "fps_best")),
        *(_number(took["frame_ms"][name], 1) for name in ("p50", "p95", "p99")),
        *(_number(started[name], 2) for name in ("warm", "cold")),
        _number(row["peak_rss_mb"], 0),
        _number(right.get("accuracy"), 3),
        row["device"].partition(" ")[0],
    )
    return [*names, *numbers]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def write(report: dict[str, Any], out_dir: Path) -> list[Path]:
    """Write bench.json, bench.txt, bench.png and bench.svg, each whole or not at all; their paths."""
    from shuttlelib.charts_bench import bench_chart

    paths = [out_dir / "bench.json", out_dir / "bench.txt"]
    write_json(paths[0], report)
    with atomic_write(paths[1]) as temp:
        temp.write_text(table(report), encoding="utf-8")
    if any(not row["reason"] for row in report["rows"]):
        figure = bench_chart(report["rows"], headline(report))
        for kind in ("png", "svg"):
            paths.append(out_dir / f"bench.{kind}")
            with atomic_write(paths[-1]) as temp:
                figure.savefig(temp, format=kind, dpi=150)
    return paths
