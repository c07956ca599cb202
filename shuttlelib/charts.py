"""Numbers in, matplotlib Figure out: every curve and bar of notebooks and reports; a leaf of the flow.

Pictures are in `plots`, whose colours and manners these share.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shuttlelib.plots import BLUE, GREY, SKY, VERMILION, colors, new_figure, one_axis, style
from shuttlelib.rows import runs

UNITS = ("px", "ms", "s", "fps", "mb")  # that a column's name may end in
LOWER_IS_BETTER = ("_px", "_ms", "_s", "_mb", "_share", "_error", "loss", "parameters")
LINES, MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D")  # colour alone is not enough for everyone
FEW = 4  # so many lines are named at their end; more get a legend


def trajectory(
    table: pd.DataFrame,
    truth: pd.DataFrame | None = None,
    fps: float | None = None,
    title: str = "",
    name: str = "predicted",
) -> Figure:
    """x and y over time; invisible stretches of the table are gaps, shaded.

    Args:
        table: columns frame, visible, x_px, y_px.
        truth: the same columns of the labels, drawn beneath.
        fps: turns frame numbers into seconds.
        name: of the table beside the labels.
    """
    figure, axes = new_figure(2, 1, (10, 4.6), sharex=True)
    unit = 1 / fps if fps else 1.0
    seen = table["visible"].to_numpy(bool)
    for axis, column in zip(axes[:, 0], ("x_px", "y_px")):
        if truth is not None:
            there = truth[column].where(truth["visible"].astype(bool))
            axis.plot(truth["frame"] * unit, there, color=SKY, lw=5, alpha=0.6, label="label")
        axis.plot(table["frame"] * unit, table[column].where(seen), color=VERMILION, lw=1.4, label=name)
        for start, stop in runs(~seen):
            frames = table["frame"].to_numpy()
            axis.axvspan(
                (frames[start] - 0.5) * unit, (frames[stop - 1] + 0.5) * unit, color=GREY, alpha=0.2, lw=0
            )
        style(axis, "", f"{column[0]} (px)")
    axes[1, 0].invert_yaxis()  # up in the picture is up in the plot
    axes[1, 0].set_xlabel("time (s)" if fps else "frame")
    grey = "visible" if truth is None else name
    axes[0, 0].set_title(f"{title}  (grey: not {grey})".strip(), loc="left", fontsize=11)
    if truth is not None:
        axes[0, 0].legend(loc="upper right", ncols=2, frameon=False, bbox_to_anchor=(1, 1.2))
    return figure


def error_curve(curves: Mapping[str, Mapping[str, Any]], grid: str = "grid512") -> Figure:
    """Accuracy over the tolerance, one line a name.

    Args:
        curves: the `curve` block of `metrics.summarize`, by name.
        grid: "grid512" or "native", where the tolerance is taken.
    """
    figure, axis = one_axis((7, 4.2))
    for i, (color, (name, curve)) in enumerate(zip(colors(len(curves)), curves.items())):
        values = np.array(curve[grid]["accuracy"], np.float64)  # null becomes nan, a gap
        ls, mark = LINES[i % len(LINES)], MARKERS[i % len(MARKERS)]
        axis.plot(curve["tolerance_px"], values, color=color, ls=ls, marker=mark, lw=1.8, ms=3.5, label=name)
    axis.axvline(4, color=GREY, lw=1, ls=":")
    axis.annotate("4 px", (4, 0.02), xytext=(4, 0), textcoords="offset points", color=GREY, fontsize=9)
    axis.set(ylim=(0, 1.02), xlim=(0.7, 20.2), xticks=[1, 4, 8, 12, 16, 20])
    where = "on the 512x288 grid" if grid == "grid512" else "native"
    style(axis, f"tolerance (px, {where})", "accuracy")
    _name_lines(axis)
    return figure


def training_curves(history: pd.DataFrame, kept: float | None = None) -> Figure:
    """A panel a measure over the steps (or epochs), training and validation together.

    Args:
        history: a column "step" or "epoch"; `train_<name>` holds training values, `val_<name>` or plain
            `<name>` validation values. "seconds" is left out.
        kept: the step (or epoch) whose weights were kept, to mark it.
    """
    x = next((name for name in ("step", "epoch") if name in history), None)
    if x is None:
        raise ValueError(
            f"history has no column 'step' or 'epoch', only {', '.join(map(str, history.columns))}"
        )
    columns = [str(name) for name in history if name not in ("step", "epoch", "seconds")]
    panels = list(dict.fromkeys(name.removeprefix("train_").removeprefix("val_") for name in columns))
    wide = min(3, max(1, len(panels)))
    rows = max(1, -(-len(panels) // wide))
    figure, axes = new_figure(rows, wide, (4 * wide, 2.9 * rows))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, panels):
        for column, name, color in (
            (f"train_{panel}", "training", VERMILION),
            (f"val_{panel}", "validation", BLUE),
            (panel, "validation", BLUE),
        ):
            if column in history:
                axis.plot(history[x], history[column], color=color, lw=1.8, marker="o", ms=2.5, label=name)
        if kept is not None:
            axis.axvline(kept, color=GREY, lw=1, ls=":")
            place = {"xycoords": axis.get_xaxis_transform(), "ha": "center", "color": GREY, "fontsize": 9}
            axis.annotate("kept", (kept, 1.01), **place)
        style(axis, x, _title(panel))
        _name_lines(axis)
    return figure


def calibration(bins: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Share of rows that are right over their confidence, and how many rows there are.

    The area of a mark follows its rows, by one measure for all curves.

    Args:
        bins: `calibration["bins"]` of `metrics.summarize`: low, high, frames, confidence, right; or several
            such by name (a legend then says which is which).
    """
    curves = bins if isinstance(bins, Mapping) else {"": bins}
    figure, axes = new_figure(2, 1, (5 if len(curves) == 1 else 7, 5.6), sharex=True, heights=(3, 1))
    top, low = axes[:, 0]
    most = max((b["frames"] for rows in curves.values() for b in rows), default=0) or 1
    top.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    top.annotate("perfect", (0.06, 0.09), color=GREY, fontsize=9, rotation=45, rotation_mode="anchor")
    for i, (color, (name, rows)) in enumerate(zip(colors(len(curves)), curves.items())):
        full = [b for b in rows if b["frames"]]
        said, was, frames = ([b[key] for b in full] for key in ("confidence", "right", "frames"))
        top.plot(said, was, color=color, lw=1.2, ls=LINES[i % len(LINES)])
        sizes = 20 + 100 * np.array(frames) / most
        top.scatter(said, was, s=sizes, color=color, marker=MARKERS[i % len(MARKERS)], label=name or None)
        width = 0.94 / len(curves)
        starts = [b["low"] + (b["high"] - b["low"]) * width * i for b in rows]
        widths = [width * (b["high"] - b["low"]) for b in rows]
        low.bar(starts, [b["frames"] for b in rows], widths, align="edge", color=color, alpha=0.6)
    top.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.05))  # marks at 0 and 1 are whole
    if len(curves) > 1:
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    style(top, "", "share of rows that are right")
    style(low, "confidence", "rows")
    return figure


