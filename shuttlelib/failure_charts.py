"""Numbers in, Figure out, as in `charts`: where errors gather, by cause and over speed or size; a leaf."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from shuttlelib.charts import LINES, MARKERS
from shuttlelib.plots import BLACK, BLUE, VERMILION, colors, new_figure, one_axis, style


def cause_bars(table: pd.DataFrame) -> Figure:
    """Error rate of the frames that have a cause, against all other frames; one bar a cause.

    Args:
        table: of `failures.by_cause`.
    """
    figure, axis = one_axis((9, 1.2 + 0.42 * len(table)))
    places = np.arange(len(table))
    rate, elsewhere = (table[name].to_numpy(np.float64) for name in ("error_rate", "elsewhere"))
    reach = np.abs(table[["low", "high"]].to_numpy(np.float64).T - rate)
    axis.barh(places, rate, color=BLUE, height=0.62, label="of its frames (line: 95% interval)")
    axis.errorbar(rate, places, xerr=np.nan_to_num(reach), fmt="none", ecolor=BLACK, capsize=3)
    axis.plot(elsewhere, places, "D", ms=7, mfc="white", mec=VERMILION, mew=1.8, label="elsewhere")
    axis.set_yticks(places, [f"{row.Index} ({row.wrong} of {row.frames})" for row in table.itertuples()])
    axis.set(xlim=(0, None), ylim=(len(table) - 0.5, -0.5))
    style(axis, "share of frames that are wrong", "")
    axis.grid(visible=False, axis="y")
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return figure


def error_over(tables: Mapping[str, pd.DataFrame], measure: str, unit: str = "px") -> Figure:
    """Median error and share missed over a measure such as speed, one line a name, with 95% intervals.

    Args:
        tables: of `failures.binned` by name, of the same bins.
        measure, unit: for the axis.
    """
    figure, axes = new_figure(1, 2, (11, 3.9))
    edges = sorted({edge for table in tables.values() for edge in (*table["low_edge"], *table["high_edge"])})
    bins = list(pairwise(edges))
    for i, (color, (name, table)) in enumerate(zip(colors(len(tables)), tables.items())):
        x = [edges.index(low) + 0.14 * (i - (len(tables) - 1) / 2) for low in table["low_edge"]]
        for axis, key, low, high in (
            (axes[0, 0], "median_px", "median_low", "median_high"),
            (axes[0, 1], "missed", "missed_low", "missed_high"),
        ):
            reach = np.abs(table[[low, high]].to_numpy(np.float64).T - table[key].to_numpy(np.float64))
            look = {"color": color, "marker": MARKERS[i % len(MARKERS)], "ls": LINES[i % len(LINES)]}
            axis.errorbar(x, table[key], yerr=np.nan_to_num(reach), capsize=2, label=name, **look)
    for axis, label in zip(axes[0], ("median error (px at 1920x1080)", "share missed or misplaced")):
        names = [f"{low:g}–{high:g}" if high < np.inf else f"{low:g} and more" for low, high in bins]
        axis.set_xticks(range(len(bins)), names)
        style(axis, f"{measure} ({unit})", label)
    axes[0, 0].set_yscale("log")
    axes[0, 1].set_ylim(0, 1)
    names = axes[0, 0].get_legend_handles_labels()
    figure.legend(*names, loc="outside upper left", ncols=len(tables), frameon=False, fontsize=9)
    return figure
