"""What a training remembers, and its folder: claimed, saved whole or not at all, resumed; beside `train`."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import SCALER_NAME
from torch import Tensor, nn

from shuttlelib import networks
from shuttlelib.files import WriteError, read_json, write_json, writing
from shuttlelib.prediction import ShuttleNet
from shuttlelib.troubles import TrainError, lacks_memory

KEPT_CHECKPOINTS = 2


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
        # laid out as the net that is trained, or each tensor is moved by itself
        self.net = networks.build(net.spec).to(memory_format=torch.channels_last)
        self.net.load_state_dict(net.state_dict())
        self.net.requires_grad_(False).eval()
        self.decay = decay
        self._tensors: list[list[Tensor]] = []

    @torch.no_grad()
    def update(self, net: ShuttleNet, step: int) -> None:
        """Move towards `net`, always the same one; faster in the first steps, so that the start is forgotten.

        From the first call on the tensors of both may only change in place.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        if not self._tensors:
            states = [list(each.state_dict().values()) for each in (self.net, net)]
            self._tensors = [
                [t for t in s if t.is_floating_point() == x] for x in (True, False) for s in states
            ]
        mine, theirs, counts, counted = self._tensors
        torch._foreach_lerp_(mine, theirs, 1 - decay)  # one launch, not one a tensor
        for a, b in zip(counts, counted):
            a.copy_(b)


class Checkpoints:
    """The checkpoints of a run folder: `checkpoints/step_NNNNNNN`, the newest few.

    Args:
        run_dir: the folder of the run.
        accelerator: of the training, with everything registered; all its processes call alike.
    """

    def __init__(self, run_dir: Path, accelerator: Accelerator):
        self.folder, self.accelerator = run_dir / "checkpoints", accelerator
        self.temp = self.folder / ".partial"

    def resume(self) -> None:
        """Load the newest one, if any, and clear away one whose writing was cut off.

        Raises:
            TrainError: it is damaged, or of another precision.
        """
        if self.accelerator.is_main_process:
            shutil.rmtree(self.temp, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        saved = sorted(self.folder.glob("step_*"))
        if not saved:
            return
        if self.accelerator.scaler is not None and not (saved[-1] / SCALER_NAME).is_file():
            raise TrainError(
                f"{saved[-1]}: of a training in bf16 or fp32, while this GPU wants fp16; "
                "go on where it began, or train in another folder with --precision fp16"
            )
        try:
            if any(path.is_file() and not path.stat().st_size for path in saved[-1].iterdir()):
                raise EOFError("an empty file")  # Accelerate goes on without a random state
            self.accelerator.load_state(str(saved[-1]))
        except Exception as error:  # of whichever library reads the damaged file
            if lacks_memory(error) or isinstance(error, PermissionError):
                raise
            before = f"the training goes on from {saved[-2].name}" if saved[1:] else "it starts anew"
            raise TrainError(
                f"{saved[-1]}: damaged ({type(error).__name__}: {error}); delete that folder, and {before}"
            ) from error

    def save(self, step: int) -> None:
        """Save everything needed to resume at `step`; whole or not at all.

        Raises:
            WriteError: the disk is full or the like; older checkpoints stay.
        """
        final = self.folder / f"step_{step:07d}"
        if not final.exists():
            try:
                with writing(self.temp):
                    self.accelerator.save_state(str(self.temp), safe_serialization=True)
            except WriteError:
                shutil.rmtree(self.temp, ignore_errors=True)
                raise
            self.accelerator.wait_for_everyone()  # every process adds its own random state
            if self.accelerator.is_main_process:
                self.temp.rename(final)
                for old in sorted(self.folder.glob("step_*"))[:-KEPT_CHECKPOINTS]:
                    shutil.rmtree(old)
        self.accelerator.wait_for_everyone()


def claim(run_dir: Path, facts: dict[str, Any]) -> None:
    """Note in `run.json` what is trained here, and refuse to resume anything else.

    Args:
        facts: plain values that decide the result; those that an older release did not write are not asked.

    Raises:
        TrainError: the folder holds a training of something else.
    """
    wanted = json.loads(json.dumps(facts), parse_constant=str)  # an infinite rate is told as well
    path = run_dir / "run.json"
    held = read_json(path) if any((run_dir / "checkpoints").glob("step_*")) else {}
    if other := differences(held, wanted):
        raise TrainError(
            f"{run_dir}: holds another training: {', '.join(other)}; choose another folder or delete it"
        )
    write_json(path, wanted)


def differences(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What is wanted otherwise than a folder holds it, in words; what it does not hold is not asked.

    Neither is the path of weights that are the same by `<name>_sha256`: it can be written in several ways.
    """
    same = {k for k in wanted if (of := f"{k}_sha256") in held and held[of] == wanted.get(of)}
    asked = {k: v for k, v in wanted.items() if k not in same}
    return [f"{k} {held[k]!r} (now {v!r})" for k, v in asked.items() if held.get(k, v) != v]
