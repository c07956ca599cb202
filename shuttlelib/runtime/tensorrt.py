"""The TensorRT backend: the engine beside a version's ONNX graph, or one built of it.

Both packages serve: `tensorrt` (data-centre cards) and `tensorrt_rtx` (RTX cards). Their networks are
strongly typed, so precision is the graph's own.

Source: TensorRT's Python API documentation, https://docs.nvidia.com/deeplearning/tensorrt
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from shuttlelib.errors import ShuttleError
from shuttlelib.runtime.base import Candidates

_BATCHES = (1, 1, 16)  # least, usual and most inputs of one run


def find_tensorrt() -> ModuleType:
    """The installed TensorRT package.

    Raises:
        ShuttleError: neither is installed.
    """
    for name in ("tensorrt", "tensorrt_rtx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    fix = "pip install shuttlelib[tensorrt] (data-centre cards) or shuttlelib[rtx] (RTX cards)"
    raise ShuttleError(f"--backend tensorrt: the package is not installed; {fix}, or use --backend onnx")


def build_engine(graph: Path) -> bytes:
    """A serialized engine for the GPU at hand (TensorRT-RTX: for RTX cards, without needing one).

    Raises:
        ShuttleError: TensorRT cannot parse or build the graph.
    """
    trt = find_tensorrt()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        raise ShuttleError(
            f"{graph}: TensorRT cannot parse it ({parser.get_error(0)}); export the version again"
        )
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        profile.set_shape(value.name, *((batch, *tuple(value.shape)[1:]) for batch in _BATCHES))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ShuttleError(f"{graph}: TensorRT cannot build an engine of it; use --backend onnx")
    return bytes(engine)


def load_engine(graph: Path, trt_runtime: Any) -> Any:
    """The engine of model.engine where it is newer than the graph and fits this GPU, else a new one.

    Raises:
        ShuttleError: see `build_engine`; or the new engine does not load.
    """
    stored = graph.with_suffix(".engine")
    if stored.is_file() and stored.stat().st_mtime >= graph.stat().st_mtime:
        engine = trt_runtime.deserialize_cuda_engine(stored.read_bytes())
        if engine is not None:
            return engine
    engine = trt_runtime.deserialize_cuda_engine(build_engine(graph))
    if engine is None:
        raise ShuttleError(f"{graph}: its engine does not load on this GPU; use --backend torch")
    return engine


class TensorRTBackend:
    """A TensorRT engine; device memory and the stream are torch's."""

    name = "tensorrt"

    def __init__(self, graph: Path, card: dict[str, Any]) -> None:
        trt = find_tensorrt()
        import torch

        if not torch.cuda.is_available():
            raise ShuttleError("--backend tensorrt: there is no GPU here; use --backend onnx")
        self._torch = torch
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = load_engine(graph, self._runtime)
        self._context = self._engine.create_execution_context()
        self._stream = torch.cuda.Stream()
        self.device = f"cuda ({torch.cuda.get_device_name()})"
        self.version, self.input_hw, self.frames = card["name"], card["input_hw"], card["frames"]
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.uses_history = "history" in names

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """See `runtime.Backend.run`."""
        torch = self._torch
        feed = {"frames": frames, "history": history} if self.uses_history else {"frames": frames}
        with torch.cuda.stream(self._stream):
            inputs = {name: torch.from_numpy(array).cuda(non_blocking=True) for name, array in feed.items()}
            for name, tensor in inputs.items():
                self._context.set_input_shape(name, tuple(tensor.shape))
            outputs = {}
            for name in ("xy", "score", "visible"):
                shape = tuple(self._context.get_tensor_shape(name))
                outputs[name] = torch.empty(shape, dtype=torch.float32, device="cuda")
            for name, tensor in {**inputs, **outputs}.items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise ShuttleError(f"version {self.version}: TensorRT failed to run it; use --backend torch")
        self._stream.synchronize()
        return Candidates(*(outputs[name].cpu().numpy() for name in ("xy", "score", "visible")))
