"""Evaluation results as tables: intervals by bootstrap, sets, venues, clips; between data and pages."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shuttlelib import metrics
from shuttlelib.metrics import RATIOS, TOLERANCES_PX, Counts
from shuttlelib.report.blocks import Headline, Table, between, number
from shuttlelib.report.collect import Found, Version

AT = "grid512_4px"
NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "recall_strict": "recall, strict",
    "f1": "F1",
    "fp2_share": "false alarms",
}
SHOWN_PX = (1, 2, 3, 4, 5, 7, 10, 15, 20)
VAL = "val clips"


def sets(version: Version, found: Found) -> dict[str, Mapping[str, Any]]:
    """Summaries in smart mode by set: what the card was judged on, what stands beside, what was measured."""
    own = version.metrics
    shown: dict[str, Mapping[str, Any]] = {}
    if "smart" in own.get("free_running", {}):
        shown[VAL] = own["free_running"]["smart"]
    shown |= own.get("also", {})
    return shown | {name: part["summary"] for name, part in evaluated(version, found).items()}


def evaluated(version: Version, found: Found) -> dict[str, Mapping[str, Any]]:
    """What `measure.evaluate` found of a version, by set; `VAL` is what its card was judged on."""
    judged = version.metrics.get("judged_on", {}).get("data_hash")
    sets = found.evaluation.get("sets", {}) if version.spec.name in found.pair else {}
    return {VAL if part["data_hash"] == judged else name: part for name, part in sets.items()}


def headline(part: Mapping[str, Any]) -> Headline:
    """The numbers to see first, with their intervals."""
    limits, unknown = intervals(part), "one clip" if part["clips"] == 1 else "there are no such frames"
    numbers = []
    for key, name in (("accuracy", "accuracy"), ("f1", "F1"), ("fp2_share", "false alarms")):
        value = part[key][AT] if isinstance(part[key], Mapping) else part[key]
        known = limits.get(key)
        numbers.append((number(value), name, f"95%: {known[0]:.3f} to {known[1]:.3f}" if known else unknown))
    numbers.append((number(part["hit_error_px"]["1920x1080"], 2), "px error of hits", "mean, at 1920x1080"))
    numbers.append((number(part["frames"]), "frames", f"of {part['clips']} val clips"))
    return Headline(tuple(numbers))


def metrics_table(version: Version, found: Found) -> Table | None:
    """A row a set and mode: every ratio with its interval, and the errors."""
    modes = version.metrics.get("free_running", {})
    rows = [
        *((f"{VAL}, {mode}", part) for mode, part in modes.items()),
        *((f"{name}, smart", part) for name, part in sets(version, found).items() if name != VAL),
    ]
    if not rows:
        return None
    head = (
        "set, mode",
        "clips",
        "frames",
        *NAMES.values(),
        "median error",
        "mean of hits",
        "calibration error",
    )
    return Table(head, tuple(_row(name, part) for name, part in rows), note=NOTE)


NOTE = (
    "4 px on the 512x288 grid (10 px at 1280x720), with 95% intervals by bootstrap over whole clips where "
    "there are several. Recall leaves misplaced shuttles aside, as the TrackNet papers do; strict counts "
    "them as missed. False alarms: share of the frames without a shuttle in which one was reported. "
    "Errors: px at 1920x1080. Calibration error: mean gap between confidence and the share that is right."
)


def _row(name: str, part: Mapping[str, Any]) -> tuple[str, ...]:
    limits = intervals(part)
    values = {**{key: part[key][AT] for key in RATIOS}, "fp2_share": part["fp2_share"]}
    return (
        name,
        number(part["clips"]),
        number(part["frames"]),
        *(between(values[key], limits.get(key)) for key in NAMES),
        number(part["error_px"]["1920x1080"]["median"], 2),
        number(part["hit_error_px"]["1920x1080"], 2),
        number(part["calibration"]["expected_calibration_error"]),
    )


def intervals(part: Mapping[str, Any], at: str = AT) -> dict[str, Any]:
    """95% limits of every ratio; None where there is only one clip."""
    counted = [clip["counts"][at] for clip in part.get("per_clip", {}).values()]
    per_clip = Counts(*(np.array([c[name] for c in counted]) for name in Counts._fields))
    return metrics.intervals(per_clip, (*RATIOS, "fp2_share"))


def tolerance_table(shown: Mapping[str, Mapping[str, Any]]) -> Table:
    """Accuracy at some tolerances, on the grid and native."""
    at = [TOLERANCES_PX.tolist().index(px) for px in SHOWN_PX]
    rows = [
        (f"{name}, {where}", *(number(part["curve"][grid]["accuracy"][i]) for i in at))
        for name, part in shown.items()
        for grid, where in (("grid512", "512x288"), ("native", "native"))
    ]
    return Table(("accuracy within", *(f"{px} px" for px in SHOWN_PX)), tuple(rows))


def group_table(what: str, parts: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a venue or clip."""
    head = (
        what,
        "frames",
        "accuracy",
        "F1",
        "false alarms",
        "median error",
        "95th percentile",
        "4 px native",
    )
    rows = []
    for name, part in parts.items():
        error = part["error_px"]["1920x1080"]
        limits = (part["interval95"]["accuracy"] or {}).get(AT)
        rows.append(
            (
                name,
                number(part["frames"]),
                between(part["accuracy"][AT], limits),
                number(part["f1"][AT]),
                number(part["fp2_share"]),
                number(error["median"], 2),
                number(error["p95"], 2),
                number(part["accuracy"]["native_4px"]),
            )
        )
    return Table(head, tuple(rows), note="Errors: px at 1920x1080. The last column: accuracy at 4 px native.")


def calibration_table(bins: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """What was said and what was right, a row a bin of confidence; `bins` by set."""
    rows = [
        (
            f"{b['low']:.1f} to {b['high']:.1f}",
            name,
            number(b["frames"]),
            number(b["confidence"]),
            number(b["right"]),
        )
        for name, of_set in bins.items()
        for b in of_set
        if b["frames"]
    ]
    head = ("confidence", "set", "rows", "said", "right")
    return Table(head, tuple(rows), left=2, fold="The bins as numbers")
