"""ONNX Runtime on the CPU or a CUDA GPU; imports neither torch nor pandas."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shuttlelib.errors import ShuttleError
from shuttlelib.runtime.base import Candidates, check_inputs, graph_path


class OnnxBackend:
    """ONNX Runtime on the CPU or a CUDA GPU."""

    name = "onnx"

    def __init__(
        self, model_dir: Path, card: dict[str, Any], device: str, threads: int, precision: str = "fp32"
    ) -> None:
        path = graph_path(model_dir, precision)
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise ShuttleError(
                "--backend onnx: onnxruntime is not installed; pip install onnxruntime"
            ) from error
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        if provider not in ort.get_available_providers():
            fix = "pip install onnxruntime-gpu, or use --backend torch"
            raise ShuttleError(f"--device cuda: ONNX Runtime here has no CUDA provider; {fix}")
        if device == "cuda" and hasattr(ort, "preload_dlls"):
            with redirect_stdout(sys.stderr):  # it prints, and stdout may carry rows
                ort.preload_dlls()  # CUDA and cuDNN as torch's wheels bring them
        choice = (provider, {"use_tf32": "0"}) if device == "cuda" else provider  # fp32 means fp32
        self._open = lambda threads: ort.InferenceSession(str(path), _options(ort, threads), [choice])
        self._threads = threads if device == "cpu" else 1
        try:
            self._session = self._open(threads)
        except Exception as error:  # ONNX Runtime's own exceptions have no common public base
            reason = str(error).splitlines()[0]
            raise ShuttleError(f"{path}: cannot be loaded ({reason}); export the version again") from error
        if provider not in self._session.get_providers():  # it goes on without what it cannot load
            fix = "install the CUDA and cuDNN it was built for, or use --backend torch"
            raise ShuttleError(f"--device cuda: ONNX Runtime's CUDA provider does not start here; {fix}")
        told = [f"{threads} threads"] * (device == "cpu") + [precision] * (precision != "fp32")
        self.device = f"{device} ({', '.join(told)})" if told else device
        self.version, self.input_hw = card["name"], card["input_hw"]
        self.frames, self.ahead = card["frames"], card["ahead"]
        inputs = [value.name for value in self._session.get_inputs()]
        self.uses_history = "history" in inputs
        check_inputs(inputs, path)

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """See `runtime.Backend.run`.

        One input is shared among the CPU threads, layer by layer; of several each thread takes its own, which
        leaves them nothing to wait for.
        """
        feed = {"frames": frames}
        if history is not None and self.uses_history:
            feed["history"] = history
        parts = min(len(frames), self._threads)
        if parts == 1:
            return Candidates(*self._session.run(list(Candidates._fields), feed))
        chunks = zip(*(np.array_split(value, parts) for value in feed.values()))
        feeds = [dict(zip(feed, chunk)) for chunk in chunks]
        run = self._alone.run
        answers = self._pool.map(lambda feed: run(list(Candidates._fields), feed), feeds)
        return Candidates(*map(np.concatenate, zip(*answers)))

    @cached_property
    def _alone(self) -> Any:
        """The graph run by one thread, for several threads at once."""
        return self._open(1)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, "onnx")


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # what goes wrong is raised or noticed by the caller
    # Idle workers that spin would take the core that decodes the next frame
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
