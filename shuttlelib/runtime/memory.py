"""What happens when a GPU's memory is full: smaller batches, then the CPU, and a note that says so."""

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shuttlelib.runtime.base import Backend, Candidates, warm_up

_SIGNS = ("out of memory", "failed to allocate memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or ONNX Runtime means that the GPU's memory is full."""
    text = f"{type(error).__name__} {error}".lower()
    return "outofmemoryerror" in text or any(sign in text for sign in _SIGNS)


def free_unused() -> None:
    """Give the GPU back what nobody has any more: networks and graphs in cycles, torch's kept blocks."""
    gc.collect()
    if "torch" in sys.modules:  # its unused blocks may be what others lack
        sys.modules["torch"].cuda.empty_cache()


def _opened(open_gpu: Callable[[], Backend]) -> Backend:
    """The backend, once more after what nobody uses was freed if there is no room."""
    try:
        return open_gpu()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    free_unused()
    return open_gpu()


class Sparing:
    """A backend on a GPU that others may fill up: it goes on with half the batch, and at last on the CPU.

    Args:
        open_gpu: loads the backend on the GPU.
        open_cpu: loads one on the CPU; called only when the GPU has no room even for a batch of one.

    Attributes:
        note: what was done for want of memory; empty while there is enough. The rest: see `runtime.Backend`.
    """

    def __init__(self, open_gpu: Callable[[], Backend], open_cpu: Callable[[], Backend]) -> None:
        self._open_cpu, self.note = open_cpu, ""
        self._most = sys.maxsize  # inputs of one run
        self._cpu: Any = None
        try:
            self._gpu: Any = _opened(open_gpu)
        except Exception as error:
            self._give_up(error)
        shown = self._cpu or self._gpu
        self.name, self.version, self.device = shown.name, shown.version, shown.device
        self.note = self.note or getattr(shown, "note", "")
        self.input_hw, self.uses_history = shown.input_hw, shown.uses_history
        self.frames, self.ahead = shown.frames, shown.ahead
        if self._cpu is None and hasattr(shown, "run_device"):
            self.run_device = shown.run_device  # for who keeps frames on the GPU, and minds its memory there

    def warm_up(self, batches: Sequence[int] = (1,)) -> None:
        """See `runtime.warm_up`."""
        for batch in batches:
            try:
                warm_up(self._cpu or self._gpu, (batch,))
            except Exception as error:
                self._give_up(error, batch)

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """See `runtime.Backend.run`."""
        while True:
            size = min(len(frames), self._most)
            spans = [slice(start, start + size) for start in range(0, len(frames), size)]
            parts = [(frames[span], None if history is None else history[span]) for span in spans]
            try:
                answers = [(self._cpu or self._gpu).run(*part) for part in parts]
            except Exception as error:
                self._give_up(error, size)
            else:
                return answers[0] if len(answers) == 1 else Candidates(*map(np.concatenate, zip(*answers)))

    def _give_up(self, error: Exception, size: int = 1) -> None:
        """Ask less of the memory from now on.

        Raises:
            Exception: the error, if it is not about the GPU's memory.
        """
        if self._cpu is not None or not is_out_of_memory(error):
            raise error
        if size == 1:
            self._gpu = None
            self.__dict__.pop("run_device", None)  # it holds the network
        free_unused()
        if size > 1:
            self._most = (size + 1) // 2
            self.note = f"the GPU's memory is full: at most {self._most} inputs at a time"
            return
        self._cpu = self._open_cpu()
        self.name, self.device = self._cpu.name, self._cpu.device
        self.note = f"the GPU's memory is full: went on with {self._cpu.name} on the CPU"
