"""Train many rows of the lineage under one budget, on the same data, from the same seed; on top of recipes.

One folder a row, with what `train.fit` writes, `plan.json` (the number of steps, fixed once) and `row.json`
(the result, or why it failed). Given again, what is done stays, what was interrupted resumes, and what
failed is tried again. `comparison` measures what came out.
"""

import gc
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import pandas as pd
import timm
import torch

from shuttlelib import clips, networks, recipes, timebox, train
from shuttlelib.checkpoints import differences
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import read_json, sha256, write_json
from shuttlelib.spec import Spec
from shuttlelib.versions import resolve

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9)


@dataclass(frozen=True)
class Budget:
    """What every row gets: the same number of steps, or the same minutes of training, on the same mix.

    Attributes:
        batch: samples a step.
        steps: optimizer steps; or
        minutes: of training, turned into steps for each row by `timebox`.
        validations: during each training; val_samples: of each.
        rendered_share: of the training samples, where the data has rendered rallies.
        backbone: timm model in place of each row's own, so that designs compare at the cost of one small
            backbone; "" leaves every row its own.
        unet_channels: of U-Nets, which have no backbone, at full resolution; 0 leaves them theirs.
        scale: times the sides of every row's input, to the nearest 16 px, where full size would take days.
            Whole frames are seen smaller; crops show less around a shuttle that stays as large.
    """

    batch: int = 16
    steps: int | None = None
    minutes: float | None = None
    validations: int = 20
    val_samples: int = 600
    rendered_share: float = 0.3
    backbone: str = ""
    unet_channels: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError(f"steps {self.steps}, minutes {self.minutes}: a budget is one of the two")
        for name in ("batch", "steps", "minutes", "validations", "val_samples", "scale"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} {value}: a budget must be above 0")

    def __str__(self) -> str:
        common = f", all with the backbone {self.backbone}" if self.backbone else ""
        common += f", U-Nets with {self.unet_channels} channels" if self.unet_channels else ""
        common += f", inputs {self.scale:g} times as wide and high" if self.scale != 1 else ""
        if self.steps:
            return f"{self.steps:,} steps of {self.batch} samples for every row{common}"
        return f"{self.minutes:g} minutes of training for every row, {self.batch} samples a step{common}"


