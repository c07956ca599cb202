"""Training of any version with Accelerate; between models and mining in the flow.

Everything that decides a run is in the spec, the config and the data: draws are functions of the seed
and the step, the learning rate is a function of the step, so a run that is stopped and resumed ends
where an undisturbed one does. A run folder holds `best/` (a model folder: the averaged weights that
validated best), `checkpoints/`, TensorBoard events and `history.csv`.
"""

import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from shuttlelib import clips, metrics, networks
from shuttlelib.augment import Augmentation
from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write
from shuttlelib.geometry import CANONICAL_HW, GRID512_HW
from shuttlelib.losses import training_loss
from shuttlelib.networks import ShuttleNet
from shuttlelib.samples import RandomAccessSampler, Samples
from shuttlelib.versions import Spec

KEPT_CHECKPOINTS = 2
STAGE1_SCALE = (0.7, 1.4)


class TrainError(ShuttleError):
    """Training cannot go on."""


@dataclass(frozen=True)
class TrainConfig:
    """How long and how; what a version's spec does not say.

    Attributes:
        steps: optimizer steps; batch: samples a step over all processes.
        lr: peak learning rate; warmup_share: share of the steps that ramp up to it; then a cosine.
        ema_decay: of the averaged weights, which are the ones validated and kept.
        val_every, checkpoint_every: steps between.
        val_samples: at most so many, evenly spread.
        precision: "bf16", "fp16", "no", or "auto": bf16 where the hardware has it.
        workers: loader processes.
        clip_norm: largest norm of the gradient.
        seed: of weights, draws and order.
    """

    steps: int
    batch: int
    lr: float
    warmup_share: float = 0.05
    ema_decay: float = 0.998
    val_every: int = 500
    val_samples: int = 1000
    checkpoint_every: int = 500
    precision: str = "auto"
    workers: int = 0
    clip_norm: float = 5.0
    seed: int = 0

    @staticmethod
    def of(spec: Spec, **overrides: Any) -> "TrainConfig":
        """The spec's own schedule, with overrides."""
        return TrainConfig(**{"steps": spec.steps, "batch": spec.batch, "lr": spec.lr, **overrides})


class Progress:
    """What a checkpoint remembers beside weights and optimizer."""

    def __init__(self) -> None:
        self.step, self.best, self.seconds = 0, -math.inf, 0.0
        self.history: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """For Accelerate."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """For Accelerate."""
        vars(self).update(state)


class Average(nn.Module):
    """Exponential moving average of a network, itself a network."""

    def __init__(self, net: ShuttleNet, decay: float):
        super().__init__()
        self.net = networks.build(net.spec)
        self.net.load_state_dict(net.state_dict())
        self.net.requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, net: ShuttleNet, step: int) -> None:
        """Move towards `net`; faster in the first steps, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs.to(mine.dtype), 1 - decay)
            else:
                mine.copy_(theirs)


def augmentation(spec: Spec) -> Augmentation:
    """The training augmentation of a version; stage 2 gets its scale from the crop itself."""
    scale = STAGE1_SCALE if spec.stage == 1 else (1.0, 1.0)
    return Augmentation(spec.noise_std, spec.noise, scale, jitter_past=networks.uses_history(spec))


