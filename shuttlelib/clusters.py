"""What a model's failures have in common, and the labels among them that look wrong; beside `mining`.

Every scored frame gets a few measures that a person would name as a cause (speed, light, contrast, edge of
the frame); failures are clustered by them and each cluster is named by where it differs from all frames.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from shuttlelib import geometry, studio_tasks
from shuttlelib.cache import FrameCache
from shuttlelib.files import atomic_write
from shuttlelib.frames import Frame, history_stride
from shuttlelib.mining import KINDS

# What a low and a high value of a measure is called; "" is not worth a word.
MEASURES = {
    "speed_px": ("slower", "faster"),
    "edge_px": ("nearer the edge", "farther from the edge"),
    "from_top": ("higher in the frame", "lower in the frame"),
    "brightness": ("darker", "brighter"),
    "contrast": ("plainer background", "busier background"),
    "stands_out": ("stands out less", "stands out more"),
    "hidden_frames": ("", "just reappeared"),
}
PATCH_PX = 32  # around the place, px of a 1280x720 frame
NOTABLE = 0.75  # so many spreads away from the usual is worth a word


def describe(scores: pd.DataFrame, planes: Sequence[FrameCache]) -> pd.DataFrame:
    """Add `MEASURES` to the rows of `mining.score`, taken at `place_of`.

    Returns:
        The rows with speed_px (step to the label before or after, px of a 1280x720 frame in a thirtieth
        of a second; nan alone), edge_px (to the nearest edge, same px), from_top (0 top, 1 bottom),
        brightness and contrast (mean and spread of the light around, 0 to 255), stands_out (light of
        the spot itself against what is around), hidden_frames (since the last visible label, at most 30).
    """
    rows = []
    for cache in planes:
        size_hw, scale = cache.clip.info.even_hw, geometry.canonical_scale(cache.clip.info.even_hw)
        xy, stride = cache.clip.heads(), history_stride(cache.clip.info.fps)
        step = np.hypot(*xy.diff(stride).to_numpy().T)
        step = np.where(np.isfinite(step), step, np.hypot(*xy.diff(-stride).to_numpy().T)) * scale
        seen = pd.Series(np.where(xy["x_px"].notna(), xy.index, np.nan)).ffill().shift()
        here: Any = scores[scores["clip"] == cache.clip.name]
        for row in here.itertuples():
            place = place_of(row)
            image = cache.window(row.frame, geometry.crop_window(place, size_hw, PATCH_PX))
            light = image.mean(-1)
            spot = light[PATCH_PX // 2 - 3 : PATCH_PX // 2 + 3, PATCH_PX // 2 - 3 : PATCH_PX // 2 + 3]
            edge = np.minimum(place, np.array(size_hw[::-1]) - place).min() * scale
            hidden = min(30, row.frame - np.nan_to_num(seen[row.frame], nan=-np.inf) - 1)
            found = (step[row.frame], edge, place[1] / size_hw[0], light.mean(), light.std())
            rows.append((row.Index, *found, spot.mean() - np.median(light), hidden))
    table = pd.DataFrame(rows, columns=["row", *MEASURES]).set_index("row")
    return scores.join(table)


def cluster(failed: pd.DataFrame, scores: pd.DataFrame, groups: int = 5, seed: int = 0) -> pd.DataFrame:
    """Group failures by k-means over their measures and kind.

    Args:
        failed: rows of `describe`, e.g. those with a kind.
        scores: all rows of `describe`, which say what is usual.
        groups: clusters, at most one a row.

    Returns:
        The rows with cluster (0 the largest) and cause (what its rows have in common), largest first.
    """
    if not len(failed):
        return failed.assign(cluster=np.empty(0, int), cause="")
    usual = scores[list(MEASURES)]
    middle, width = usual.median(), (usual.quantile(0.84) - usual.quantile(0.16)) / 2
    apart = ((failed[list(MEASURES)] - middle) / width.where(width > 0, 1.0)).clip(-3, 3).fillna(0.0)
    kinds = np.array([failed["kind"] == kind for kind in KINDS]).T * 3.0  # a kind is as much as three spreads
    cv2.setRNGSeed(seed)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3)
    points = np.column_stack([apart, kinds]).astype(np.float32)
    if len(points) == 1:  # which OpenCV would take for many samples of one measure
        points = points.repeat(2, 0)
    chosen = cv2.kmeans(points, min(groups, len(failed)), None, criteria, 8, cv2.KMEANS_PP_CENTERS)[1]
    chosen = chosen[: len(failed), 0]
    order = pd.Series(chosen).value_counts(sort=True).index.tolist()
    table = failed.assign(cluster=[order.index(c) for c in chosen])
    names = {n: _cause(table[table["cluster"] == n], apart) for n in range(len(order))}
    table["cause"] = table["cluster"].map(names)
    return table.sort_values("cluster", kind="stable")


def close_ups(
    rows: pd.DataFrame, planes: Sequence[FrameCache], side_px: int = 96
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Pictures of scored frames around `place_of`; of suspects, label and answer in one picture.

    Returns:
        Images (side, side, 3) uint8, answers and labels (2,) px of the image, nan where there is none.
    """
    by_name = {cache.clip.name: cache for cache in planes}
    images, answers, labels = [], [], []
    each: Any = rows.itertuples()
    for row in each:
        cache = by_name[str(row.clip)]
        size_hw = cache.clip.info.even_hw
        both = np.array([(row.label_x_px, row.label_y_px), (row.x_px, row.y_px)], float)
        wide = np.hypot(*(both[0] - both[1])) * geometry.canonical_scale(size_hw) * 1.3
        fit = row.suspect and row.visible and wide > side_px
        center, zoom = (both.mean(0), side_px / wide) if fit else (place_of(row), 1.0)
        window = geometry.crop_window(center, size_hw, side_px, zoom)
        images.append(cache.window(int(row.frame), window))
        said = max(row.p_visible, np.nan_to_num(row.p_pair)) >= 0.5
        labels.append(geometry.frame_to_window(both[0], window))
        answers.append(geometry.frame_to_window(both[1], window) if said else np.full(2, np.nan))
    return images, answers, labels


