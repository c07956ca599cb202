"""How many steps fit into a time: measured on this machine, then fixed; between recipes and long runs.

A cosine schedule must know its end before it starts, and a resumed training must keep it. So a box of time
becomes a number of steps once, from a short trial, and is stored with the run.
"""

import json
from pathlib import Path
from shutil import rmtree
from typing import Any

from shuttlelib import recipes, throughput
from shuttlelib.clips import Clip
from shuttlelib.files import write_json
from shuttlelib.spec import Spec
from shuttlelib.train import TrainConfig

SPARE = 0.92  # share of the box that is planned: checkpoints, and a machine that is slower later
CHECKPOINT_S = 60.0


def trial(
    spec: Spec,
    dataset: list[Clip],
    folder: Path,
    cache_dir: Path,
    seed: int = 0,
    init: Path | None = None,
    stage1: Path | None = None,
    **config: Any,
) -> dict[str, float]:
    """Time a training step and a validation of a version here, and throw the trial away.

    Args:
        folder: for the trial; removed.
        init, stage1, config: see `recipes.train_on`.

    Returns:
        See `throughput.costs`.
    """
    rmtree(folder, ignore_errors=True)
    data = recipes.open_samples(spec, dataset, cache_dir, seed, stage1)
    steps = 12 if recipes.device() == "cuda" else 2
    found = throughput.costs(spec, data, folder, TrainConfig.of(spec, seed=seed, **config), steps, init)
    rmtree(folder)
    return found


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
