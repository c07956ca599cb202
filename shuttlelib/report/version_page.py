"""The page of a version: card, curves, metrics, errors, pictures, speed, and how it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from shuttlelib.report import figures, scores
from shuttlelib.report.blocks import (
    NONE,
    Block,
    Bullets,
    Figures,
    Gallery,
    Headline,
    Link,
    Page,
    Picture,
    Prose,
    Table,
    Text,
    between,
    number,
    sections,
)
from shuttlelib.report.collect import Found, Version
from shuttlelib.report.scores import AT, VAL

_HIDDEN = ("name", "notes", "parent")
MEASURED = {  # of the lineage's comparison: key, name, digits
    "accuracy": ("accuracy on samples", 3),
    "placed_share": ("placed within 4 px", 3),
    "median_px": ("median error, px of 512x288", 2),
    "fp2_share": ("false alarms", 3),
    "free_accuracy": ("free-running accuracy", 3),
    "free_f1": ("free-running F1", 3),
    "latency_ms": ("one look, ms", 1),
    "parameters": ("parameters", 0),
    "loss_ratio": ("val loss over training loss", 2),
    "seconds": ("seconds of training", 0),
}
OUTCOMES = {
    "TP": "right place",
    "FP1": "wrong place",
    "FP2": "nothing there",
    "FN": "missed",
    "TN": "rightly nothing",
}


def page(version: Version, found: Found) -> Page:
    """All that is known of a version; what is not is left out, or said where a reader would look for it."""
    spec = version.spec
    name, shown = spec.name, scores.sets(version, found)
    lede: Text = f"{spec.notes[:1].upper()}{spec.notes[1:]}."
    parts = sections(
        ("At a glance", [_glance(version, found), *_partner(version, found)]),
        ("Card", [*_card(version), Bullets(version.limits) if version.limits else None]),
        ("What it changed", _changed(version, found)),
        ("How it learned", _learned(version)),
        ("Under the same budget as every other row", _measured(version, found)),
        ("Metrics", [scores.metrics_table(version, found)]),
        ("Error from 1 to 20 px", _curves(version, found, shown)),
        ("By venue and by clip", _groups(name, shown)),
        ("Calibration", _calibration(name, shown)),
        *_evaluated(version, found),
        ("Speed by backend", _speed(version, found)),
        ("How it was made", _made(version, found)),
    )
    return Page(f"versions/{name}", name, lede, parts)


def _glance(version: Version, found: Found) -> Headline | Prose | None:
    shown = scores.sets(version, found)
    if VAL not in shown:
        if version.measured.get("accuracy") is not None:
            return None
        return Prose(
            "Not measured here: `shuttle train --lineage` trains and compares all rows, and its numbers then "
            "stand here."
        )
    part = shown[VAL]
    limits = scores.intervals(part)

    def said(key: str) -> str:
        found_limits = limits.get(key)
        return f"95%: {found_limits[0]:.3f} to {found_limits[1]:.3f}" if found_limits else ""

    return Headline(
        (
            (number(part["accuracy"][AT]), "accuracy", said("accuracy")),
            (number(part["f1"][AT]), "F1", said("f1")),
            (number(part["fp2_share"]), "false alarms", said("fp2_share")),
            (number(part["hit_error_px"]["1920x1080"], 2), "px error of hits", "mean, at 1920x1080"),
            (number(part["frames"]), "frames", f"of {part['clips']} val clips"),
        )
    )


def _partner(version: Version, found: Found) -> list[Block]:
    if version.spec.name not in found.pair:
        return []
    other = found.pair[1 - found.pair.index(version.spec.name)]
    return [
        Prose(
            (
                "Measured as a pair with ",
                Link(other, f"versions/{other}"),
                ": the whole tracker, free-running (its history is its own predictions), on clips of "
                "venues that "
                "were never trained on; right within 4 px of the 512x288 grid.",
            )
        )
    ]


def _card(version: Version) -> list[Block | None]:
    spec = version.spec
    h, w = spec.input_hw
    kind = "region in the whole frame" if spec.stage == 1 else "head in a crop"
    rows = [
        ("stage", f"{spec.stage}, {kind}" if spec.network != "unet" else "one network over the whole frame"),
        ("network", f"{spec.network}, {spec.backbone}"),
        ("input", f"{w}x{h}, {spec.frames} frames, {spec.fusion} fusion"),
        (
            "neck",
            f"{spec.neck}, strides {', '.join(map(str, spec.taps)) or NONE}, {spec.neck_channels} channels",
        ),
        (
            "head",
            f"{said(spec.decode)}, heatmap stride {spec.heatmap_stride}, visibility {said(spec.visibility)}",
        ),
        ("track given", f"trajectory {spec.trajectory}, prior {spec.prior}"),
        ("loss", f"{spec.loss.replace('_', ' ')}"),
        ("schedule", f"{spec.steps:,} steps of {spec.batch} samples at a rate of {spec.lr:g}"),
    ]
    size = version.measured.get("parameters")
    if size:
        rows.append(("parameters", f"{size / 1e6:.2f} million"))
    if version.folder is not None:
        onnx = version.folder / "model.onnx"
        rows += [("ONNX file", f"{onnx.stat().st_size / 1e6:.1f} MB")] if onnx.is_file() else []
    return [Table(("", ""), tuple(rows), left=2)]


def _changed(version: Version, found: Found) -> list[Block | None]:
    parent = version.spec.parent
    if parent not in found.versions:
        return []
    changed = {
        field: (old, getattr(version.spec, field))
        for field, old in found.versions[parent].spec.as_dict().items()
        if field not in _HIDDEN and old != getattr(version.spec, field)
    }
    rows = tuple((field.replace("_", " "), said(old), said(new)) for field, (old, new) in changed.items())
    links = (
        "Beside its parent: ",
        Link(f"{parent} and {version.spec.name}", compared(parent, version.spec.name)),
        ".",
    )
    return [Table(("field", parent, version.spec.name), rows, left=3), Prose(links)]


def compared(a: str, b: str) -> str:
    """Slug of the page that compares two versions."""
    return f"compare/{a}-{b}"


def said(value: Any) -> str:
    """A field's value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "-".join(map(str, value)) or "none"
    return str(value).replace("_", " ") or "none"


