"""A torch function at a few fixed batch sizes, on a GPU each captured once as a CUDA graph.

Used by `runtime.torch` and `device`. A graph replays a whole network with one launch; without it, launching
a small network's kernels takes longer than running them.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIZES = (1, 2, 4, 8, 16)  # a batch is padded to the next of them
_capturing = threading.Lock()  # a process may capture one graph at a time

Function = Callable[..., Sequence[Tensor]]


class Sized:
    """Runs `function` on batches of any size, in parts of at most 16, each padded to one of `SIZES`.

    Args:
        function: tensors with a leading batch axis in, tensors with one out; no input affects another's row.
        make: what runs it at one size, made of the function and arrays of that size: see `Captured`.
    """

    def __init__(self, function: Function, make: Callable[[Function, Sequence[np.ndarray]], Any]) -> None:
        self._function, self._make = function, make
        self._made: dict[int, Any] = {}

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """The outputs of a batch, as arrays of one's own."""
        most = SIZES[-1]
        parts = [self._part([a[i : i + most] for a in arrays]) for i in range(0, len(arrays[0]), most)]
        return parts[0] if len(parts) == 1 else [np.concatenate(part) for part in zip(*parts)]

    def _part(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        count = len(arrays[0])
        size = next(size for size in SIZES if size >= count)
        if size not in self._made:
            empty = [np.zeros((size, *array.shape[1:]), array.dtype) for array in arrays]
            self._made[size] = self._make(self._function, empty)
        return [output[:count].copy() for output in self._made[size](arrays)]


class Captured:
    """A function captured as a CUDA graph, with its input and output buffers.

    Args:
        function: as for `Sized`; it must not wait for the GPU.
        arrays: inputs of the shapes that all calls have, or fewer rows; rows that a call does not fill keep
            what they held before, and their outputs mean nothing.
    """

    def __init__(self, function: Function, arrays: Sequence[np.ndarray]) -> None:
        self._host = [torch.from_numpy(array).pin_memory() for array in arrays]
        self._device = [tensor.cuda() for tensor in self._host]
        with _capturing:
            self._capture(function)
        self._answers = [torch.empty_like(output, device="cpu").pin_memory() for output in self._outputs]

    def _capture(self, function: Function) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(3):  # what is set up lazily must not be captured
                function(*self._device)
        torch.cuda.current_stream().wait_stream(side)
        self._graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # Other threads may copy frames meanwhile, which only "thread_local" allows
            with torch.inference_mode(), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._outputs = list(function(*self._device))
        except BaseException:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own stream as the current one
            raise

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of all rows; the next call overwrites them."""
        for host, device, array in zip(self._host, self._device, arrays):
            host.numpy()[: len(array)] = array
            device.copy_(host, non_blocking=True)
        self._graph.replay()
        for answer, output in zip(self._answers, self._outputs):
            answer.copy_(output, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return [answer.numpy() for answer in self._answers]


def run_once(function: Function, device: str, *arrays: np.ndarray) -> list[np.ndarray]:
    """The outputs of a function without capturing it."""
    with torch.inference_mode():
        outputs = function(*(torch.from_numpy(array).to(device) for array in arrays))
        return [output.float().cpu().numpy() for output in outputs]
