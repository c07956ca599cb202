"""Known faults put into right labels, to see which of them cleanup finds; behind notebook 01."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from shuttlelib import labels
from shuttlelib.clips import Clip
from shuttlelib.labels import ClipInfo

APART = 7  # rows from one fault to the next
# How a right row becomes wrong: the rows that take its place; "at" is where they stand in the table.
FAULTS: dict[str, Callable[[dict[str, Any], ClipInfo], list[dict[str, Any]]]] = {
    "out_of_order": lambda row, info: [{**row, "at": row["at"] + 1.5}],
    "duplicate": lambda row, info: [row, row],
    "duplicate_conflict": lambda row, info: [row, {**row, "x_px": row["x_px"] / 2}],
    "beyond_end": lambda row, info: [row, {**row, "at": np.inf, "frame": info.frame_count + 4}],
    "zero_point": lambda row, info: [{**row, "x_px": 0.0, "y_px": 0.0}],
    "no_coordinates": lambda row, info: [{**row, "x_px": np.nan, "y_px": np.nan}],
    "out_of_frame": lambda row, info: [{**row, "x_px": info.width + 9.0}],
    "missing_frames": lambda row, info: [],
    "spike": lambda row, info: [{**row, "x_px": (row["x_px"] + info.width / 2) % info.width}],
    "flicker": lambda row, info: [{**row, "visible": False, "x_px": np.nan, "y_px": np.nan}],
}


def plant_faults(clip: Clip, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put known faults into a clip's labels, to see which of them cleanup finds.

    Each fault replaces the middle of five frames in a row, all of them visible, at least `APART` rows from
    the next fault; a short clip gets as many of `FAULTS` as it has room for, in an order drawn by `seed`.

    Args:
        clip: its labels clean, one row a frame.

    Returns:
        The faulty table, and what was planted: clip, frame (where cleanup should report it), check.
    """
    rng = np.random.default_rng(seed)
    frame, seen = clip.table["frame"], clip.table["visible"].astype(int).rolling(5, center=True).sum() == 5
    seen &= frame.shift(-2) - frame.shift(2) == 4
    places = [int(n) for n in np.flatnonzero(seen) if n % APART == APART // 2]
    sampled = 2 * len(frame) <= frame.max() - frame.min() + 2  # on purpose: there a gap is no fault
    kinds = [kind for kind in FAULTS if kind != "missing_frames" or not sampled]
    chosen = dict(zip(rng.permutation(places).tolist(), rng.permutation(kinds).tolist()))
    rows: list[dict[str, Any]] = []
    planted: list[dict[str, Any]] = []
    for n, row in enumerate(clip.table.to_dict("records")):
        kept: dict[str, Any] = {**{str(k): v for k, v in row.items()}, "at": float(n)}
        kind = chosen.get(n)
        wrong = FAULTS[kind](kept, clip.info) if kind else [kept]
        rows += wrong
        if kind:
            frame = wrong[-1]["frame"] if wrong else row["frame"] + 1  # a gap is reported by the row after it
            planted.append({"clip": clip.name, "frame": frame, "check": kind})
    table = pd.DataFrame(rows, columns=[*clip.table, "at"]).sort_values("at", kind="stable")
    found = pd.DataFrame(planted, columns=["clip", "frame", "check"]).astype({"frame": np.int64})
    return labels.as_canonical(table), found
