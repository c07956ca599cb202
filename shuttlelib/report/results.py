"""What was measured of a version, as blocks of its page: curves, venues, calibration, causes, speed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from shuttlelib.report import figures, scores
from shuttlelib.report.blocks import (
    Block,
    Bullets,
    Figures,
    Gallery,
    Picture,
    Prose,
    Table,
    between,
    number,
)
from shuttlelib.report.collect import Found, Version
from shuttlelib.report.scores import VAL

MOST_LINES = 6  # a figure can hold
OUTCOMES = {
    "TP": "right place",
    "FP1": "wrong place",
    "FP2": "nothing there",
    "FN": "missed",
    "TN": "rightly nothing",
}


def curves(version: Version, found: Found, shown: Mapping[str, Any]) -> list[Block | None]:
    if not shown:
        return []
    lines = {name: part["curve"] for name, part in chosen(shown, found).items()}
    grids = ("grid512", "native")
    drawings = tuple(figures.curves(f"{version.spec.name}-curve-{grid}", lines, grid) for grid in grids)
    return [Figures(drawings), scores.tolerance_table(shown)]


def chosen(shown: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """The sets that a figure can hold: the val clips, then those of `--data`, then the others."""
    first = [name for name in shown if name == VAL or name in found.evaluation.get("sets", {})]
    names = [*first, *(name for name in shown if name not in first)][:MOST_LINES]
    return {name: shown[name] for name in names}


def groups(name: str, shown: Mapping[str, Any]) -> list[Block | None]:
    """Of the val clips in full; of the other sets a table."""
    kinds = {"venue": "per_venue", "clip": "per_clip"}
    whole = {what: shown[VAL][key] for what, key in kinds.items() if shown.get(VAL, {}).get(key)}
    drawings = tuple(figures.groups(f"{name}-by-{what}", what, parts) for what, parts in whole.items())
    others = {
        f"{title}, {group}": part
        for title, summary in shown.items()
        if title != VAL
        for group, part in {**(summary.get("per_venue") or {}), **(summary.get("per_clip") or {})}.items()
    }
    return [
        Figures(drawings) if drawings else None,
        *(scores.group_table(what, parts) for what, parts in whole.items()),
        replace(scores.group_table("set, venue or clip", others), fold="The other sets") if others else None,
    ]


def calibrated(name: str, shown: Mapping[str, Any]) -> list[Block | None]:
    """Of the val clips; without them, of the first other set."""
    if not shown:
        return []
    title = VAL if VAL in shown else next(iter(shown))
    bins = {title: shown[title]["calibration"]["bins"]}
    return [figures.calibration(f"{name}-calibration", bins), scores.calibration_table(bins)]


def looked_at(version: Version, found: Found) -> list[tuple[str, Sequence[Block | None]]]:
    """What only an evaluation on data tells: errors over speed and size, causes, pictures."""
    over, gallery = "Error against speed and shuttle size", "Gallery"
    if version.spec.name not in found.pair:
        return []
    if not found.evaluation:
        why = Prose("Not measured: `shuttle report --data DIR` measures it and keeps it beside the weights.")
        return [(over, [why]), (gallery, [why])]
    parts = scores.evaluated(version, found)
    return [(over, _over(version.spec.name, parts)), (gallery, _gallery(parts))]


def _over(name: str, parts: Mapping[str, Any]) -> list[Block | None]:
    blocks: list[Block | None] = []
    for key, measure, unit in (
        ("speed", "speed", "px a frame at 1280x720"),
        ("size", "shuttle size", "native px across"),
    ):
        tables = {title: _binned(part[key]) for title, part in parts.items() if part[key]}
        if tables:
            drawn = {title: table for title, table in tables.items() if table["median_px"].gt(0).any()}
            blocks.append(figures.over(f"{name}-over-{key}", measure, unit, drawn) if drawn else None)
            blocks.append(_over_table(f"{measure}, {unit}", tables))
    if parts.get(VAL, {}).get("causes"):
        table = pd.DataFrame(parts[VAL]["causes"]).set_index("cause")
        blocks.append(figures.causes(f"{name}-causes", table))
    return blocks


def _binned(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Of `failures.binned` again: the last bin has no upper edge, and what could not be measured is nan."""
    table = pd.DataFrame(rows).astype(float)
    return table.assign(high_edge=table["high_edge"].fillna(np.inf))