def version_bars(table: pd.DataFrame) -> Figure:
    """Versions compared: a panel a column, a bar a row, the value at its end and the best one in colour.

    Args:
        table: index: version names; columns: numeric measures with units in their names. Columns whose
            name ends as in LOWER_IS_BETTER are better when lower.
    """
    count = max(1, len(table.columns))
    figure, axes = new_figure(1, count, (2 + 2.6 * count, 1 + 0.36 * len(table)), sharey=True)
    for axis, column in zip(axes[0], table.columns):
        values = table[column].to_numpy(np.float64)
        lower = str(column).endswith(LOWER_IS_BETTER)
        best = None if np.isnan(values).all() else (np.nanargmin if lower else np.nanargmax)(values)
        shades = [BLUE if i == best else "#B8C4CE" for i in range(len(values))]
        axis.barh(range(len(values)), np.nan_to_num(values), color=shades)
        for i, value in enumerate(values):
            text = "–" if np.isnan(value) else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
            axis.annotate(f" {text}", (max(0.0, np.nan_to_num(value)), i), va="center", fontsize=9)
        axis.set_xlim(0, (np.nan_to_num(values).max() or 1) * 1.35)
        style(axis, "lower is better" if lower else "higher is better", "", _title(str(column)))
        axis.grid(visible=False)
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
    axes[0, 0].set_yticks(range(len(table)), [str(name) for name in table.index])
    axes[0, 0].invert_yaxis()
    for axis in axes[0]:
        axis.tick_params(length=0)
    return figure


