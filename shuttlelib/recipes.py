"""The road's steps as single calls, for notebooks and the command line; on top of train and tracking.

A recipe only joins what the modules below offer: find or render the data, open caches, train a version,
mine a round, evaluate a pair free-running. Sizes come from the profile, behaviour from the spec.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from shuttlelib import (
    cache,
    calibration,
    clips,
    clusters,
    export,
    labels,
    metrics,
    mining,
    networks,
    paths,
    profiles,
    runs,
    runtime,
    splits,
    synth,
    tracking,
    train,
    troubles,
    validation,
)
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write, sha256, write_json
from shuttlelib.mixing import mixing_weights
from shuttlelib.samples import Samples
from shuttlelib.spec import Spec, check
from shuttlelib.train import TrainConfig
from shuttlelib.versions import resolve


@dataclass(frozen=True)
class Splits:
    """Training and validation samples of one stage, and the weights that mix real and rendered."""

    train: Samples
    val: Samples
    weights: np.ndarray


def ensure_data(data_dir: str | Path, profile: str, seed: int) -> Path:
    """The data folder to use, rendered first if it does not exist.

    Args:
        data_dir: a data folder; "" is `data/<profile>` of the repository, or in the folder SHUTTLE_DATA.
        profile: how much to render.

    Raises:
        ShuttleError: the folder holds something else.
    """
    size = profiles.get(profile)
    folder = Path(data_dir) if data_dir else paths.DATA / profile
    if not any(folder.glob("*.parquet")):
        if folder.exists() and any(folder.iterdir()):
            raise ShuttleError(f"{folder}: holds files but no clips (*.parquet); run `shuttle data import`")
        rendering = folder.with_name(f"{folder.name}.partial")
        rmtree(rendering, ignore_errors=True)
        views = ("broadcast", "broadcast", "corner", "broadcast", "wide", "side")
        sizes = (size.clips, seed, size.size_hw, size.fps, size.frames_per_clip, views, size.val_share)
        with tqdm(total=size.clips, desc="render", unit="clip", leave=False) as bar:
            synth.make_dataset(rendering, *sizes, bar.update)
        if folder.is_dir():
            folder.rmdir()
        rendering.rename(folder)  # only now, so that an interrupted rendering is not taken for data
        print(f"{size.clips} rendered rallies in {folder}")
    return folder


def load_data(data_dirs: Sequence[str | Path]) -> list[Clip]:
    """The clips of several data folders as one data set.

    Raises:
        LabelError: two clips of one name, or a venue or a video that is in the train split of one folder and
            in the val split of another.
    """
    dataset = [clip for folder in data_dirs for clip in clips.load_dataset(folder)]
    doubles = sorted(name for name, times in Counter(clip.name for clip in dataset).items() if times > 1)
    folders = ", ".join(map(str, data_dirs))
    if doubles:
        raise labels.LabelError(f"{folders}: clips {', '.join(doubles)} are in more than one; rename them")
    splits.check({clip.name: (clip.venue, clip.split) for clip in dataset}, Path(folders))
    of_video: dict[str, Clip] = {}
    for clip in dataset:
        twin = of_video.setdefault(clip.info.video_sha256 or clip.name, clip)  # "" where it is unknown
        if twin.split != clip.split:
            raise labels.LabelError(
                f"{clip.video_path} ({clip.split}) is the same video as {twin.video_path} ({twin.split}): "
                "put both into one split"
            )
    return dataset


def device() -> str:
    """Where networks run in notebooks and mining: the GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def hardware() -> str:
    """What trains here, by name."""
    if device() == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{runs.environment()['cpu']}, {threads} thread{'s'[: threads != 1]}"


def open_samples(
    spec: Spec, dataset: list[Clip], cache_dir: Path, seed: int = 0, stage1: Path | None = None
) -> Splits:
    """Samples of both splits for a version, decoding into `cache_dir` what is not there yet.

    Args:
        stage1: model folder of a stage-1 version whose false places a stage-2 version learns to reject.

    Raises:
        ShuttleError: `stage1` is not of stage 1.
    """
    false = None
    if spec.stage == 2 and stage1 is not None:
        false = _false_places(stage1, clips.split(dataset, "train"), cache_dir)
    changed = {"augmentation": train.augmentation(spec), "seed": seed, "distractors": false}
    augmented = samples_of(spec.in_training, clips.split(dataset, "train"), cache_dir, **changed)
    val = samples_of(spec, clips.split(dataset, "val"), cache_dir)
    return Splits(augmented, val, mixing_weights(augmented, spec.rendered_share))


def samples_of(spec: Spec, dataset: Sequence[Clip], cache_dir: Path, **options: Any) -> Samples:
    """Samples of some clips for a version, decoded where they are not yet; options of `Samples`."""
    whole_hw = spec.input_hw if spec.stage == 1 else None
    return Samples(cache.open_caches(dataset, cache_dir, whole_hw), spec, **options)


