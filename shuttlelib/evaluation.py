"""Folders of tracks against folders of labels: finding and matching; behind `shuttle evaluate`.

What the numbers mean is in `metrics`; this module only reads files.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from shuttlelib import clips, importers, labels, splits, video
from shuttlelib.files import is_stray
from shuttlelib.geometry import CANONICAL_HW, SizeHW
from shuttlelib.labels import ClipInfo, wrong_separator
from shuttlelib.metrics import ClipScore, MetricsError, check_table, score_clip, summarize


def evaluate_folders(
    pred_dir: str | Path, labels_dir: str | Path, size_hw: SizeHW | None = None
) -> dict[str, Any]:
    """Score every `<stem>.csv` of one folder against `<stem>.parquet|csv|json` of another.

    Args:
        pred_dir: tracker output; a `<stem>.json` beside it may carry `width` and `height`.
        labels_dir: labels of any supported format (`<stem>_ball.csv` too); `splits.csv` gives venues, the
            video `<stem>` the frame size. Rows that cleanup flagged as unusable count as unlabelled.
        size_hw: frame size of all clips; None finds it for each clip.

    Raises:
        MetricsError: nothing matches, no frame is labelled, a table is malformed, or a frame size cannot be
            known.
        LabelError: labels or `splits.csv` cannot be read.
    """
    pred_paths = _tables(Path(pred_dir), (".csv",))
    label_paths = _tables(Path(labels_dir), (".parquet", ".csv", ".json"))
    for stem in [stem for stem in label_paths if stem.lower().endswith("_ball") and stem not in pred_paths]:
        label_paths.setdefault(stem[: -len("_ball")], label_paths.pop(stem))
    stems = sorted(set(pred_paths) & set(label_paths))
    if not stems:
        raise MetricsError(
            f"no prediction matches a label: {pred_dir} has {_names(pred_paths)}, {labels_dir} has "
            f"{_names(label_paths)}; name both <stem>.csv and <stem>.(parquet|csv|json)"
        )
    for folder, lonely in (
        (pred_dir, set(pred_paths) - set(stems)),
        (labels_dir, set(label_paths) - set(stems)),
    ):
        if lonely:
            _warn(f"without a partner, not scored: {_names(lonely)} in {folder}")
    scores: dict[str, ClipScore] = {}
    labelled = 0
    rates: dict[str, float] = {}
    for stem in stems:
        pred_path, label_path = pred_paths[stem], label_paths[stem]
        pred, told = _read_predictions(pred_path), _told(pred_path)
        kept = label_path.suffix.lower() == ".parquet"
        table, info = labels.read_table(label_path) if kept else (None, None)
        size = size_hw or _frame_size(pred, told, pred_path, label_path, info)
        if table is None:
            table = importers.read_labels(label_path, size, stem)
        truth = _possible(labels.usable(table), size, label_path)
        scores[stem] = score_clip(pred, truth, size, (str(pred_path), str(label_path)))
        labelled += len(truth)
        fps = _rate(told, pred_path, label_path, info)
        if fps is not None:
            rates[stem] = fps
        if len(truth) and scores[stem].missing_predictions == len(truth):
            _warn(f"{pred_path}: has none of the frames that are labelled")
    if not labelled:
        raise MetricsError(f"{labels_dir}: no frame of {_names(stems)} is labelled; write one row a frame")
    places = splits.read(labels_dir)
    trained = [stem for stem in stems if places.get(stem, ("", ""))[1] == "train"]
    if trained:
        _warn(f"{len(trained)} of {len(stems)} clips are of the train split ({_names(trained)})")
    return summarize(scores, {clip: venue for clip, (venue, _) in places.items()}, rates)


def _possible(truth: pd.DataFrame, size: SizeHW, path: Path) -> pd.DataFrame:
    """Labels less those that name a place where no shuttle can be: people write (0, 0) for not visible."""
    x, y = truth["x_px"], truth["y_px"]
    wrong = truth["visible"] & (((x == 0) & (y == 0)) | ~(x.between(0, size[1]) & y.between(0, size[0])))
    if wrong.any():
        where = (
            f"without a place, at (0, 0) or outside {size[1]}x{size[0]}, the first in frame "
            f"{truth['frame'][wrong].iloc[0]}"
        )
        _warn(f"{path}: {wrong.sum()} visible labels {where}, count as unlabelled; see `shuttle data clean`")
    return truth[~wrong]


def _read_predictions(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise MetricsError(
            f"{path}: cannot be read as CSV ({error}); `shuttle track` writes such files"
        ) from error
    if wrong := wrong_separator(",".join(map(str, table.columns))):
        raise MetricsError(f"{path}: {wrong}")
    return table


def _told(pred_path: Path) -> dict[str, Any]:
    """What the summary beside a track says of its video: width, height and fps, as far as they are there.

    Raises:
        MetricsError: the summary is no JSON, or one of them is no number above 0.
    """
    path = pred_path.with_suffix(".json")
    try:
        facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise MetricsError(f"{path}: not valid JSON ({error}); delete it or track the video again") from error
    told = {key: facts.get(key) for key in ("width", "height", "fps")} if isinstance(facts, dict) else {}
    told = {key: value for key, value in told.items() if value is not None}
    for key, value in told.items():
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise MetricsError(f"{path}: {key} is {value!r}, not a number above 0; track the video again")
    return told


def _frame_size(
    pred: pd.DataFrame, told: dict[str, Any], pred_path: Path, label_path: Path, info: ClipInfo | None
) -> SizeHW:
    """The clip's native size, from `info` and what lies beside predictions and labels; 1280x720 if it can be.

    Raises:
        MetricsError: it cannot be known, or labels and predictions are of different sizes.
    """
    clip = clips.video_beside(label_path, pred_path.stem)
    sizes: list[SizeHW] = []
    if {"width", "height"} <= set(told):
        sizes.append((int(told["height"]), int(told["width"])))
    if info is not None:
        sizes.append((info.height, info.width))
    elif clip:
        found = video.probe(clip)
        sizes.append((found.height, found.width))
    if len(set(sizes)) > 1:
        (h, w), (labels_h, labels_w) = sizes
        raise MetricsError(
            f"{label_path}: labels of a {labels_w}x{labels_h} video, but {pred_path} is the track of one of "
            f"{w}x{h}: track the video that was labelled"
        )
    if sizes:
        return sizes[0]
    check_table(pred, str(pred_path))
    far = pred.loc[pred["visible"].eq(1), ["x_px", "y_px"]].max()
    if far["x_px"] > CANONICAL_HW[1] or far["y_px"] > CANONICAL_HW[0]:
        raise MetricsError(
            f"{pred_path}: frame size unknown and points lie beyond 1280x720; give --size WIDTHxHEIGHT"
        )
    _warn(f"{pred_path}: frame size unknown, assuming 1280x720; --size WIDTHxHEIGHT says otherwise")
    return CANONICAL_HW


def _rate(told: dict[str, Any], pred_path: Path, label_path: Path, info: ClipInfo | None) -> float | None:
    """The clip's frame rate, where the labels' `info` or the track's summary tell."""
    tracked = told.get("fps")
    if info is None:
        return tracked
    if tracked is not None and abs(tracked / info.fps - 1) > 0.01:
        both = f"{tracked:g} frames a second, {label_path} labels of one at {info.fps:g}"
        _warn(f"{pred_path}: the track of a video at {both}: a frame number may mean another moment")
    return info.fps


def _tables(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Tables by stem; of several suffixes, which may be of any case, the first named wins."""
    if not folder.is_dir():
        raise MetricsError(f"{folder}: no such folder")
    return {
        p.stem: p
        for s in reversed(suffixes)
        for p in sorted(folder.iterdir())
        if p.suffix.lower() == s and p.name.lower() != "splits.csv" and not is_stray(p)
    }


def _names(stems: Iterable[str]) -> str:
    stems = sorted(stems)
    return (", ".join(stems[:8]) + (f" and {len(stems) - 8} more" if len(stems) > 8 else "")) or "none"


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
