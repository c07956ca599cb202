"""Bench files: how fast the tracker is by backend, as `shuttle bench` measured it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shuttlelib.bench import SCHEMA, headline
from shuttlelib.bench_run import STAGES
from shuttlelib.errors import UsageError
from shuttlelib.files import read_json
from shuttlelib.report.store import ReportError


def read(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Configurations of all files in order, each with where and when it was measured.

    Returns:
        conditions, name, reason ("" where it ran), versions; and where it ran fps, fps_best, p50_ms, p95_ms,
        p99_ms (between rows of a stream), stages (ms a frame), rss_mb, startup_s (warm), accuracy.

    Raises:
        UsageError: a file is not there.
        ShuttleError: a file is damaged, or of another schema.
    """
    rows = []
    for path in files:
        if not path.is_file():
            raise UsageError(f"--bench {path}: no such file; give a bench.json that `shuttle bench` wrote")
        bench = read_json(path)
        if bench.get("schema") != SCHEMA:
            raise ReportError(
                f"{path}: is no result of `shuttle bench`: its schema is {bench.get('schema', 'missing')}, "
                f"{SCHEMA} is read; give a bench.json, or run it again"
            )
        try:
            rows += [_row(bench, row) for row in bench["rows"]]
        except (KeyError, TypeError) as error:
            raise ReportError(f"{path}: a row has no {error}; run `shuttle bench` again") from error
    return rows


def conditions(bench: Mapping[str, Any]) -> str:
    """Video, hardware, commit and day in words."""
    here = bench["environment"]
    when = ", ".join(filter(None, [here.get("commit") and f"commit {here['commit']}", here["time"][:10]]))
    return f"{headline(bench)}; {when}"


def _row(bench: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    where = conditions(bench)
    streams = f", {row['streams']} streams" if row["streams"] > 1 else ""
    threads = f", {row['threads']} threads" if row.get("threads") else ""
    named = {
        "conditions": where,
        "name": f"{row['backend']} {row['precision']}, {row['mode']}{threads}{streams}",
        "reason": row.get("reason", ""),
        "versions": row.get("versions", {}),
    }
    if named["reason"]:
        return named
    whole, stages = row["end_to_end"], row.get("stages", {})
    return {
        **named,
        "fps": whole["fps"],
        "fps_best": whole["fps_best"],
        **{f"{key}_ms": whole["frame_ms"][key] for key in ("p50", "p95", "p99")},
        "stages": {name: stages[name]["ms_per_frame"] for name in STAGES if stages.get(name)},
        "rss_mb": row.get("peak_rss_mb"),
        "startup_s": (row.get("startup_s") or {}).get("warm"),
        "accuracy": (row.get("accuracy") or {}).get("accuracy"),
    }
