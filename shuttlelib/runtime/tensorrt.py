"""TensorRT on a GPU; device memory and streams are torch's.

Source: TensorRT's and TensorRT-RTX's Python API, https://docs.nvidia.com/deeplearning
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shuttlelib import paths
from shuttlelib.errors import ShuttleError
from shuttlelib.files import WriteError, atomic_write
from shuttlelib.runtime.base import TENSORRT_GRAPHS, Candidates, check_inputs, graph_path, run_blank
from shuttlelib.runtime.engines import BATCHES, choose_tensorrt, find_tensorrt, load_engine

if TYPE_CHECKING:
    from torch import Tensor


class TensorRTBackend:
    """A TensorRT engine, warmed up.

    Args:
        model_dir, card: the version.
        precision: fp32, fp16 or int8: the graph of that name.

    Attributes:
        note: that a kept engine was damaged; else empty.

    Raises:
        ShuttleError: there is no package, GPU or graph, or the engine cannot be built or run.
    """

    name = "tensorrt"

    def __init__(self, model_dir: Path, card: dict[str, Any], precision: str = "fp32") -> None:
        find_tensorrt()  # before torch, which takes longer to find no GPU
        import torch

        if not torch.cuda.is_available():
            raise ShuttleError("--backend tensorrt: there is no GPU here; use --backend onnx")
        graph = graph_path(model_dir, precision, TENSORRT_GRAPHS)
        gpu = torch.cuda.get_device_name()
        capability = "{}.{}".format(*torch.cuda.get_device_capability())
        trt, file = choose_tensorrt(graph, capability, gpu)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine, self.note = load_engine(graph, self._runtime, file, capability)
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        check_inputs(names, graph)
        kept = (paths.CACHE / "engines" / file).with_suffix(".kernels")
        self._kernels = _Kernels(trt, self._engine, kept)
        self._contexts: dict[int, Any] = {}
        self._stream = torch.cuda.Stream()
        self.device = f"cuda ({gpu}{', ' + precision if precision != 'fp32' else ''})"
        self.version, self.input_hw = card["name"], card["input_hw"]
        self.frames, self.ahead = card["frames"], card["ahead"]
        self.uses_history = "history" in names
        run_blank(self, (1,))

    def _new_context(self) -> Any:
        context = self._kernels.context()
        if context is None:
            raise ShuttleError(f"version {self.version}: TensorRT is out of memory; use --device cpu")
        return context

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """See `runtime.Backend.run`."""
        import torch

        arrays = (frames, history) if self.uses_history else (frames,)
        outputs = self.run_device(*(torch.from_numpy(array).cuda(non_blocking=True) for array in arrays))
        return Candidates(*(output.cpu().numpy() for output in outputs))

    def run_device(self, frames: "Tensor", history: "Tensor | None" = None) -> "tuple[Tensor, ...]":
        """As `run`, on tensors of the GPU: xy, score and visible; in the order of the current stream."""
        import torch

        inputs = (frames, history) if history is not None and self.uses_history else (frames,)
        parts = [self._run_part(*part) for part in zip(*(value.split(BATCHES[-1]) for value in inputs))]
        return parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts)))

    def _run_part(self, frames: "Tensor", history: "Tensor | None" = None) -> "tuple[Tensor, ...]":
        import torch

        tensors = {"frames": frames.contiguous()}
        if history is not None:
            tensors["history"] = history.contiguous()
        # One a batch size: a captured CUDA graph must not share its own
        new = len(frames) not in self._contexts
        context = self._new_context() if new else self._contexts[len(frames)]
        for name, tensor in tensors.items():
            context.set_input_shape(name, tuple(tensor.shape))
        for name in Candidates._fields:
            shape = tuple(context.get_tensor_shape(name))
            tensors[name] = torch.empty(shape, dtype=torch.float32, device=frames.device)
        caller = torch.cuda.current_stream()
        self._stream.wait_stream(caller)  # TensorRT wants a stream that is not the default one
        for name, tensor in tensors.items():
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(self._stream.cuda_stream):
            raise ShuttleError(f"version {self.version}: TensorRT failed to run it; use --backend torch")
        caller.wait_stream(self._stream)  # before that nothing of the caller's reuses the memory
        if new:  # what TensorRT-RTX compiled for it is kept for the next start
            self._contexts[len(frames)] = context
            self._kernels.keep()
        return tuple(tensors[name] for name in Candidates._fields)


class _Kernels:
    """What TensorRT-RTX compiles for the GPU while it runs, kept on disk; TensorRT compiles nothing then."""

    def __init__(self, trt: Any, engine: Any, path: Path) -> None:
        self._engine, self._path = engine, path
        self._config: Any = None
        self._cache: Any = None
        if hasattr(engine, "create_runtime_config"):
            self._config = engine.create_runtime_config()
            # By default kernels for a batch size are compiled behind one's back while slower ones run, and a
            # captured CUDA graph would keep those
            strategy = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
            if strategy is not None:
                self._config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
        if hasattr(self._config, "create_runtime_cache"):
            self._cache = self._config.create_runtime_cache()
            if path.is_file():  # one of another driver or GPU, or a damaged one, is refused and written anew
                self._cache.deserialize(path.read_bytes())
            self._config.set_runtime_cache(self._cache)

    def context(self) -> Any:
        """An execution context; None where there is no memory for it."""
        if self._cache is None:
            return self._engine.create_execution_context()
        return self._engine.create_execution_context(self._config)

    def keep(self) -> None:
        """Write what was compiled so far, where that is news."""
        if self._cache is None:
            return
        data = bytes(self._cache.serialize())
        if not self._path.is_file() or self._path.read_bytes() != data:
            with suppress(WriteError), atomic_write(self._path) as temp:
                temp.write_bytes(data)