def fit(
    spec: Spec,
    train: Samples,
    val: Samples,
    run_dir: Path,
    config: TrainConfig,
    weights: np.ndarray | None = None,
    init: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a version, or resume the training that `run_dir` holds.

    Args:
        weights: (len(train),) sampling weights; None is uniform.
        init: model folder to start from (fine-tuning).

    Returns:
        The best validation metrics and their `step`, with `steps`, `seconds` and `samples_per_s` of the
        whole training. One that is finished already is not repeated.

    Raises:
        TrainError: the loss is not finite, there is nothing to train on, or `run_dir` holds a training
            of something else.
        KeyboardInterrupt: after Ctrl-C, once the step is done and saved; a second one stops at once.
    """
    if not len(train) or not len(val):
        raise TrainError(
            f"{run_dir}: {len(train)} training and {len(val)} validation samples; both need some"
        )
    _claim(Path(run_dir), spec, config, train, val, init)
    run = _Run(spec, Path(run_dir), config, init)
    weights = np.ones(len(train)) if weights is None else weights
    started = time.perf_counter() - run.progress.seconds
    quiet = not (progress and run.accelerator.is_main_process)
    with _interrupt_between_steps() as interrupted:
        for batch in tqdm(run.batches(train, weights), desc=spec.name, disable=quiet, unit="step"):
            losses = run.update(batch)
            run.progress.seconds = time.perf_counter() - started
            run.after_step(losses, val)
            if interrupted():
                run.checkpoint()
                raise KeyboardInterrupt
    run.accelerator.end_training()
    p = run.progress
    best = max(reversed(p.history), key=lambda row: row["accuracy"])  # of equals the last, as in `best/`
    rate = p.step * config.batch / max(1e-9, p.seconds)
    return {**best, "steps": p.step, "seconds": p.seconds, "samples_per_s": rate}


class _Run:
    """The moving parts of one training."""

    def __init__(self, spec: Spec, run_dir: Path, config: TrainConfig, init: Path | None):
        self.spec, self.config, self.dir = spec, config, run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        set_seed(config.seed)
        self.accelerator = Accelerator(
            mixed_precision=_precision(config.precision),
            dataloader_config=DataLoaderConfiguration(split_batches=True),
            log_with="tensorboard",
            project_dir=str(run_dir),
        )
        net = networks.build(spec, pretrained=spec.pretrained and init is None)
        if init:
            networks.load_weights(net, init)
        net = net.to(memory_format=torch.channels_last)
        self.average = Average(net, config.ema_decay).to(self.accelerator.device)
        self.progress = Progress()
        self.net, self.optimizer = self.accelerator.prepare(net, _optimizer(net, spec, config.lr))
        self.accelerator.register_for_checkpointing(self.progress, self.average)
        self.accelerator.init_trackers("tensorboard", config={"version": spec.name, **vars(config)})
        self._resume()

    def batches(self, train: Samples, weights: np.ndarray) -> DataLoader:
        """The batches that are still to come."""
        c = self.config
        sampler = RandomAccessSampler(weights, c.seed, self.progress.step * c.batch, c.steps * c.batch)
        loader = DataLoader(
            train,
            c.batch,
            sampler=sampler,
            num_workers=c.workers,
            persistent_workers=c.workers > 0,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        return self.accelerator.prepare(loader)

    def update(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One optimizer step."""
        lr = _learning_rate(self.config, self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        prediction = self.net(batch["frames"], batch["history"])
        losses = training_loss(self.spec, prediction, batch["xy"], batch["history"])
        if not torch.isfinite(losses["loss"]):
            raise TrainError(
                f"{self.dir}: the loss is {losses['loss']} at step {self.progress.step}; lower lr"
            )
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.net.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return losses

    def after_step(self, losses: dict[str, Tensor], val: Samples) -> None:
        """Average, log, validate and checkpoint when their time has come."""
        c, p = self.config, self.progress
        p.step += 1
        self.average.update(self.accelerator.unwrap_model(self.net), p.step)
        last = p.step == c.steps
        if p.step % 20 == 0 or last:
            values = {f"train/{k}": float(v.detach()) for k, v in losses.items()}
            self.accelerator.log({**values, "train/lr": _learning_rate(c, p.step)}, step=p.step)
        if p.step % c.val_every == 0 or last:
            self._validate(val, {f"train_{k}": float(v.detach()) for k, v in losses.items()})
        if p.step % c.checkpoint_every == 0 or last:
            self.checkpoint()

    def _validate(self, val: Samples, train_losses: dict[str, float]) -> None:
        c, p = self.config, self.progress
        device = self.accelerator.device
        with self.accelerator.autocast():
            scores = validate(self.average.net, val, c.batch, c.val_samples, device)
        p.history.append({"step": p.step, "seconds": p.seconds, **train_losses, **scores})
        self.accelerator.log({f"val/{k}": v for k, v in scores.items()}, step=p.step)
        if not self.accelerator.is_main_process:
            return
        with atomic_write(self.dir / "history.csv") as temp:
            pd.DataFrame(p.history).to_csv(temp, index=False)
        if scores["accuracy"] >= p.best:
            p.best = scores["accuracy"]
            networks.save(self.average.net, self.dir / "best", {"step": p.step})

    def checkpoint(self) -> None:
        """Save everything needed to resume; whole or not at all."""
        folder = self.dir / "checkpoints"
        temp = folder / ".partial"
        self.accelerator.save_state(str(temp), safe_serialization=True)
        self.accelerator.wait_for_everyone()  # every process adds its own random state
        if self.accelerator.is_main_process:
            final = folder / f"step_{self.progress.step:07d}"
            shutil.rmtree(final, ignore_errors=True)
            temp.rename(final)
            for old in sorted(folder.glob("step_*"))[:-KEPT_CHECKPOINTS]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        saved = sorted((self.dir / "checkpoints").glob("step_*"))
        if saved:
            self.accelerator.load_state(str(saved[-1]))


@contextmanager
def _interrupt_between_steps() -> Iterator[Callable[[], bool]]:
    """Hold the first Ctrl-C back until a step is whole; yields whether there was one."""
    asked = False

    def note(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _claim(
    run_dir: Path, spec: Spec, config: TrainConfig, train: Samples, val: Samples, init: Path | None
) -> None:
    """Note in `run.json` what is trained here, and refuse to resume anything else."""
    skipped = ("workers", "checkpoint_every")  # may differ between sittings
    facts = {
        **spec.as_dict(),
        **{f"config.{k}": v for k, v in vars(config).items() if k not in skipped},
        "data": clips.data_hash([cache.clip for part in (train, val) for cache in part.caches]),
        "init": str(init or ""),
    }
    wanted = json.loads(json.dumps(facts))
    path = run_dir / "run.json"
    if path.is_file() and any((run_dir / "checkpoints").glob("step_*")):
        held = json.loads(path.read_text())
        other = [f"{k} {held.get(k)!r} (now {v!r})" for k, v in wanted.items() if held.get(k) != v]
        if other:
            raise TrainError(
                f"{run_dir}: holds another training: {', '.join(other)}; choose another folder or delete it"
            )
    with atomic_write(path) as temp:
        temp.write_text(json.dumps(wanted, indent=2) + "\n")


@torch.no_grad()
def validate(
    net: ShuttleNet, val: Samples, batch: int, at_most: int, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Metrics of a network on a fixed, evenly spread subset of samples.

    Positions are judged within the network's own input (teacher-centred crops for stage 2): good for
    choosing weights, not for reporting; `shuttle evaluate` judges the free-running tracker.

    Returns:
        accuracy, f1, error_px (mean over hits, px of the 512 grid for stage 1, canonical px for
        stage 2), fp2_share (false alarms among samples without a shuttle) and loss; for comparisons
        across rows accuracy_512 (4 px of the 512 grid for both stages) and median_px (of the best place's
        error, px of that grid, over all samples with a shuttle, whether it was believed or not).
    """
    spec = net.spec
    picks = np.linspace(0, len(val) - 1, min(at_most, len(val))).round().astype(int)
    loader = DataLoader(torch.utils.data.Subset(val, picks.tolist()), batch)
    rows, losses = [], []
    for item in loader:
        history = item["history"].to(device)
        prediction = net(item["frames"].to(device), history)
        losses.append(float(training_loss(spec, prediction, item["xy"].to(device), history)["loss"]))
        xy = net.decode(prediction, 1)[0][:, 0].float().cpu()
        rows.append(torch.cat([xy, prediction.visible_logit.float().cpu()[:, None], item["xy"]], 1))
    table = torch.cat(rows).double().numpy()
    unit = 512 / spec.input_hw[1] if spec.stage == 1 else 1.0
    pred_seen, truth_seen = table[:, 2] >= 0, np.isfinite(table[:, 3])
    counts = metrics.hit_counts(table[:, :2] * unit, pred_seen, table[:, 3:] * unit, truth_seen, 4.0)
    error = np.hypot(*(table[:, :2] - table[:, 3:]).T) * unit
    hits = pred_seen & truth_seen & (np.nan_to_num(error, nan=np.inf) <= 4.0)
    grid = 1.0 if spec.stage == 1 else GRID512_HW[1] / CANONICAL_HW[1]  # from the unit above to the 512 grid
    right = np.where(truth_seen, pred_seen & (np.nan_to_num(error, nan=np.inf) * grid <= 4.0), ~pred_seen)
    return {
        "accuracy": float(np.nan_to_num(counts.accuracy)),
        "f1": float(np.nan_to_num(counts.f1)),
        "error_px": float(error[hits].mean()) if hits.any() else 4.0,
        "fp2_share": float(np.nan_to_num(counts.fp2_share)),
        "loss": float(np.mean(losses)),
        "accuracy_512": float(right.mean()),
        "median_px": float(np.median(error[truth_seen]) * grid) if truth_seen.any() else float(GRID512_HW[1]),
    }


def _optimizer(net: ShuttleNet, spec: Spec, lr: float) -> torch.optim.Optimizer:
    """AdamW; a lower rate for a pretrained backbone; norms and biases decay only where the spec says so."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        scale = spec.backbone_lr_scale if name.startswith("backbone") and spec.pretrained else 1.0
        decay = spec.weight_decay if parameter.ndim > 1 or spec.decay_norms else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": lr, "lr_scale": s, "weight_decay": d} for (s, d), p in groups.items()], lr=lr
    )


def _learning_rate(config: TrainConfig, step: int) -> float:
    warmup = max(1, round(config.steps * config.warmup_share))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    along = (step - warmup) / max(1, config.steps - warmup)
    return config.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, along))))


def _precision(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if native() else "no"
