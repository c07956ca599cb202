"""What a version is deployed as: engines of its graphs, and a table of what each backend makes of each.

Follows export in the flow; behind `shuttle export` and the notebook on deployment.
"""

import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shuttlelib import export, runtime
from shuttlelib.errors import check_choice
from shuttlelib.runtime import engines
from shuttlelib.runtime.base import GRAPHS, TENSORRT_GRAPHS
from shuttlelib.runtime.choice import RUNS

BACKENDS = ("torch", "onnx", "openvino", "tensorrt")  # that are measured


def build_engines(model_dir: Path, precisions: Sequence[str], capabilities: Sequence[str]) -> pd.DataFrame:
    """Build a TensorRT engine of each graph for each GPU, into the model's folder, where `runtime` finds it.

    Args:
        capabilities: of the GPUs, like "8.6"; without one TensorRT-RTX builds for it all the same. Blanks
            around it are left out.

    Returns:
        One row an engine: precision, backend ("tensorrt 8.6"), file, size_mb, build_s.

    Raises:
        ShuttleError: TensorRT is missing, or cannot build one.
    """
    trt, rows = engines.find_tensorrt(rtx_first=True), []
    for precision in precisions:
        graph = runtime.base.graph_path(model_dir, precision, TENSORRT_GRAPHS)
        for capability in map(str.strip, capabilities):
            start = time.perf_counter()
            engine = engines.build_engine(graph, capability)
            seconds = time.perf_counter() - start
            path = model_dir / engines.engine_name(graph, trt, capability, "")
            engines.write_engine(path, engine)
            rows.append(_row(precision, f"tensorrt {capability}", path) | {"build_s": seconds})
    return pd.DataFrame(rows)


def measure(
    model_dir: Path,
    precisions: Sequence[str],
    inputs: dict[str, np.ndarray],
    threads: int | None = None,
    runs: int = 30,
    backends: Sequence[str] = BACKENDS,
) -> pd.DataFrame:
    """What each backend makes of each graph: parity with torch and latency, for what works on this machine.

    Args:
        precisions: graphs that are there; "bf16" runs the fp32 one in bfloat16. Blanks around a name are left
            out.
        inputs: by name, real ones: "frames", and "history" for versions that look at the track so far.
        threads: CPU threads; None takes all cores.
        runs: that a latency is the median of.
        backends: names as `runtime.load` takes them; each runs on the GPU where there is one that it can use.

    Returns:
        One row a precision and backend that go together: file, size_mb, device, position_px and visible
        as `export.gaps` says of it and torch on the CPU, latency_ms of one input from the host and back (a
        tracker leaves frames on the GPU: see `shuttle bench`); and skipped: why there are no such numbers,
        else empty.

    Raises:
        UsageError: an unknown precision.
    """
    precisions = [name.strip() for name in precisions]
    for name in precisions:
        check_choice("precision", name, runtime.PRECISIONS)
    truth = runtime.load(model_dir, "torch", "cpu").run(**inputs)
    rows = []
    for precision, name in product(precisions, backends):
        if precision not in RUNS[name]:
            continue
        row = _row(precision, name, Path(model_dir) / _file(name, precision))
        try:
            backend = runtime.load(model_dir, name, "auto", threads, precision)
            row |= export.gaps(truth, backend.run(**inputs)) | {"skipped": ""}
            row |= {"latency_ms": export.latency_ms(backend, runs=runs), "device": backend.device}
        except Exception as error:  # of a driver or library too: the other rows are still worth having
            row["skipped"] = str(error).strip() or type(error).__name__
        rows.append(row)
    return pd.DataFrame(rows)


def _file(backend: str, precision: str) -> str:
    if backend == "torch":
        return "model.safetensors"
    return (TENSORRT_GRAPHS if backend == "tensorrt" else GRAPHS)[precision]


def _row(precision: str, backend: str, file: Path) -> dict[str, Any]:
    size = file.stat().st_size / 1e6 if file.is_file() else np.nan
    return {"precision": precision, "backend": backend, "file": file.name, "size_mb": size}
