"""Evaluate the pair for a report: metrics, errors by circumstance, the frames worth a look; needs the data.

What comes back is small and plain, so that `store.keep` can put it beside the weights.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pandas as pd

from shuttlelib import clips, evidence, failures, geometry, recipes, runtime, tracking
from shuttlelib.clips import Clip
from shuttlelib.files import plain
from shuttlelib.geometry import Window
from shuttlelib.report.store import weights

SPEED_EDGES = np.array([0, 2, 5, 10, 20, 40, np.inf])  # px at 1280x720 in one frame
SIZE_EDGES = np.array([0, 3, 4, 5, 6, 8, np.inf])  # native px across the motion
WORST, TYPICAL = 8, 4  # pictures of a set
PICTURE_HW = (270, 480)
QUALITY = 80  # of a picture: JPEG, which Chromium puts into a PDF as it is
RING, CROSS = (230, 159, 0), (86, 180, 233)  # the colours of `plots`: where it was said to be, and the label


def evaluate(
    models: Path, sets: Mapping[str, Sequence[Clip]], private: bool = False
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Track clips free-running with the pair and look closely at what came out.

    Args:
        models: folder of models; its default pair is judged.
        sets: clips by the name that the report gives them.
        private: pictures of every set; otherwise of rendered rallies only.

    Returns:
        JSON-ready values: pair (weights by name), and by set its data hash, `summary` (as
        `metrics.summarize`), `speed` and `size` (rows of `failures.binned`), `causes` (rows of
        `failures.by_cause`) and `gallery` (the frames to look at, each with its picture's name); and the
        pictures, JPEG, by name.
    """
    pair, folders = tracking.load_networks(models_dir=models), runtime.default_pair(models)
    found: dict[str, Any] = {}
    pictures: dict[str, bytes] = {}
    for number, (name, dataset) in enumerate(sets.items(), 1):
        with TemporaryDirectory(prefix="shuttle-report-") as out:
            summary = recipes.evaluate_pair(pair, list(dataset), Path(out))
            tables = {c.name: pd.read_csv(Path(out) / f"{c.video_path.stem}.csv") for c in dataset}
        for key in ("speed_fps", "confidence_curves"):  # the machine's, and what publishing fits
            summary.pop(key)
        rows = judged(dataset, tables)
        found[name] = {
            "data_hash": clips.data_hash(list(dataset)),
            "summary": summary,
            "speed": _records(failures.binned(rows, "step_px", SPEED_EDGES)),
            "size": _records(failures.binned(rows, "size_px", SIZE_EDGES)),
            "causes": _records(
                failures.by_cause(rows, failures.causes(rows)).rename_axis("cause").reset_index()
            ),
            "gallery": [],
        }
        if private or all(_without_footage(clip) for clip in dataset):
            stem = f"{slug(name)}-{number}"  # names in other letters have one slug
            found[name]["gallery"], shown = gallery(stem, dataset, rows)
            pictures |= shown
    return {"pair": {folder.name: weights(folder) for folder in folders}, "sets": found}, pictures


def _without_footage(clip: Clip) -> bool:
    """Whether its pictures are rendered too, not only its shuttle."""
    return len(clip.table) > 0 and bool((clip.table["origin"] == "synthetic").all())


