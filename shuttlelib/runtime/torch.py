"""The network itself in torch: eager, compiled, or captured as CUDA graphs."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.runtime.base import Candidates, warm_up

if TYPE_CHECKING:
    from torch import Tensor


class TorchBackend:
    """The network in torch.

    Args:
        model_dir, card: the version.
        device: cpu or cuda.
        threads: of the CPU.
        name: torch (eager), torch-compile (fused by TorchInductor, which needs a C++ compiler on the CPU and
            takes minutes to start) or torch-graph (eager kernels replayed as CUDA graphs).

    Raises:
        UsageError: torch-graph without a GPU.
        ShuttleError: torch or what it needs here is missing.
    """

    def __init__(
        self, model_dir: Path, card: dict[str, Any], device: str, threads: int, name: str = "torch"
    ) -> None:
        try:
            import torch

            from shuttlelib import networks
            from shuttlelib.folding import folded
            from shuttlelib.runtime.graphs import Captured, Sized, run_once
        except ImportError as error:
            raise ShuttleError(
                f"--backend {name}: {error.name} is not installed; pip install torch timm"
            ) from error
        if name == "torch-graph" and device == "cpu":
            raise UsageError("--backend torch-graph: CUDA graphs need a GPU; use --backend torch")
        if device == "cuda" and not torch.cuda.is_available():
            raise ShuttleError("--device cuda: torch finds no GPU here; use --device cpu")
        torch.set_num_threads(threads)
        self.name, self.device = name, f"cpu ({threads} threads)"
        if device == "cuda":
            self.device = f"cuda ({torch.cuda.get_device_name()})"
            torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32: TF32 moves a place by up to 0.2 px
        self.version, self.input_hw = card["name"], card["input_hw"]
        self.frames, self.ahead = card["frames"], card["ahead"]
        self.uses_history = bool(card.get("history", False))
        self._net: Any = folded(networks.load(model_dir, device))
        self._run: Any = partial(run_once, self.run_device, device)
        if name == "torch-graph":
            self._run = Sized(self.run_device, Captured)
        if name == "torch-compile":
            self._net = torch.compile(self._net)
            self._try()

    def run_device(self, frames: "Tensor", history: "Tensor | None" = None) -> "tuple[Tensor, ...]":
        """As `run`, on tensors of the device: xy, score and visible; waits for nothing."""
        return self._net(frames, history)

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """See `runtime.Backend.run`."""
        return Candidates(*self._run(*((frames, history) if self.uses_history else (frames,))))

    def _try(self) -> None:
        """Compile now: what is missing is told here, not at the first frame."""
        try:
            warm_up(self)
        except Exception as error:  # the compiler's own errors have no common public base
            reason = str(error).strip().splitlines()[0]
            fix = "install a C++ compiler (g++), or use --backend torch"
            raise ShuttleError(f"--backend torch-compile: cannot compile here ({reason}); {fix}") from error
