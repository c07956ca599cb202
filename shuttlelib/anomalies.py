"""The anomalies of a label table, each a small function; what `cleanup` flags, repairs and lists.

Each takes the canonical table of one clip (frames in any order at first, in order once `out_of_order` is
repaired) and the clip's facts, and gives the value of each row it finds, indexed like the table.
"""

import numpy as np
import pandas as pd

from shuttlelib import labels
from shuttlelib.labels import ClipInfo

AGREE_SHARE = 1 / 128  # of the longer side: 4 px on the 512 grid, the tolerance of a hit
# How fast a label may move. A smash leaves the racket at up to 140 m/s, but drag brakes a shuttle (terminal
# speed 6.7 m/s) so hard that it covers 3.2 m in the first 1/30 s. A frame that shows the shuttle is
# taken to be at least 8 m across, which is generous: the fastest of 6,852 real broadcast labels moves
# 0.08 frame widths in 1/30 s, this limit is 0.40.
SMASH_M_S, TERMINAL_M_S, GRAVITY_M_S2, METRES_ACROSS = 140.0, 6.7, 9.81, 8.0
# Longer sides a second. Before it is hit the shuttle is slow (drag), so a point that jumps away and comes
# straight back needs little speed to be unbelievable; a long step between two places at rest needs more.
SPIKE_SPEED, HOP_SPEED, NOISE_SHARE = 0.9, 2.4, 0.01
STATIC_S, STATIC_SHARE = 0.5, 0.002  # at rest: within 2.6 px at 1280 for half a second


