"""Whether the data keep up with the device: behind `shuttle train --measure-data`, on top of `recipes`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shuttlelib import recipes, train, versions
from shuttlelib.mixing import WeightedDraws
from shuttlelib.spec import Spec

STEPS = 30  # measured of each kind, where nothing else is asked for
WARM = 5  # before them


def measure(spec: Spec, data: recipes.Splits, run_dir: Path, config: train.TrainConfig) -> dict[str, float]:
    """Samples a second of the plans, the data path and the training step, alone; and of both together.

    `run_dir` gets TensorBoard's events and a `run.json`, no weights. `busy_share` is the rate together over
    the step's alone: how busy the data keep the device.

    Args:
        config: of the training; its `steps` are those measured of each kind.

    Returns:
        plans, data, steps and together, samples a second; busy_share and wait_share, fractions.
    """
    endless = replace(config, steps=10**9)  # what is done with it ends by itself
    run = train.Training(spec, data.train, data.val, run_dir, endless, None, data.weights)
    items = WeightedDraws(data.weights, config.seed).items(np.arange(8192))
    lists = [items[n : n + config.batch] for n in range(0, len(items) - config.batch, config.batch)]
    plans = _rate(lambda i: data.train.plan(lists[i % len(lists)]), config, run)
    steps = run.steps()
    alone = _rate(lambda _: next(steps), config, run)
    parts = next(steps)
    learning = _rate(lambda _: run.update(parts), config, run)
    run.log.waited, began = 0.0, time.perf_counter()
    together = _rate(lambda _: run.update(next(steps)), config, run)
    waited = run.log.waited / (time.perf_counter() - began)
    steps.close()
    rates = {"plans": plans, "data": alone, "steps": learning, "together": together}
    return {**rates, "busy_share": min(1.0, together / learning), "wait_share": waited}


def report(
    version: str, folders: Sequence[Path], cache_dir: Path, run_dir: Path, seed: int, config: dict[str, Any]
) -> str:
    """Measure a version on data folders, in words."""
    spec = versions.resolve(version, pretrained=False)
    of = train.TrainConfig.of(spec, seed=seed, **{"steps": STEPS, **config})
    data = recipes.open_samples(spec, recipes.load_data(folders), cache_dir, seed)
    m = measure(spec, data, run_dir / "measured", of)
    return (
        f"{version}, samples a second: plans {m['plans']:.0f}, data path {m['data']:.0f}, "
        f"training step {m['steps']:.0f}, both together {m['together']:.0f}\n"
        f"device busy: {m['busy_share']:.0%}; waiting for data: {m['wait_share']:.0%} of the time"
    )


def _rate(work: Callable[[int], Any], config: train.TrainConfig, run: train.Training) -> float:
    """Samples a second of a piece of work, the device's share of it included."""
    began = 0.0
    for i in range(config.steps + WARM):
        if i == WARM:
            _wait(run)
            began = time.perf_counter()
        work(i)
    _wait(run)
    return config.steps * config.batch / (time.perf_counter() - began)


def _wait(run: train.Training) -> None:
    if run.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
