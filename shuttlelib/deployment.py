"""Everything a version is deployed as: graphs in each precision, engines, and a table of what each is worth.

Follows export in the flow; behind `shuttle export` and the notebook on deployment.
"""

import time
from collections import deque
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shuttlelib import clips, export, geometry, lower_precision, paths, runtime, video
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import atomic_write
from shuttlelib.frames import Frame, history_stride
from shuttlelib.runtime import engines
from shuttlelib.runtime.base import GRAPHS, TENSORRT_GRAPHS
from shuttlelib.runtime.choice import RUNS

BACKENDS = ("torch", "onnx", "openvino", "tensorrt")  # that are measured
CALIBRATION = 128  # inputs whose ranges int8 is made by
PARITY = 32  # inputs on which a backend is compared with torch
_FRAMES = 60  # at the start of each clip, of which inputs are taken


def write_graphs(model_dir: Path, precisions: Sequence[str], dataset: Sequence[Clip] = ()) -> list[Path]:
    """Export a version in each precision.

    Args:
        model_dir: the version.
        precisions: of fp32, fp16 and int8; fp32 is written anyway, since the others are made of it.
        dataset: clips to calibrate int8 on, such as a train split.

    Returns:
        The graphs; int8 has two, the second for TensorRT.

    Raises:
        UsageError: no such precision, or int8 without clips.
        ShuttleError: see `export.export_onnx`.
    """
    unknown = sorted(set(precisions) - {"fp32", "fp16", "int8"})
    if unknown:
        raise UsageError(f"--precision {','.join(unknown)}: choose of fp32, fp16, int8")
    if "int8" in precisions and not dataset:
        raise UsageError("--precision int8: is made by ranges seen on real frames; give --data FOLDER")
    written = [export.export_onnx(model_dir)]
    if "fp16" in precisions:
        written.append(model_dir / GRAPHS["fp16"])
        lower_precision.write_fp16(written[0], written[-1])
    if "int8" in precisions:
        samples = real_inputs(runtime.read_card(model_dir), dataset, CALIBRATION)
        for tensorrt, graphs in ((False, GRAPHS), (True, TENSORRT_GRAPHS)):
            written.append(model_dir / graphs["int8"])
            lower_precision.write_int8(written[0], written[-1], samples, tensorrt)
    return written


def build_engines(model_dir: Path, precisions: Sequence[str], capabilities: Sequence[str]) -> pd.DataFrame:
    """Build a TensorRT engine of each graph for each GPU, into the model's folder, where `runtime` finds it.

    Args:
        capabilities: of the GPUs, like "8.6"; without one TensorRT-RTX builds for it all the same.

    Returns:
        One row an engine: precision, backend ("tensorrt 8.6"), file, size_mb, build_s.

    Raises:
        ShuttleError: TensorRT is missing, or cannot build one.
    """
    trt, rows = engines.find_tensorrt(), []
    for precision in precisions:
        graph = runtime.base.graph_path(model_dir, precision, TENSORRT_GRAPHS)
        for capability in capabilities:
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
        precisions: graphs that are there; "bf16" runs the fp32 one in bfloat16.
        inputs: see `real_inputs`.
        threads: CPU threads; None takes all cores.
        runs: that a latency is the median of.
        backends: names as `runtime.load` takes them; each runs on the GPU where there is one that it can use.

    Returns:
        One row a precision and backend that go together: file, size_mb, device, position_px, median_px and
        visible as `export.gaps` says of it and torch on the CPU, latency_ms of one input; and skipped: why
        there are no such numbers, else empty.
    """
    truth = runtime.load(model_dir, "torch", "cpu").run(**inputs)
    rows = []
    for precision, name in product(precisions, backends):
        if precision not in RUNS[name]:
            continue
        row = _row(precision, name, Path(model_dir) / _file(name, precision))
        try:
            backend = runtime.load(model_dir, name, "auto", threads, precision)
            row |= export.gaps(truth, backend.run(**inputs)) | {"device": backend.device, "skipped": ""}
            row["latency_ms"] = export.latency_ms(backend, runs=runs)
        except ShuttleError as error:
            row["skipped"] = str(error)
        rows.append(row)
    return pd.DataFrame(rows)


def _file(backend: str, precision: str) -> str:
    if backend == "torch":
        return "model.safetensors"
    return (TENSORRT_GRAPHS if backend == "tensorrt" else GRAPHS)[precision]


def _row(precision: str, backend: str, file: Path) -> dict[str, Any]:
    size = file.stat().st_size / 1e6 if file.is_file() else np.nan
    return {"precision": precision, "backend": backend, "file": file.name, "size_mb": size}


def real_inputs(card: dict[str, Any], dataset: Sequence[Clip], count: int) -> dict[str, np.ndarray]:
    """Inputs of a version, as many from each clip: where the shuttle is, and every fourth elsewhere.

    Args:
        card: see `runtime.read_card`.
        dataset: the clips.
        count: of inputs, about; at least one a clip.

    Returns:
        "frames" uint8 (N, T, h, w, 3), and for versions that look at the track so far "history"
        (N, 30, 3), which says that there is none.
    """
    each = max(1, count // len(dataset))
    looks = [look for clip in dataset[:count] for look in _looks(card, clip, each)]
    found = {"frames": np.stack(looks)}
    if card.get("history"):
        found["history"] = np.zeros((len(looks), runtime.base.PAST, 3), np.float32)
    return found


def sample_clips() -> list[Clip]:
    """The rally that comes with the repository."""
    return clips.load_dataset(paths.SAMPLES)


def _looks(card: dict[str, Any], clip: Clip, count: int) -> list[np.ndarray]:
    stride, past = history_stride(clip.info.fps), card["frames"] - 1
    last = min(clip.info.frame_count, _FRAMES * stride) - 1
    wanted = np.unique(np.linspace(min(past * stride, last), last, count).astype(int)).tolist()
    windows = dict(zip(wanted, _windows(card, clip, wanted)))
    seen: deque[Frame] = deque(maxlen=past * stride + 1)
    looks = []
    for frame in video.read_frames(clip.video_path):
        seen.append(frame)
        if frame.index in windows:
            times = [max(0, len(seen) - 1 - back * stride) for back in range(past, -1, -1)]
            looks.append(np.stack([seen[time].window(windows[frame.index]) for time in times]))
        if frame.index == last:
            break
    return looks


def _windows(card: dict[str, Any], clip: Clip, frames: Sequence[int]) -> list[geometry.Window]:
    size_hw, input_hw = clip.info.even_hw, card["input_hw"]
    if card["stage"] == 1:
        return [geometry.full_window(size_hw, input_hw)] * len(frames)
    table = clip.table.drop_duplicates("frame").set_index("frame")[["x_px", "y_px"]]
    middle = {"x_px": size_hw[1] / 2, "y_px": size_hw[0] / 2}
    heads = table.reindex(range(clip.info.frame_count)).ffill().bfill().fillna(middle).to_numpy()
    limit, radius = np.array(size_hw[::-1], float), 0.25 * input_hw[0] / geometry.canonical_scale(size_hw)
    rng = np.random.default_rng(0)
    centers = [
        heads[frame] + rng.uniform(-radius, radius, 2) if n % 4 else rng.uniform(0, limit)
        for n, frame in enumerate(frames)
    ]
    return [geometry.crop_window(center.clip(0, limit), size_hw, input_hw[0]) for center in centers]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Keep a table of `measure` and `build_engines` beside the graphs, as CSV."""
    with atomic_write(path) as temp:
        table.round(4).to_csv(temp, index=False)
