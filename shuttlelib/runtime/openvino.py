"""OpenVINO on the CPU: the same ONNX graphs, compiled for this processor; imports neither torch nor pandas.

A network compiled for one batch size runs faster than one compiled for any (at stage 2 by a fifth), but each
takes as long to compile as some hundred runs save. So any size is served at once, and one that comes often,
or is asked for in `warm_up`, gets a network of its own. Compiled networks are kept in the user's cache.

Source: https://docs.openvino.ai, "CPU device" and "Model caching"
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from shuttlelib import paths
from shuttlelib.errors import ShuttleError
from shuttlelib.runtime.base import Candidates, check_inputs, graph_path, run_blank

_OFTEN = 30  # runs of a batch size after which it gets a network of its own …
_MOST = 8  # … as long as there are fewer than this


class OpenVINOBackend:
    """A graph in OpenVINO.

    Args:
        model_dir, card: the version.
        threads: of the CPU.
        precision: fp32, fp16 or int8 run the graph of that name, bf16 the fp32 graph in bfloat16.

    Raises:
        ShuttleError: OpenVINO or the graph is missing, or the processor lacks bfloat16.
    """

    name = "openvino"

    def __init__(self, model_dir: Path, card: dict[str, Any], threads: int, precision: str = "fp32") -> None:
        path = graph_path(model_dir, precision)
        self._core = _import_openvino().Core()
        if precision == "bf16" and not has_bf16(self._core):
            raise ShuttleError("--precision bf16: this processor has no bfloat16 instructions; use fp32")
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Left to itself OpenVINO takes bfloat16 where there is any
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            **_cache_setting(),
        }
        try:
            self._path, self._any = path, self._request(self._core.read_model(path))
        except RuntimeError as error:  # all of OpenVINO's own errors are that
            reason = str(error).strip().splitlines()[-1]
            raise ShuttleError(f"{path}: cannot be loaded ({reason}); export the version again") from error
        names = [value.any_name for value in self._any.model_inputs]
        check_inputs(names, path)
        self._own: dict[int, Any] = {}  # requests by batch size
        self._runs: Counter[int] = Counter()
        self.device = f"cpu ({threads} threads{', ' + precision if precision != 'fp32' else ''})"
        self.version, self.input_hw = card["name"], card["input_hw"]
        self.frames, self.ahead = card["frames"], card["ahead"]
        self.uses_history = "history" in names

    def warm_up(self, batches: Sequence[int] = (1,)) -> None:
        """See `runtime.warm_up`."""
        for batch in batches:
            self._own_request(batch)
        run_blank(self, batches)

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """See `runtime.Backend.run`."""
        feed = {"frames": frames, "history": history} if self.uses_history else {"frames": frames}
        batch = len(frames)
        self._runs[batch] += 1
        if self._runs[batch] == _OFTEN and len(self._own) < _MOST:
            self._own_request(batch)
        results = self._own.get(batch, self._any).infer(feed, share_inputs=True)
        return Candidates(*(results[name] for name in ("xy", "score", "visible")))

    def _own_request(self, batch: int) -> None:
        if batch not in self._own:
            model = self._core.read_model(self._path)
            shapes = {value.any_name: [batch, *list(value.partial_shape)[1:]] for value in model.inputs}
            model.reshape(shapes)
            self._own[batch] = self._request(model)

    def _request(self, model: Any) -> Any:
        # OpenVINO gives the thread that compiles a stack for its signals, and frees it in whichever thread
        # collects the network: the next signal would end the process. A thread that is over gets no signal.
        with ThreadPoolExecutor(1) as thread:
            compiled = thread.submit(self._core.compile_model, model, "CPU", self._settings).result()
        return compiled.create_infer_request()


def has_bf16(core: Any) -> bool:
    """Whether this processor computes in bfloat16."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _import_openvino() -> ModuleType:
    """OpenVINO without its model converter, whose import takes longer than all the rest (80 of 110 ms).

    Raises:
        ShuttleError: it is not installed.
    """
    converter = "openvino.tools.ovc"
    skip = "openvino" not in sys.modules and converter not in sys.modules
    if skip:
        sys.modules[converter] = None  # type: ignore[assignment]  # reads as: not installed
    try:
        import openvino
    except ImportError as error:
        fix = "in the clone run pip install -e '.[openvino]', or use --backend onnx"
        raise ShuttleError(f"--backend openvino: OpenVINO is not installed; {fix}") from error
    finally:
        if skip:
            del sys.modules[converter]
    return openvino


def _cache_setting() -> dict[str, str]:
    """Where compiled networks are kept; nowhere if that folder cannot be written."""
    folder = paths.CACHE / "openvino"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return {"CACHE_DIR": str(folder)} if os.access(folder, os.W_OK) else {}