def _false_places(stage1: Path, dataset: list[Clip], cache_dir: Path) -> dict[str, np.ndarray]:
    """`mining.distractors` of a stage-1 version, kept beside the decoded frames: many rows ask for it."""
    card = runtime.read_card(stage1)
    if card["stage"] != 1:
        raise ShuttleError(f"{stage1}: holds {card['name']}; give a model folder of a stage-1 version")
    weights = sha256(stage1 / "model.safetensors")
    path = cache_dir / f"false-{weights[:16]}-{clips.data_hash(dataset)}.npz"
    if not path.is_file():
        rank = int(os.environ.get("LOCAL_RANK", 0))  # under torchrun each process has a GPU of its own
        with torch.cuda.device(rank if device() == "cuda" else -1):
            finder = networks.load(stage1, device())
            wholes = cache.open_caches(dataset, cache_dir, finder.net.spec.input_hw)
            found = mining.distractors(finder, wholes)
        with atomic_write(path) as temp, temp.open("wb") as file:
            np.savez(file, allow_pickle=False, **found)
    with np.load(path) as stored:
        return dict(stored)


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
        spec_overrides: e.g. {"pretrained": False} where the Hub cannot be reached.
        init, stage1, config: see `train_on`.

    Returns:
        What `train_on` returns and, where known, the data's revision on the Hub.
    """
    spec = resolve(name, **(spec_overrides or {}))
    result = train_on(spec, load_data(data_dirs), run_dir, cache_dir, seed, init, stage1, **config)
    revision = runs.data_revision(data_dirs)
    return {**result, **({"data_revision": revision} if revision else {})}


def train_on(
    spec: Spec,
    dataset: list[Clip],
    run_dir: Path,
    cache_dir: Path,
    seed: int = 0,
    init: Path | None = None,
    stage1: Path | None = None,
    **config: Any,
) -> dict[str, Any]:
    """Train a version on clips; `run_dir/best` holds the result.

    Args:
        dataset: clips of both splits.
        init: model folder to start from.
        stage1: see `open_samples`.
        config: fields of `TrainConfig` that differ from the version's own schedule.

    Returns:
        What `train.fit` returns, with version, data hash and hardware.
    """
    check(spec)
    schedule = TrainConfig.of(spec, seed=seed, **config)  # like the next lines: before minutes of decoding
    if init is not None:
        networks.start_from(networks.build(spec), init)
    clips.require_splits(dataset, "train", "val")
    samples = open_samples(spec, dataset, Path(cache_dir), seed, stage1)
    result = train.fit(spec, samples.train, samples.val, run_dir, schedule, samples.weights, init)
    facts = {"version": spec.name, "data_hash": clips.data_hash(dataset), "hardware": hardware()}
    return {**facts, **result}


def mine_round(
    model_dir: Path,
    samples: Splits,
    run_dir: Path,
    steps: int,
    params: mining.MiningParams,
    seed: int = 0,
    partner: Path | None = None,
    workers: int = 0,
) -> dict[str, Any]:
    """One round of hard-example mining: score, cluster, index, fine-tune, compare.

    Writes `scores.parquet`, `hard.parquet` (the index, clustered), `suspects.parquet`, `suspects/` (frames
    and Label Studio tasks) and the fine-tuned `best/` into `run_dir`. A round that was stopped goes on where
    it was: scores of the same weights, data, seed and params are used again, and so is half a training.

    Args:
        partner: model folder of the other stage; without it no disagreement is found.
        workers: loader processes of the fine-tuning.

    Returns:
        hard and suspects (counts), and of the old and the new model on val: before and after
        (`validation.validate`) and compared (rows of `mining.compare`). Where nothing is hard only the counts
        and before.

    Raises:
        MiningError: `run_dir` holds the fine-tuning of another round.
        TrainError: there is nothing to train or to validate on.
    """
    troubles.need_samples(run_dir, samples.train, samples.val)
    model_dir, run_dir, index = Path(model_dir), Path(run_dir), Path(run_dir) / "hard.parquet"
    model, other = networks.load(model_dir, device()), networks.load(partner, device()) if partner else None
    facts = {key: value for key, value in vars(params).items() if key != "groups"}  # of the pictures only
    facts |= {"seed": seed, "data": clips.data_hash([c.clip for c in samples.train.caches])}
    facts["weights"] = [sha256(Path(p) / "model.safetensors") for p in (model_dir, partner) if p]
    if (run_dir / "checkpoints").exists() and mining.stored(index, facts) is None:
        raise mining.MiningError(f"{run_dir}: holds another round; choose another folder or delete it")
    hard, doubtful = _find(model, other, samples.train, run_dir, params, facts)
    result: dict[str, Any] = {"hard": len(hard), "suspects": len(doubtful)}
    spec, rate = model.net.spec, {"lr": model.net.spec.lr / 5, "val_every": max(1, steps // 2)}
    config = TrainConfig.of(spec, steps=steps, batch=params.batch, seed=seed, workers=workers, **rate)
    limits = samples.val, params.batch, config.val_samples, device()
    result["before"] = validation.validate(model.net, *limits)
    if not len(hard):
        print(f"{run_dir}: nothing is hard, so nothing is fine-tuned")
        return result
    hard = mining.read_index(index, samples.train)
    weights = mining.mixed_weights(samples.weights, hard, params.hard_share)
    train.fit(spec, samples.train, samples.val, run_dir, config, weights, model_dir)
    tuned = networks.load(run_dir / "best", device())
    result["after"] = validation.validate(tuned.net, *limits)
    once, judged = replace(params, passes=1), []
    for each in (model, tuned):
        pair, _ = _pair(each, other, samples.val)
        judged.append(mining.score(each, samples.val, once, seed, pair))
    return {**result, "compared": mining.compare(judged[0], judged[1], params.misplaced_px).to_dict("index")}


def _find(
    model: networks.Deployed,
    other: networks.Deployed | None,
    samples: Samples,
    run_dir: Path,
    params: mining.MiningParams,
    facts: dict[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hard examples and suspects of a round, written into its folder; scores that are there are used."""
    pair, planes = _pair(model, other, samples)
    mixing = ("at_most", "hard_share")  # what may change without scoring again
    basis = {key: value for key, value in facts.items() if key not in mixing}
    basis["measures"] = [*clusters.MEASURES]
    scores = mining.stored(run_dir / "scores.parquet", basis)
    if scores is None:
        scores = mining.score(model, samples, params, facts["seed"], pair)
        scores = clusters.describe(scores, planes)
        mining.write_index(run_dir / "scores.parquet", scores, basis)
    hard = mining.hard_examples(scores, params.at_most)
    hard = clusters.cluster(hard, scores, params.groups, facts["seed"])
    doubtful = mining.suspects(scores)
    mining.write_index(run_dir / "hard.parquet", hard, facts)
    mining.write_index(run_dir / "suspects.parquet", doubtful, facts)
    clusters.export_suspects(doubtful, planes, run_dir / "suspects", model.net.spec.name)
    return hard, doubtful


