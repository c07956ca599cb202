"""The one evaluator: predictions against labels, one set of definitions (before training in the flow).

For a tolerance: TP = visible and predicted within it (inclusive); FP1 = visible, predicted, farther;
FP2 = not visible, predicted; FN = visible, not predicted; TN = neither. Distances are taken on the
512x288 grid of the TrackNet papers (each axis by its own factor: 4 px are 10 px at 1280x720) and in
native pixels. An undefined ratio (0/0) is nan in arrays and null in JSON.

Source: TrackNet, Huang et al. 2019 (accuracy, precision, recall, F1; FP1 is not in its recall);
    WASB, Tarashima et al. 2023 (4 px native). `recall_strict` and `f1_strict` also count FP1 as missed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shuttlelib.errors import ShuttleError
from shuttlelib.files import plain
from shuttlelib.geometry import FULLHD_HW, GRID512_HW, SizeHW, rescale
from shuttlelib.label_noise import blinks, label_noise_px, third_differences

TOLERANCES_PX = np.arange(1, 21)
AT_4PX = 3  # index of 4 px in TOLERANCES_PX
HIT_PX = float(TOLERANCES_PX[AT_4PX])  # how near is right where one tolerance is asked for
RATIOS = ("accuracy", "precision", "recall", "recall_strict", "f1", "f1_strict")
RESAMPLES = 1000
CALIBRATION_BINS = 10
ROUNDING_PX = 1e-9  # scaling rounds in the last bits; a point exactly at the tolerance must stay a hit


class MetricsError(ShuttleError):
    """Predictions and labels cannot be compared as given."""


class Counts(NamedTuple):
    """Frames by outcome; every field is an integer array of the same shape (tolerances, resamples, or ())."""

    tp: np.ndarray
    fp1: np.ndarray
    fp2: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        return _ratio(self.tp + self.tn, self.tp + self.fp1 + self.fp2 + self.fn + self.tn)

    @property
    def precision(self) -> np.ndarray:
        return _ratio(self.tp, self.tp + self.fp1 + self.fp2)

    @property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN): a shuttle placed wrongly is no miss here, as the TrackNet papers define it."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def recall_strict(self) -> np.ndarray:
        """TP / (TP + FP1 + FN): of all visible frames, those found."""
        return _ratio(self.tp, self.tp + self.fp1 + self.fn)

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall, in the form that is 0 (not 0/0) without any TP."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp1 + self.fp2 + self.fn)

    @property
    def f1_strict(self) -> np.ndarray:
        """Harmonic mean of precision and recall_strict."""
        return _ratio(2 * self.tp, 2 * (self.tp + self.fp1) + self.fp2 + self.fn)

    @property
    def fp2_share(self) -> np.ndarray:
        """Of the frames without a shuttle, those where one was predicted."""
        return _ratio(self.fp2, self.fp2 + self.tn)

    def at(self, index: Any) -> "Counts":
        """The counts at an index (or index array) of the first axis."""
        return Counts(*(part[index] for part in self))

    def sum(self, axis: int) -> "Counts":
        return Counts(*(part.sum(axis) for part in self))

    @staticmethod
    def stack(counts: Iterable["Counts"]) -> "Counts":
        """Several counts along a new first axis."""
        return Counts(*map(np.stack, zip(*counts)))


@dataclass(frozen=True, eq=False)
class ClipScore:
    """What one clip adds to any summary.

    Attributes:
        grid512, native: counts at TOLERANCES_PX, fields (20,).
        error_grid512, error_native, error_fullhd: (M,) distance in px of each visible, predicted frame.
        confidence: (K,) of the rows that carry one, in [0, 1].
        right: (K,) whether that row is a TP or TN at grid512 4 px.
        said_visible: (K,) whether that row says visible.
        rectified: (K,) whether its place was filled in by physics.
        missing_predictions: labelled frames without a prediction row (counted as predicted invisible).
        third_px: (W,) third differences of the label track; see `label_noise`.
        repeats: (W,) whether a repeated picture is among the four frames of each.
        blinks: frames labelled invisible for a moment between visible ones, and how many of them are FP2.
    """

    grid512: Counts
    native: Counts
    error_grid512: np.ndarray
    error_native: np.ndarray
    error_fullhd: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    said_visible: np.ndarray
    rectified: np.ndarray
    missing_predictions: int
    third_px: np.ndarray
    repeats: np.ndarray
    blinks: tuple[int, int]


def hit_counts(
    pred_xy: np.ndarray,
    pred_visible: np.ndarray,
    true_xy: np.ndarray,
    true_visible: np.ndarray,
    tolerance: float | np.ndarray,
) -> Counts:
    """Count the outcomes of N frames.

    Args:
        pred_xy, true_xy: (N, 2) in any one unit; values of invisible rows are ignored.
        pred_visible, true_visible: (N,) bool.
        tolerance: in the same unit; one value or an array, whose shape the counts get.
    """
    pred, true = np.asarray(pred_visible, bool), np.asarray(true_visible, bool)
    both = pred & true
    near = _within(_distance(pred_xy, true_xy)[both], tolerance)
    tp = near.sum(-1)
    fp2, fn, tn = (np.full_like(tp, rows.sum()) for rows in (pred & ~true, ~pred & true, ~pred & ~true))
    return Counts(tp, both.sum() - tp, fp2, fn, tn)


def score_clip(
    pred: pd.DataFrame,
    truth: pd.DataFrame,
    size_hw: SizeHW,
    sources: tuple[str, str] = ("predictions", "labels"),
) -> ClipScore:
    """Score the labelled frames of one clip; frames are matched by number.

    Args:
        pred: columns frame, visible, x_px, y_px and optionally confidence (probability that the row is
            right) and source. Rows of unlabelled frames are ignored.
        truth: columns frame, visible, x_px, y_px; may cover only some frames.
        size_hw: the clip's native size, px.
        sources: names of both tables for messages.

    Raises:
        MetricsError: a missing column, a frame twice, a visible row without a place, a value out of range.
    """
    rows, seen, there, pred_xy, true_xy = _matched(pred, truth, sources)
    pred_512, true_512 = (rescale(xy, size_hw, GRID512_HW) for xy in (pred_xy, true_xy))
    pred_hd, true_hd = (rescale(xy, size_hw, FULLHD_HW) for xy in (pred_xy, true_xy))
    near = _within(_distance(pred_512, true_512), HIT_PX)
    right = np.where(there, seen & near, ~seen)
    confidence = rows["confidence"].to_numpy(np.float64)
    rated = np.isfinite(confidence)
    blink = blinks(rows.index.to_numpy(), there)
    third_px, repeats = third_differences(truth, size_hw)
    return ClipScore(
        grid512=hit_counts(pred_512, seen, true_512, there, TOLERANCES_PX),
        native=hit_counts(pred_xy, seen, true_xy, there, TOLERANCES_PX),
        error_grid512=_distance(pred_512, true_512)[seen & there],
        error_native=_distance(pred_xy, true_xy)[seen & there],
        error_fullhd=_distance(pred_hd, true_hd)[seen & there],
        confidence=confidence[rated],
        right=right[rated],
        said_visible=seen[rated],
        rectified=rows["source"].eq("rectified").to_numpy()[rated],
        missing_predictions=int((~truth["frame"].isin(pred["frame"])).sum()),
        third_px=third_px,
        repeats=repeats,
        blinks=(int(blink.sum()), int((blink & seen).sum())),
    )


def outcomes(pred: pd.DataFrame, truth: pd.DataFrame, size_hw: SizeHW) -> pd.DataFrame:
    """What became of each labelled frame, one by one, at 4 px of the 512x288 grid.

    Args:
        pred, truth, size_hw: as for `score_clip`.

    Returns:
        frame, x_px, y_px (said; nan where not), true_x_px, true_y_px, outcome (TP, FP1, FP2, FN or TN),
        right (TP or TN), error_px (at 1920x1080, of visible frames that were placed) and confidence.

    Raises:
        MetricsError: as for `score_clip`.
    """
    rows, seen, there, pred_xy, true_xy = _matched(pred, truth, ("predictions", "labels"))
    pred_xy, true_xy = np.where(seen[:, None], pred_xy, np.nan), np.where(there[:, None], true_xy, np.nan)
    near = _within(_distance(*(rescale(xy, size_hw, GRID512_HW) for xy in (pred_xy, true_xy))), HIT_PX)
    outcome = np.where(there, np.where(seen, np.where(near, "TP", "FP1"), "FN"), np.where(seen, "FP2", "TN"))
    return pd.DataFrame(
        {
            "frame": truth["frame"].to_numpy(),
            "x_px": pred_xy[:, 0],
            "y_px": pred_xy[:, 1],
            "true_x_px": true_xy[:, 0],
            "true_y_px": true_xy[:, 1],
            "outcome": outcome,
            "right": np.isin(outcome, ("TP", "TN")),
            "error_px": _distance(*(rescale(xy, size_hw, FULLHD_HW) for xy in (pred_xy, true_xy))),
            "confidence": rows["confidence"].to_numpy(np.float64),
        }
    )


def _matched(
    pred: pd.DataFrame, truth: pd.DataFrame, sources: tuple[str, str]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predictions of the labelled frames, nan where there are none; who says visible, and where."""
    check_table(pred, sources[0])
    check_table(truth, sources[1])
    rows = pred.set_index("frame").reindex(truth["frame"])
    rows = rows.reindex(columns=["visible", "x_px", "y_px", "confidence", "source"])
    seen, there = rows["visible"].eq(1).to_numpy(bool), truth["visible"].eq(1).to_numpy(bool)
    pred_xy, true_xy = (t[["x_px", "y_px"]].to_numpy(np.float64) for t in (rows, truth))
    return rows, seen, there, pred_xy, true_xy