def _learned(version: Version) -> list[Block | None]:
    blocks: list[Block | None] = []
    for n, training in enumerate(version.trainings):
        made = version.folder is not None and n == 0 and bool(training["weights"])
        which = f"Run {training['run']}" + (", which made these weights." if made else ".")
        figure = figures.learning(f"{version.spec.name}-learning-{n}", training["series"])
        blocks += [Prose(which), figure] if figure else []
    return blocks


def _measured(version: Version, found: Found) -> list[Block | None]:
    row = version.measured
    if not row:
        return []
    facts = found.lineage["facts"]
    if "error" in row:
        return [Prose(f"It could not be trained: {row['error']}")]
    rows = tuple(
        (name, between(row[key], row.get(f"{key}_interval"), digits))
        for key, (name, digits) in MEASURED.items()
        if row.get(key) is not None
    )
    about = (
        f"{facts['budget']}, seed {facts['seed']}, data hash {facts['data_hash']}, on {facts['hardware']}. "
        "Samples are whole frames for stage 1 and for baselines, crops near the label for stage 2: compare "
        "within "
        "a stage."
    )
    return [Table(("measure", "value"), rows), Prose(about)]


def _curves(version: Version, found: Found, shown: Mapping[str, Any]) -> list[Block | None]:
    if not shown:
        return []
    lines = {name: part["curve"] for name, part in chosen(shown, found).items()}
    grids = ("grid512", "native")
    drawings = tuple(figures.curves(f"{version.spec.name}-curve-{grid}", lines, grid) for grid in grids)
    return [Figures(drawings), scores.tolerance_table(shown)]


