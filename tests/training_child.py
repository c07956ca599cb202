"""One training in a process of its own, for tests that kill it or start several."""

import os
import signal

import torch

from shuttlelib import clips, recipes, train, versions
from shuttlelib.train import TrainConfig

SPEC = versions.resolve(
    "stage2_v8", input_hw=(64, 64), backbone="mobilenetv4_conv_small_050", neck_channels=16
)
CONFIG = TrainConfig(
    steps=6, batch=8, lr=1e-3, val_every=3, val_samples=8, checkpoint_every=2, precision="no"
)


def run(folder, run_dir, kill="", environment=None):
    """Train on the data in `folder`; die in "step" 3 or in the "checkpoint" of step 4."""
    os.environ.update(environment or {})
    torch.set_num_threads(1)
    data = recipes.open_samples(SPEC, clips.load_dataset(folder / "data"), folder / "cache")
    if kill == "step":
        _before(train.Training, "_note", lambda one, *_: one.progress.step == 3)
    if kill == "checkpoint":
        _before(torch, "save", lambda *_, **__: _late(run_dir))
    if environment:
        _record(run_dir)
    train.fit(SPEC, data.train, data.val, run_dir, CONFIG, data.weights)
    if environment:
        (run_dir / f"rank{os.environ['RANK']}.weights").write_text(_learned())


def _late(run_dir):
    """Whether the checkpoint of step 4 is being written, and a part of it is there."""
    partial = run_dir / "checkpoints" / ".partial"
    return (run_dir / "checkpoints" / "step_0000002").exists() and any(partial.iterdir())


def _record(run_dir):
    """Write down which samples this process was given."""
    update, seen = train.Training.update, []

    def noting(one, parts):
        seen.extend(i for part in parts for i in part["index"].tolist())
        (run_dir / f"rank{os.environ['RANK']}.txt").write_text(" ".join(map(str, seen)))
        return update(one, parts)

    train.Training.update = noting
    nets, start = [], train.Training.__init__

    def remembering(one, *args):
        start(one, *args)
        nets.append(one.accelerator.unwrap_model(one.net))

    train.Training.__init__ = remembering
    global _learned

    def _learned():
        """What this process has for parameters at the end, in all digits."""
        return " ".join(float(p.double().sum()).hex() for p in nets[0].parameters())


def _before(owner, name, when):
    original = getattr(owner, name)

    def wrapped(*args, **kwargs):
        if when(*args, **kwargs):
            _die()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)