def _over_table(measure: str, tables: Mapping[str, pd.DataFrame]) -> Table:
    rows = []
    for title, table in tables.items():
        for row in table.to_dict("records"):
            known = {key: None if np.isnan(value) else value for key, value in row.items()}
            low, high = row["low_edge"], row["high_edge"]
            rows.append(
                (
                    f"{low:g} to {high:g}" if high < np.inf else f"{low:g} and more",
                    title,
                    number(int(row["frames"])),
                    between(known["median_px"], (known["median_low"], known["median_high"]), 2),
                    between(known["missed"], (known["missed_low"], known["missed_high"])),
                )
            )
    head = (measure, "set", "frames", "median error, px at 1920x1080", "missed or misplaced")
    return Table(head, tuple(rows), left=2, fold="The bins as numbers")


def _gallery(parts: Mapping[str, Any]) -> list[Block | None]:
    words = {
        "worst": "Wrong, and surest of it:",
        "typical": "Right, with an error near the median:",
    }
    blocks: list[Block | None] = [
        Prose(
            "Ring: where the tracker says the shuttle is. Cross: where it is. Parts of frames, the marks "
            "drawn in; of each half second at most one."
        )
    ]
    for title, part in parts.items():
        for why, text in words.items():
            shown = tuple(_picture(entry) for entry in part["gallery"] if entry["why"] == why)
            blocks += [Prose(f"{title}. {text}"), Gallery(shown)] if shown else []
    hidden = [title for title, part in parts.items() if not part["gallery"]]
    if hidden:
        blocks.append(
            Prose(
                f"No pictures of {', '.join(hidden)}: real footage stays where it is. A local report shows "
                "one's own with `--private`."
            )
        )
    return blocks


def _picture(entry: Mapping[str, Any]) -> Picture:
    error = "" if entry["error_px"] is None else f", {entry['error_px']:.1f} px at 1920x1080"
    sure = "" if entry["confidence"] is None else f", confidence {entry['confidence']:.2f}"
    what = OUTCOMES[entry["outcome"]]
    caption = f"{entry['clip']}, frame {entry['frame']}: {what}{error}{sure}"
    return Picture(f"gallery/{entry['file']}", caption, caption)


def speed(version: Version, found: Found) -> list[Block | None]:
    """End to end, decoding included, by backend; a table and a drawing a place of measurement."""
    if version.spec.name not in found.pair:
        return []
    if not found.speed:
        return [Prose("Not measured for this report: `shuttle bench` measures it, `--bench FILE` shows it.")]
    blocks: list[Block | None] = []
    for n, where in enumerate(dict.fromkeys(row["conditions"] for row in found.speed)):
        rows = [row for row in found.speed if row["conditions"] == where]
        ran = {row["name"]: row for row in rows if not row["reason"]}
        blocks.append(Prose(f"{where}."))
        if ran:
            fps = {name: row["fps"] for name, row in ran.items()}
            blocks += [
                figures.speeds(f"{version.spec.name}-speed-{n}", fps, "frames a second"),
                _speed_table(ran),
            ]
        refused = tuple(f"{row['name']}: {row['reason']}" for row in rows if row["reason"])
        blocks += [Prose("Could not run there:"), Bullets(refused)] if refused else []
    return blocks


def _speed_table(ran: Mapping[str, Mapping[str, Any]]) -> Table:
    stages = tuple(dict.fromkeys(stage for row in ran.values() for stage in row["stages"]))
    head = (
        "backend, mode",
        "fps",
        "best",
        "p50",
        "p95",
        "p99",
        *stages,
        "memory, MB",
        "start, s",
        "accuracy",
    )
    rows = tuple(
        (
            name,
            number(row["fps"], 1),
            number(row["fps_best"], 1),
            *(number(row[f"{key}_ms"], 1) for key in ("p50", "p95", "p99")),
            *(number(row["stages"].get(stage), 2) for stage in stages),
            number(row["rss_mb"], 0),
            number(row["startup_s"], 2),
            number(row["accuracy"]),
        )
        for name, row in ran.items()
    )
    note = (
        "End to end, decoding and CSV included: median over repeats, and the best. p50, p95, p99: ms "
        "between the rows of a stream. Stages: ms a frame, from a run with clocks on. Start: process to "
        "first row, warm."
    )
    return Table(head, rows, note=note)