def train_rows(
    names: Sequence[str],
    dataset: list[Clip],
    out: Path,
    cache_dir: Path,
    budget: Budget,
    seed: int = 0,
    stage1: Path | None = None,
    pretrained: bool = True,
    overrides: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
    time_left: Callable[[], bool] = lambda: True,
    **config: Any,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train rows one after the other, as they are asked for; one that fails is recorded, and the rest go on.

    Args:
        names: rows of `versions.names()`.
        out: gets a folder a row.
        stage1: see `recipes.open_samples`; the same for all stage-2 rows.
        pretrained: start rows that want it from ImageNet weights where the Hub can be reached.
        overrides: fields of every row's spec (tests make them small).
        say, time_left: where progress goes; whether a row may still begin.
        config: further fields of `TrainConfig`.

    Yields:
        Each name, and what `row.json` holds: `recipes.train_on`'s, parameters, `start` and batch; or `error`.

    Raises:
        UsageError: no such row or backbone.
        ShuttleError: `out` holds rows of another budget, seed, data, stage 1 or config.
        KeyboardInterrupt: the row at work is saved and resumes.
    """
    specs = _specs(names, budget, overrides or {})
    mine = {"budget": asdict(budget), "seed": seed, "data": clips.data_hash(dataset)}
    mine |= {"overrides": dict(overrides or {}), "stage1": str(stage1 or ""), "pretrained": pretrained}
    mine |= {"stage1_sha256": sha256(stage1 / "model.safetensors")} if stage1 else {}
    mine |= {"config": {key: value for key, value in config.items() if key not in train.FREE_FIELDS}}
    _claim(out / "budget.json", json.loads(json.dumps(mine)))
    # early in a training the most accurate weights are often those that call every shuttle hidden
    options = {"seed": seed, "batch": budget.batch, "keep": "last", **config}
    options |= {"stage1": stage1, "val_samples": budget.val_samples}
    refused = ""  # why a row before could not start from ImageNet
    for i, (name, spec) in enumerate(specs.items(), 1):
        done = read_json(out / name / "row.json")
        if done and "error" not in done:
            say(f"[{i}/{len(specs)}] {name}: done before")
        elif not time_left():
            done = {"error": "no time left"}
        else:
            say(f"[{i}/{len(specs)}] {name}: {budget}")
            start = refused if pretrained and spec.pretrained else "scratch"
            done = _attempt(spec, dataset, out / name, cache_dir, budget, start, options)
            write_json(out / name / "row.json", done)
            if "error" not in done:  # gigabytes over all rows; an error is tried again from them
                rmtree(out / name / "checkpoints", ignore_errors=True)
            say(f"    {_line(done)}")
        if done.get("start", "").startswith("scratch ("):
            refused = done["start"]
        yield name, done


def time_to_accuracy(history: pd.DataFrame, levels: Sequence[float] = LEVELS) -> dict[str, float | None]:
    """Seconds of training until validation accuracy first reached each level.

    Args:
        history: `history.csv` of a training; an old one, without accuracy_512, counts by its own accuracy.
        levels: in [0, 1].

    Returns:
        {"0.5": seconds, …}; None where the level was not reached. Exact to the step between validations.
    """
    values = history["accuracy_512" if "accuracy_512" in history else "accuracy"]
    first = {level: history.loc[values >= level, "seconds"] for level in levels}
    return {f"{level:g}": float(s.iloc[0]) if len(s) else None for level, s in first.items()}


def starting_weights(spec: Spec, wanted: bool) -> str:
    """Which weights a row can start from here: "ImageNet", or "scratch" and why."""
    if not (spec.pretrained and wanted):
        return "scratch"
    try:
        networks.build(spec, pretrained=True)
    except ShuttleError as error:
        return f"scratch ({error})"
    return "ImageNet"


def _attempt(
    spec: Spec,
    dataset: list[Clip],
    folder: Path,
    cache_dir: Path,
    budget: Budget,
    start: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Train one row; `start` is known where the Hub is not wanted, or has kept an earlier row waiting."""
    folder.mkdir(parents=True, exist_ok=True)

    def lean(start: str) -> Spec:
        return _lean(spec, start, budget)

    def found() -> str:
        return start or starting_weights(spec, True)

    failed = folder / "error.txt"
    failed.unlink(missing_ok=True)  # of an earlier sitting
    try:
        seconds = 60 * (budget.minutes or 0)
        chosen, sizes = timebox.planned(
            folder, lean, found, dataset, cache_dir, seconds, budget.validations, budget.steps, **options
        )
        result = recipes.train_on(lean(chosen), dataset, folder, cache_dir, **(options | sizes))
    except Exception as error:  # whatever befalls one row, the others are still worth training
        failed.write_text(traceback.format_exc(), encoding="utf-8")
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    parameters = sum(weight.numel() for weight in networks.load(folder / "best").net.parameters())
    facts = {"parameters": parameters, "start": chosen, "batch": budget.batch}
    return {**result, **facts}


def _specs(names: Sequence[str], budget: Budget, overrides: Mapping[str, Any]) -> dict[str, Spec]:
    """The rows by name at the budget's scale, with its backbone where they have one."""
    if budget.backbone and not timm.is_model(budget.backbone):
        raise UsageError(f"backbone {budget.backbone}: timm has no such model; timm.list_models() names them")
    specs = {}
    for name in names:
        spec = resolve(name, **overrides)
        if spec.network != "unet":
            spec = replace(spec, backbone=budget.backbone or spec.backbone)
        elif budget.unet_channels:
            spec = replace(spec, neck_channels=budget.unet_channels)
        h, w = (max(16, 16 * round(side * budget.scale / 16)) for side in spec.input_hw)
        specs[name] = replace(spec, input_hw=(h, w) if budget.scale != 1 else spec.input_hw)
    return specs


def _lean(spec: Spec, start: str, budget: Budget) -> Spec:
    """The row as it is trained here; a backbone that starts from scratch learns at the full rate."""
    pretrained = start == "ImageNet"
    return replace(
        spec,
        pretrained=pretrained,
        backbone_lr_scale=spec.backbone_lr_scale if pretrained else 1.0,
        rendered_share=budget.rendered_share,
    )


def _claim(path: Path, mine: dict[str, Any]) -> None:
    if other := differences(timebox.once(path, lambda: mine), mine):
        raise ShuttleError(
            f"{path.parent}: holds a lineage of another {', '.join(other)}; "
            "choose another folder or delete it"
        )


def _line(done: Mapping[str, Any]) -> str:
    if "error" in done:
        return f"failed: {done['error']}"
    return (
        f"accuracy {done['accuracy_512']:.3f}, median error {done['median_px']:.2f} px of the 512 grid after "
        f"{done['steps']} steps in {done['seconds']:.0f} s, from {done['start'][:40]}"
    )
