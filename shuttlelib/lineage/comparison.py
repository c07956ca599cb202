"""The lineage compared: every row measured, for the claims and `report.lineage`; behind
`shuttle train --lineage`, on top of training, measures and claims.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2s
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from shuttlelib import clips, export, files, networks, recipes, runtime, timebox, tracking, versions
from shuttlelib.clips import Clip
from shuttlelib.lineage import claims, measures, training
from shuttlelib.lineage.claims import Row
from shuttlelib.spec import Spec

MEASURES = {
    "accuracy": measures.accuracy,
    "placed_share": measures.placed_share,
    "median_px": measures.median_error,
}


@dataclass(frozen=True)
class Looks:
    """How closely rows are looked at once they are trained.

    Attributes:
        samples: of each split, judged one by one.
        clips: val clips tracked free-running; 0 tracks none.
        pair: stage-1 and stage-2 model folders that complete a row to a tracker.
        latency_runs: of each latency.
    """

    samples: int = 600
    clips: int = 3
    pair: tuple[Path, Path] | None = None
    latency_runs: int = 30


def measure_rows(
    results: Mapping[str, Mapping[str, Any]],
    dataset: list[Clip],
    out: Path,
    cache_dir: Path,
    looks: Looks,
    stage1: Path | None,
    say: Callable[[str], None],
) -> tuple[dict[str, dict[str, Any]], dict[str, Row]]:
    """Measure what `training.train_rows` trained; a row measured before in this way is not measured again.

    Returns:
        The comparison's entries by name (see `entry`), and what the claims are judged by.
    """
    entries, rows = {}, {}
    for name, result in results.items():
        folder = out / name
        spec = versions.resolve(name)
        if "error" in result:
            entries[name] = {**about(spec), "error": f"not trained: {result['error']}"}
            continue
        trained = Spec.from_dict(runtime.read_card(folder / "best"))
        kept = folder / f"measured-{_key(folder / 'best', looks)}"  # facts, and a folder of tables
        facts_file = kept.with_suffix(".json")
        try:
            facts = timebox.once(
                facts_file,
                lambda: _measure(trained, dataset, folder, kept, cache_dir, looks, stage1, say),  # noqa: B023 called at once
            )
        except Exception as error:  # the other rows are still worth measuring
            entries[name] = {**about(spec), "error": f"not measured: {type(error).__name__}: {error}"}
            continue
        if "free_error" in facts:  # tried again the next time
            facts_file.unlink(missing_ok=True)
        tables = {key: _read(kept / f"{key}.parquet") for key in ("train", "val", "noise")}
        history = pd.read_csv(folder / "history.csv")
        rows[name] = Row({**result, **facts, "noise_std": trained.noise_std}, history=history, **tables)
        entries[name] = entry(spec, result, facts, rows[name])
    return entries, rows


def _key(model: Path, looks: Looks) -> str:
    """What a measurement hangs on, shortened: how closely it looked, and the weights of all who took part."""
    weights = [files.sha256(each / "model.safetensors") for each in (model, *_completing(looks))]
    values = repr((looks.samples, looks.clips, looks.latency_runs, weights))
    return blake2s(values.encode(), digest_size=4).hexdigest()


def _completing(looks: Looks) -> tuple[Path, Path]:
    """The pair that completes a row to a tracker."""
    return looks.pair or runtime.default_pair()


def about(spec: Spec) -> dict[str, Any]:
    """What a row is: stage, parent, notes, what it changed of its parent, whether it is a baseline."""
    changed = versions.changes(spec.name)
    return {
        "stage": spec.stage,
        "parent": spec.parent,
        "notes": spec.notes,
        "baseline": spec.name in versions.baselines(),
        "changed": {field: [str(old), str(new)] for field, (old, new) in changed.items()},
    }


def entry(spec: Spec, result: Mapping[str, Any], facts: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """A row of the comparison.

    Positions are on single samples (whole frames for stage 1, crops centred near the label for stage 2), in
    px of the 512x288 grid for both stages; `<measure>_interval` is the 95% interval.
    """
    kept = ("parameters", "start", "batch", "steps", "seconds", "samples_per_s", "hardware", "data_hash")
    values: dict[str, Any] = {**about(spec), **{key: result[key] for key in kept}, **facts}
    losses = [float(table["loss"].mean()) for table in (row.train, row.val)]
    values |= {
        "train_loss": losses[0],
        "val_loss": losses[1],
        "loss_ratio": measures.ratio(losses[1], losses[0]),
    }
    for name, statistic in MEASURES.items():
        value, *limits = measures.interval([row.val], statistic)
        values |= {name: value, f"{name}_interval": limits}
    values["mean_px"] = float(row.val["error_px"].mean())
    values["fp2_share"] = measures.false_alarm_share(row.val)
    values["time_to_accuracy_s"] = training.time_to_accuracy(row.history)
    history = row.history.rename(columns={"accuracy_512": "accuracy", "accuracy": "strict"})
    values["history"] = history[["step", "seconds", "accuracy", "median_px"]].to_dict("list")
    return files.plain(values, 6)


def free_running(name: str, model: Path, dataset: list[Clip], out: Path, looks: Looks) -> dict[str, Any]:
    """Accuracy of the whole tracker with a row in its place; empty where it cannot track.

    A stage-1 row is completed by the pair's stage 2, a stage-2 row by its stage 1; a baseline tracks alone.
    """
    chosen = _spread(clips.split(dataset, "val"), looks.clips)
    if not chosen:
        return {}
    backend, mode = runtime.load(model, "torch", recipes.device()), "smart"
    first, second = _completing(looks)
    if name in versions.baselines():
        pair, mode = tracking.Networks(backend, None), tracking.WHOLE
    elif runtime.read_card(model)["stage"] == 1:
        pair = tracking.Networks(backend, runtime.load(second))
    else:
        pair = tracking.Networks(runtime.load(first), backend)
    report = recipes.evaluate_pair(pair, chosen, out, mode)
    return {
        "free_accuracy": report["accuracy"]["grid512_4px"],
        "free_accuracy_interval": (report["interval95"]["accuracy"] or {}).get("grid512_4px"),
        "free_f1": report["f1"]["grid512_4px"],
        "free_fp2_share": report["fp2_share"],
        "free_hit_error_hd_px": report["hit_error_px"]["1920x1080"],
        "free_fps": report["speed_fps"],
        "free_clips": [clip.name for clip in chosen],
    }


def _measure(
    spec: Spec,
    dataset: list[Clip],
    folder: Path,
    kept: Path,
    cache_dir: Path,
    looks: Looks,
    stage1: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Judge samples of both splits, price a look, track some clips; `kept` gets what single samples got."""
    say(f"measuring {spec.name}")
    device, best = recipes.device(), folder / "best"
    net = networks.load(best, device).net
    samples = recipes.open_samples(spec, dataset, cache_dir, stage1=stage1)
    tables = {
        "train": measures.judge(net, samples.train, looks.samples, device=device),
        "val": measures.judge(net, samples.val, looks.samples, device=device),
    }
    if spec.name in claims.NOISE:
        tables["noise"] = measures.noise_sweep(net, samples.val, looks.samples, device=device)
    for key, table in tables.items():
        with files.atomic_write(kept / f"{key}.parquet") as temp:
            table.to_parquet(temp, index=False)
    facts: dict[str, Any] = {"latency_ms": _latency(best, looks), "measured_on": recipes.hardware()}
    if spec.name in claims.EARLY:
        facts["latency_by_fusion_ms"] = _price_of_fusion(spec, looks)
    try:
        return facts | free_running(spec.name, best, dataset, folder / "tracks", looks)
    except Exception as error:  # a row that cannot track is still compared on samples
        return facts | {"free_error": f"{type(error).__name__}: {error}"}


def _latency(model: Path, looks: Looks) -> float:
    return export.latency_ms(runtime.load(model, "torch", recipes.device()), runs=looks.latency_runs)


def _price_of_fusion(spec: Spec, looks: Looks) -> dict[str, float]:
    """One look with the row's own backbone and input, fused late and early; weights do not matter."""
    found = {}
    with TemporaryDirectory() as folder:
        for fusion in ("late", "early"):
            networks.save(networks.build(replace(spec, fusion=fusion)), Path(folder) / fusion)
            found[fusion] = _latency(Path(folder) / fusion, looks)
    return found


def _spread(dataset: Sequence[Clip], at_most: int) -> list[Clip]:
    """At most so many clips, of as many venues as can be."""
    turns: dict[str, int] = {}
    order = []
    for clip in dataset:
        turns[clip.venue] = turns.get(clip.venue, -1) + 1
        order.append((turns[clip.venue], clip))
    return [clip for _, clip in sorted(order, key=lambda item: item[0])][:at_most]


def _read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame()
