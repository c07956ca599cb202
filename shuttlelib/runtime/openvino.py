"""OpenVINO on the CPU: the same ONNX graphs, compiled for this processor; imports neither torch nor pandas.

One input is shared among all threads. Of several each thread takes its own, which leaves them nothing to wait
for: two crops on two threads take little longer than one on one. The caller's is one of these threads: a
scheduler that wakes two finds both a place on the processor that the caller does not seem to use. Networks
are compiled while other things are opened, and kept in the user's cache.

Source: https://docs.openvino.ai, "CPU device", "Model caching" and "Optimizing for throughput"
"""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from shuttlelib import paths
from shuttlelib.errors import ShuttleError
from shuttlelib.runtime.base import Candidates, check_inputs, graph_path

_OUTPUTS = ("xy", "score", "visible")


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
        self._path, self._threads = path, threads
        self._settings = {
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # it would pin all networks of one thread to one processor
            # Left to itself OpenVINO takes bfloat16 where there is any
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            **_cache_setting(),
        }
        self._model = self._read()
        names = [value.any_name for value in self._model.inputs]
        check_inputs(names, path)
        self._alone: list[Future[Any]] = []  # a request for each thread
        if card["stage"] == 1 or threads == 1:  # whole frames come one at a time, crops mostly do not
            self._shared  # noqa: B018 begins to be made
        else:
            self._alone = [self._request(threads=1) for _ in range(threads)]
        self.device = f"cpu ({threads} threads{', ' + precision if precision != 'fp32' else ''})"
        self.version, self.input_hw = card["name"], card["input_hw"]
        self.frames, self.ahead = card["frames"], card["ahead"]
        self.uses_history = "history" in names

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """See `runtime.Backend.run`."""
        feed = {"frames": frames}
        if history is not None and self.uses_history:
            feed["history"] = history
        if len(frames) == 1:
            shared = self._shared.result()
            shared.infer(feed, share_inputs=True)
            return Candidates(*self._answer(shared))
        while len(self._alone) < min(len(frames), self._threads):
            self._alone.append(self._request(threads=1) if self._threads > 1 else self._shared)
        answers = []
        for start in range(0, len(frames), len(self._alone)):
            answers += self._run_at_once({name: array[start:] for name, array in feed.items()})
        return Candidates(*map(np.concatenate, zip(*answers)))

    def _run_at_once(self, feed: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
        """The answers to as many of the first inputs as there are requests."""
        count = min(len(feed["frames"]), len(self._alone))
        inputs = [{name: array[n : n + 1] for name, array in feed.items()} for n in range(count)]
        mine, *others = requests = [request.result() for request in self._alone[:count]]
        try:
            for request, one in zip(others, inputs[1:]):
                request.start_async(one, share_inputs=True)
            mine.infer(inputs[0], share_inputs=True)
        finally:  # they read memory that is not theirs
            for request in others:
                request.wait()
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> list[np.ndarray]:
        """What a request found, in memory of its own."""
        xy, score, visible = (request.get_tensor(name).data.copy() for name in _OUTPUTS)
        return [xy, score, 1 / (1 + np.exp(-visible)) if self._log_odds else visible]

    @cached_property
    def _shared(self) -> Future[Any]:
        """The request of a single input, which begins to be made when it is first asked for."""
        return self._request(self._threads)

    def _request(self, threads: int) -> Future[Any]:
        """A request to run one input, by a network compiled for so many threads."""
        settings = {**self._settings, "INFERENCE_NUM_THREADS": threads}

        def make() -> Any:
            with self._told():
                return self._core.compile_model(self._model, "CPU", settings).create_infer_request()

        return _apart(make)

    def _read(self) -> Any:
        with self._told():
            model = self._core.read_model(self._path)
            model.reshape({value.any_name: [1, *list(value.partial_shape)[1:]] for value in model.inputs})
            self._log_odds = _tell_log_odds(model)
            return model

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say of OpenVINO's errors which graph is meant, and what to do."""
        try:
            yield
        except RuntimeError as error:  # all of its own errors are that
            reason = str(error).strip().splitlines()[-1]
            fix = "export the version again"
            raise ShuttleError(f"{self._path}: cannot be loaded ({reason}); {fix}") from error


def _tell_log_odds(model: Any) -> bool:
    """Have a network tell the log-odds of "visible", if it can: near 1 bfloat16 knows only 255/256 and 1."""
    told = model.output("visible").get_node().input(0)
    maker = told.get_source_output().get_node()
    if maker.get_type_name() != "Sigmoid":
        return False
    told.replace_source_output(maker.input_value(0))
    return True


def has_bf16(core: Any = None) -> bool:
    """Whether this processor computes in bfloat16."""
    core = core or _import_openvino().Core()
    return "BF16" in _apart(lambda: core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")).result()


def _apart(function: Callable[[], Any]) -> Future[Any]:
    """What a function returns, called in a thread of its own.

    OpenVINO gives the thread that first uses its CPU device a stack for signals, and frees it in whichever
    thread collects the device: the next signal would end the process. A thread that is over gets none.
    """
    thread = ThreadPoolExecutor(1)
    called = thread.submit(function)
    thread.shutdown(wait=False)
    return called


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
