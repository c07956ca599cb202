"""The road's steps as single calls, for notebooks and the command line; the top of the flow.

A recipe only joins what the modules below offer: find or render the data, open caches, train a version,
mine a round, evaluate a pair free-running. Sizes come from the profile, behaviour from the spec.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import default_collate
from torchvision.transforms import v2

from shuttlelib import (
    blocks,
    cache,
    calibration,
    clips,
    export,
    geometry,
    labels,
    metrics,
    mining,
    networks,
    paths,
    profiles,
    runtime,
    splits,
    synth,
    tracking,
    train,
    video,
)
from shuttlelib.augment import Augmentation
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write
from shuttlelib.labels import ClipInfo
from shuttlelib.samples import Samples, mixing_weights
from shuttlelib.train import TrainConfig
from shuttlelib.versions import Spec, resolve


@dataclass(frozen=True)
class Splits:
    """Training and validation samples of one stage, and the weights that mix real and rendered."""

    train: Samples
    val: Samples
    weights: np.ndarray


def ensure_data(data_dir: str | Path, profile: str, seed: int) -> Path:
    """The data folder to use, rendered first if it does not exist.

    Args:
        data_dir: a data folder; "" is the repository's `data/<profile>`.
        profile: how much to render.
    """
    size = profiles.get(profile)
    folder = Path(data_dir) if data_dir else paths.REPO / "data" / profile
    if not any(folder.glob("*.parquet")):
        rendering = folder.with_name(f"{folder.name}.partial")
        rmtree(rendering, ignore_errors=True)
        views = ("broadcast", "broadcast", "corner", "broadcast", "wide", "side")
        synth.make_dataset(
            rendering, size.clips, seed, size.size_hw, size.fps, size.frames_per_clip, views, size.val_share
        )
        if folder.is_dir():
            folder.rmdir()  # empty: a folder with anything in it is not ours to replace
        rendering.rename(folder)  # only now, so that an interrupted rendering is not taken for data
    return folder


def load_data(data_dirs: Sequence[str | Path]) -> list[Clip]:
    """The clips of several data folders as one data set.

    Raises:
        LabelError: two clips of one name, or a venue that is in the train split of one folder and in the
            val split of another.
    """
    dataset = [clip for folder in data_dirs for clip in clips.load_dataset(folder)]
    names = [clip.name for clip in dataset]
    doubles = sorted({name for name in names if names.count(name) > 1})
    folders = ", ".join(map(str, data_dirs))
    if doubles:
        raise labels.LabelError(f"{folders}: clips {', '.join(doubles)} are in more than one; rename them")
    splits.check({clip.name: (clip.venue, clip.split) for clip in dataset}, Path(folders))
    return dataset


def device() -> str:
    """Where networks run in notebooks and mining: the GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_samples(
    spec: Spec, dataset: list[Clip], cache_dir: Path, seed: int = 0, stage1: Path | None = None
) -> Splits:
    """Samples of both splits for a version, decoding into `cache_dir` what is not there yet.

    Args:
        stage1: model folder of a stage-1 version whose false places a stage-2 version learns to reject.
    """
    whole_hw = spec.input_hw if spec.stage == 1 else None
    caches = {
        part: cache.open_caches(clips.split(dataset, part), cache_dir, whole_hw) for part in ("train", "val")
    }
    false = None
    if spec.stage == 2 and stage1 is not None:
        finder = networks.load(stage1, device())
        wholes = cache.open_caches(clips.split(dataset, "train"), cache_dir, finder.net.spec.input_hw)
        false = mining.distractors(finder, wholes, device=device())
    augmented = Samples(caches["train"], spec, train.augmentation(spec), seed, distractors=false)
    return Splits(augmented, Samples(caches["val"], spec), mixing_weights(augmented, spec.rendered_share))


def train_version(
    name: str,
    data_dirs: list[Path],
    run_dir: Path,
    cache_dir: Path,
    seed: int = 0,
    init: Path | None = None,
    stage1: Path | None = None,
    spec_overrides: dict[str, Any] | None = None,
    **config: Any,
) -> dict[str, Any]:
    """Train a version on one or more data folders; `run_dir/best` holds the result.

    Args:
        data_dirs: real and rendered folders alike; their splits are joined.
        init: model folder to start from.
        stage1: see `open_samples`.
        spec_overrides: e.g. {"pretrained": False} where the Hub cannot be reached.
        config: fields of `TrainConfig` that differ from the version's own schedule.

    Returns:
        What `train.fit` returns, with version and data hash.
    """
    spec = resolve(name, **(spec_overrides or {}))
    dataset = load_data(data_dirs)
    samples = open_samples(spec, dataset, Path(cache_dir), seed, stage1)
    result = train.fit(
        spec,
        samples.train,
        samples.val,
        Path(run_dir),
        TrainConfig.of(spec, seed=seed, **config),
        samples.weights,
        init,
    )
    return {"version": name, "data_hash": clips.data_hash(dataset), **result}


