"""Which backend runs a model version, and why; its modules are imported only when they are chosen."""

import ctypes
import importlib.util
import os
import platform
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from shuttlelib.errors import UsageError, check_choice
from shuttlelib.runtime.base import GRAPHS, PRECISIONS, Backend, read_card, run_blank
from shuttlelib.runtime.memory import Sparing
from shuttlelib.runtime.onnx import OnnxBackend

RUNS = {  # the precisions of each backend
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": PRECISIONS,
    "torch": ("fp32",),
    "torch-compile": ("fp32",),
    "torch-graph": ("fp32",),
    "tensorrt": ("fp32", "fp16", "int8"),
}
BACKENDS = ("auto", *RUNS)
DEVICES = ("auto", "cpu", "cuda")
AUTO = "auto"  # of the precisions: the fastest that costs no accuracy
_ONLY_ON = {"openvino": "cpu", "tensorrt": "cuda"}


def load(
    model_dir: Path,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: str = "fp32",
) -> Backend:
    """Load a model version, ready to run.

    Args:
        model_dir: its folder: version.json with model.safetensors (torch) or a graph (the others).
        backend: one of `BACKENDS`; see `choose` for what auto means, `runtime.torch` for torch's kinds.
        device: auto, cpu or cuda.
        threads: CPU threads; None takes all cores.
        precision: fp32, fp16 or int8: the graph of that name; bf16: the fp32 graph in bfloat16 (openvino);
            auto: see `choose`.

    Raises:
        UsageError: no such backend, device or precision, or they do not go together.
        ShuttleError: a file, package or GPU that the choice needs is missing; the message names the fix.
    """
    backend, device, precision, _ = choose(model_dir, backend, device, precision)
    if device == "cpu":
        return _open(model_dir, backend, device, threads, precision)
    return Sparing(
        lambda: _open(model_dir, backend, device, threads, precision),
        lambda: load(model_dir, "auto", "cpu", threads, precision),
    )


def _open(model_dir: Path, backend: str, device: str, threads: int | None, precision: str) -> Backend:
    card, threads = read_card(model_dir), threads or os.cpu_count() or 1
    if backend == "onnx":
        return OnnxBackend(model_dir, card, device, threads, precision)
    if backend == "openvino":
        from shuttlelib.runtime.openvino import OpenVINOBackend

        return OpenVINOBackend(model_dir, card, threads, precision)
    if backend.startswith("torch"):
        from shuttlelib.runtime.torch import TorchBackend

        return TorchBackend(model_dir, card, device, threads, backend)
    from shuttlelib.runtime.tensorrt import TensorRTBackend

    return TensorRTBackend(model_dir, card, precision)


class Choice(NamedTuple):
    """What runs a version, and `why`, for people."""

    backend: str
    device: str
    precision: str
    why: str


def choose(model_dir: Path, backend: str = "auto", device: str = "auto", precision: str = "fp32") -> Choice:
    """Resolve "auto".

    On a CPU the choice is ONNX Runtime, except that on x86 OpenVINO, if installed, runs lower precision
    (with the shipped pair each was the faster there). On a GPU it is the first that works of TensorRT, ONNX
    Runtime's CUDA provider and torch. Without a graph torch remains.
    A driver alone does not make a GPU usable: where only "auto" asked for it, the CPU is the way out.
    The precision is fp32, except by OpenVINO on a CPU with bfloat16 instructions: half as fast again there,
    at nearly the same accuracy (docs/backends.md).

    Raises:
        UsageError: no such backend, device or precision, or they do not go together.
    """
    _check(backend, device, precision)
    wanted = "fp32" if precision == AUTO else precision
    name, where, why = _choose(model_dir, backend, device, wanted)
    graph = (Path(model_dir) / GRAPHS["bf16"]).is_file()
    if precision == AUTO and where == "cpu" and backend in ("auto", "openvino") and graph and _bf16_here():
        name, where, why = _on_cpu("bf16", why.partition(";")[0])
        return Choice(name, where, "bf16", f"{why}, in bfloat16")
    return Choice(name, where, wanted, why)


