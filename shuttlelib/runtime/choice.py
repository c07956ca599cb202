"""Which backend runs a model version, and why; its modules are imported only when they are chosen."""

import ctypes
import importlib.util
import os
import sys
import warnings
from pathlib import Path

from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.runtime.base import Backend, graph_path, read_card
from shuttlelib.runtime.onnx import OnnxBackend

BACKENDS = ("auto", "onnx", "torch", "torch-compile", "torch-graph", "tensorrt")
DEVICES = ("auto", "cpu", "cuda")


def load(model_dir: Path, backend: str = "auto", device: str = "auto", threads: int | None = None) -> Backend:
    """Load a model version, ready to run.

    Args:
        model_dir: its folder: version.json with model.onnx (onnx, tensorrt) or model.safetensors (torch).
        backend: one of `BACKENDS`; see `choose` for what auto means, `runtime.torch` for torch's kinds.
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
        return OnnxBackend(Path(model_dir), card, device, threads)
    if backend.startswith("torch"):
        from shuttlelib.runtime.torch import TorchBackend

        return TorchBackend(Path(model_dir), card, device, threads, backend)
    from shuttlelib.runtime.tensorrt import TensorRTBackend

    return TensorRTBackend(graph_path(Path(model_dir)), card)


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


def _onnx_cuda(model_dir: Path) -> bool:
    """Only a session on the GPU shows that ONNX Runtime's CUDA libraries are all there."""
    try:
        OnnxBackend(Path(model_dir), read_card(model_dir), "cuda", 1)
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
