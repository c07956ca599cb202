"""Make two trained versions the default pair: export, calibrate, judge in every mode, write cards.

The last act of training, behind `shuttle publish`; what it writes under models/ is what `shuttle track` uses.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import copy2, copytree, rmtree
from typing import Any

import pandas as pd

from shuttlelib import cards, clips, half, recipes, runtime, tracker, tracking
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import read_json, write_json, writing
from shuttlelib.lineage.training import time_to_accuracy
from shuttlelib.runtime.base import WAITING

MAX_FILE_MIB, MAX_WEIGHTS_MB = 15, 100  # of one file, for hosts that refuse more; of all shipped weights


def publish(
    stage1: Path,
    stage2: Path,
    dataset: list[Clip],
    models_dir: Path,
    out_dir: Path,
    training: Mapping[str, str],
    also: Mapping[str, list[Clip]] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Ship a pair, unless the one that is shipped does better on the same clips.

    Args:
        stage1, stage2: model folders (a run's `best/`).
        dataset: clips of venues that were not trained on, to calibrate and judge on.
        models_dir: the folder of shipped models; changed only once all is judged.
        out_dir: where the tracks and `metrics.json` go, and the pair until then.
        training: what the cards say of data and schedule, as label: text; a label that ends in ", stage 1" or
            ", stage 2" is of that card alone.
        also: more clips to judge in smart mode, by name, such as another camera's.
        force: ship it even if it does worse.

    Raises:
        UsageError: `models_dir` is where `out_dir` keeps the new pair.
        ShuttleError: nothing to judge on, a model folder is not of its stage, its files are too large to
            ship, or the shipped pair is better.

    Returns:
        Metrics of the pair by tracking mode, as `recipes.evaluate_pair` gives them.
    """
    for name, part in {"the data folder": dataset, **(also or {})}.items():
        if not part:
            raise ShuttleError(f"{name}: no clip to judge on; give a data folder with a val split")
    if (out_dir / "models").resolve() == models_dir.resolve():
        raise UsageError(f"--models {models_dir}: is where --out keeps the new pair; give another folder")
    for folder in (out_dir, models_dir):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    _roll_back(models_dir)
    made = recipes.make_pair(stage1, stage2, out_dir / "models")
    names = tuple(folder.name for folder in runtime.default_pair(made))
    for name in names:
        half.write_fp16(made / name / "model.onnx", made / name / "model.fp16.onnx")
    _check_size(made, names, models_dir)
    results = _judge(made, dataset, out_dir)
    pair = tracking.load_networks(models_dir=made)
    elsewhere = {
        name: recipes.evaluate_pair(pair, part, out_dir / "also" / name)
        for name, part in (also or {}).items()
    }
    facts = {**training, **training_times(stage1, stage2)}
    judged = {"data_hash": clips.data_hash(dataset), "clips": len(dataset)}
    for name, stage in zip(names, (1, 2), strict=True):
        cards.write_card(made / name, results, _of_stage(facts, stage), elsewhere, judged)
    write_json(out_dir / "metrics.json", {**results, "also": elsewhere, "judged_on": judged})
    if not force:
        _check_better(results, dataset, models_dir, out_dir)
    _exchange(made, names, models_dir)
    return results


def _exchange(made: Path, names: tuple[str, ...], models_dir: Path) -> None:
    """Put model folders in the place of those of the same name, by renames; see `_roll_back` of a kill.

    Graphs, engines and tables of the older weights go; the report's findings stay, which name their weights.
    """
    waiting, over = models_dir / WAITING, models_dir / f"{WAITING}-done"
    for left in (waiting, over):
        rmtree(left, ignore_errors=True)
    for name in names:
        copytree(made / name, waiting / "new" / name)
        for old in (models_dir / name).glob("*"):
            if old.name == "report.json":
                copy2(old, waiting / "new" / name)
            elif old.is_dir():
                copytree(old, waiting / "new" / name / old.name, dirs_exist_ok=True)
    (waiting / "filling").mkdir(parents=True)
    if (models_dir / "default.json").is_file():
        copy2(models_dir / "default.json", waiting / "filling")
    (waiting / "filling").rename(waiting / "old")  # whole or not there: after a kill it is put back
    for name in names:
        if (models_dir / name).is_dir():
            (models_dir / name).rename(waiting / "old" / name)
        (waiting / "new" / name).rename(models_dir / name)
    write_json(models_dir / "default.json", read_json(made / "default.json"))
    waiting.rename(over)
    rmtree(over)