def _choose(model_dir: Path, backend: str, device: str, precision: str) -> tuple[str, str, str]:
    """Backend, device and why."""
    if backend in _ONLY_ON:
        return backend, _ONLY_ON[backend], "asked for"
    gpu = device == "cuda" or (device == "auto" and precision != "bf16" and _gpu_present())
    graph = precision != "fp32" or (Path(model_dir) / GRAPHS["fp32"]).is_file()
    if backend != "auto" or not graph:
        if gpu and device == "auto":
            gpu = _works("onnx", model_dir, precision) if backend == "onnx" else _torch_cuda()
        why = "asked for" if backend != "auto" else "no model.onnx in the model folder"
        return "torch" if backend == "auto" else backend, "cuda" if gpu else "cpu", why
    if not gpu:
        return _on_cpu(precision, "no GPU asked for or found")
    if _works("tensorrt", model_dir, precision):
        return "tensorrt", "cuda", "a GPU, and TensorRT works"
    if _works("onnx", model_dir, precision) or (device == "cuda" and precision != "fp32"):
        return "onnx", "cuda", "a GPU, and ONNX Runtime's CUDA provider works"
    if precision == "fp32" and (device == "cuda" or _torch_cuda()):
        return "torch", "cuda", "a GPU, and neither TensorRT nor ONNX Runtime's CUDA provider here"
    return _on_cpu(precision, "a GPU, but nothing here can use it")


def _check(backend: str, device: str, precision: str) -> None:
    check_choice("--backend", backend, BACKENDS)
    check_choice("--device", device, DEVICES)
    check_choice("--precision", precision, (AUTO, *PRECISIONS))
    if precision not in (AUTO, *RUNS.get(backend, PRECISIONS)):
        able = " or ".join(name for name, precisions in RUNS.items() if precision in precisions)
        raise UsageError(f"--backend {backend}: does not run --precision {precision}; use {able}")
    if backend == "tensorrt" and device == "cpu":
        raise UsageError("--backend tensorrt needs a GPU; use --device cuda, or --backend onnx on the CPU")
    if device == "cuda" and (backend == "openvino" or precision == "bf16"):
        asked = "--backend openvino" if backend == "openvino" else "--precision bf16"
        raise UsageError(f"{asked} runs on the CPU only; use --device cpu")


def _on_cpu(precision: str, reason: str) -> tuple[str, str, str]:
    x86 = platform.machine() in ("x86_64", "AMD64")
    if precision == "bf16" or (precision == "int8" and x86 and _installed("openvino")):
        return "openvino", "cpu", f"{reason}; OpenVINO is the fastest here on a CPU"
    return "onnx", "cpu", f"{reason}; ONNX Runtime is the fastest here on a CPU"


def _bf16_here() -> bool:
    """Whether OpenVINO is there and computes in bfloat16; it is not imported to be told that it does not."""
    flags = Path("/proc/cpuinfo")
    if not _installed("openvino") or (flags.is_file() and "bf16" not in flags.read_text()):
        return False
    from shuttlelib.runtime.openvino import has_bf16

    return has_bf16()


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _works(backend: str, model_dir: Path, precision: str) -> bool:
    """Only a network that runs on the GPU shows that packages, libraries, driver and graph go together.

    What does not fit raises errors of every kind, so each of them is a no.
    """
    try:
        run_blank(_open(model_dir, backend, "cuda", 1, precision), (1,))
    except Exception:
        return False
    return True


def _torch_cuda() -> bool:
    if not _installed("torch"):
        return False
    import torch

    with warnings.catch_warnings():  # it warns of a driver that is too old, and says no
        warnings.simplefilter("ignore")
        try:  # of an old GPU it says that it is there, and has no kernels for it
            return torch.cuda.is_available() and bool((torch.zeros(1, device="cuda") + 1).item())
        except RuntimeError:
            return False


def _gpu_present() -> bool:
    """Ask the driver itself: cheaper than importing torch to find no GPU."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
