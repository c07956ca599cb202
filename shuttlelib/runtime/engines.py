"""TensorRT engines: built of a graph for one kind of GPU, kept in files that are not taken for another's.

Both packages serve: `tensorrt` (data-centre cards; builds for the GPU at hand) and `tensorrt_rtx` (RTX cards;
builds for any of them, without one). Their networks are strongly typed: precision is the graph's own.

Source: TensorRT's and TensorRT-RTX's Python API, https://docs.nvidia.com/deeplearning
"""

import hashlib
import importlib
import re
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from shuttlelib import paths
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import WriteError, atomic_write, sha256

BATCHES = (1, 4, 16)  # least, usual and most inputs of one run
RECIPE = "r2"  # another one where `build_engine` builds otherwise: engines of the old one are not loaded
_DIGEST = hashlib.sha256().digest_size


def find_tensorrt(rtx_first: bool = False) -> ModuleType:
    """The installed TensorRT package.

    Args:
        rtx_first: where both are installed take TensorRT-RTX, which builds for other GPUs than this one.

    Raises:
        ShuttleError: neither is installed.
    """
    names = ("tensorrt", "tensorrt_rtx")
    for name in names[::-1] if rtx_first else names:
        with suppress(ImportError):
            return importlib.import_module(name)
    fix = "in the clone run pip install -e '.[tensorrt]' (data-centre cards) or '.[rtx]' (RTX cards)"
    raise ShuttleError(f"--backend tensorrt: the package is not installed; {fix}, or use --backend onnx")


def choose_tensorrt(graph: Path, capability: str, gpu: str) -> tuple[ModuleType, str]:
    """The package that runs a graph, and its engine's name: one whose engine lies there, else the first.

    Args:
        graph, capability, gpu: see `engine_name`.

    Raises:
        ShuttleError: none is installed.
    """
    trt = find_tensorrt()
    name = engine_name(graph, trt, capability, gpu)
    if not (graph.parent / name).is_file() and any(graph.parent.glob("*-tensorrt_rtx-*.engine")):
        rtx = find_tensorrt(rtx_first=True)  # imported only where `shuttle export --engine` left one
        exported = engine_name(graph, rtx, capability, gpu)
        if (graph.parent / exported).is_file():
            return rtx, exported
    return trt, name


def build_engine(graph: Path, capability: str | None = None) -> bytes:
    """A serialized engine.

    Args:
        graph: the ONNX file.
        capability: compute capability of the GPU it is for, like "8.6"; needs TensorRT-RTX. None is the GPU
            at hand (TensorRT-RTX: every RTX card since 8.6).

    Raises:
        UsageError: this TensorRT does not build for that capability.
        ShuttleError: TensorRT cannot parse or build the graph.
    """
    trt = find_tensorrt(rtx_first=capability is not None)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = parse(trt, builder, graph)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        profile.set_shape(value.name, *((batch, *tuple(value.shape)[1:]) for batch in BATCHES))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32: ten bits of it move a place by up to 0.2 px
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capability(trt, capability), 0)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ShuttleError(f"{graph}: TensorRT cannot build an engine of it; use --backend onnx")
    return bytes(engine)


def parse(trt: ModuleType, builder: Any, graph: Path) -> Any:
    """The graph as TensorRT's network.

    Raises:
        ShuttleError: TensorRT cannot parse it.
    """
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # not a choice any more
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse(graph.read_bytes()):
        reason = parser.get_error(0).desc()
        raise ShuttleError(f"{graph}: TensorRT cannot parse it ({reason}); export the version again")
    return network


def _capability(trt: ModuleType, text: str) -> Any:
    found = getattr(getattr(trt, "ComputeCapability", None), f"SM{text.replace('.', '')}", None)
    if found is None:
        fix = "give one like 8.6 with pip install -e '.[rtx]', or leave it to the GPU itself"
        raise UsageError(f"--engine {text}: {trt.__name__} {trt.__version__} does not build for it; {fix}")
    return found


def engine_name(graph: Path, trt: ModuleType, capability: str, gpu: str) -> str:
    """The file name of an engine, which holds all that it depends on.

    Args:
        capability: of the GPU, like "8.6".
        gpu: its name; an engine of TensorRT-RTX serves every GPU of its capability.
    """
    card = "" if trt.__name__ == "tensorrt_rtx" else "-" + re.sub(r"\W+", "_", gpu).lower()
    target = f"sm{capability.replace('.', '')}{card}"
    return f"{graph.stem}-{target}-{trt.__name__}-{trt.__version__}-{sha256(graph)[:16]}-{RECIPE}.engine"


def write_engine(path: Path, engine: bytes) -> None:
    """Keep an engine, whole or not at all, after a digest that tells whether it still is."""
    with atomic_write(path) as temp:
        temp.write_bytes(hashlib.sha256(engine).digest() + engine)


def read_engine(path: Path) -> bytes | None:
    """The engine of a file; None where it is damaged."""
    data = path.read_bytes()
    digest, engine = data[:_DIGEST], data[_DIGEST:]
    return engine if hashlib.sha256(engine).digest() == digest else None


def free_bytes() -> int:
    """Memory of this GPU that nobody has."""
    import torch

    return int(torch.cuda.mem_get_info()[0])


def load_engine(graph: Path, trt_runtime: Any, name: str, capability: str) -> tuple[Any, str]:
    """The engine of a graph for this GPU: from the model's folder or the user's cache, else built and kept.

    Args:
        name: see `engine_name`.
        capability: of this GPU, like "8.6".

    Returns:
        The engine, and a note where a kept one was of no use.

    Raises:
        ShuttleError: see `build_engine`; or the new engine does not load.
    """
    kept, note = paths.CACHE / "engines" / name, ""
    for path in (graph.parent / name, kept):
        if path.is_file():
            data = read_engine(path)
            engine = None if data is None else trt_runtime.deserialize_cuda_engine(data)
            if engine is not None:
                return engine, note
            if data is not None and free_bytes() < len(data):
                raise ShuttleError(f"{path}: the GPU is out of memory for it; use --device cpu")
            note = f"{path}: damaged, so the engine was built again"
    rtx = "-tensorrt_rtx-" in name  # the other package builds for the GPU at hand anyway
    try:
        data = build_engine(graph, capability if rtx else None)
    except UsageError as error:
        fix = "pip install -e '.[tensorrt]', or use --backend onnx or torch-graph"
        raise ShuttleError(
            f"TensorRT-RTX does not run on GPUs of compute capability {capability}; {fix}"
        ) from error
    engine = trt_runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise ShuttleError(f"{graph}: its engine does not load on this GPU; use --backend torch")
    with suppress(WriteError):  # it runs all the same; the next start builds it again
        write_engine(kept, data)
    return engine, note
