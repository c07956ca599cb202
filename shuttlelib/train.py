"""Training of any version with Accelerate; between models and mining in the flow.

Everything that decides a run is in the spec, the config and the data: draws are functions of the seed
and the step, the learning rate is a function of the step, so a run that is stopped and resumed ends
where an undisturbed one does. Several processes (`torchrun`) share the draws of each step. A run folder
holds `best/` (a model folder: the averaged weights that validated best, or the last ones), `checkpoints/`,
TensorBoard events and `history.csv`.
"""

import hashlib
import math
import os
import time
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from torch import Tensor, nn
from tqdm import tqdm

from shuttlelib import clips, networks
from shuttlelib.augment import Augmentation
from shuttlelib.batches import PATHS, Arriving, Batch, Source
from shuttlelib.checkpoints import Average, Checkpoints, Progress, claim
from shuttlelib.errors import UsageError, check_choice
from shuttlelib.files import atomic_write, plain, sha256
from shuttlelib.losses import training_loss
from shuttlelib.mixing import WeightedDraws
from shuttlelib.prediction import ShuttleNet
from shuttlelib.samples import Samples
from shuttlelib.spec import Spec
from shuttlelib.stopping import stop_when_asked
from shuttlelib.train_log import TrainLog
from shuttlelib.troubles import TrainError, memory_named, need_samples, save_batch
from shuttlelib.validation import judge

STAGE1_SCALE = (0.7, 1.4)
PRECISIONS = ("auto", "bf16", "fp16", "no")
KEPT = ("best", "last")
LOG_EVERY = 20  # steps
AGREE_EVERY = 10  # steps after which several processes ask each other whether to stop
MAX_SKIPPED = 25  # steps in a row that fp16 may leave out while it looks for its scale
FREE_FIELDS = ("workers", "checkpoint_every", "accumulate", "data_path")  # may differ between sittings


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
        workers: loader processes of the CPU's data path.
        clip_norm: largest norm of the gradient.
        seed: of weights, draws and order.
        accumulate: parts a process cuts its share of the batch into, one after the other, to save memory. As
            with several processes, BatchNorm and the losses of visible samples see a part at a time.
        data_path: where samples are cut and augmented: "cpu", "device" or "auto" (see `batches.Source`).
        keep: which validated weights stay: "best", of the highest accuracy, or "last".

    Raises:
        UsageError: an unknown precision, data path or keep, fp16 without a GPU, or a batch that does not
            divide by `accumulate`.
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
    accumulate: int = 1
    data_path: str = "auto"
    keep: str = "best"

    def __post_init__(self) -> None:
        check_choice("--precision", self.precision, PRECISIONS)
        check_choice("--data-path", self.data_path, PATHS)
        check_choice("keep", self.keep, KEPT)
        if self.precision == "fp16" and not torch.cuda.is_available():  # Accelerate would train in fp32
            raise UsageError("--precision fp16: needs a GPU; choose bf16, no or auto")
        if self.batch % self.accumulate:
            raise UsageError(
                f"--accumulate {self.accumulate}: does not divide a batch of {self.batch}; "
                "choose a divisor of it, or another --batch"
            )

    @staticmethod
    def of(spec: Spec, **overrides: Any) -> "TrainConfig":
        """The spec's own schedule, with overrides."""
        return TrainConfig(**{"steps": spec.steps, "batch": spec.batch, "lr": spec.lr, **overrides})


def augmentation(spec: Spec) -> Augmentation:
    """The training augmentation of a version; stage 2 gets its scale from the crop itself."""
    scale = STAGE1_SCALE if spec.stage == 1 else (1.0, 1.0)
    extras = {name: getattr(spec, name) for name in ("roll_deg", "perspective", "poor")}
    # where a version does not look at the past positions, they may be its targets
    jitter = Augmentation.jitter_norm if networks.uses_history(spec) else 0.0
    return Augmentation(spec.noise_std, spec.noise, scale, jitter_norm=jitter, **extras)


def fit(
    spec: Spec,
    train: Samples,
    val: Samples,
    run_dir: Path,
    config: TrainConfig,
    weights: np.ndarray | None = None,
    init: Path | None = None,
) -> dict[str, Any]:
    """Train a version, or resume the training that `run_dir` holds.

    Args:
        weights: (len(train),) sampling weights; None is uniform.
        init: model folder to start from (fine-tuning).

    Returns:
        The validation metrics of the weights that stay and their `step`, with `steps`, `seconds` and
        `samples_per_s` of the whole training. One that is finished already is not repeated.

    Raises:
        TrainError: the loss is not finite (the batch is saved), the memory does not suffice, the batch
            cannot be shared, there is nothing to train on, or `run_dir` holds a training of something else.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the step is done and saved; a second one stops at
            once.
    """
    run_dir = Path(run_dir)
    need_samples(run_dir, train, val)
    with memory_named(run_dir, config.batch, config.accumulate):
        weights = np.ones(len(train)) if weights is None else weights
        run = Training(spec, train, val, run_dir, config, init, weights)
        started = time.perf_counter() - run.progress.seconds
        left = config.steps - run.progress.step
        with stop_when_asked() as asked, closing(run.log), closing(run.steps()) as steps:
            for parts in tqdm(steps, spec.name, left, disable=not run.main, unit="step"):
                losses = run.update(parts)
                run.progress.seconds = time.perf_counter() - started
                run.after_step(losses)
                if run.agree(asked()):
                    run.checkpoint()
                    raise KeyboardInterrupt
            return run.finish()


