"""ONNX Runtime on the CPU or a CUDA GPU; imports neither torch nor pandas."""

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
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # what goes wrong is raised or noticed below
        # Idle workers that spin would take the core that decodes the next frame
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # ONNX Runtime's own exceptions have no common public base
            reason = str(error).splitlines()[0]
            raise ShuttleError(f"{path}: cannot be loaded ({reason}); export the version again") from error
        if provider not in self._session.get_providers():  # it goes on without what it cannot load
            fix = "install the CUDA and cuDNN it was built for, or use --backend torch"
            raise ShuttleError(f"--device cuda: ONNX Runtime's CUDA provider does not start here; {fix}")
        self.device = f"cpu ({threads} threads)" if device == "cpu" else "cuda"
        self.version, self.input_hw, self.frames = card["name"], card["input_hw"], card["frames"]
        inputs = [value.name for value in self._session.get_inputs()]
        self.uses_history = "history" in inputs
        check_inputs(inputs, path)

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """See `runtime.Backend.run`."""
        feed = {"frames": frames, "history": history} if self.uses_history else {"frames": frames}
        return Candidates(*self._session.run(["xy", "score", "visible"], feed))
