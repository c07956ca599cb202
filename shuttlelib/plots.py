"""Arrays in, matplotlib Figure out: every figure of notebooks and reports; a leaf of the flow.

Points are continuous image coordinates (the centre of the top-left pixel is (0.5, 0.5)). A prediction
is an orange ring, a label a blue cross, both with a dark rim so that they read on any court; the head
itself stays uncovered. Colours are Okabe and Ito's, which colour-blind readers can tell apart.

Figures are closed for pyplot before they are returned: a notebook shows one by naming it last in a
cell, and nothing piles up in memory.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, SKY, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#222222"
VERMILION, GREY = "#D55E00", "#8A8A8A"
CYCLE = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, BLACK)
RIM = [patheffects.withStroke(linewidth=2.6, foreground="#000000")]
UNITS = ("px", "ms", "s", "fps", "mb")
LOWER_IS_BETTER = ("_px", "_ms", "_s", "_mb", "_share", "_error", "loss", "parameters")
FEW = 4  # so many lines are named at their end; more get a legend
FAINT = 0.02  # a heatmap whose strongest cell has less probability is not stretched to full colour


def draw_points(
    image: np.ndarray,
    xy: np.ndarray,
    visible: np.ndarray | None = None,
    title: str = "",
    truth_xy: np.ndarray | None = None,
) -> Figure:
    """A frame with points.

    Args:
        image: (H, W, 3) uint8 RGB or (H, W) grey.
        xy: (N, 2) or (2,) px; nan is not drawn.
        visible: (N,) bool; None draws every finite point.
        title: above the frame; "(not visible)" is added where no point is drawn.
        truth_xy: (M, 2) or (2,) labels to compare with, px.
    """
    figure, axes = _figure(1, 1, (8, 8 * image.shape[0] / image.shape[1] + 0.4))
    points = np.atleast_2d(np.asarray(xy, np.float64))
    shown = points if visible is None else points[np.atleast_1d(np.asarray(visible, bool))]
    truth = np.empty((0, 2)) if truth_xy is None else np.atleast_2d(truth_xy)
    _show(axes[0, 0], image, title, shown, size=16)
    _cross(axes[0, 0], truth, size=16)
    _name_marks(axes[0, 0], truth_xy)
    return figure


def contact_sheet(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    points: Sequence[np.ndarray] | None = None,
    columns: int = 6,
) -> Figure:
    """Many small images in rows.

    Args:
        images: (h, w, 3) uint8 each.
        titles: one an image.
        points: one (2,) or (N, 2) an image, px; nan where not visible, which the title then says.
        columns: images a row.

    Raises:
        ValueError: titles or points are not as many as images.
    """
    for name, values in (("titles", titles), ("points", points)):
        if values is not None and len(values) != len(images):
            raise ValueError(f"{len(values)} {name} for {len(images)} images: give one an image")
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    shape = images[0].shape if len(images) else (9, 16)
    width = 12 / columns
    figure, axes = _figure(rows, columns, (12, rows * (width * shape[0] / shape[1] + 0.3)))
    for i, axis in enumerate(axes.flat):
        if i < len(images):
            _show(axis, images[i], titles[i], None if points is None else points[i], size=13)
        else:
            axis.set_axis_off()
    return figure


def filmstrip(frames: Sequence[np.ndarray], points: Sequence[np.ndarray], first_frame: int = 0) -> Figure:
    """Consecutive frames (h, w, 3) in a row, oldest first, each with its point (2,), nan if not visible."""
    titles = [f"frame {first_frame + i}" for i in range(len(frames))]
    return contact_sheet(frames, titles, points, columns=len(frames))


def prediction_sheet(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    points: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    columns: int = 6,
) -> Figure:
    """A contact sheet of predictions (rings) and labels (crosses), (2,) px each, nan where not visible."""
    figure = contact_sheet(images, titles, points, columns)
    for axis, title, truth in zip(figure.axes, titles, truths):
        _cross(axis, np.atleast_2d(truth), size=13)
        axis.set_title(title, loc="left", fontsize=9)  # which of the two is not visible, the marks say
    figure.suptitle("○ predicted   × label", x=1, ha="right", fontsize=9, color=GREY)
    return figure


def blend_heatmap(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """An image with a heatmap painted over it, for sheets and strips.

    Args:
        image: (H, W, 3) uint8.
        heatmap: (h, w) probabilities; the strongest cell is painted fully, unless it is `FAINT`.

    Returns:
        (H, W, 3) uint8: the picture in grey, cells in colour.
    """
    share = heatmap / max(float(heatmap.max()), FAINT)
    rows, columns = (np.arange(n) * m // n for n, m in zip(image.shape[:2], heatmap.shape))
    share = share[rows][:, columns, None]
    grey = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    paint = plt.get_cmap("inferno")(share[..., 0])[..., :3] * 255
    alpha = share**0.5 * 0.85
    return np.asarray(grey * (1 - alpha) + paint * alpha, np.uint8)


def heatmap_overlay(
    image: np.ndarray,
    heatmap: np.ndarray,
    point: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """A heatmap over the image that the network saw.

    Args:
        image: (H, W, 3) uint8.
        heatmap: (h, w) probabilities, of any size; it covers the whole image.
        point, truth: (2,) px of the image, nan if not visible.
    """
    h, w = image.shape[:2]
    figure, axes = _figure(1, 1, (8, 8 * h / w + 0.4))
    axis = axes[0, 0]
    grey = np.asarray(image, np.float64).mean(-1) if image.ndim == 3 else image
    axis.imshow(grey, cmap="gray", extent=(0, w, h, 0), vmin=0, vmax=255)
    top = max(float(heatmap.max()), FAINT)
    layer = axis.imshow(
        heatmap,
        cmap="inferno",
        extent=(0, w, h, 0),
        vmin=0,
        vmax=top,
        alpha=np.clip(heatmap / top, 0, 1) ** 0.5 * 0.85,
        interpolation="nearest",
    )
    figure.colorbar(layer, cax=axis.inset_axes((1.01, 0, 0.015, 1)), label="probability")
    _ring(axis, np.empty((0, 2)) if point is None else np.atleast_2d(point), size=18, color=SKY)
    _cross(axis, np.empty((0, 2)) if truth is None else np.atleast_2d(truth), size=14, color="white")
    _bare(axis, title, (h, w))
    _name_marks(axis, truth)
    return figure


def augmentation_pairs(
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
    points_before: Sequence[np.ndarray],
    points_after: Sequence[np.ndarray],
    names: Sequence[str],
) -> Figure:
    """Each augmentation as a column: the sample above, what became of it below, both with their label.

    Args:
        before, after: (h, w, 3) uint8 each.
        points_before, points_after: (2,) px each, nan if not visible.
        names: of the augmentations.
    """
    width = 12 / max(1, len(names))
    tall = before[0].shape[0] / before[0].shape[1] if len(before) else 1.0
    figure, axes = _figure(2, len(names), (12, 2 * width * tall + 0.5))
    for i, name in enumerate(names):
        _show(axes[0, i], before[i], name, points_before[i], size=13)
        _show(axes[1, i], after[i], "", points_after[i], size=13)
    for axis, label in zip(axes[:, 0], ("before", "after")):
        axis.set_ylabel(label)
    return figure


def trajectory(
    table: pd.DataFrame, truth: pd.DataFrame | None = None, fps: float | None = None, title: str = ""
) -> Figure:
    """x and y over time; invisible stretches are gaps, shaded.

    Args:
        table: columns frame, visible, x_px, y_px.
        truth: the same columns of the labels, drawn beneath.
        fps: turns frame numbers into seconds.
    """
    figure, axes = _figure(2, 1, (10, 4.6), sharex=True)
    unit = 1 / fps if fps else 1.0
    seen = table["visible"].to_numpy(bool)
    for axis, column in zip(axes[:, 0], ("x_px", "y_px")):
        if truth is not None:
            there = truth[column].where(truth["visible"].astype(bool))
            axis.plot(truth["frame"] * unit, there, color=SKY, lw=5, alpha=0.6, label="label")
        axis.plot(
            table["frame"] * unit, table[column].where(seen), color=VERMILION, lw=1.4, label="predicted"
        )
        for start, stop in _runs(~seen):
            frames = table["frame"].to_numpy()
            axis.axvspan(
                (frames[start] - 0.5) * unit, (frames[stop - 1] + 0.5) * unit, color=GREY, alpha=0.2, lw=0
            )
        _label(axis, "", f"{column[0]} (px)")
    axes[1, 0].invert_yaxis()  # up in the picture is up in the plot
    axes[1, 0].set_xlabel("time (s)" if fps else "frame")
    axes[0, 0].set_title(f"{title}  (grey: not visible)".strip(), loc="left", fontsize=11)
    if truth is not None:
        axes[0, 0].legend(loc="upper right", ncols=2, frameon=False, bbox_to_anchor=(1, 1.2))
    return figure


def error_curve(
    curves: Mapping[str, Mapping[str, Any]], measure: str = "accuracy", grid: str = "grid512"
) -> Figure:
    """A measure over the tolerance, one line a name.

    Args:
        curves: the `curve` block of `metrics.summarize`, by name.
        measure: "accuracy" or "f1".
        grid: "grid512" or "native", where the tolerance is taken.
    """
    figure, axes = _figure(1, 1, (7, 4.2))
    axis = axes[0, 0]
    for color, (name, curve) in zip(_colors(len(curves)), curves.items()):
        values = np.array(curve[grid][measure], np.float64)  # null becomes nan, a gap
        axis.plot(curve["tolerance_px"], values, color=color, lw=2, marker="o", ms=3, label=name)
    axis.axvline(4, color=GREY, lw=1, ls=":")
    axis.annotate("4 px", (4, 0.02), xytext=(4, 0), textcoords="offset points", color=GREY, fontsize=9)
    axis.set(ylim=(0, 1.02), xlim=(0.7, 20.2), xticks=[1, 4, 8, 12, 16, 20])
    where = "on the 512x288 grid" if grid == "grid512" else "native"
    _label(axis, f"tolerance (px, {where})", measure)
    _name_lines(axis)
    return figure


def training_curves(history: pd.DataFrame) -> Figure:
    """A panel a measure over the steps (or epochs), training and validation together.

    Args:
        history: a column "step" or "epoch"; `train_<name>` holds training values, `val_<name>` or plain
            `<name>` validation values. "seconds" is left out.
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
    figure, axes = _figure(rows, wide, (4 * wide, 2.9 * rows))
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
        _label(axis, x, _title(panel))
        _name_lines(axis)
    return figure


