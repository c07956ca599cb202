"""What notebooks look at: predictions of samples, close-ups, speeds, planted faults; on top of recipes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import default_collate

from shuttlelib import blocks, geometry, labels, networks, paths, runtime, tracking, train, video
from shuttlelib.augment import Augmentation
from shuttlelib.clips import Clip
from shuttlelib.labels import ClipInfo
from shuttlelib.recipes import ensure_data, make_pair
from shuttlelib.samples import Samples
from shuttlelib.versions import Spec


class Looked(NamedTuple):
    """What a network makes of some samples, for the eye.

    Attributes:
        images: (N, H, W, 3) uint8, the current frame of each sample as the network saw it.
        heatmaps: (N, h, w) probability of each cell; "nowhere" holds the rest.
        xy: (N, 2) best place, input px, whether it is believed or not.
        said: (N, 2) the same, nan where the network says that the head is not visible.
        truth: (N, 2) label, input px, nan where it is not visible.
        p_visible: (N,) probability that it is.
    """

    images: np.ndarray
    heatmaps: np.ndarray
    xy: np.ndarray
    said: np.ndarray
    truth: np.ndarray
    p_visible: np.ndarray


def look(model: networks.Deployed, samples: Samples, draws: Sequence[int | tuple[int, int]]) -> Looked:
    """Show samples (by number, or number and draw) to a network, in one batch."""
    batch = default_collate([samples[draw] for draw in draws])
    device = next(model.parameters()).device
    with torch.no_grad():
        prediction = model.net(batch["frames"].to(device), batch["history"].to(device))
        xy = model.net.decode(prediction, 1)[0][:, 0].float().cpu().numpy()
    p_visible = torch.sigmoid(prediction.visible_logit.float()).cpu().numpy()
    return Looked(
        batch["frames"][:, -1].permute(0, 2, 3, 1).numpy(),
        blocks.cell_probabilities(prediction.heatmap.float()).cpu().numpy(),
        xy,
        np.where(p_visible[:, None] >= 0.5, xy, np.nan),
        batch["xy"].numpy(),
        p_visible,
    )


def folders(
    run_dir: str | Path, data_dir: str | Path, profile: str, seed: int, cleaned: bool = True
) -> tuple[Path, Path]:
    """Where a notebook writes and what it reads.

    Args:
        run_dir: root of the run, one folder a notebook in it; "" is the repository's
            `runs/notebooks-<profile>`.
        data_dir: a data folder, rendered when missing or empty; "" is `run_dir/data` if there is one, else
            the repository's `data/<profile>`.
        profile, seed: of the rendering.
        cleaned: prefer the copy that notebook 01 left in this run, if it holds the same clips.

    Returns:
        The root and the data folder, absolute.
    """
    root = Path(run_dir).expanduser().resolve() if run_dir else paths.REPO / "runs" / f"notebooks-{profile}"
    data = Path(data_dir).expanduser().resolve() if data_dir else root / "data"
    if not any(data.glob("*.parquet")):
        data = ensure_data(data if data_dir else "", profile, seed)
    copy = root / "01_clean_labels" / "data"
    names, copied = ({path.name for path in folder.glob("*.parquet")} for folder in (data, copy))
    return root, copy if cleaned and names == copied else data


def trained(root: Path, stage: int) -> Path:
    """Model folder of a stage: what notebook 03 or 04 trained in this run, else the shipped one."""
    best = root / {1: "03_train_stage1", 2: "04_train_stage2"}[stage] / "best"
    return best if (best / "version.json").is_file() else runtime.default_pair()[stage - 1]


def run_models(root: Path, own: Path) -> Path:
    """Models folder to track with: what notebook 07 exported, else what was trained, exported to `own`.

    A run that trained nothing gets the shipped models.
    """
    exported = root / "07_deploy_tensorrt" / "models"
    if (exported / "default.json").is_file():
        return exported
    pair = trained(root, 1), trained(root, 2)
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
    size_hw = clip.info.height // 2 * 2, clip.info.width // 2 * 2
    table = clip.table.drop_duplicates("frame").set_index("frame")[["x_px", "y_px"]]
    points = table.reindex(range(clip.info.frame_count))
    centers = points.ffill().bfill().fillna({"x_px": size_hw[1] / 2, "y_px": size_hw[0] / 2}).to_numpy()
    centers = centers.clip(0, (size_hw[1], size_hw[0]))
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for frame in video.read_frames(clip.video_path):
        if frame.index in frames:
            whole = geometry.full_window(size_hw, (360, 640))
            window = geometry.crop_window(centers[frame.index], size_hw, crop_px) if crop_px else whole
            point = geometry.frame_to_window(points.to_numpy()[frame.index], window)
            found[frame.index] = frame.window(window), point
        if frame.index >= max(frames):
            break
    return [found[number][0] for number in frames], [found[number][1] for number in frames]


def speeds(dataset: Sequence[Clip]) -> np.ndarray:
    """(N,) steps between neighbouring visible frames, px at 1280x720 in one thirtieth of a second."""
    steps = []
    for clip in dataset:
        seen = clip.table[clip.table["visible"]]
        step = np.hypot(seen["x_px"].diff(), seen["y_px"].diff())[seen["frame"].diff() == 1]
        steps.append(np.asarray(step) * geometry.canonical_scale(clip.info.size_hw) * clip.info.fps / 30)
    return np.concatenate(steps)


def augmentation_steps(spec: Spec) -> dict[str, Augmentation]:
    """Each transform of a version's training augmentation by its name, alone and never left to chance."""
    return train.augmentation(spec).steps()


