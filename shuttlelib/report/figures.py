"""Drawings of the report as SVG that reads on paper, on a light and on a dark screen; over the chart modules.

Text and axes are drawn in `INK`, a grey that reads on white and on black. `html` turns it into the page's own
colour; in Markdown the file is shown as it is. Text stays text, so it can be searched and is set in the
reader's font; the same numbers give the same bytes.
"""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import figure as mpl

from shuttlelib import charts, charts_lineage, failure_charts
from shuttlelib.plots import BLUE, VERMILION, new_figure, style
from shuttlelib.report.blocks import Figure

INK, FAINT = "#757d86", "#a9b0b8"
_DARK = re.compile("#000000|#222222|#444444", re.IGNORECASE)
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # measured with; the reader's own sans-serif is about as wide
    "font.size": 10.0,
}
PANELS = {  # of a training, in this order: (train, val) series
    "loss": ("train/loss", "val/loss"),
    "accuracy, 4 px of 512x288": ("", "val/accuracy_512"),
    "median error, px of 512x288": ("", "val/median_px"),
    "false alarms": ("", "val/fp2_share"),
    "samples a second": ("speed/samples_per_s", ""),
    "learning rate": ("lr/group0", ""),
}


def drawn(name: str, alt: str, draw: Callable[[], mpl.Figure], caption: str = "") -> Figure:
    """A chart as SVG; `draw` is called with the report's colours in place."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        text = StringIO()
        draw().savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    body = text.getvalue()[text.getvalue().index("<svg") :]
    return Figure(name, _plain(body, name), alt, caption)


def curves(name: str, lines: Mapping[str, Mapping[str, Any]], grid: str) -> Figure:
    """Accuracy over the tolerance from 1 to 20 px, one line a set; `lines`: `curve` blocks by name."""
    where = "px of the 512x288 grid" if grid == "grid512" else "native px"
    return drawn(
        name,
        f"accuracy over the tolerance, 1 to 20 {where}: {', '.join(lines)}",
        lambda: charts.error_curve(_named(lines), grid=grid),
        f"Share of frames that are right over how far off still counts as right, {where}. "
        "The dotted line is the tolerance of the tables.",
    )


def calibration(name: str, bins: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Share of right rows over their confidence."""
    return drawn(
        name,
        f"share of rows that are right over their confidence: {', '.join(bins)}",
        lambda: charts.calibration(_named(bins)),
        "On the dashed line a confidence of 0.8 is right in 80% of the rows. Below: how many rows there are.",
    )


def groups(name: str, what: str, parts: Mapping[str, Mapping[str, Any]]) -> Figure:
    """One bar a clip or venue, with its interval where it has several clips; `parts`: summaries by name."""
    rows = {
        group: {
            "stage": 2,
            "accuracy": part["accuracy"]["grid512_4px"],
            "accuracy_interval": (part["interval95"]["accuracy"] or {}).get("grid512_4px"),
        }
        for group, part in parts.items()
    }
    return drawn(
        name,
        f"accuracy of each {what}: {', '.join(rows)}",
        lambda: charts_lineage.bars(_named(rows), "accuracy", "accuracy, 4 px of 512x288", f"by {what}"),
        "Black: 95% interval over the clips of a venue." if what == "venue" else "",
    )


def over(name: str, measure: str, unit: str, tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Median error and share missed over speed or size; `tables`: of `failures.binned` by set."""
    return drawn(
        name,
        f"median error and share missed over the shuttle's {measure}: {', '.join(tables)}",
        lambda: failure_charts.error_over(_named(tables), measure, unit),
        "Lines at the marks: 95% intervals over half seconds, since neighbouring frames are near-copies.",
    )


def causes(name: str, table: pd.DataFrame) -> Figure:
    """Error rate of the frames that have a cause; `table`: of `failures.by_cause`."""
    return drawn(
        name,
        f"error rate by cause: {', '.join(map(str, table.index))}",
        lambda: failure_charts.cause_bars(table),
        "A frame may have several causes; they are read from labels and pixels alone.",
    )


def speeds(name: str, fps: Mapping[str, float], unit: str) -> Figure:
    """One bar a backend."""
    rows = {backend: {"stage": 1, "speed": value} for backend, value in fps.items()}
    return drawn(
        name,
        f"{unit} by backend: {', '.join(rows)}",
        lambda: charts_lineage.bars(_named(rows), "speed", unit, "by backend"),
    )


def learning(name: str, series: Mapping[str, Sequence[Sequence[float]]]) -> Figure | None:
    """What training logged, a panel a measure; None where nothing of `PANELS` is there.

    Args:
        series: [step, value] pairs by tag, as TensorBoard names them.
    """
    shown = {title: tags for title, tags in PANELS.items() if any(tag in series for tag in tags)}
    if not shown:
        return None

    def draw() -> mpl.Figure:
        columns = min(2, len(shown))
        rows = -(-len(shown) // columns)
        figure, axes = new_figure(rows, columns, (3.6 * columns, 2.5 * rows))
        for axis in axes.flat[len(shown) :]:
            axis.set_axis_off()
        for axis, (title, tags) in zip(axes.flat, shown.items()):
            for tag, color in zip(tags, (VERMILION, BLUE)):
                if tag in series:
                    steps, values = np.array(series[tag], np.float64).T
                    mark = "o" if len(steps) < 60 else ""
                    label = "training" if color == VERMILION else "validation"
                    axis.plot(steps, values, color=color, marker=mark, ms=2.5, lw=1.5, label=label)
            style(axis, "step", "", title)
            if title == "loss":
                axis.legend(frameon=False, fontsize=9)
        return figure

    return drawn(name, f"training: {', '.join(shown)} over the steps", draw)


def lineage(rows: Mapping[str, Mapping[str, Any]], hardware: str) -> list[Figure]:
    """Accuracy of all rows, and accuracy against the time of one look."""
    return [
        drawn(
            "lineage-accuracy",
            "accuracy of every version on samples",
            lambda: charts_lineage.bars(
                rows, "accuracy", "share of samples", "accuracy, 4 px of the 512x288 grid"
            ),
        ),
        drawn(
            "lineage-latency",
            "accuracy against the time of one look",
            lambda: charts_lineage.accuracy_against_latency(rows, hardware),
        ),
    ]


def over_time(name: str, rows: Mapping[str, Mapping[str, Any]], hardware: str) -> Figure:
    """Validation accuracy of some rows of the lineage against the minutes of their training."""
    histories = {version: pd.DataFrame(row["history"]) for version, row in rows.items()}
    return drawn(
        name,
        f"accuracy over the minutes of training: {', '.join(rows)}",
        lambda: charts_lineage.accuracy_over_time(histories, hardware),
    )


def _named(items: Mapping[str, Any]) -> dict[str, Any]:
    """The same under names that matplotlib does not take for formulas."""
    return {name.replace("$", r"\$"): item for name, item in items.items()}


def _plain(svg: str, name: str) -> str:
    """Without absolute sizes, with ids that are this figure's own, dark text and lines in `INK`."""
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    width = float(re.search(r'<svg[^>]*? width="([\d.]+)pt"', svg)[1]) * 4 / 3  # type: ignore[index] # always
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 width="{width:.0f}"', svg, count=1)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    mark = f"f{zlib.crc32(name.encode()):x}-"  # several drawings share a page
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{mark}{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{mark}", svg)
    # a hundredth of a point is not seen; numbers between the tags are for people
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub("#e3e3e3", FAINT, _DARK.sub(INK, svg), flags=re.IGNORECASE)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