def _roll_back(models_dir: Path) -> None:
    """Undo an exchange that a kill cut short: the pair before it is whole again."""
    for old in (models_dir / WAITING / "old").glob("*"):
        rmtree(models_dir / old.name, ignore_errors=True)
        old.rename(models_dir / old.name)
    rmtree(models_dir / WAITING, ignore_errors=True)


def _of_stage(facts: Mapping[str, str], stage: int) -> dict[str, str]:
    """What concerns a stage, its labels without the stage."""
    other, own = f", stage {3 - stage}", f", stage {stage}"
    return {label.removesuffix(own): text for label, text in facts.items() if not label.endswith(other)}


def training_times(stage1: Path, stage2: Path) -> dict[str, str]:
    """What a card says of time, from the `history.csv` and `metrics.json` beside the model folders."""
    facts = {}
    for stage, model in enumerate((stage1, stage2), 1):
        history, result = model.parent / "history.csv", model.parent / "metrics.json"
        if not history.is_file():
            continue
        table = pd.read_csv(history)
        where = read_json(result).get("hardware", "")
        took = f"{table['seconds'].iloc[-1] / 60:.1f} min" + (f" on {where}" if where else "")
        times = time_to_accuracy(table)
        reached = ", ".join(f"{level} after {s / 60:.1f} min" for level, s in times.items() if s is not None)
        what = "accuracy within 4 px of the 512x288 grid, on val samples:"
        facts[f"training time, stage {stage}"] = f"{took}; {what} {reached or 'below 0.5'}"
    return facts


def _judge(made: Path, dataset: list[Clip], out_dir: Path) -> dict[str, Any]:
    """Fit the confidence curves of every mode, put them into stage 2's card, and judge with them."""
    raw_pair = replace(tracking.load_networks(models_dir=made), calibration=None)
    curves = {}
    for mode in tracker.MODES:
        raw = recipes.evaluate_pair(raw_pair, dataset, out_dir / f"uncalibrated-{mode}", mode)
        curves[mode] = raw["confidence_curves"]
    card = runtime.default_pair(made)[1] / "version.json"
    write_json(card, {**read_json(card), "calibration": curves})
    pair = tracking.load_networks(models_dir=made)
    return {mode: recipes.evaluate_pair(pair, dataset, out_dir / mode, mode) for mode in tracker.MODES}


def _check_size(made: Path, names: tuple[str, ...], models_dir: Path) -> None:
    for path in (file for name in names for file in (made / name).iterdir()):
        if path.stat().st_size > MAX_FILE_MIB * 2**20:
            raise ShuttleError(
                f"{path}: {path.stat().st_size / 2**20:.0f} MiB, and a shipped file has at most "
                f"{MAX_FILE_MIB}; ship a smaller version"
            )
    kept = [path for path in models_dir.glob("*/model.*") if path.parent.name not in names]
    added = [path for name in names for path in (made / name).glob("model.*")]
    total = sum(path.stat().st_size for path in kept + added)
    if total > MAX_WEIGHTS_MB * 1e6:
        raise ShuttleError(
            f"{models_dir}: would hold {total / 1e6:.0f} MB of weights, at most {MAX_WEIGHTS_MB} are "
            "shipped; delete versions that are not used"
        )


def _check_better(results: Mapping[str, Any], dataset: list[Clip], models_dir: Path, out_dir: Path) -> None:
    """Compare with the shipped pair, tracked on the same clips by the same tracker."""
    if not (models_dir / "default.json").is_file():
        return
    shipped = runtime.default_pair(models_dir)
    pair = tracking.load_networks(models_dir=models_dir)
    before = recipes.evaluate_pair(pair, dataset, out_dir / "shipped")
    old, new = (part["accuracy"]["grid512_4px"] for part in (before, results["smart"]))
    if old > new:
        raise ShuttleError(
            f"{models_dir}: keeps {shipped[0].name} and {shipped[1].name}: smart accuracy {old:.3f} on the "
            f"same clips, {new:.3f} with the new pair (results in {out_dir}); --force ships it all the same"
        )
