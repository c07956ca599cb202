"""The predecessor's story, claim by claim, against our own measurement; between comparison and measures.

Each claim says what was told, how we measure it, what came out, and a verdict that the interval decides:
it holds, it does not hold here, or it is not decided. Nothing is concluded from rows that have not learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from shuttlelib.files import plain
from shuttlelib.lineage import measures

HOLDS, NOT_HERE, OPEN, UNMEASURED = "holds", "does not hold here", "not decided", "not measured"
POOLED = {1: ("stage1_v1", "stage1_v2", "stage1_v3"), 2: ("stage2_v1", "stage2_v2", "stage2_v3")}
HEATMAP = {1: ("stage1_v4",), 2: ("stage2_v4", "stage2_v5", "stage2_v6", "stage2_v7")}
NOISE = ("stage2_v4", "stage2_v5")  # a constant level and a drawn one; their loss is asked for at several
EARLY = {"stage1_v4": "stage1_v5", "stage2_v7": "stage2_v8"}  # late-fused rows, whose fusion is priced alone
LEAST_SPREAD_PX = 0.01  # three places nearer than this count as this far apart


@dataclass(frozen=True, eq=False)
class Row:
    """What is known of one trained row.

    Attributes:
        facts: its `row.json`, with latency_ms and noise_std.
        train, val: `measures.judge` of training samples (augmented, from all evenly), of validation samples.
        noise: `measures.noise_sweep` of validation samples; empty where it was not asked for.
        history: `history.csv`.
    """

    facts: Mapping[str, Any]
    train: pd.DataFrame
    val: pd.DataFrame
    noise: pd.DataFrame
    history: pd.DataFrame


@dataclass(frozen=True)
class Claim:
    """One claim and what became of it; `value` and `interval` are of the number that decides."""

    claim: str
    told: str
    measured: str
    numbers: str
    verdict: str
    value: float | None = None
    interval: tuple[float | None, float | None] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def decide(low: float, high: float, above: float = 1.0) -> str:
    """Whether a number is above another, as its interval says."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return OPEN
    return HOLDS if low > above else NOT_HERE if high < above else OPEN


def judge_all(rows: Mapping[str, Row]) -> list[Claim]:
    """Every claim, judged. Source: what BillTheTsar/Shuttle-Detection (2025) tells of its versions."""
    return [
        pooling(rows, 1),
        pooling(rows, 2),
        overfitting(rows),
        collapse(rows),
        learning_speed(rows),
        crutch(rows),
        *(per_millisecond(rows, late, early) for late, early in EARLY.items()),
    ]


def pooling(rows: Mapping[str, Row], stage: int) -> Claim:
    """Pooled heads place the head farther off than heatmaps do."""
    names = "pooling loses the place", f"stage {stage}: pooled heads overfit, heatmap heads do not"
    how = (
        "median error of the best place over val samples with a shuttle, px of the 512x288 grid: "
        "pooled rows together over heatmap rows together"
    )
    pooled, heat = ([n for n in group[stage] if n in rows] for group in (POOLED, HEATMAP))
    if not pooled or not heat:
        return _missing(names, how, rows, (*POOLED[stage], *HEATMAP[stage]))
    tables = [pd.concat([rows[n].val for n in group]) for group in (pooled, heat)]
    each = [measures.median_error(table) for table in tables]
    found = measures.interval(
        tables, lambda a, b: measures.ratio(measures.median_error(a), measures.median_error(b))
    )
    numbers = f"{each[0]:.2f} px ({', '.join(pooled)}) over {each[1]:.2f} px ({', '.join(heat)}): "
    return _judged(names, how, numbers + _text(*found), found, _val(rows, heat))


def overfitting(rows: Mapping[str, Row]) -> Claim:
    """The loss on validation is several times that of training."""
    name, times = "stage2_v1", 5.0
    names = "a pooled head overfits fivefold", f"{name}: 0.02 on training, 0.10 on validation"
    how = "mean loss on val samples over mean loss on training samples, augmented as in training"
    if name not in rows:
        return _missing(names, how, rows, (name,))
    row = rows[name]
    found = measures.interval([row.val, row.train], _loss_ratio)
    numbers = f"{row.val['loss'].mean():.4f} over {row.train['loss'].mean():.4f}: {_text(*found)}"
    return _judged(names, how, numbers, found, {f"{name} on training": row.train}, times)


def collapse(rows: Mapping[str, Row]) -> Claim:
    """Three places trained to differ give one answer."""
    name = "stage1_v3"
    names = "three outputs collapse into one cluster", f"{name}: the diversity loss does not keep them apart"
    how = (
        "median error of the first place over the mean distance between the three, val samples with a "
        "shuttle: above 1, the three are nearer to each other than to the shuttle"
    )
    if name not in rows or rows[name].val["spread_px"].isna().all():
        return _missing(names, how, rows, (name,))
    seen = rows[name].val[rows[name].val["visible"]]
    found = measures.interval(
        [seen], lambda t: measures.median_error(t) / max(float(t["spread_px"].mean()), LEAST_SPREAD_PX)
    )
    numbers = (
        f"mean distance between the three {seen['spread_px'].mean():.2f} px, median error "
        f"{measures.median_error(seen):.2f} px of the 512x288 grid: {_text(*found)}"
    )
    return _judged(names, how, numbers, found, _val(rows, (name,)))


