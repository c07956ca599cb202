"""Numbers of the lineage in, matplotlib Figure out: family tree, intervals, accuracy over time and latency.

Beside `charts`, whose colours and manners these share; a leaf of the flow.
"""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from shuttlelib.plots import BLACK, BLUE, CYCLE, GREEN, GREY, PINK, VERMILION, colors, one_axis, style

PALE = {1: "#DCEAF5", 2: "#DDF1EA", 0: "#F6E7EF"}
STAGE_COLOR = {1: BLUE, 2: GREEN, 0: PINK}


def kind(row: Mapping[str, Any]) -> int:
    """1 or 2, a row's stage; 0 for the baselines of the field."""
    return 0 if row.get("baseline") else int(row["stage"])


def gain(row: Mapping[str, Any], parent: Mapping[str, Any]) -> float | None:
    """How much more accurate a row is than its parent, as it is written; None where not known."""
    if row.get("accuracy") is None or parent.get("accuracy") is None or kind(row) != kind(parent):
        return None
    return round(row["accuracy"] - parent["accuracy"], 3) + 0.0  # never -0.000


def family_tree(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Which row descends from which, what it changed and what that bought.

    Args:
        rows: by name, in the order of the lineage: parent ("" for a root), stage, notes, and accuracy or
            None; a row with `error` is drawn as failed.
    """
    kinds = _kinds(rows)
    column = {name: kinds.index(kind(row)) for name, row in rows.items()}
    wide, tall = max(column.values(), default=0) + 1, _places(column)
    height = 1 + max(tall.values(), default=0)
    figure, axis = one_axis((4.6 * wide, 0.95 * height + 0.3))
    for name, row in rows.items():
        x, y = column[name], tall[name]
        if row["parent"] in rows:
            _descent(axis, x, tall[row["parent"]], y)
        _box(axis, x, y, name, row, _bought(rows, name))
    axis.set(xlim=(-0.05, wide), ylim=(height - 0.45, -0.55))
    axis.set_axis_off()
    return figure


def bars(
    rows: Mapping[str, Mapping[str, Any]], measure: str, unit: str = "", title: str = "", lower: bool = False
) -> Figure:
    """One bar a row with its interval, the best of each kind in full colour; what is missing says so.

    Args:
        rows: by name; `measure` is a number or None, `<measure>_interval` [low, high] or None.
        unit: for the axis; lower: whether lower is better.
    """
    figure, axis = one_axis((8, 1.1 + 0.32 * len(rows)))
    best: dict[int, float] = {}
    for row in rows.values():
        if row.get(measure) is not None:
            best[kind(row)] = (min if lower else max)(best.get(kind(row), row[measure]), row[measure])
    ends = [1e-9]
    for i, row in enumerate(rows.values()):
        value, limits = row.get(measure), row.get(f"{measure}_interval")
        if value is None:
            axis.annotate(" failed" if row.get("error") else " not measured", (0, i), va="center", color=GREY)
            continue
        axis.barh(
            i,
            value,
            color=STAGE_COLOR[kind(row)],
            alpha=1.0 if value == best[kind(row)] else 0.45,
            height=0.7,
        )
        end = value
        if limits and None not in limits:
            axis.plot(limits, (i, i), color=BLACK, lw=1.4, solid_capstyle="butt")
            end = max(value, limits[1])
        ends.append(end)
        axis.annotate(f" {value:.3g}", (end, i), va="center", fontsize=9)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlim=(0, 1.12 * max(ends)), ylim=(len(rows) - 0.5, -0.5))
    style(axis, f"{unit} ({'lower' if lower else 'higher'} is better)".strip(), "", title)
    axis.tick_params(axis="y", length=0)
    return figure


def accuracy_over_time(histories: Mapping[str, pd.DataFrame], hardware: str = "") -> Figure:
    """Validation accuracy against minutes of training, one line a row.

    Args:
        histories: `history.csv` by name: seconds and accuracy.
        hardware: what it was trained on, for the axis.
    """
    figure, axis = one_axis((8, 4.6))
    top = max((float(h["seconds"].max()) for h in histories.values()), default=60.0)
    unit, divisor = ("minutes", 60.0) if top >= 120 else ("seconds", 1.0)
    for i, (color, (name, history)) in enumerate(zip(colors(len(histories)), histories.items())):
        axis.plot(
            history["seconds"] / divisor,
            history["accuracy"],
            color=color,
            ls=("-", "--", ":")[i // len(CYCLE) % 3],
            marker="o",
            ms=2.5,
            lw=1.6,
            label=name,
        )
    axis.set(ylim=(0, 1.02), xlim=(0, None))
    style(axis, f"{unit} of training" + (f" on {hardware}" if hardware else ""), "validation accuracy")
    if histories:
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def accuracy_against_latency(rows: Mapping[str, Mapping[str, Any]], hardware: str = "") -> Figure:
    """Accuracy against the time of one look: up and to the left is better, what nothing beats is ringed.

    Args:
        rows: by name, with `latency_ms` and `accuracy`; those without either are left out. `measured_on` is
            the hardware of the latency; rows of another one are not rivals.
    """
    figure, axis = one_axis((8, 4.8))
    shown = {
        n: (float(r["latency_ms"]), float(r["accuracy"]))
        for n, r in rows.items()
        if r.get("latency_ms") and r.get("accuracy") is not None
    }
    for name, (x, y) in shown.items():
        color = STAGE_COLOR[kind(rows[name])]
        axis.plot(x, y, marker="o", ms=7, color=color, ls="")
        rivals = [p for n, p in shown.items() if _timed_alike(rows[n], rows[name])]
        if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in rivals):
            axis.plot(x, y, marker="o", ms=13, mfc="none", mec=color, ls="")
    _names(axis, shown)
    axis.set_xscale("log")
    axis.margins(x=0.16)  # of a name beside the outermost points
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # of all nine numbers the last would touch
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    low, high = (f([p[1] for p in shown.values()] or [0.0, 1.0]) for f in (min, max))
    pad = max(0.02, 0.12 * (high - low))
    axis.set(ylim=(low - pad, high + pad))
    where = f" on {hardware}" if hardware else ""
    ringed = "ringed: no row of its kind and hardware is both faster and better"
    style(axis, f"one look, ms{where} (logarithmic)", "accuracy", ringed)
    for k in _kinds({name: rows[name] for name in shown}):
        axis.plot([], [], marker="o", ls="", color=STAGE_COLOR[k], label=f"stage {k}" if k else "baseline")
    if shown:
        axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def loss_against_noise(sweeps: Mapping[str, pd.DataFrame]) -> Figure:
    """Validation loss over the noise put on the frames, one line a row, as multiples of its loss without any.

    Args:
        sweeps: `measures.noise_sweep` by name: level and loss.
    """
    figure, axis = one_axis((6.4, 3.8))
    for color, (name, table) in zip(colors(len(sweeps)), sweeps.items()):
        losses = table.groupby("level")["loss"].mean()
        axis.plot(losses.index, losses / losses.loc[0.0], color=color, marker="o", lw=1.8, label=name)
    axis.axhline(1, color=GREY, lw=1, ls=":")
    axis.set_ylim(0, None)
    noise = "noise on the frames (standard deviation, share of the range)"
    style(axis, noise, "val loss, times that without noise")
    axis.legend(frameon=False, fontsize=9)
    return figure


def _kinds(rows: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """The kinds of some rows: the stages, then the baselines."""
    return sorted({kind(row) for row in rows.values()}, key=lambda k: k or 3)


def _timed_alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two rows are of one kind, and were timed on the same hardware."""
    return kind(a) == kind(b) and a.get("measured_on") == b.get("measured_on")


def _places(column: Mapping[str, int]) -> dict[str, int]:
    """Each row's height in its column, in the order of the lineage."""
    used: dict[int, int] = {}
    places = {}
    for name, c in column.items():
        places[name] = used[c] = used.get(c, -1) + 1
    return places


def _descent(axis: Axes, x: float, parent: float, child: float) -> None:
    """An arrow from a box down to the next, or around those between."""
    if child - parent == 1:
        path = [(x + 0.06, parent + 0.36), (x + 0.06, child - 0.36)]
    else:
        path = [(x, parent), (x - 0.025, parent), (x - 0.025, child), (x, child)]
    axis.plot(*zip(*path[:-1]), color=GREY, lw=1.2)
    arrow = {"arrowstyle": "-|>", "color": GREY, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", path[-1], path[-2], arrowprops=arrow)


def _bought(rows: Mapping[str, Mapping[str, Any]], name: str) -> tuple[str, str]:
    """The row's accuracy, with its change against its parent, and the colour of the change."""
    row = rows[name]
    value = row.get("accuracy")
    if value is None:
        return ("failed" if row.get("error") else "not measured"), GREY
    change = gain(row, rows.get(row["parent"], {}))
    if change is None:
        return f"{value:.3f}", BLACK
    return f"{value:.3f} ({change:+.3f})", GREEN if change > 0 else VERMILION if change < 0 else GREY


def _box(axis: Axes, x: float, y: float, name: str, row: Mapping[str, Any], bought: Sequence[str]) -> None:
    filled, edge = PALE[kind(row)], STAGE_COLOR[kind(row)]
    axis.add_patch(Rectangle((x, y - 0.36), 0.94, 0.72, lw=1, facecolor=filled, edgecolor=edge))
    axis.annotate(name, (x + 0.02, y - 0.28), va="top", fontsize=10, weight="bold", color=BLACK)
    axis.annotate(bought[0], (x + 0.92, y - 0.28), va="top", ha="right", fontsize=9, color=bought[1])
    notes = fill(str(row.get("notes", "")), 58, max_lines=2, placeholder=" …")
    axis.annotate(notes, (x + 0.02, y + 0.02), va="top", fontsize=8, color="#444444")


def _names(axis: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Names beside their points: to the right, else to the left, else higher, where nothing else lies."""
    heights = [y for _, y in points.values()] or [0.0]
    step = 0.04 * (max(heights) - min(heights) or 1)
    taken: list[tuple[float, float, float]] = [(np.log(x), np.log(x), y) for x, y in points.values()]
    for name, (x, y) in sorted(points.items(), key=lambda item: item[1][1]):
        places = ((side, y + lift * step) for lift in range(len(taken) + 1) for side in (1, -1))
        for side, at in places:
            low, high = sorted((np.log(x) + side * 0.06, np.log(x) + side * 0.45))
            if not any(low < end and start < high and abs(at - b) < step for start, end, b in taken):
                break
        taken.append((low, high, at))
        axis.annotate(
            name,
            (x, at),
            xytext=(8 * side, 0),
            textcoords="offset points",
            va="center",
            ha="left" if side == 1 else "right",
            fontsize=8,
            color=BLACK,
        )
