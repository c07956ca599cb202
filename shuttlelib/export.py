"""From weights to what runs elsewhere: an ONNX graph, its parity with torch, a TensorRT engine.

Follows training in the flow; `runtime` loads what is written here. The graph holds everything between
uint8 pixels and places in input px, so a deployment cannot preprocess differently from training.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.export import Dim

from shuttlelib import networks, runtime
from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write
from shuttlelib.runtime import engines

OPSET = 20
MAX_BATCH = 64


def export_onnx(model_dir: Path) -> Path:
    """Write model.onnx beside model.safetensors: fp32, any batch from 1 to 64, checked.

    Inputs: "frames" uint8 (batch, T, h, w, 3) and, for versions that look at the track, "history"
    float32 (batch, 30, 3). Outputs: "xy" (batch, k, 2) px, "score" (batch, k), "visible" (batch,).
    """
    model_dir = Path(model_dir)
    deployed = networks.load(model_dir)
    spec = deployed.net.spec
    args = example_inputs(spec.input_hw, networks.uses_history(spec), batch=2, frames=spec.frames)
    names = ["frames", "history"][: len(args)]
    batch = [Dim("batch", min=1, max=MAX_BATCH), Dim.DYNAMIC]  # of frames; of history, which follows it
    program = torch.onnx.export(
        deployed,
        args,
        dynamo=True,
        opset_version=OPSET,
        input_names=names,
        output_names=["xy", "score", "visible"],
        dynamic_shapes=tuple({0: axis} for axis, _ in zip(batch, args)),
        verbose=False,
    )
    assert program is not None  # only the older exporter returns nothing
    path = model_dir / "model.onnx"
    with atomic_write(path) as temp:
        program.save(str(temp), external_data=False)
        model = onnx.load(temp)
        strip_traces(model)
        onnx.checker.check_model(model)
        onnx.save(model, temp)
    return path


def strip_traces(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes of the source: stack traces with the paths of this machine."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def example_inputs(
    input_hw: tuple[int, int], history: bool, batch: int, seed: int = 0, frames: int = 4
) -> tuple[torch.Tensor, ...]:
    """Random inputs of the right shapes and types."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (batch, frames, *input_hw, 3), dtype=torch.uint8, generator=generator)
    if not history:
        return (pixels,)
    return pixels, torch.rand(batch, networks.HISTORY, 3, generator=generator)


def parity(model_dir: Path, frames: np.ndarray, history: np.ndarray | None = None) -> dict[str, float]:
    """How far ONNX Runtime is from torch on the same inputs.

    Args:
        frames: uint8 (B, T, h, w, 3), real ones: random pixels have no peak to agree on.

    Returns:
        position_px: largest distance of the best places, input px, where either sees a shuttle (else
        over all); visible: largest difference of the probabilities.
    """
    ours = runtime.load(model_dir, "torch", "cpu").run(frames, history)
    theirs = runtime.load(model_dir, "onnx", "cpu").run(frames, history)
    gap = np.hypot(*(ours.xy[:, 0] - theirs.xy[:, 0]).T)
    seen = (ours.visible >= 0.5) | (theirs.visible >= 0.5)
    return {
        "position_px": float(gap[seen].max() if seen.any() else gap.max()),
        "visible": float(np.abs(ours.visible - theirs.visible).max()),
        "samples": float(len(frames)),
    }


def latency_ms(backend: runtime.Backend, batch: int = 1, runs: int = 30) -> float:
    """Median time of one run after a warm-up; on random pixels, which cost the same as real ones."""
    tensors = example_inputs(backend.input_hw, backend.uses_history, batch, frames=backend.frames)
    inputs = [t.numpy() for t in tensors]
    times = []
    for _ in range(runs + 3):
        start = time.perf_counter()
        backend.run(*inputs)
        times.append(time.perf_counter() - start)
    return float(np.median(times[3:]) * 1e3)


def build_tensorrt(model_dir: Path) -> dict[str, Any]:
    """Build an engine of the exported graph and write it as model.engine.

    TensorRT-RTX builds for RTX cards on any machine; TensorRT builds for the GPU that is present.

    Returns:
        package, package_version, size_mb, build_s.

    Raises:
        ShuttleError: the package or the graph is missing, or it cannot be built.
    """
    trt = engines.find_tensorrt()
    graph = Path(model_dir) / "model.onnx"
    if not graph.is_file():
        raise ShuttleError(f"{graph}: missing; export the version first")
    start = time.perf_counter()
    engine = engines.build_engine(graph)
    seconds = time.perf_counter() - start
    with atomic_write(Path(model_dir) / "model.engine") as temp:
        temp.write_bytes(engine)
    return {
        "package": trt.__name__,
        "package_version": trt.__version__,
        "size_mb": len(engine) / 1e6,
        "build_s": seconds,
    }
