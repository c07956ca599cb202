"""How many steps fit into a time: measured on this machine, then fixed; between recipes and long runs.

A cosine schedule must know its end before it starts, and a resumed training must keep it. So a box of time
becomes a number of steps once, from a short trial, and is stored with the run.
"""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from shuttlelib import recipes, train
from shuttlelib.clips import Clip
from shuttlelib.files import read_json, write_json
from shuttlelib.spec import Spec
from shuttlelib.train import TrainConfig
from shuttlelib.troubles import memory_named, need_samples

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
        setup_s, what comes before the first step; step_s, of a step with its data; validation_s.
    """
    rmtree(folder, ignore_errors=True)
    data = recipes.open_samples(spec, dataset, cache_dir, seed, stage1)
    need_samples(folder, data.train, data.val)
    steps = 12 if recipes.device() == "cuda" else 2  # timed, after as many to warm up
    never = 2 * steps + 1  # validations and checkpoints are not among them
    sizes = {"steps": never, "val_every": never, "checkpoint_every": never}
    of = TrainConfig.of(spec, seed=seed, **{**config, **sizes})
    with memory_named(folder, of.batch, of.accumulate):
        times = [time.perf_counter()]
        run = train.Training(spec, data.train, data.val, folder, of, init, data.weights)
        with closing(run.log), closing(run.steps()) as parts:
            for _ in range(2):
                times.append(time.perf_counter())
                for _ in range(steps):
                    losses = run.update(next(parts))
                    run.after_step(losses)
                float(losses["loss"])  # waits for the device
        times.append(time.perf_counter())
        with run.accelerator.autocast():
            train.judge(run.average.net, run.val, of.batch // of.accumulate, of.val_samples)
        times.append(time.perf_counter())
    rmtree(folder)
    setup, _, timed, validation = np.diff(times).tolist()
    return {"setup_s": setup, "step_s": timed / steps, "validation_s": validation}


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


def planned(
    folder: Path,
    lean: Callable[[str], Spec],
    start: Callable[[], str],
    dataset: list[Clip],
    cache_dir: Path,
    seconds: float,
    validations: int = 20,
    steps: int | None = None,
    charged: bool = False,
    **options: Any,
) -> tuple[str, dict[str, int]]:
    """What a training starts from and its sizes, decided before its first step and kept in `plan.json`.

    Args:
        folder: of the training, with `plan.json`.
        lean: the version as it is trained from a start.
        start: finds out what weights there are to start from.
        seconds, validations: see `schedule`.
        steps: where they are known, so that no trial is needed.
        charged: take what finding out needs (the start, what the samples want, the trial) from the seconds.
        options: see `trial`.

    Returns:
        The start, and fields of `TrainConfig`.
    """

    def plan() -> dict[str, Any]:
        began = time.perf_counter()
        found = start()
        if steps:
            every = max(1, round(steps / validations))
            return {"start": found, "steps": steps, "val_every": every, "checkpoint_every": every}
        timing = trial(lean(found), dataset, folder / "trial", cache_dir, **options)
        needed = time.perf_counter() - began if charged else 0.0
        return {"start": found, **schedule(max(1.0, seconds - needed), timing, validations)}

    kept = once(folder / "plan.json", plan)
    return kept["start"], {key: kept[key] for key in ("steps", "val_every", "checkpoint_every")}


def once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make()` returned the first time: read from `path` if it is there, else made and stored."""
    if path.is_file():
        return read_json(path)
    value = make()
    write_json(path, value)
    return value
