"""Run a model version behind one small interface, whatever executes it; between export and tracking.

The ONNX Runtime backend imports neither torch nor pandas: how fast `shuttle track` starts depends on it.
"""

import ctypes
import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from shuttlelib import paths
from shuttlelib.errors import ShuttleError, UsageError

BACKENDS = ("auto", "onnx", "torch", "tensorrt")
DEVICES = ("auto", "cpu", "cuda")


class Candidates(NamedTuple):
    """What a network says of a batch.

    Attributes:
        xy: (B, K, 2) float32 places, network-input px, best first.
        score: (B, K) in [0, 1], descending.
        visible: (B,) probability that the shuttle's head is visible in the input.
    """

    xy: np.ndarray
    score: np.ndarray
    visible: np.ndarray


class Backend(Protocol):
    """A loaded model.

    Attributes:
        name: what executes it: onnx, torch or tensorrt.
        device: where, for people: "cpu (2 threads)", "cuda (NVIDIA H200)".
        version: the model version's name.
        input_hw: network input, px.
        frames: how many it sees: the current one and past ones.
        uses_history: whether `run` looks at the track so far.
    """

    name: str
    device: str
    version: str
    input_hw: tuple[int, int]
    frames: int
    uses_history: bool

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """Look at a batch.

        Args:
            frames: uint8 (B, T, h, w, 3) RGB, oldest first, the last one current.
            history: float32 (B, 30, 3), oldest first: x and y in 0..1 of the input (0 when not visible)
                and visible; needed only where `uses_history`.
        """
        ...


def read_card(model_dir: Path) -> dict[str, Any]:
    """The version.json of a model folder.

    Raises:
        ShuttleError: it is missing or damaged.
    """
    path = Path(model_dir) / "version.json"
    try:
        card = json.loads(path.read_text())
        height, width = card["input_hw"]
        known = {"name": str(card["name"]), "input_hw": (int(height), int(width))}
        return {**card, **known, "frames": int(card.get("frames", 4))}  # older cards do not say: four
    except FileNotFoundError as error:
        raise ShuttleError(f"{path}: no such model; train the version or fetch its weights") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ShuttleError(f"{path}: damaged ({error}); export the version again") from error


def default_pair(models_dir: Path | None = None) -> tuple[Path, Path]:
    """Folders of the shipped stage-1 and stage-2 versions, as models/default.json names them.

    Raises:
        ShuttleError: the file is missing or damaged.
    """
    root = Path(models_dir or paths.MODELS)
    try:
        names = json.loads((root / "default.json").read_text())
        return root / names["stage1"], root / names["stage2"]
    except FileNotFoundError as error:
        raise ShuttleError(f"{root}: has no default.json; point --models to a folder of models") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ShuttleError(
            f'{root / "default.json"}: must hold {{"stage1": name, "stage2": name}}'
        ) from error


def load(model_dir: Path, backend: str = "auto", device: str = "auto", threads: int | None = None) -> Backend:
    """Load a model version, ready to run.

    Args:
        model_dir: its folder: version.json with model.onnx (onnx, tensorrt) or model.safetensors (torch).
        backend: auto, onnx, torch or tensorrt; see `choose` for what auto means.
        device: auto, cpu or cuda.
        threads: CPU threads; None takes all cores.

    Raises:
        UsageError: no such backend or device.
        ShuttleError: a file, package or GPU that the choice needs is missing; the message names the fix.
    """
    card = read_card(model_dir)
    backend, device, _ = choose(model_dir, backend, device)
    threads = threads or os.cpu_count() or 1
    if backend == "onnx":
        return _OnnxBackend(Path(model_dir), card, device, threads)
    if backend == "torch":
        return _TorchBackend(Path(model_dir), card, device, threads)
    from shuttlelib.runtime_tensorrt import TensorRTBackend

    return TensorRTBackend(_graph(Path(model_dir)), card)


