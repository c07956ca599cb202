"""From weights to what runs elsewhere: an ONNX graph, its parity with torch, its latency.

Follows training in the flow; `runtime` loads what is written here, `half` and `quantize` make others of it.
The graph holds everything between uint8 pixels and places in input px, so a deployment cannot preprocess
differently from training.
"""

import timeit
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import torch
from torch.export import Dim

from shuttlelib import networks, runtime
from shuttlelib.files import atomic_write
from shuttlelib.folding import folded
from shuttlelib.frames import PAST

OPSET = 20
MAX_BATCH = 64


def export_onnx(model_dir: Path) -> Path:
    """Write model.onnx beside model.safetensors: fp32, any batch from 1 to 64, checked.

    Inputs: "frames" uint8 (batch, T, h, w, 3) and, for versions that look at the track, "history"
    float32 (batch, 30, 3). Outputs: "xy" (batch, k, 2) px, "score" (batch, k), "visible" (batch,).
    """
    model_dir = Path(model_dir)
    deployed = folded(networks.load(model_dir))
    spec = deployed.net.spec
    args = example_inputs(spec.input_hw, networks.uses_history(spec), 2, spec.frames)
    names = ["frames", "history"][: len(args)]
    batch = [Dim("batch", min=1, max=MAX_BATCH), Dim.DYNAMIC]  # of frames; of history, which follows it
    path = model_dir / "model.onnx"
    write_graph(deployed, args, names, tuple({0: axis} for axis, _ in zip(batch, args)), path)
    return path


def write_graph(
    module: torch.nn.Module, args: tuple[Any, ...], names: Sequence[str], shapes: tuple[Any, ...], path: Path
) -> None:
    """Write a module that gives xy, score and visible as one checked ONNX file.

    Args:
        args, names: examples of its inputs, and what to call them.
        shapes: its dynamic shapes, see `torch.export.export`.
        path: the file; it appears whole or not at all.
    """
    program = torch.onnx.export(
        module,
        args,
        dynamo=True,
        opset_version=OPSET,
        input_names=names,
        output_names=["xy", "score", "visible"],
        dynamic_shapes=shapes,
        verbose=False,
    )
    assert program is not None  # only the older exporter returns nothing
    with atomic_write(path) as temp:
        program.save(str(temp), external_data=False)
        model = onnx.load(temp)
        strip_traces(model)
        onnx.checker.check_model(model)
        onnx.save(model, temp)


def strip_traces(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes of the source: stack traces with the paths of this machine."""
    graph = model.graph
    parts = (graph.node, graph.input, graph.output, graph.value_info, graph.initializer)
    for part in chain((model, graph), *parts):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def example_inputs(
    input_hw: tuple[int, int], history: bool, batch: int, frames: int
) -> tuple[torch.Tensor, ...]:
    """Random inputs of the right shapes and types."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (batch, frames, *input_hw, 3), dtype=torch.uint8, generator=generator)
    if not history:
        return (pixels,)
    return pixels, torch.rand(batch, PAST, 3, generator=generator)


def gaps(ours: runtime.Candidates, theirs: runtime.Candidates) -> dict[str, float]:
    """How far two answers to the same inputs lie apart.

    Returns:
        position_px: largest distance of the best places, input px, where either sees a shuttle (else
        over all); visible: largest difference of the probabilities.
    """
    apart = np.hypot(*(ours.xy[:, 0] - theirs.xy[:, 0]).T)
    seen = (ours.visible >= 0.5) | (theirs.visible >= 0.5)
    apart = apart[seen] if seen.any() else apart
    return {
        "position_px": float(apart.max()),
        "visible": float(np.abs(ours.visible - theirs.visible).max()),
    }


def latency_ms(backend: runtime.Backend, runs: int = 30) -> float:
    """Median time of one run of one input after a warm-up; on random pixels, which cost what real ones do."""
    tensors = example_inputs(backend.input_hw, backend.uses_history, 1, backend.frames)
    inputs = [t.numpy() for t in tensors]
    runtime.warm_up(backend, (1,) * 3)
    return 1e3 * median(timeit.repeat(lambda: backend.run(*inputs), number=1, repeat=runs))