TRIGGERS = ("start", "interval", "always", "lost", "unseen", "jump", "turn")


def trigger_frames(pair: tracking.Networks, clip: Clip, mode: str = "smart") -> dict[str, np.ndarray]:
    """Frame numbers at which each trigger of the tracker asked for a calibration; only those that did."""
    info = clip.info
    size_hw = info.height // 2 * 2, info.width // 2 * 2
    tracker = tracking.Tracker(
        pair.stage1, pair.stage2, size_hw, info.fps, mode, calibration=pair.calibration
    )
    fired: dict[str, list[int]] = {name: [] for name in TRIGGERS}
    for frame in video.read_frames(clip.video_path):
        before = tracker.counts.copy()
        tracker.step(frame)
        for name in (tracker.counts - before).keys() & fired.keys():
            fired[name].append(frame.index)
    return {name: np.array(frames) for name, frames in fired.items() if frames}


# How a right row becomes wrong: the rows that take its place; "at" is where they stand in the table.
FAULTS: dict[str, Callable[[dict[str, Any], ClipInfo], list[dict[str, Any]]]] = {
    "out_of_order": lambda row, info: [{**row, "at": row["at"] + 1.5}],
    "duplicate": lambda row, info: [row, row],
    "duplicate_conflict": lambda row, info: [row, {**row, "x_px": row["x_px"] / 2}],
    "beyond_end": lambda row, info: [row, {**row, "at": np.inf, "frame": info.frame_count + 4}],
    "zero_point": lambda row, info: [{**row, "x_px": 0.0, "y_px": 0.0}],
    "no_coordinates": lambda row, info: [{**row, "x_px": np.nan, "y_px": np.nan}],
    "out_of_frame": lambda row, info: [{**row, "x_px": info.width + 9.0}],
    "missing_frames": lambda row, info: [],
    "spike": lambda row, info: [{**row, "x_px": (row["x_px"] + info.width / 2) % info.width}],
    "flicker": lambda row, info: [{**row, "visible": False, "x_px": np.nan, "y_px": np.nan}],
}


def plant_faults(clip: Clip, seed: int, apart: int = 7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put known faults into a clip's labels, to see which of them cleanup finds.

    Each fault replaces a visible row whose neighbours are visible too, at least `apart` frames from the
    next fault; a short clip gets as many of `FAULTS` as it has room for, in an order drawn by `seed`.

    Returns:
        The faulty table, and what was planted: clip, frame (where cleanup should report it), check.
    """
    rng = np.random.default_rng(seed)
    seen = clip.table["visible"].astype(int).rolling(5, center=True).sum() == 5
    places = [int(n) for n in np.flatnonzero(seen) if n % apart == apart // 2]
    chosen = dict(zip(rng.permutation(places).tolist(), rng.permutation(list(FAULTS)).tolist()))
    rows: list[dict[str, Any]] = []
    planted: list[dict[str, Any]] = []
    for n, row in enumerate(clip.table.to_dict("records")):
        kept: dict[str, Any] = {**{str(k): v for k, v in row.items()}, "at": float(n)}
        kind = chosen.get(n)
        wrong = FAULTS[kind](kept, clip.info) if kind else [kept]
        rows += wrong
        if kind:
            frame = wrong[-1]["frame"] if wrong else row["frame"] + 1  # a gap is reported by the row after it
            planted.append({"clip": clip.name, "frame": frame, "check": kind})
    table = pd.DataFrame(rows).sort_values("at", kind="stable").drop(columns="at")
    return labels.as_canonical(table), pd.DataFrame(planted, columns=["clip", "frame", "check"])