def mine_round(
    model_dir: Path,
    samples: Splits,
    run_dir: Path,
    passes: int,
    at_most: int,
    steps: int,
    batch: int,
    hard_share: float = 0.3,
    seed: int = 0,
) -> dict[str, Any]:
    """One round of hard-example mining: score, index, fine-tune, compare.

    Writes `scores.parquet`, `hard.parquet`, `suspects.parquet` and the fine-tuned `best/` into `run_dir`.

    Returns:
        before and after (validation metrics), hard and suspects (counts).
    """
    model = networks.load(model_dir, device())
    scores = mining.score(model, samples.train, passes, batch, device=device())
    hard, doubtful = mining.hard_examples(scores, at_most), mining.suspects(scores)
    for name, table in (("scores", scores), ("hard", hard), ("suspects", doubtful)):
        mining.write_index(Path(run_dir) / f"{name}.parquet", table)
    spec = model.net.spec
    config = TrainConfig.of(
        spec, steps=steps, batch=batch, lr=spec.lr / 5, val_every=max(1, steps // 2), seed=seed
    )
    weights = mining.mixed_weights(samples.weights, hard, hard_share)
    train.fit(spec, samples.train, samples.val, Path(run_dir), config, weights, model_dir)
    tuned = networks.load(Path(run_dir) / "best", device())
    before, after = (
        train.validate(each.net, samples.val, batch, config.val_samples, device()) for each in (model, tuned)
    )
    return {"before": before, "after": after, "hard": len(hard), "suspects": len(doubtful)}


def evaluate_pair(
    networks_pair: tracking.Networks, dataset: list[Clip], out_dir: Path, mode: str = "smart"
) -> dict[str, Any]:
    """Track clips free-running and judge them: the metrics of `shuttle evaluate`, and the speed.

    Returns:
        See `metrics.summarize`; with `speed_fps` over all clips and `trigger_counts`.
    """
    scores, frames, seconds = {}, 0, 0.0
    counts: dict[str, int] = {}
    for clip in dataset:
        result = tracking.track_video(clip.video_path, out_dir, mode, networks=networks_pair)
        prediction = pd.read_csv(result.csv)
        scores[clip.name] = metrics.score_clip(prediction, clip.table, clip.info.size_hw)
        frames, seconds = frames + result.summary["frames"], seconds + result.summary["seconds"]
        for key, value in result.summary["counts"].items():
            counts[key] = counts.get(key, 0) + value
    report = metrics.summarize(scores, {clip.name: clip.venue for clip in dataset})
    extra = {"speed_fps": frames / max(seconds, 1e-9), "trigger_counts": counts, "mode": mode}
    return {**report, **extra, "confidence_curves": calibration.fit(scores.values())}


def make_pair(stage1: Path, stage2: Path, models_dir: Path) -> Path:
    """A models folder of two trained versions, exported and ready to track with.

    Args:
        stage1, stage2: model folders (a run's `best/`).
        models_dir: gets `<version>/` twice and `default.json`; other versions in it stay.

    Raises:
        ShuttleError: a model folder is damaged or of the other stage.
    """
    names = {}
    for key, source in (("stage1", stage1), ("stage2", stage2)):
        card = runtime.read_card(source)
        if key != f"stage{card['stage']}":
            raise ShuttleError(f"{source}: is of stage {card['stage']}, not {key}; swap the two")
        names[key] = card["name"]
        target = models_dir / names[key]
        if source.resolve() != target.resolve():
            copytree(source, target, dirs_exist_ok=True)
        export.export_onnx(target)
    with atomic_write(models_dir / "default.json") as temp:
        temp.write_text(json.dumps(names, indent=2) + "\n")
    return models_dir


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
        steps.append(step.to_numpy() * geometry.canonical_scale(clip.info.size_hw) * clip.info.fps / 30)
    return np.concatenate(steps)


def augmentation_steps(spec: Spec) -> dict[str, Augmentation]:
    """Each transform of a version's training augmentation by its name, alone and never left to chance."""
    steps = {}
    for step in train.augmentation(spec).pipeline.transforms:
        inner = step.transforms[0] if isinstance(step, v2.RandomApply) else step
        if isinstance(inner, v2.RandomHorizontalFlip):
            inner = type(inner)(1.0)
        alone = train.augmentation(spec)
        alone.pipeline = v2.Compose([inner])
        steps[type(inner).__name__] = alone
    return steps


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
    rows, planted = [], []
    for n, row in enumerate(clip.table.to_dict("records")):
        kept = {**row, "at": float(n)}
        kind = chosen.get(n)
        wrong = FAULTS[kind](kept, clip.info) if kind else [kept]
        rows += wrong
        if kind:
            frame = wrong[-1]["frame"] if wrong else row["frame"] + 1  # a gap is reported by the row after it
            planted.append({"clip": clip.name, "frame": frame, "check": kind})
    table = pd.DataFrame(rows).sort_values("at", kind="stable").drop(columns="at")
    return labels.as_canonical(table), pd.DataFrame(planted, columns=["clip", "frame", "check"])
