"""Rows of `shuttle bench` in, matplotlib Figure out: a leaf of the flow, beside `charts`."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shuttlelib.plots import BLUE, GREEN, GREY, ORANGE, PINK, SKY, new_figure

_STAGES = {  # what is drawn from left to right; hatches, since colour alone is not enough for everyone
    "decode": (GREY, ""),
    "preprocess": (SKY, "//"),
    "stage1": (BLUE, ""),
    "stage2": (GREEN, ".."),
    "post": (PINK, "\\\\"),
}


def bench_chart(rows: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Frames a second of each configuration, with what each pass gave, and where the time of a frame goes.

    Args:
        rows: see `bench`; those that did not run are left out.
    """
    ran = [row for row in rows if not row["reason"]]
    figure, axes = new_figure(1, 2, (11, 1.9 + 0.42 * len(ran)), sharey=True)
    _rates(axes[0, 0], ran)
    _stages(axes[0, 1], ran)
    axes[0, 0].set_yticks(range(len(ran)), [_name(row) for row in ran])
    axes[0, 0].invert_yaxis()
    if any(row["stages"] for row in ran):
        figure.legend(loc="outside lower right", ncols=len(_STAGES), frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _name(row: Mapping[str, Any]) -> str:
    streams = f", {row['streams']} at once" if row["streams"] > 1 else ""
    threads = f"{row['threads']} thread{'s'[: row['threads'] != 1]}"
    return f"{row['backend']} {row['precision']}, {row['mode']}, {threads}{streams}"


def _rates(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    most = max(row["end_to_end"]["fps_best"] for row in rows)
    for i, row in enumerate(rows):
        took, right = row["end_to_end"], row["accuracy"]
        axis.barh(i, took["fps"], color=BLUE, height=0.62)
        axis.plot(took["fps_runs"], [i] * len(took["fps_runs"]), "|", color=ORANGE, ms=9, mew=1.8)
        judged = f", accuracy {right['accuracy']:.3f}" if right else ""
        text = f"  {took['fps']:.0f}{judged}"
        axis.annotate(text, (took["fps_best"], i), va="center", fontsize=9)
    axis.set_xlim(0, most * 1.45)
    axis.set_xlabel("frames a second, end to end (marks: each pass)")


def _stages(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    named: set[str] = set()
    for i, row in enumerate(rows):
        left = 0.0
        for stage, (color, hatch) in _STAGES.items():
            span = row["stages"].get(stage)
            if not span:
                continue
            label = None if stage in named else stage.replace("stage", "stage ")
            named.add(stage)
            axis.barh(
                i,
                span["ms_per_frame"],
                left=left,
                color=color,
                hatch=hatch,
                edgecolor="white",
                height=0.62,
                label=label,
            )
            left += span["ms_per_frame"]
        if left:
            axis.annotate(f"  {left:.1f}", (left, i), va="center", fontsize=9)
    axis.set_xlabel("ms a frame, by stage (a pass of its own, one stream)")
    axis.margins(x=0.12)
    axis.tick_params(length=0)