def _pair(
    model: networks.Deployed, other: networks.Deployed | None, samples: Samples
) -> tuple[mining.Pair | None, list[cache.FrameCache]]:
    """Both stages on the clips of some samples (None without the other), and the clips' native planes."""
    folder, dataset = samples.caches[0].path.parent, [each.clip for each in samples.caches]
    planes = cache.open_caches(dataset, folder, None)
    if other is None:
        return None, planes
    stage1, stage2 = sorted((model, other), key=lambda each: each.net.spec.stage)
    if stage1.net.spec.stage == stage2.net.spec.stage:
        raise ShuttleError(f"partner {other.net.spec.name}: is of the same stage; give one of the other")
    wholes = cache.open_caches(dataset, folder, stage1.net.spec.input_hw)
    return mining.Pair(stage1, stage2, wholes, planes), planes


def evaluate_pair(
    networks_pair: tracking.Networks, dataset: list[Clip], out_dir: Path, mode: str = "smart"
) -> dict[str, Any]:
    """Track clips free-running and judge them: the metrics of `shuttle evaluate`, and the speed.

    `out_dir` gets the tracks, and what is returned as `metrics.json`.

    Returns:
        See `metrics.summarize`; with `speed_fps` over all clips and `trigger_counts`.

    Raises:
        VideoError: a video cannot be read, or is not the one that was labelled.
    """
    scores, frames, seconds, counts = {}, 0, 0.0, Counter[str]()
    for clip in tqdm(dataset, desc=f"track, {mode}", unit="clip", leave=False):
        clips.require_labelled(clip)
        track = tracking.track_video(clip.video_path, out_dir, mode, networks=networks_pair)
        prediction = pd.read_csv(track.csv)
        scores[clip.name] = metrics.score_clip(prediction, clip.table, clip.info.size_hw)
        frames, seconds = frames + track.summary["frames"], seconds + track.summary["seconds"]
        counts.update(track.summary["counts"])
    venues = {clip.name: clip.venue for clip in dataset}
    rates = {clip.name: clip.info.fps for clip in dataset}
    report = metrics.summarize(scores, venues, rates)
    extra = {"speed_fps": frames / max(seconds, 1e-9), "trigger_counts": dict(counts), "mode": mode}
    result = {**report, **extra, "confidence_curves": calibration.fit(scores.values())}
    write_json(out_dir / "metrics.json", result)
    return result


def make_pair(stage1: Path, stage2: Path, models_dir: Path) -> Path:
    """A models folder of two trained versions, exported and ready to track with.

    Args:
        stage1, stage2: model folders (a run's `best/`).
        models_dir: gets `<version>/` twice, each anew, and `default.json`; other versions in it stay.

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
            rmtree(target, ignore_errors=True)  # graphs and engines there may be of other weights
            copytree(source, target)
        export.export_onnx(target)
    write_json(models_dir / "default.json", names)
    return models_dir