def triggers_over_time(
    triggers: Mapping[str, np.ndarray], frame_count: int, fps: float | None = None
) -> Figure:
    """When the tracker asked for a calibration step, one row a trigger.

    Args:
        triggers: frame numbers by the trigger's name.
        frame_count: length of the clip.
        fps: turns frame numbers into seconds.
    """
    figure, axis = one_axis((10, 0.9 + 0.42 * max(1, len(triggers))))
    unit = 1 / fps if fps else 1.0
    for i, (frames, color) in enumerate(zip(triggers.values(), colors(len(triggers)))):
        axis.eventplot(np.asarray(frames, np.float64) * unit, lineoffsets=i, linelengths=0.7, colors=color)
    names = [f"{name.replace('_', ' ')} ({len(frames)})" for name, frames in triggers.items()]
    axis.set_yticks(range(len(names)), names)
    axis.set(xlim=(0, max(1, frame_count) * unit), ylim=(len(names) - 0.5, -0.5))
    style(axis, "time (s)" if fps else "frame", "")
    axis.grid(visible=False, axis="y")
    return figure


def speed_histogram(speeds: Mapping[str, np.ndarray]) -> Figure:
    """How fast the shuttle moves in the picture, one line a data set, as shares of its own frames.

    Args:
        speeds: (N,) by name, px at 1280x720 in 1/30 s; nan (an invisible neighbour) is left out.
    """
    figure, axis = one_axis((7, 3.8))
    finite = {
        name: values[np.isfinite(values)] for name, values in ((n, np.asarray(v)) for n, v in speeds.items())
    }
    top = max((float(values.max()) for values in finite.values() if len(values)), default=1.0)
    edges = np.linspace(0, top or 1.0, 41)
    for color, (name, values) in zip(colors(len(finite)), finite.items()):
        share = np.histogram(values, edges)[0] / max(1, len(values))
        axis.stairs(share, edges, color=color, lw=1.8, label=f"{name} ({len(values)})")
        axis.stairs(share, edges, color=color, fill=True, alpha=0.15)
    axis.set(xlim=(0, edges[-1]), ylim=(0, None))
    style(axis, "speed (px in 1/30 s, at 1280x720)", "share of frames")
    axis.legend(frameon=False)
    return figure


def _name_lines(axis: Axes) -> None:
    """Few lines carry their names at their ends, moved apart; many get a legend."""
    lines = [line for line in axis.get_lines() if not str(line.get_label()).startswith("_")]
    if len(lines) > FEW:
        axis.legend(frameon=False, fontsize=9)
        return
    ends = []
    for line in lines:
        values = np.asarray(line.get_ydata(), np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            ends.append((values[-1], values.mean(), line))
    ends.sort(key=lambda end: end[:2])  # where ends meet, the line that ran higher is named above
    low, high = axis.get_ylim()
    places, gap = np.array([end[0] for end in ends]), 0.07 * (high - low)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap if i + 1 < len(places) else high)
    for place, (_, _, line) in zip(places, ends):
        axis.annotate(
            str(line.get_label()),
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
            fontsize=9,
            annotation_clip=False,
        )


def _title(name: str) -> str:
    """A column's name for readers: latency_ms becomes "latency (ms)"."""
    head, _, unit = name.rpartition("_")
    return f"{head.replace('_', ' ')} ({unit})" if head and unit in UNITS else name.replace("_", " ")