def out_of_order(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Rows that stand after a later frame."""
    behind = table["frame"].cummax() - table["frame"]
    return behind[behind > 0]


def duplicate(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Exact repeats of an earlier row by the same annotator."""
    said = table[["frame", "visible", "x_px", "y_px"]].assign(who=_annotator(table))
    return _hits(said.duplicated(), 1.0)


def beyond_end(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Rows of frames that the video does not have."""
    past = table["frame"] - info.frame_count + 1
    return past[past > 0] if info.frame_count else past[:0]


def annotators_agree(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Rows of several annotators who say the same, within the tolerance of a hit."""
    spread, people = _spread(table), _people(table)
    return spread[(people > 1) & (spread <= AGREE_SHARE * _side(info))]


def annotators_disagree(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Rows of several annotators who do not."""
    spread, people = _spread(table), _people(table)
    return spread[(people > 1) & ~(spread <= AGREE_SHARE * _side(info))]


def duplicate_conflict(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Rows that say different things of one frame, without telling whose they are."""
    return _spread(table)[table["frame"].duplicated(keep=False) & (_people(table) <= 1)]


def zero_point(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Visible at exactly (0, 0): an unset default rather than a place."""
    return _hits(table["visible"] & (table["x_px"] == 0) & (table["y_px"] == 0), 0.0)


def no_coordinates(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Visible, but not said where."""
    return _hits(table["visible"] & table[["x_px", "y_px"]].isna().any(axis=1), np.nan)


def out_of_frame(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Points outside the picture."""
    outside = -_inside_px(table, info)
    return outside[outside > 0]


def at_border(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Points on the very edge of the picture: believable where the shuttle leaves it."""
    inside = _inside_px(table, info)
    return inside[(inside >= 0) & (inside < 0.5) & ~labels.has_flag(table, "zero_point")]


def missing_frames(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Rows next to unlabelled frames (before it; for the last row also after it).

    Labels on fewer than half of the frames are a sample taken on purpose, and not reported.
    """
    frame = table["frame"]
    if frame.empty or frame.nunique() * 2 < frame.iloc[-1] - frame.iloc[0] + 1:
        return frame[:0]
    missing = (frame.diff().fillna(frame.iloc[0] + 1) - 1).clip(lower=0)
    missing.iloc[-1] += max(info.frame_count - 1 - frame.iloc[-1], 0)
    return missing[missing > 0]


def too_fast(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Steps longer than a smash can fly, drag included."""
    _, step, gap = _steps(table)
    braking = TERMINAL_M_S**2 / GRAVITY_M_S2
    reach_m = braking * np.log1p(SMASH_M_S / braking * gap / max(info.fps, 1))
    return step[step > reach_m * _side(info) / METRES_ACROSS]


def spike(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """A single point far from both neighbours, which are near each other: two hits in two frames."""
    seen, step, gap = _steps(table)
    away = np.minimum(step, step.shift(-1))
    back = np.hypot(*(seen.shift(-1) - seen.shift(1)).to_numpy().T)
    limit = max(SPIKE_SPEED / max(info.fps, 1), NOISE_SHARE) * _side(info)
    return away[(gap == 1) & (gap.shift(-1) == 1) & (away > limit) & (back < away / 2)]


def hop(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """One long step between two places at rest: the label went over to another object.

    Rest is looked for over two frames, because broadcasts that were brought from 25 to 30 fps repeat
    every sixth frame.
    """
    seen, step, gap = _steps(table)
    over_two = pd.Series(np.hypot(*(seen - seen.shift(2)).to_numpy().T), seen.index)
    rest = np.maximum(over_two.shift(1), over_two.shift(-2))
    together = sum(gap.shift(k) == 1 for k in (2, 1, 0, -1, -2)) == 5
    limit = max(HOP_SPEED / max(info.fps, 1), NOISE_SHARE) * _side(info)
    return step[together & (step > limit) & (rest < step / 4)]


def static_run(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Runs of at least half a second at rest: held before the serve, on the floor, or a forgotten label."""
    _, step, gap = _steps(table)
    moves = ~((step <= STATIC_SHARE * _side(info)) & (gap == 1))
    length = moves.groupby(moves.cumsum()).transform("size")
    return length[length >= max(round(STATIC_S * info.fps), 2)]


def flicker(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """A single frame whose visibility differs from both neighbours."""
    frame, seen = table["frame"], table["visible"].astype(int)
    alone = (frame.diff() == 1) & (frame.diff(-1) == -1)
    return _hits(alone & (seen.diff().abs() == 1) & (seen.diff(-1).abs() == 1), 1.0)


def _hits(mask: pd.Series, value: float) -> pd.Series:
    """The same value for every row of a mask."""
    return pd.Series(value, index=mask.index[mask], dtype=np.float64)


def _side(info: ClipInfo) -> int:
    """The longer side of the frame, px."""
    return max(info.width, info.height)


def _annotator(table: pd.DataFrame) -> pd.Series:
    """Who made each row, "" where the flags do not say."""
    return table["flags"].str.extract(r"(?:^|;)annotator=([^;]*)", expand=False).fillna("")


def _people(table: pd.DataFrame) -> pd.Series:
    """How many annotators each row's frame has."""
    return _annotator(table).groupby(table["frame"]).transform("nunique")


def _spread(table: pd.DataFrame) -> pd.Series:
    """How far the rows of each row's frame differ, px; inf where only some of them are visible or placed."""
    spread = pd.Series(0.0, table.index)
    for _, rows in table[table["frame"].duplicated(keep=False)].groupby("frame"):
        if rows["visible"].any():
            xy = rows[["x_px", "y_px"]].to_numpy()  # (rows, 2), nan where invisible
            spread[rows.index] = np.hypot(*np.ptp(xy, axis=0)) if np.isfinite(xy).all() else np.inf
    return spread


def _inside_px(table: pd.DataFrame, info: ClipInfo) -> pd.Series:
    """Distance to the nearest edge, px; negative outside, nan where there is no point."""
    x, y = table["x_px"], table["y_px"]
    edges = pd.concat([x, y, info.width - x, info.height - y], axis=1)
    return edges.min(axis=1, skipna=False)


def _steps(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Believable visible points with the step (px) and gap (frames) from the one before; nan at the first."""
    trusted = table["visible"] & ~labels.has_flag(table, *labels.UNUSABLE)
    seen = table.loc[trusted, ["x_px", "y_px"]]
    step = pd.Series(np.hypot(*seen.diff().to_numpy().T), seen.index)
    return seen, step, table.loc[trusted, "frame"].diff()
