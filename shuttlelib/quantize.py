"""Graphs in 8-bit integers, and the real inputs that their ranges are seen on; behind `shuttle export`.

Source: ONNX Runtime's static quantization,
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from shuttlelib import geometry, runtime, video
from shuttlelib.clips import Clip
from shuttlelib.files import atomic_write
from shuttlelib.frames import PAST, Frame, history_stride
from shuttlelib.runtime.base import GRAPHS, TENSORRT_GRAPHS

CALIBRATION = 128  # inputs whose ranges int8 is made by
_BATCH = 4  # inputs of one calibration run
_FRAMES = 60  # at the start of each clip, of which inputs are taken


def write_int8_graphs(model_dir: Path, dataset: Sequence[Clip]) -> list[Path]:
    """Write model.int8.onnx for CPUs and model.int8-tensorrt.onnx, made of model.onnx.

    Args:
        dataset: clips to calibrate on, such as a train split.
    """
    samples = real_inputs(runtime.read_card(model_dir), dataset, CALIBRATION)
    written = []
    for tensorrt, graphs in ((False, GRAPHS), (True, TENSORRT_GRAPHS)):
        written.append(model_dir / graphs["int8"])
        write_int8(model_dir / GRAPHS["fp32"], written[-1], samples, tensorrt)
    return written


def write_int8(graph: Path, path: Path, samples: dict[str, np.ndarray], tensorrt: bool = False) -> None:
    """Write a graph whose convolutions run in 8-bit integers, by ranges seen on samples.

    Args:
        graph: the fp32 graph.
        path: of the result, in QDQ form.
        samples: inputs by name, real ones, (N, …).
        tensorrt: for TensorRT, which wants symmetric activations and fp32 biases; else for CPUs, which are
            faster with unsigned activations.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    only = {"ActivationSymmetric": True, "QuantizeBias": False, "DedicatedQDQPair": True}
    with atomic_write(path) as temp, _quiet():
        quantize_static(
            graph,
            temp,
            _Samples(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8 if tensorrt else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=only if tensorrt else {},
        )
        onnx.checker.check_model(onnx.load(temp), full_check=True)


class _Samples:
    """Feeds samples to ONNX Runtime's calibration, some at a time."""

    def __init__(self, samples: dict[str, np.ndarray]) -> None:
        count = len(next(iter(samples.values())))
        self._batches: Iterator[dict[str, Any]] = (
            {name: array[start : start + _BATCH] for name, array in samples.items()}
            for start in range(0, count, _BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next batch; None after the last."""
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that ONNX Runtime logs while it quantizes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


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
        found["history"] = np.zeros((len(looks), PAST, 3), np.float32)
    return found


def _looks(card: dict[str, Any], clip: Clip, count: int) -> list[np.ndarray]:
    stride, span = history_stride(clip.info.fps), card["frames"] - 1
    last = min(clip.frames, _FRAMES * stride) - 1
    wanted = np.unique(np.linspace(min(span * stride, last), last, count).astype(int)).tolist()
    current = [max(0, latest - card["ahead"] * stride) for latest in wanted]
    windows = dict(zip(wanted, _windows(card, clip, current)))
    seen: deque[Frame] = deque(maxlen=span * stride + 1)
    looks = []
    for frame in video.read_frames(clip.video_path):
        seen.append(frame)
        if frame.index in windows:
            times = [max(0, len(seen) - 1 - back * stride) for back in range(span, -1, -1)]
            looks.append(np.stack([seen[time].window(windows[frame.index]) for time in times]))
        if frame.index == last:
            break
    return looks


def _windows(card: dict[str, Any], clip: Clip, frames: Sequence[int]) -> list[geometry.Window]:
    size_hw, input_hw = clip.info.even_hw, card["input_hw"]
    if card["stage"] == 1:
        return [geometry.full_window(size_hw, input_hw)] * len(frames)
    heads = clip.near_heads()
    limit, radius = np.array(size_hw[::-1], float), 0.25 * input_hw[0] / geometry.canonical_scale(size_hw)
    rng = np.random.default_rng(0)
    centers = [
        heads[frame] + rng.uniform(-radius, radius, 2) if n % 4 else rng.uniform(0, limit)
        for n, frame in enumerate(frames)
    ]
    return [geometry.crop_window(center.clip(0, limit), size_hw, input_hw[0]) for center in centers]
