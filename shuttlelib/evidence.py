"""What notebooks look at: predictions of samples, frames, close-ups, speeds; by recipes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shuttlelib import clips, geometry, networks, paths, runtime, validation, video
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError
from shuttlelib.files import sha256
from shuttlelib.recipes import ensure_data, make_pair
from shuttlelib.samples import Item, Samples
from shuttlelib.validation import Looked


def look(model: networks.Deployed, samples: Samples, draws: Sequence[Item]) -> Looked:
    """Show samples (by number, or number and draw) to a model, in one batch."""
    return validation.look(model.net, samples, draws)


def motion(item: Mapping[str, Tensor]) -> float:
    """How far the shuttle of a sample went in three steps, in sides of the picture; 0 unless well inside."""
    now = item["xy"] / torch.tensor(item["frames"].shape[:-3:-1])
    track = torch.cat([item["history"][-3:, :2], now[None]])
    inside = ((track > 0.1) & (track < 0.9)).all()  # never what is not visible: 0 or nan
    return float((track[-1] - track[0]).norm()) if inside else 0.0


def folders(
    run_dir: str | Path, data_dir: str | Path, profile: str, seed: int, cleaned: bool = True
) -> tuple[Path, Path]:
    """Where a notebook writes and what it reads.

    Args:
        run_dir: root of the run, one folder a notebook in it; "" is the repository's
            `runs/notebooks-<profile>`.
        data_dir: a data folder; "" is `run_dir/data` if there is one, else the repository's `data/<profile>`
            (of SHUTTLE_DATA, where that is set). Only these two are rendered when they are missing.
        profile, seed: of the rendering.
        cleaned: where notebook 01 ran in this run, read its copy.

    Returns:
        The root and the data folder, absolute.

    Raises:
        ShuttleError: there are no clips in `data_dir`; or notebook 01 ran, but not on these clips, labels
            and splits.
    """
    root = paths.from_repo(run_dir or f"runs/notebooks-{profile}")
    data = paths.from_repo(data_dir) if data_dir else root / "data"
    if not any(data.glob("*.parquet")):
        if data not in [folder.resolve() for folder in (root / "data", paths.DATA / profile)]:
            raise ShuttleError(
                f"{data}: no clips (*.parquet) there; make some with `shuttle data import`, or leave "
                "data_dir empty for rendered rallies"
            )
        data = ensure_data(data if data_dir else "", profile, seed)
    copies = root / "01_clean_labels"
    if not cleaned or data.parent == copies or not any(copies.glob("*/*.parquet")):
        return root, data
    copy = cleaned_copy(root, clips.load_dataset(data, raw=True))
    names, copied = ({path.name for path in folder.glob("[!.]*.parquet")} for folder in (data, copy))
    if names != copied:
        raise ShuttleError(f"{copies}: cleaned other labels than {data} holds now; run 01_clean_labels again")
    return root, copy


def cleaned_copy(root: Path, dataset: Sequence[Clip]) -> Path:
    """Where notebook 01 puts the cleaned copy of some clips, another place for other labels or splits."""
    return root / "01_clean_labels" / f"data-{clips.data_hash(dataset)}"


def trained(root: Path, stage: int) -> Path:
    """Model folder of a stage: what notebook 03 or 04 trained in this run, else the shipped one."""
    best = root / {1: "03_train_stage1", 2: "04_train_stage2"}[stage] / "best"
    return best if (best / "version.json").is_file() else runtime.default_pair()[stage - 1]


def run_models(root: Path, own: Path) -> Path:
    """Models folder to track with: what notebook 07 exported, else what was trained, exported to `own`.

    An export of other weights than the run has now is left alone. A run that trained nothing gets the shipped
    models.
    """
    exported, pair = root / "07_deploy_tensorrt" / "models", (trained(root, 1), trained(root, 2))
    if (exported / "default.json").is_file():
        files = [folder / "model.safetensors" for folder in (*runtime.default_pair(exported), *pair)]
        if [*map(sha256, files[:2])] == [*map(sha256, files[2:])]:
            return exported
    return paths.MODELS if pair == runtime.default_pair() else make_pair(*pair, own)


def views(clip: Clip, frames: Sequence[int], crop_px: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames of a clip with their labels, whole or as close-ups, for a contact sheet.

    Args:
        frames: frame numbers, in the order of the result.
        crop_px: side of a close-up around the label (the last one before it where there is none), in px
            of a 1280x720 frame; 0 shows whole frames, 640x360.

    Returns:
        Images uint8 (h, w, 3) and points (2,) px of the image, nan where not visible.
    """
    size_hw = clip.info.even_hw
    points, centers = clip.heads().to_numpy(), clip.near_heads()
    windows = {
        frame: geometry.crop_window(centers[frame].clip(0, size_hw[::-1]), size_hw, crop_px)
        if crop_px
        else geometry.full_window(size_hw, (360, 640))
        for frame in frames
    }
    found = cut(clip, windows)
    marks = [geometry.frame_to_window(points[frame], windows[frame]) for frame in frames]
    return [found[frame] for frame in frames], marks


def close_ups(
    dataset: Sequence[Clip], rows: pd.DataFrame, crop_px: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Judged frames of several clips close up, for `plots.prediction_sheet`.

    Args:
        dataset: the clips that `rows` speak of.
        rows: clip, frame and the columns of `metrics.outcomes`; one row a clip and frame at most. A row
            without a clip leaves a blank.
        crop_px: side, in px of a 1280x720 frame, around the label, or where the shuttle was said to be,
            or the middle of the frame.

    Returns:
        Images uint8 (crop_px, crop_px, 3), points said and labels (2,) px of the image, nan where none.
    """
    images = [np.full((crop_px, crop_px, 3), 255, np.uint8)] * len(rows)
    answers, heads = [np.full(2, np.nan)] * len(rows), [np.full(2, np.nan)] * len(rows)
    for clip in dataset:
        mine = rows.reset_index(drop=True).query("clip == @clip.name")
        said, truth = (mine[[f"{w}x_px", f"{w}y_px"]].to_numpy(float) for w in ("", "true_"))
        size_hw, frames = clip.info.even_hw, mine["frame"].astype(int)
        middle = np.where(np.isfinite(truth), truth, said)
        middle = np.where(np.isfinite(middle), middle, np.array(size_hw[::-1]) / 2)
        windows = [geometry.crop_window(xy, size_hw, crop_px) for xy in middle]
        found = cut(clip, dict(zip(frames, windows)))
        for number, frame, window, *marks in zip(mine.index, frames, windows, said, truth):
            images[number] = found[frame]
            answers[number], heads[number] = (geometry.frame_to_window(xy, window) for xy in marks)
    return images, answers, heads


def cut(clip: Clip, windows: Mapping[int, geometry.Window]) -> dict[int, np.ndarray]:
    """A window of each of some frames of a clip, uint8 (h, w, 3), in one pass over the video."""
    found: dict[int, np.ndarray] = {}
    for frame in video.read_frames(clip.video_path):
        if frame.index in windows:
            found[frame.index] = frame.window(windows[frame.index])
        if frame.index >= max(windows, default=0):
            break
    return found


def speeds(dataset: Sequence[Clip]) -> np.ndarray:
    """(N,) steps between neighbouring visible frames, px at 1280x720 in one thirtieth of a second."""
    units = [geometry.canonical_scale(clip.info.size_hw) * clip.info.fps / 30 for clip in dataset]
    return np.concatenate([np.empty(0), *(clip.steps_px() * unit for clip, unit in zip(dataset, units))])
