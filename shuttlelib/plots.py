"""Arrays in, matplotlib Figure out: every picture of notebooks and reports; a leaf of the flow.

Points are continuous image coordinates (the centre of the top-left pixel is (0.5, 0.5)). A prediction
is an orange ring, a label a blue cross, both with a dark rim so that they read on any court; the head
itself stays uncovered. Colours are Okabe and Ito's, which colour-blind readers can tell apart.

Figures are closed for pyplot before they are returned: a notebook shows one by naming it last in a
cell, and nothing piles up in memory.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, SKY, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#222222"
VERMILION, GREY = "#D55E00", "#8A8A8A"
CYCLE = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, BLACK)
RIM = [patheffects.withStroke(linewidth=2.6, foreground="#000000")]
FAINT = 0.02  # a heatmap whose strongest cell has less probability is not stretched to full colour


def contact_sheet(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    points: Sequence[np.ndarray | None] | None = None,
    columns: int = 6,
) -> Figure:
    """Many small images in rows.

    Args:
        images: (h, w, 3) uint8 each.
        titles: one an image.
        points: one (2,) or (N, 2) an image, px; nan where not visible, which the title then says; None
            says nothing of an image.
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
    figure, axes = new_figure(rows, columns, (12, rows * (width * shape[0] / shape[1] + 0.3)))
    for i, axis in enumerate(axes.flat):
        if i < len(images):
            _show(axis, images[i], titles[i], None if points is None else points[i])
        else:
            axis.set_axis_off()
    return figure


def filmstrip(frames: Sequence[np.ndarray], points: Sequence[np.ndarray], first_frame: int = 0) -> Figure:
    """Consecutive frames (h, w, 3) in a row, oldest first, each with its point (2,), nan if not visible.

    Frames after the last point are shown bare.
    """
    titles = [f"frame {first_frame + i}" for i in range(len(frames))]
    bare = [None] * (len(frames) - len(points))
    return contact_sheet(frames, titles, [*points, *bare], columns=len(frames))


def prediction_sheet(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    points: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    columns: int = 6,
    bare: bool = False,
) -> Figure:
    """A contact sheet of predictions (rings) and labels (crosses), (2,) px each, nan where not visible.

    With `bare` labels are open squares, which leave a heatmap below them in view.
    """
    figure = contact_sheet(images, titles, points, columns)
    for axis, title, truth in zip(figure.axes, titles, truths):
        if bare:
            _ring(axis, np.atleast_2d(truth), size=18, color=SKY, marker="s")
        else:
            _cross(axis, np.atleast_2d(truth), size=13)
        axis.set_title(title, loc="left", fontsize=9)  # which of the two is not visible, the marks say
    figure.suptitle(f"○ predicted   {'□' if bare else '×'} label", x=1, ha="right", fontsize=9, color=GREY)
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


def mark(image: np.ndarray, place: np.ndarray, label: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 with a ring at a place and a cross at a label, (2,) px; nan draws none."""
    image = image.copy()
    if np.isfinite(place).all():
        cv2.circle(image, tuple(map(int, place)), 7, _rgb(ORANGE), 1, cv2.LINE_AA)
    if np.isfinite(label).all():
        cv2.drawMarker(image, tuple(map(int, label)), _rgb(SKY), cv2.MARKER_TILTED_CROSS, 9)
    return image


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def row_sheet(
    rows: Mapping[str, Sequence[tuple[np.ndarray, str, np.ndarray, np.ndarray]]], columns: int = 8
) -> Figure:
    """A row of pictures for each of several groups, under the group's name.

    Args:
        rows: by name: image (h, w, 3) uint8, its title, prediction (2,) and label (2,), px of the image,
            nan where not visible; the first `columns` of each are shown.
    """
    figure = plt.figure(figsize=(12, max(1, len(rows)) * (12 / columns + 0.55)), layout="constrained")
    plt.close(figure)
    parts = figure.subfigures(max(1, len(rows)), 1, squeeze=False)[:, 0]
    for part, (name, pictures) in zip(parts, rows.items()):
        part.suptitle(name, x=0.005, ha="left", fontsize=11, weight="bold")
        for axis, picture in zip_longest(part.subplots(1, columns, squeeze=False)[0], pictures[:columns]):
            if picture is None:
                axis.set_axis_off()
                continue
            image, title, point, truth = picture
            _show(axis, image, title, point)
            _cross(axis, np.atleast_2d(truth), size=13)
            axis.set_title(title, loc="left", fontsize=8)
    return figure


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
    figure, axis = one_axis((8, 8 * h / w + 0.4))
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
    figure, axes = new_figure(2, len(names), (12, 2 * width * tall + 0.5))
    for i, name in enumerate(names):
        _show(axes[0, i], before[i], name, points_before[i])
        _show(axes[1, i], after[i], "", points_after[i])
    for axis, label in zip(axes[:, 0], ("before", "after")):
        axis.set_ylabel(label)
    return figure


def new_figure(
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


def one_axis(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure (inches) of a single axis, and that."""
    figure, axes = new_figure(1, 1, size)
    return figure, axes[0, 0]


def style(axis: Axes, x: str, y: str, title: str = "") -> None:
    """Names, a faint grid behind the lines, and no frame: the look of every chart."""
    axis.set(xlabel=x, ylabel=y)
    axis.set_title(title, loc="left", fontsize=10)
    axis.grid(visible=True, color="#E3E3E3", lw=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def colors(count: int) -> list[str]:
    """Colours of so many lines, from the start again when there are no more."""
    return [CYCLE[i % len(CYCLE)] for i in range(count)]


def _show(axis: Axes, image: np.ndarray, title: str, points: np.ndarray | None) -> None:
    """An image with rings at its points; the title says when there should be one and is none."""
    h, w = image.shape[:2]
    axis.imshow(image, extent=(0, w, h, 0), cmap="gray" if image.ndim == 2 else None)
    if points is not None:
        drawn = _ring(axis, np.atleast_2d(np.asarray(points, np.float64)), size=13)
        title = title if drawn else f"{title} (not visible)".strip()
    _bare(axis, title, (h, w))


def _bare(axis: Axes, title: str, size_hw: tuple[int, int]) -> None:
    """An image needs no ticks, and its limits must not move for a point outside."""
    axis.set(xticks=[], yticks=[], xlim=(0, size_hw[1]), ylim=(size_hw[0], 0))
    axis.set_title(title, loc="left", fontsize=9)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _ring(axis: Axes, points: np.ndarray, size: float, color: str = ORANGE, marker: str = "o") -> int:
    """Open rings (points: (N, 2)) that leave the shuttle in view; how many were drawn."""
    points = points[np.isfinite(points).all(1)]
    axis.plot(*points.T, marker=marker, ls="", ms=size, mew=1.4, mfc="none", mec=color, path_effects=RIM)
    return len(points)


def _cross(axis: Axes, points: np.ndarray, size: float, color: str = SKY) -> None:
    points = points[np.isfinite(points).all(1)]
    axis.plot(*points.T, marker="x", ls="", ms=size * 0.6, mew=1.4, color=color, path_effects=RIM)


def _name_marks(axis: Axes, truth: np.ndarray | None) -> None:
    """Say which mark is which where both are drawn."""
    if truth is not None:
        axis.set_title("○ predicted   × label", loc="right", fontsize=9, color=GREY)