def calibration(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Share of rows that are right over their confidence, and how many rows there are.

    Args:
        bins: `calibration["bins"]` of `metrics.summarize`: low, high, frames, confidence, right.
    """
    figure, axes = _figure(2, 1, (5, 5.6), sharex=True, heights=(3, 1))
    top, low = axes[:, 0]
    full = [b for b in bins if b["frames"]]
    top.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    top.annotate("perfect", (0.06, 0.09), color=GREY, fontsize=9, rotation=45, rotation_mode="anchor")
    said, was, frames = ([b[key] for b in full] for key in ("confidence", "right", "frames"))
    top.plot(said, was, color=BLUE, lw=1.2)
    top.scatter(said, was, s=20 + 100 * np.array(frames) / max(frames, default=1), color=BLUE)
    top.set(xlim=(0, 1), ylim=(0, 1.02))
    low.bar(
        [b["low"] for b in bins],
        [b["frames"] for b in bins],
        width=[0.94 * (b["high"] - b["low"]) for b in bins],
        align="edge",
        color=SKY,
    )
    _label(top, "", "share of rows that are right")
    _label(low, "confidence", "rows")
    return figure


def version_bars(table: pd.DataFrame) -> Figure:
    """Versions compared: a panel a column, a bar a row, the value at its end and the best one in colour.

    Args:
        table: index: version names; columns: numeric measures with units in their names. Columns whose
            name ends as in LOWER_IS_BETTER are better when lower.
    """
    count = max(1, len(table.columns))
    figure, axes = _figure(1, count, (2 + 2.6 * count, 1 + 0.36 * len(table)), sharey=True)
    for axis, column in zip(axes[0], table.columns):
        values = table[column].to_numpy(np.float64)
        lower = str(column).endswith(LOWER_IS_BETTER)
        best = None if np.isnan(values).all() else (np.nanargmin if lower else np.nanargmax)(values)
        colors = [BLUE if i == best else "#B8C4CE" for i in range(len(values))]
        axis.barh(range(len(values)), np.nan_to_num(values), color=colors)
        for i, value in enumerate(values):
            text = "–" if np.isnan(value) else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
            axis.annotate(f" {text}", (max(0.0, np.nan_to_num(value)), i), va="center", fontsize=9)
        axis.set_xlim(0, (np.nan_to_num(values).max() or 1) * 1.35)
        _label(axis, "lower is better" if lower else "higher is better", "", _title(str(column)))
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
    figure, axes = _figure(1, 1, (10, 0.9 + 0.42 * max(1, len(triggers))))
    axis, unit = axes[0, 0], 1 / fps if fps else 1.0
    for i, (frames, color) in enumerate(zip(triggers.values(), _colors(len(triggers)))):
        axis.eventplot(np.asarray(frames, np.float64) * unit, lineoffsets=i, linelengths=0.7, colors=color)
    names = [f"{name.replace('_', ' ')} ({len(frames)})" for name, frames in triggers.items()]
    axis.set_yticks(range(len(names)), names)
    axis.set(xlim=(0, max(1, frame_count) * unit), ylim=(len(names) - 0.5, -0.5))
    _label(axis, "time (s)" if fps else "frame", "")
    axis.grid(visible=False, axis="y")
    return figure


def speed_histogram(speeds: Mapping[str, np.ndarray], unit: str = "px per frame at 1280x720") -> Figure:
    """How fast the shuttle moves in the picture, one line a data set, as shares of its own frames.

    Args:
        speeds: (N,) by name; nan (an invisible neighbour) is left out.
        unit: of the speeds, for the axis.
    """
    figure, axes = _figure(1, 1, (7, 3.8))
    finite = {
        name: values[np.isfinite(values)] for name, values in ((n, np.asarray(v)) for n, v in speeds.items())
    }
    top = max((float(values.max()) for values in finite.values() if len(values)), default=1.0)
    edges = np.linspace(0, top or 1.0, 41)
    for color, (name, values) in zip(_colors(len(finite)), finite.items()):
        share = np.histogram(values, edges)[0] / max(1, len(values))
        axes[0, 0].stairs(share, edges, color=color, lw=1.8, label=f"{name} ({len(values)})")
        axes[0, 0].stairs(share, edges, color=color, fill=True, alpha=0.15)
    axes[0, 0].set(xlim=(0, edges[-1]), ylim=(0, None))
    _label(axes[0, 0], f"speed ({unit})", "share of frames")
    axes[0, 0].legend(frameon=False)
    return figure


def _figure(
    rows: int,
    columns: int,
    size: tuple[float, float],
    sharex: bool = False,
    sharey: bool = False,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """A figure (inches) and its axes (rows, columns).

    Made through pyplot, which is what teaches a notebook to show it, and closed there at once.
    """
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=size,
        sharex=sharex,
        sharey=sharey,
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    plt.close(figure)
    return figure, axes


def _show(axis: Axes, image: np.ndarray, title: str, points: np.ndarray | None, size: float) -> None:
    """An image with rings at its points; the title says when there should be one and is none."""
    h, w = image.shape[:2]
    axis.imshow(image, extent=(0, w, h, 0), cmap="gray" if image.ndim == 2 else None)
    if points is not None:
        drawn = _ring(axis, np.atleast_2d(np.asarray(points, np.float64)), size)
        title = title if drawn else f"{title} (not visible)".strip()
    _bare(axis, title, (h, w))


def _bare(axis: Axes, title: str, size_hw: tuple[int, int]) -> None:
    """An image needs no ticks, and its limits must not move for a point outside."""
    axis.set(xticks=[], yticks=[], xlim=(0, size_hw[1]), ylim=(size_hw[0], 0))
    axis.set_title(title, loc="left", fontsize=9)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _ring(axis: Axes, points: np.ndarray, size: float, color: str = ORANGE) -> int:
    """Open rings (points: (N, 2)) that leave the shuttle in view; how many were drawn."""
    points = points[np.isfinite(points).all(1)]
    axis.plot(*points.T, marker="o", ls="", ms=size, mew=1.4, mfc="none", mec=color, path_effects=RIM)
    return len(points)


def _cross(axis: Axes, points: np.ndarray, size: float, color: str = SKY) -> None:
    points = points[np.isfinite(points).all(1)]
    axis.plot(*points.T, marker="x", ls="", ms=size * 0.6, mew=1.4, color=color, path_effects=RIM)


def _name_marks(axis: Axes, truth: np.ndarray | None) -> None:
    """Say which mark is which where both are drawn."""
    if truth is not None:
        axis.set_title("○ predicted   × label", loc="right", fontsize=9, color=GREY)


def _label(axis: Axes, x: str, y: str, title: str = "") -> None:
    axis.set(xlabel=x, ylabel=y)
    axis.set_title(title, loc="left", fontsize=10)
    axis.grid(visible=True, color="#E3E3E3", lw=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


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


def _colors(count: int) -> list[str]:
    return [CYCLE[i % len(CYCLE)] for i in range(count)]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))