class Training:
    """The moving parts of one training, which `fit` drives step by step.

    Args:
        spec, train, val, run_dir, config, init, weights: as for `fit`; resumes what `run_dir` holds.

    Attributes:
        accelerator: Accelerate's, whose device the batches are on.
        progress: step, best accuracy, seconds and history so far.
        log: TensorBoard's events; to be closed.

    Raises:
        TrainError: see `fit`.
    """

    def __init__(
        self,
        spec: Spec,
        train: Samples,
        val: Samples,
        run_dir: Path,
        config: TrainConfig,
        init: Path | None,
        weights: np.ndarray,
    ):
        self.spec, self.config, self.dir, self.weights = spec, config, run_dir, weights
        # without being told, Accelerate takes each of several CPU processes for the only one
        several_cpus = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()
        self.accelerator = Accelerator(cpu=several_cpus, mixed_precision=_precision(config.precision))
        self.main, self.world = self.accelerator.is_main_process, self.accelerator.num_processes
        parts = config.accumulate * self.world
        if config.batch % parts:
            raise TrainError(
                f"{run_dir}: a batch of {config.batch} cannot be cut into {parts} equal parts "
                f"({self.world} process(es), accumulate {config.accumulate}); choose a multiple of {parts}"
            )
        if self.main:
            self._claim(train, val, init)
        set_seed(config.seed)
        net = networks.build(spec, pretrained=spec.pretrained and init is None)
        if init:
            networks.start_from(net, init)
        net = net.to(memory_format=torch.channels_last)
        device = self.accelerator.device
        self.average = Average(net, config.ema_decay).to(device)
        self.progress = Progress()
        self.net, self.optimizer = self.accelerator.prepare(net, _optimizer(net, spec, config.lr))
        self.accelerator.register_for_checkpointing(self.progress, self.average)
        self.checkpoints = Checkpoints(run_dir, self.accelerator)
        self.checkpoints.resume()
        self.train = Source(train, device, config.data_path, config.workers)
        self.val = Source(val, device, config.data_path, config.workers)
        self.log = TrainLog(run_dir, self.progress.step, self.main)
        self.unchecked: tuple[int, list[Batch], Arriving] | None = None
        self.skipped = 0

    def steps(self) -> Generator[list[Batch], None, None]:
        """This process's parts of the batch of each step that is still to come.

        The draws of a step are the same however many processes and parts share them.
        """
        c, rank = self.config, self.accelerator.process_index
        share = c.batch // (c.accumulate * self.world)
        draws = WeightedDraws(self.weights, c.seed)
        firsts = (
            step * c.batch + (part * self.world + rank) * share
            for step in range(self.progress.step, c.steps)
            for part in range(c.accumulate)
        )
        batches = self.train.batches(draws.items(np.arange(first, first + share)) for first in firsts)
        for _ in range(self.progress.step, c.steps):
            began = time.perf_counter()
            parts = [next(batches) for _ in range(c.accumulate)]
            self.log.waited += time.perf_counter() - began
            yield parts

    def update(self, parts: list[Batch]) -> dict[str, Tensor]:
        """One optimizer step; the losses are means over this process's parts, detached."""
        lr = _learning_rate(self.config, self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        sums: dict[str, Tensor] = {}
        for i, batch in enumerate(parts):
            last = i == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.net):
                prediction = self.net(batch["frames"], batch["history"])
                losses = training_loss(self.spec, prediction, batch["xy"], batch["history"])
                self.accelerator.backward(losses["loss"] / len(parts))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / len(parts)
        norm = self.accelerator.clip_grad_norm_(self.net.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._note(parts, sums["loss"], norm)
        return {**sums, "grad_norm": norm}

    def _note(self, parts: list[Batch], loss: Tensor, norm: Tensor) -> None:
        """Check the step before this one, whose numbers are here: asking for this one's would idle a GPU."""
        scaled = self.accelerator.scaler is not None  # fp16 leaves out the steps whose gradient overflows
        self.skipped = self.skipped + 1 if scaled and self.accelerator.optimizer_step_was_skipped else 0
        finite = torch.isfinite(loss)
        if not scaled or self.skipped > MAX_SKIPPED:
            finite = finite & torch.isfinite(norm)
        numbers = Arriving(torch.stack([finite.float(), loss.float(), norm.float()]))
        self.settle()
        self.unchecked = self.progress.step, parts, numbers

    def settle(self) -> None:
        """Make sure that the last step was sound; called before anything of it is kept.

        Raises:
            TrainError: it was not; its batch is saved.
        """
        if self.unchecked is None:
            return
        (step, parts, numbers), self.unchecked = self.unchecked, None
        finite, loss, norm = numbers.wait().tolist()
        if finite:
            return
        whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        what = "gradient" if math.isfinite(loss) else "loss"
        value = norm if math.isfinite(loss) else loss
        saved = save_batch(self.dir, step, whole, self.train.samples)
        raise TrainError(f"{self.dir}: the {what} is {value} at step {step}; lower lr; {saved}")

    def after_step(self, losses: dict[str, Tensor]) -> None:
        """Average, log, validate and checkpoint when their time has come."""
        c, p = self.config, self.progress
        p.step += 1
        self.average.update(self.accelerator.unwrap_model(self.net), p.step)
        last = p.step == c.steps
        if p.step % LOG_EVERY == 0 or last:
            lr = {f"lr/group{i}": group["lr"] for i, group in enumerate(self.optimizer.param_groups)}
            pace = self.log.pace(p.step, c.batch)
            self.log.scalars(p.step, {**{f"train/{k}": v for k, v in losses.items()}, **lr, **pace})
        if p.step % c.val_every == 0 or last:
            self._validate({f"train_{k}": float(v) for k, v in losses.items()})
        if p.step % c.checkpoint_every == 0 or last:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Save everything needed to resume."""
        self.settle()
        self.checkpoints.save(self.progress.step)

    def agree(self, asked: bool) -> bool:
        """Whether to stop here: processes that stop at different steps would wait for each other forever."""
        if self.world == 1:
            return asked
        if self.progress.step % AGREE_EVERY:
            return False
        vote = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(vote, "sum") > 0)

    def finish(self) -> dict[str, Any]:
        """The result, and the end of the log."""
        p, last = self.progress, self.config.keep == "last"
        # of equals the last, as in `best/`
        kept = p.history[-1] if last else max(reversed(p.history), key=lambda row: row["accuracy"])
        rate = p.step * self.config.batch / max(1e-9, p.seconds)
        result = {**kept, "steps": p.step, "seconds": p.seconds, "samples_per_s": rate}
        self.log.result(self._facts(), result)
        self.accelerator.end_training()
        return plain(result)  # fp16 leaves a step out whose gradient is infinite

    def _validate(self, losses: dict[str, float]) -> None:
        """Judge the averaged network, in the main process; keep it if none was better."""
        self.settle()
        c, p, net = self.config, self.progress, self.average.net
        shared: list[Any] = [None]
        if self.main:
            with self.accelerator.autocast():
                scores, table = judge(net, self.val, c.batch // c.accumulate, c.val_samples)
                self.log.pictures(p.step, net, self.val.samples, table)
            shared = [scores]
        scores = broadcast_object_list(shared)[0]
        p.history.append({"step": p.step, "seconds": p.seconds, **losses, **scores})
        self.log.scalars(p.step, {f"val/{k}": v for k, v in scores.items()})
        better, p.best = scores["accuracy"] >= p.best, max(p.best, scores["accuracy"])
        if self.main:
            with atomic_write(self.dir / "history.csv") as temp:
                pd.DataFrame(p.history).to_csv(temp, index=False)
            if better or c.keep == "last":
                networks.save(net, self.dir / "best", {"step": p.step})

    def _facts(self) -> dict[str, Any]:
        return {**self.spec.as_dict(), **{f"config.{k}": v for k, v in vars(self.config).items()}}

    def _claim(self, train: Samples, val: Samples, init: Path | None) -> None:
        facts = {k: v for k, v in self._facts().items() if k.removeprefix("config.") not in FREE_FIELDS}
        data = clips.data_hash([cache.clip for part in (train, val) for cache in part.caches])
        draws = {
            "weights": _digest(self.weights),
            "places": _digest(train.false_places),
            "policy": str(train.policy),
            "sample_seed": train.seed,
            "augmentation": str(train.augmentation),
        }
        start = sha256(init / "model.safetensors") if init else ""
        claim(self.dir, {**facts, **draws, "data": data, "init": str(init or ""), "init_sha256": start})


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


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


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
        fast = torch.cuda.is_bf16_supported(including_emulation=False)  # cards before Ampere emulate it
        return "bf16" if fast else "fp16"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if native() else "no"