def place_of(row: Any) -> np.ndarray:
    """(2,) native px: where to look at a scored frame: the label that was missed, the false answer."""
    at_label = row.visible and row.kind in ("", "miss", "misplaced")
    return np.array((row.label_x_px, row.label_y_px) if at_label else (row.x_px, row.y_px), float)


def export_suspects(found: pd.DataFrame, planes: Sequence[FrameCache], out_dir: Path, version: str) -> Path:
    """Write suspect labels for a person to decide: whole frames as JPEG and a Label Studio task file.

    Returns:
        `out_dir/tasks.json`; images are `<clip>_<frame>.jpg` beside it.
    """
    sizes = {}
    for cache in planes:
        sizes[cache.clip.name] = cache.clip.info.even_hw
        for number in found.loc[found["clip"] == cache.clip.name, "frame"].astype(int):
            frame = Frame(number, 0.0, cache.frames[number])
            with atomic_write(Path(out_dir) / f"{cache.clip.name}_{number:06d}.jpg") as temp:
                temp.write_bytes(cv2.imencode(".jpg", frame.rgb[..., ::-1])[1].tobytes())
    return studio_tasks.write_tasks(Path(out_dir) / "tasks.json", found, sizes, version)


def _cause(rows: pd.DataFrame, apart: pd.DataFrame) -> str:
    """What a cluster's rows have in common: their kind, and the measures farthest from the usual."""
    share = rows["kind"].value_counts(normalize=True)
    kind = str(share.index[0]) if share.iloc[0] > 0.8 else " or ".join(sorted(share.index[:2]))
    middle = apart.loc[rows.index].median()
    far = middle[middle.abs() >= NOTABLE].abs().sort_values(ascending=False).index[:3]
    words = [MEASURES[str(name)][int(middle[name] > 0)] for name in far]
    return f"{kind.replace('_', ' ')}: {', '.join(filter(None, words)) or 'nothing unusual'}"
