"""OpenVINO on the CPU: the same ONNX graphs, compiled for this processor; imports neither torch nor pandas.

One input is shared among all threads. Of several each thread takes its own, which leaves them nothing to wait
for: two crops on two threads take little longer than one on one. The caller's is one of these threads: a
scheduler that wakes two finds both a place on the processor that the caller does not seem to use. Compiled
networks are kept in the user's cache.

Source: https://docs.openvino.ai, "CPU device", "Model caching" and "Optimizing for throughput"
"""

import locale
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from shuttlelib import paths
from shuttlelib.errors import ShuttleError
from shuttlelib.runtime.base import Candidates, check_inputs, graph_path


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
        self._alone: list[Any] = []  # a request for each thread, made when it is first needed
        names = [value.any_name for value in self._model.inputs]
        check_inputs(names, path)
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
            self._shared.infer(feed, share_inputs=True)
            return Candidates(*self._answer(self._shared))
        missing = min(len(frames), self._threads) - len(self._alone)
        if missing > 0:
            self._alone += self._requests([1] * missing) if self._threads > 1 else [self._shared]
        answers = []
        for start in range(0, len(frames), len(self._alone)):
            answers += self._run_at_once({name: array[start:] for name, array in feed.items()})
        return Candidates(*map(np.concatenate, zip(*answers)))

    def _run_at_once(self, feed: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
        """The answers to as many of the first inputs as there are requests."""
        count = min(len(feed["frames"]), len(self._alone))
        inputs = [{name: array[n : n + 1] for name, array in feed.items()} for n in range(count)]
        mine, *others = requests = self._alone[:count]
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
        xy, score, visible = (request.get_tensor(name).data.copy() for name in Candidates._fields)
        return [xy, score, 1 / (1 + np.exp(-visible)) if self._log_odds else visible]

    @cached_property
    def _shared(self) -> Any:
        """The request of a single input, made when it is first needed."""
        return self._requests([self._threads])[0]

    def _requests(self, threads: Sequence[int]) -> list[Any]:
        """Requests to run one input each, by networks compiled for so many threads."""

        def made(threads: int) -> Any:
            settings = {**self._settings, "INFERENCE_NUM_THREADS": threads}
            return self._core.compile_model(self._model, "CPU", settings).create_infer_request()

        with self._told():
            return _apart(made, threads)

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
    (capabilities,) = _apart(lambda name: core.get_property("CPU", name), ["OPTIMIZATION_CAPABILITIES"])
    return "BF16" in capabilities


def _apart(function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
    """What a function returns for each argument, called at the same time in threads that then end.

    OpenVINO gives the thread that first uses its CPU device a stack for signals, and frees it in whichever
    thread collects the device: the next signal would end the process. A thread that is over gets none.
    While it reads or writes compiled networks the process has the locale "C"; two that take turns in
    putting theirs back may leave it so, and text files were read as ASCII from then on.
    """
    before = locale.setlocale(locale.LC_ALL)
    try:
        with ThreadPoolExecutor(len(arguments)) as threads:
            return list(threads.map(function, arguments))
    finally:
        locale.setlocale(locale.LC_ALL, before)


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