def chosen(shown: Mapping[str, Any], found: Found, most: int = 6) -> dict[str, Any]:
    """The sets that a figure can hold: the val clips, then those of `--data`, then the others."""
    first = [name for name in shown if name == VAL or name in found.evaluation.get("sets", {})]
    names = [*first, *(name for name in shown if name not in first)][:most]
    return {name: shown[name] for name in names}


def _groups(name: str, shown: Mapping[str, Any]) -> list[Block | None]:
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


def _calibration(name: str, shown: Mapping[str, Any]) -> list[Block | None]:
    parts = {title: part for title, part in shown.items() if title == VAL} or dict(list(shown.items())[:1])
    if not parts:
        return []
    bins = {title: part["calibration"]["bins"] for title, part in parts.items()}
    return [figures.calibration(f"{name}-calibration", bins), scores.calibration_table(parts)]


def _evaluated(version: Version, found: Found) -> list[tuple[str, Sequence[Block | None]]]:
    """What only an evaluation on data tells: errors over speed and size, causes, pictures."""
    over, gallery = "Error against speed and shuttle size", "Gallery"
    if version.spec.name not in found.pair:
        return []
    if not found.evaluation:
        why = Prose("Not measured: `shuttle report --data DIR` measures it and keeps it beside the weights.")
        return [(over, [why]), (gallery, [why])]
    judged = version.metrics.get("judged_on", {}).get("data_hash")
    parts = {scores.looked_at(found, name, judged): part for name, part in found.evaluation["sets"].items()}
    return [(over, _over(version.spec.name, parts)), (gallery, _gallery(parts))]


def _over(name: str, parts: Mapping[str, Any]) -> list[Block | None]:
    blocks: list[Block | None] = []
    for key, measure, unit in (
        ("speed", "speed", "px a frame at 1280x720"),
        ("size", "shuttle size", "native px across"),
    ):
        tables = {title: _binned(part[key]) for title, part in parts.items() if part[key]}
        if tables:
            blocks.append(figures.over(f"{name}-over-{key}", measure, unit, tables))
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
            "drawn in; "
            "of each half second at most one."
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
                "one's "
                "own with `--private`."
            )
        )
    return blocks


def _picture(entry: Mapping[str, Any]) -> Picture:
    error = "" if entry["error_px"] is None else f", {entry['error_px']:.1f} px at 1920x1080"
    sure = "" if entry["confidence"] is None else f", confidence {entry['confidence']:.2f}"
    what = OUTCOMES[entry["outcome"]]
    caption = f"{entry['clip']}, frame {entry['frame']}: {what}{error}{sure}"
    return Picture(f"gallery/{entry['file']}", caption, caption)


def _speed(version: Version, found: Found) -> list[Block | None]:
    return []


def _made(version: Version, found: Found) -> list[Block | None]:
    rows: list[tuple[Text, ...]] = []
    if version.trainings and version.folder is not None:
        made = version.trainings[0]["made"]
        rows += [
            (name, number(value, 0) if isinstance(value, float) else str(value))
            for name, value in made.items()
        ]
    rows += [(name, str(text)) for name, text in version.metrics.get("training", {}).items()]
    judged = version.metrics.get("judged_on", {})
    if judged:
        rows.append(("judged on", f"{judged['clips']} clips, data hash {judged['data_hash']}"))
    if version.spec.name in found.pair:
        for name, part in found.evaluation.get("sets", {}).items():
            rows.append(
                (
                    f"looked at closely: {name}",
                    f"{part['summary']['clips']} clips, data hash {part['data_hash']}",
                )
            )
    if not version.trainings and version.folder is None:
        command = f"shuttle train --version {version.spec.name} --data DIR --out runs/{version.spec.name}"
        rows.append(("train it with", command))
    unique = tuple(dict.fromkeys(rows))  # metrics.json tells some of it twice
    return [Table(("", ""), unique, left=2)] if unique else []