def learning_speed(rows: Mapping[str, Row]) -> Claim:
    """A heatmap reaches the pooled row's best error in fewer steps."""
    slow, fast = "stage1_v2", "stage1_v4"
    names = "a heatmap learns faster", f"{fast} needed 25 epochs for what {slow} needed 110 for (4.4 times)"
    how = (
        f"steps of {slow} to its lowest median error on val, over steps of {fast} to that error; the "
        "interval is that between two validations"
    )
    if slow not in rows or fast not in rows:
        return _missing(names, how, rows, (slow, fast))
    late, early = rows[slow].history, rows[fast].history
    best = late["median_px"].min()
    slowly, quick = _first(late, best), _first(early, best)
    assert slowly is not None  # its own best is reached
    after, reached = slowly
    if quick is None:
        last = int(early["step"].iloc[-1])
        numbers = f"{slow} reached {best:.2f} px at step {reached}; {fast} did not within {last} steps"
        below = float(np.nextafter(reached / last, 0.0))  # it takes more steps than were made
        return _judged(names, how, numbers, (None, 0.0, below), _val(rows, (slow,)))
    found = reached / quick[1], after / quick[1], reached / max(quick[0], 1)
    numbers = f"{best:.2f} px at step {reached} of {slow} and at step {quick[1]} of {fast}: "
    return _judged(names, how, numbers + _text(*found), found, _val(rows, (slow, fast)))


def crutch(rows: Mapping[str, Row]) -> Claim:
    """Trained with a constant noise level, a row fails without that noise."""
    constant, drawn = NOISE
    names = (
        "a constant noise level is a crutch",
        f"{constant}: 0.011 on training with noise, 0.20 on validation without; {drawn}: 0.008",
    )
    how = (
        f"val loss of {constant} without noise over that with the noise of its training; beside it the same "
        f"of {drawn}, and the losses at every level are in the figure"
    )
    if any(name not in rows or rows[name].noise.empty for name in (constant, drawn)):
        return _missing(names, how, rows, (constant, drawn))
    level = rows[constant].facts["noise_std"]
    clean = [_at(rows[name].noise, 0.0) for name in (constant, drawn)]
    noisy = [_at(rows[name].noise, level) for name in (constant, drawn)]
    found = measures.interval([clean[0], noisy[0]], _loss_ratio)
    each = [
        f"{name} {a['loss'].mean():.4f} without, {b['loss'].mean():.4f} with noise {level:g}"
        for name, a, b in zip((constant, drawn), clean, noisy)
    ]
    numbers = f"{'; '.join(each)}: {_text(*found)}"
    return _judged(names, how, numbers, found, _val(rows, (constant, drawn)))


def per_millisecond(rows: Mapping[str, Row], late: str, early: str) -> Claim:
    """One pass over fused frames gives more accuracy for its time than a pass a frame."""
    names = "one early-fused pass beats four", f"{early} against {late}: accuracy for the time of one look"
    how = (
        "accuracy at 4 px of the 512x288 grid over ms of one look on the hardware named above, the "
        "early-fused row's over the other's; the rows differ in backbone and input too, see the cost of "
        "fusion alone"
    )
    if any(name not in rows or not rows[name].facts.get("latency_ms") for name in (late, early)):
        return _missing(names, how, rows, (late, early))
    ms = [float(rows[name].facts["latency_ms"]) for name in (early, late)]
    tables = [rows[name].val for name in (early, late)]
    found = measures.interval(
        tables, lambda a, b: measures.ratio(measures.accuracy(a) / ms[0], measures.accuracy(b) / ms[1])
    )
    each = [
        f"{name} {measures.accuracy(table):.3f} in {t:.1f} ms"
        for name, table, t in zip((early, late), tables, ms)
    ]
    numbers = f"{' against '.join(each)}: {_text(*found)}"
    return _judged(names, how, numbers, found, _val(rows, (early, late)))


def _judged(
    names: tuple[str, str],
    how: str,
    numbers: str,
    found: tuple[float | None, float, float],
    learned: Mapping[str, pd.DataFrame],
    above: float = 1.0,
) -> Claim:
    """The claim with its verdict; open where samples that it rests on show no learning.

    Args:
        names: the claim, and what was told.
        how, numbers: how it is measured, and what came out.
        found: the number that decides, and its interval.
        learned: samples by what they are of.
        above: what the number is to exceed.
    """
    value, low, high = found
    verdict = decide(low, high, above)
    idle = [name for name, table in learned.items() if not measures.has_learned(table)]
    if idle:
        verdict = OPEN
        numbers += f"; too little was learned to say ({', '.join(idle)}: little better than one fixed answer)"
    limits = (plain(low, 4), plain(high, 4))
    return Claim(names[0], names[1], how, numbers, verdict, plain(value, 4), limits)


def _loss_ratio(top: pd.DataFrame, bottom: pd.DataFrame) -> float:
    return measures.ratio(float(top["loss"].mean()), float(bottom["loss"].mean()))


def _val(rows: Mapping[str, Row], names: Sequence[str]) -> dict[str, pd.DataFrame]:
    return {name: rows[name].val for name in names}


def _missing(names: tuple[str, str], how: str, rows: Mapping[str, Row], needed: Sequence[str]) -> Claim:
    absent = [name for name in needed if name not in rows]
    why = f"not trained or not measured: {', '.join(absent)}" if absent else "what it needs was not measured"
    return Claim(names[0], names[1], how, why, UNMEASURED)


def _first(history: pd.DataFrame, error_px: float) -> tuple[int, int] | None:
    """(the validation before, the validation) at which the median error was first so low; None if never."""
    reached = np.flatnonzero(history["median_px"] <= error_px)
    if not len(reached):
        return None
    steps = history["step"].tolist()
    return (int(steps[reached[0] - 1]) if reached[0] else 0), int(steps[reached[0]])


def _at(noise: pd.DataFrame, level: float) -> pd.DataFrame:
    nearest = min(noise["level"].unique(), key=lambda value: abs(value - level))
    return noise[noise["level"] == nearest]


def _text(value: float, low: float, high: float) -> str:
    return f"{value:.2f} times ({low:.2f} to {high:.2f})"