def summarize(
    scores: Mapping[str, ClipScore],
    venues: Mapping[str, str] | None = None,
    rates: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """All measures as JSON-ready values: in all, `per_clip`, `per_venue` and `per_fps`.

    Clips are pooled: each labelled frame weighs the same. The intervals resample whole clips, since
    frames of one clip are not independent; with fewer than two clips they are null.
    """
    if not scores:
        raise MetricsError("no clip to summarize: give at least one scored clip")
    fps = {clip: f"{rate:.4g} fps" for clip, rate in sorted((rates or {}).items(), key=lambda item: item[1])}
    return {
        **_summary([scores[clip] for clip in sorted(scores)]),
        "per_clip": {clip: _summary([scores[clip]]) for clip in sorted(scores)},
        "per_venue": _per_group(scores, dict(sorted((venues or {}).items(), key=lambda item: item[1]))),
        "per_fps": _per_group(scores, fps),
    }


def _per_group(scores: Mapping[str, ClipScore], groups: Mapping[str, str]) -> dict[str, Any]:
    """A summary a group, in the order in which `groups` (a name for each clip) names them."""
    members: dict[str, list[ClipScore]] = {}
    for clip, group in groups.items():
        if clip in scores:
            members.setdefault(group, []).append(scores[clip])
    return {group: _summary(clips) for group, clips in members.items()}


def _summary(scores: Sequence[ClipScore]) -> dict[str, Any]:
    """One group of clips, pooled."""

    def pooled(name: str) -> np.ndarray:
        return np.concatenate([getattr(score, name) for score in scores])

    curves = {kind: Counts.stack(getattr(s, kind) for s in scores) for kind in ("grid512", "native")}
    total = {kind: counts.sum(0) for kind, counts in curves.items()}
    at_4px = {f"{kind}_4px": counts.at(AT_4PX) for kind, counts in total.items()}
    of_clips = {f"{kind}_4px": counts.at((slice(None), AT_4PX)) for kind, counts in curves.items()}
    limits = {kind: intervals(counts, ("accuracy", "f1")) for kind, counts in of_clips.items()}
    counts = {k: {name: int(n) for name, n in c._asdict().items()} for k, c in at_4px.items()}
    hits, third_px = _within(pooled("error_grid512"), HIT_PX), pooled("third_px")
    return {
        **{name: {kind: plain(getattr(c, name), 6) for kind, c in at_4px.items()} for name in RATIOS},
        "error_px": {
            "native": _spread(pooled("error_native")),
            "1920x1080": _spread(pooled("error_fullhd")),
        },
        "hit_error_px": {
            "grid512": _mean(pooled("error_grid512")[hits]),
            "1920x1080": _mean(pooled("error_fullhd")[hits]),
        },
        "label_noise_px": {
            "1920x1080": label_noise_px(third_px[~pooled("repeats")]),
            "1920x1080, repeated pictures counted": label_noise_px(third_px),
        },
        "fp2_share": plain(at_4px["grid512_4px"].fp2_share, 6),
        "blinks": dict(zip(("frames", "fp2"), np.sum([s.blinks for s in scores], axis=0).tolist())),
        "curve": {
            "tolerance_px": TOLERANCES_PX.tolist(),
            **{k: {n: plain(getattr(c, n), 6) for n in ("accuracy", "f1")} for k, c in total.items()},
        },
        "counts": counts,
        "clips": len(scores),
        "frames": sum(counts["grid512_4px"].values()),
        "missing_predictions": sum(s.missing_predictions for s in scores),
        "interval95": {name: {kind: of[name] for kind, of in limits.items()} for name in ("accuracy", "f1")},
        "calibration": calibration(pooled("confidence"), pooled("right")),
    }


def intervals(per_clip: Counts, names: Iterable[str]) -> dict[str, list[float | None] | None]:
    """95% limits of ratios by a percentile bootstrap: whole clips drawn with replacement.

    Args:
        per_clip: counts with fields (clips,).
        names: of the ratios, like accuracy.

    Returns:
        None for all ratios of fewer than two clips, and for one that no draw knows.
    """
    clips = len(per_clip.tp)
    if clips < 2:
        return dict.fromkeys(names)
    drawn = per_clip.at(np.random.default_rng(0).integers(0, clips, (RESAMPLES, clips))).sum(1)
    found = {name: (x := getattr(drawn, name))[np.isfinite(x)] for name in names}
    return {name: plain(np.percentile(x, [2.5, 97.5]), 6) if len(x) else None for name, x in found.items()}


def calibration(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Expected calibration error over ten equal bins: mean gap of confidence and share right, by frames.

    Args:
        confidence, right: (K,) of the rows, in [0, 1] and 0 or 1.
    """
    place = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins, gap = [], 0.0
    for i in range(CALIBRATION_BINS):
        inside = place == i
        said, was = (_mean(values[inside]) for values in (confidence, right))
        edges = {"low": i / CALIBRATION_BINS, "high": (i + 1) / CALIBRATION_BINS}
        bins.append({**edges, "frames": int(inside.sum()), "confidence": said, "right": was})
        if said is not None and was is not None:
            gap += abs(said - was) * inside.mean()
    error = plain(gap, 6) if len(confidence) else None
    return {"expected_calibration_error": error, "frames": len(confidence), "bins": bins}


def check_table(table: pd.DataFrame, source: str) -> None:
    """Check that predictions or labels can be scored.

    Raises:
        MetricsError: as for `score_clip`; names `source` and the frame.
    """
    needed = ("frame", "visible", "x_px", "y_px")
    for column in (*needed, *(("confidence",) if "confidence" in table else ())):
        if column not in table:
            raise MetricsError(f"{source}: no column '{column}'; it has {', '.join(map(str, table.columns))}")
        if len(table) and not pd.api.types.is_numeric_dtype(table[column]):
            held = table[column].dropna()
            text = held[pd.to_numeric(held, errors="coerce").isna()]
            found = (text if len(text) else held).iloc[0]
            raise MetricsError(f"{source}: column '{column}' must hold numbers, found {found!r}")
    place = np.isfinite(table[["x_px", "y_px"]].to_numpy(np.float64)).all(1)
    confidence = table["confidence"] if "confidence" in table else pd.Series(np.nan, table.index)
    for wrong, problem in (
        (~(table["frame"] % 1 == 0) | (table["frame"] < 0), "is no whole number from 0"),
        (table["frame"].duplicated(), "is there twice; keep one row a frame"),
        (~table["visible"].isin((0, 1)), "has a 'visible' that is neither 0 nor 1"),
        (table["visible"].eq(1) & ~place, "is visible without x_px, y_px; give both or set visible to 0"),
        ((confidence < 0) | (confidence > 1), "has a confidence outside [0, 1]"),
    ):
        if wrong.any():
            raise MetricsError(f"{source}: frame {table.loc[wrong, 'frame'].iloc[0]} {problem}")


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance (N,) of (N, 2) points; nan where either is unknown."""
    return np.hypot(*np.moveaxis(np.asarray(a, np.float64) - np.asarray(b, np.float64), -1, 0))


def _within(distance: np.ndarray, tolerance: float | np.ndarray) -> np.ndarray:
    """(..., N) whether each distance (N,) is within each tolerance (...)."""
    return distance <= np.asarray(tolerance, np.float64)[..., None] + ROUNDING_PX


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _spread(values: np.ndarray) -> dict[str, float | None]:
    median, p95 = plain(np.percentile(values, [50, 95]), 6) if len(values) else (None, None)
    return {"mean": _mean(values), "median": median, "p95": p95}


def _mean(values: np.ndarray) -> float | None:
    return plain(values.mean(), 6) if len(values) else None