def judged(dataset: Sequence[Clip], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every labelled frame: its outcome (`metrics.outcomes`) and `failures.circumstances`."""
    parts = [
        failures.judge(clip, tables[clip.name]).merge(failures.circumstances(clip), on=["clip", "frame"])
        for clip in dataset
    ]
    return pd.concat(parts, ignore_index=True)


def gallery(
    stem: str, dataset: Sequence[Clip], rows: pd.DataFrame
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The worst frames (wrong, and sure of it) and the typical ones (hits of median error).

    Args:
        stem: of the pictures' files.

    Returns:
        One entry a picture, with why (worst or typical), clip, frame, outcome, error_px (at 1920x1080),
        confidence and file; and the files.
    """
    entries, files = [], {}
    for why, picked in (("worst", worst(rows)), ("typical", typical(rows))):
        for n, row in enumerate(picked.to_dict("records"), 1):
            clip = next(clip for clip in dataset if clip.name == row["clip"])
            file = f"{stem}-{why}-{n}.jpg"
            files[file] = picture(clip, int(row["frame"]), _points(row))
            entries.append(
                {
                    "why": why,
                    "clip": row["clip"],
                    "frame": int(row["frame"]),
                    "outcome": row["outcome"],
                    "error_px": plain(row["error_px"], 6),
                    "confidence": plain(row["confidence"], 6),
                    "file": file,
                }
            )
    return entries, files


def worst(rows: pd.DataFrame) -> pd.DataFrame:
    """Wrong frames, the surest first, one of a half second at most."""
    wrong = rows[~rows["right"]].sort_values(["confidence", "error_px", "clip", "frame"], ascending=False)
    return wrong.drop_duplicates("stretch").head(WORST)


def typical(rows: pd.DataFrame) -> pd.DataFrame:
    """Hits whose error is nearest to the median of all hits, one of a half second at most, of many clips."""
    hits = rows[rows["outcome"] == "TP"]
    far = (hits["error_px"] - hits["error_px"].median()).abs()
    near = hits.assign(far=far).sort_values(["far", "clip", "frame"]).drop_duplicates("stretch")
    return near.assign(turn=near.groupby("clip").cumcount()).sort_values(["turn", "far"]).head(TYPICAL)


def picture(clip: Clip, frame: int, points: np.ndarray) -> bytes:
    """Part of a frame that shows where the shuttle was said to be (ring) and the label (cross), as JPEG.

    Args:
        points: (2, 2) said and labelled, native px, nan where not visible.
    """
    window = around(points, clip.info.even_hw)
    image = np.ascontiguousarray(evidence.cut(clip, {frame: window})[frame])
    for xy, mark in zip(geometry.frame_to_window(points, window), (_ring, _cross)):
        if np.isfinite(xy).all():
            mark(image, xy)
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def around(points: np.ndarray, size_hw: geometry.SizeHW) -> Window:
    """A window of the picture's shape that holds the points, at 1280x720 scale or coarser."""
    there = points[np.isfinite(points).all(1)]
    low, high = (there.min(0), there.max(0)) if len(there) else (np.array(size_hw[::-1]) / 2,) * 2
    extent = (high - low) / PICTURE_HW[::-1] / 0.7  # of the picture, with a margin around
    scale = max(1 / geometry.canonical_scale(size_hw), float(extent.max()))
    scale = min(scale, size_hw[0] / PICTURE_HW[0], size_hw[1] / PICTURE_HW[1])
    w, h = PICTURE_HW[1] * scale, PICTURE_HW[0] * scale
    corner = np.clip((low + high) / 2 - (w / 2, h / 2), 0, (size_hw[1] - w, size_hw[0] - h))
    return Window(float(corner[0]), float(corner[1]), w, h, *PICTURE_HW)


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "set"


def _points(row: Mapping[Any, Any]) -> np.ndarray:
    return np.array([[row["x_px"], row["y_px"]], [row["true_x_px"], row["true_y_px"]]], np.float64)


def _ring(image: np.ndarray, xy: np.ndarray) -> None:
    for color, width in (((0, 0, 0), 5), (RING, 2)):
        cv2.circle(image, _fixed(xy), 14 * 16, color, width, cv2.LINE_AA, shift=4)


def _cross(image: np.ndarray, xy: np.ndarray) -> None:
    for color, width in (((0, 0, 0), 5), (CROSS, 2)):
        for dx, dy in ((1, 1), (1, -1)):  # four arms; the head itself stays uncovered
            for side in (-1, 1):
                ends = [xy + side * reach * np.array((dx, dy)) for reach in (5, 11)]
                cv2.line(image, _fixed(ends[0]), _fixed(ends[1]), color, width, cv2.LINE_AA, shift=4)


def _fixed(xy: np.ndarray) -> tuple[int, int]:
    """OpenCV's pixel-centre coordinates in sixteenths of a pixel."""
    return round((float(xy[0]) - 0.5) * 16), round((float(xy[1]) - 0.5) * 16)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return plain(table.to_dict("records"), 6)
