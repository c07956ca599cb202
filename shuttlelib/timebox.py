"""How many steps fit into a time: measured on this machine, then fixed; between recipes and long runs.

A cosine schedule must know its end before it starts, and a resumed training must keep it. So a box of time
becomes a number of steps once, from a short trial, and is stored with the run.
"""

import json
import time
from pathlib import Path
from shutil import rmtree
from typing import Any

import pandas as pd

from shuttlelib import networks, recipes, train
from shuttlelib.clips import Clip
from shuttlelib.files import write_json
from shuttlelib.spec import Spec

SPARE = 0.92  # share of the box that is planned: checkpoints, and a machine that is slower later
CHECKPOINT_S = 60.0


def trial(
    spec: Spec,
    dataset: list[Clip],
    folder: Path,
    cache_dir: Path,
    stage1: Path | None = None,
    steps: int = 0,
    val_samples: int = 600,
    **config: Any,
) -> dict[str, float]:
    """Time a training step and a validation of a version here, and throw the trial away.

    Args:
        folder: for the trial; removed.
        steps: of the trial, whose first half is warm-up; 0 takes 24 on a GPU and 4 on a CPU.
        val_samples: of a validation.
        config: fields of `TrainConfig`.

    Returns:
        step_s, validation_s, and setup_s: what comes before the first step.
    """
    steps = steps or (24 if recipes.device() == "cuda" else 4)
    rmtree(folder, ignore_errors=True)
    half = max(1, steps // 2)
    batch = config.get("batch", spec.batch)
    short = {"steps": 2 * half, "val_every": half, "val_samples": batch, "checkpoint_every": 2 * half}
    recipes.open_samples(spec, dataset, cache_dir, stage1=stage1)  # decoding is no part of the set-up
    start = time.perf_counter()
    result = recipes.train_on(spec, dataset, folder, cache_dir, stage1=stage1, **{**config, **short})
    setup_s = time.perf_counter() - start - result["seconds"]
    first, last = pd.read_csv(folder / "history.csv")["seconds"].iloc[[0, -1]]
    net = networks.load(folder / "best", recipes.device()).net
    val = recipes.open_samples(spec, dataset, cache_dir, stage1=stage1).val
    start = time.perf_counter()
    train.validate(net, val, batch, val_samples, recipes.device())
    validation_s = time.perf_counter() - start
    rmtree(folder)
    return {"step_s": float(last - first) / half, "validation_s": validation_s, "setup_s": setup_s}


def schedule(seconds: float, timing: dict[str, float], validations: int = 20) -> dict[str, int]:
    """Steps, and steps between validations and checkpoints, that fill a time.

    Args:
        seconds: the box; timing: of `trial`.
        validations: at most so many, and at most a fifth of the time.

    Returns:
        steps (at least 1), val_every, checkpoint_every: fields of `TrainConfig`.
    """
    usable = seconds * SPARE - timing["setup_s"]
    validations = max(1, min(validations, int(0.2 * usable / max(timing["validation_s"], 1e-9))))
    steps = max(1, int((usable - validations * timing["validation_s"]) / max(timing["step_s"], 1e-9)))
    every = max(1, round(CHECKPOINT_S / max(timing["step_s"], 1e-9)))
    return {"steps": steps, "val_every": -(-steps // validations), "checkpoint_every": min(steps, every)}


def once(path: Path, make: Any) -> dict[str, Any]:
    """What `make()` returned the first time: read from `path` if it is there, else made and stored."""
    if path.is_file():
        return dict(json.loads(path.read_text()))
    value = make()
    write_json(path, value)
    return value