def choose(model_dir: Path, backend: str = "auto", device: str = "auto") -> tuple[str, str, str]:
    """Resolve "auto": backend, device and why.

    ONNX Runtime is the choice on the CPU (it starts without torch, and ran faster), and on a GPU where
    its CUDA build is installed and works; torch elsewhere on a GPU. Without an ONNX graph torch remains.
    A driver alone does not make a GPU usable: where only "auto" asked for it, the CPU is the way out.
    """
    for name, value, known in (("--backend", backend, BACKENDS), ("--device", device, DEVICES)):
        if value not in known:
            raise UsageError(f"{name} {value}: choose one of {', '.join(known)}")
    gpu = device == "cuda" or (device == "auto" and _gpu_present())
    if backend == "tensorrt":
        if device == "cpu":
            raise UsageError(
                "--backend tensorrt needs a GPU; use --device cuda, or --backend onnx on the CPU"
            )
        return backend, "cuda", "asked for"
    graph = (Path(model_dir) / "model.onnx").is_file()
    if backend != "auto" or not graph:
        if gpu and device == "auto":
            gpu = _onnx_cuda(model_dir) if backend == "onnx" else _torch_cuda()
        why = "asked for" if backend != "auto" else "no model.onnx in the model folder"
        return "torch" if backend == "auto" else backend, "cuda" if gpu else "cpu", why
    if not gpu:
        return "onnx", "cpu", "no GPU asked for or found; ONNX Runtime is the fastest here on a CPU"
    if _onnx_cuda(model_dir):
        return "onnx", "cuda", "a GPU, and ONNX Runtime's CUDA provider works"
    if device == "cuda" or _torch_cuda():
        return "torch", "cuda", "a GPU, and ONNX Runtime here has no CUDA provider"
    return "onnx", "cpu", "a GPU, but neither ONNX Runtime nor torch here can use it"


class _OnnxBackend:
    """ONNX Runtime on the CPU or a CUDA GPU."""

    name = "onnx"

    def __init__(self, model_dir: Path, card: dict[str, Any], device: str, threads: int) -> None:
        path = _graph(model_dir)
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
        if "frames" not in inputs:
            raise ShuttleError(f"{path}: has inputs {inputs}, not 'frames'; export the version again")

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        feed = {"frames": frames, "history": history} if self.uses_history else {"frames": frames}
        return Candidates(*self._session.run(["xy", "score", "visible"], feed))


class _TorchBackend:
    """The network itself in torch, eager."""

    name = "torch"

    def __init__(self, model_dir: Path, card: dict[str, Any], device: str, threads: int) -> None:
        try:
            import torch

            from shuttlelib import networks
        except ImportError as error:
            raise ShuttleError(
                f"--backend torch: {error.name} is not installed; pip install torch timm"
            ) from error
        if device == "cuda" and not torch.cuda.is_available():
            raise ShuttleError("--device cuda: torch finds no GPU here; use --device cpu")
        torch.set_num_threads(threads)
        self._torch = torch
        self._net = networks.load(model_dir, device)
        self._device = device
        gpu = torch.cuda.get_device_name() if device == "cuda" else ""
        self.device = f"cuda ({gpu})" if device == "cuda" else f"cpu ({threads} threads)"
        self.version, self.input_hw, self.frames = card["name"], card["input_hw"], card["frames"]
        self.uses_history = bool(card.get("history", False))

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        torch = self._torch
        with torch.inference_mode():
            past = None if history is None else torch.from_numpy(history).to(self._device)
            out = self._net(torch.from_numpy(frames).to(self._device), past)
        return Candidates(*(part.float().cpu().numpy() for part in out))


def _graph(model_dir: Path) -> Path:
    path = model_dir / "model.onnx"
    if not path.is_file():
        raise ShuttleError(f"{path}: missing; export the version (notebook 07), or use --backend torch")
    return path


def _onnx_cuda(model_dir: Path) -> bool:
    """Only a session on the GPU shows that ONNX Runtime's CUDA libraries are all there."""
    try:
        _OnnxBackend(Path(model_dir), read_card(model_dir), "cuda", 1)
    except ShuttleError:
        return False
    return True


def _torch_cuda() -> bool:
    if not importlib.util.find_spec("torch"):
        return False
    import torch

    with warnings.catch_warnings():  # it warns of a driver that is too old, and says no
        warnings.simplefilter("ignore")
        return torch.cuda.is_available()


def _gpu_present() -> bool:
    """Ask the driver itself: cheaper than importing torch to find no GPU."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
