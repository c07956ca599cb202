"""What every backend is and reads: the interface, its answer, a model folder's files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from shuttlelib import paths
from shuttlelib.errors import ShuttleError
from shuttlelib.files import require_fetched
from shuttlelib.frames import PAST

GRAPHS = {  # by precision; bfloat16 is a way to run the fp32 graph
    "fp32": "model.onnx",
    "fp16": "model.fp16.onnx",
    "bf16": "model.onnx",
    "int8": "model.int8.onnx",
}
PRECISIONS = tuple(GRAPHS)
TENSORRT_GRAPHS = {**GRAPHS, "int8": "model.int8-tensorrt.onnx"}  # it reads symmetric quantization only

WAITING = ".publishing"  # in a models folder, where a pair changes places with the one before


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
        name: what executes it: one of `BACKENDS`.
        device: where, for people: "cpu (2 threads)", "cuda (NVIDIA H200)".
        version: the model version's name.
        input_hw: network input, px.
        frames: how many it sees; ahead: how many of them come after the current one.
        uses_history: whether `run` looks at the track so far.
    """

    name: str
    device: str
    version: str
    input_hw: tuple[int, int]
    frames: int
    ahead: int
    uses_history: bool

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """Look at a batch.

        Args:
            frames: uint8 (B, T, h, w, 3) RGB, oldest first; the last `ahead` of T come after the current one.
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
        card = json.loads(path.read_text("utf-8"))
        height, width = card["input_hw"]
        known = {"name": str(card["name"]), "stage": int(card["stage"])}
        known |= {"input_hw": (int(height), int(width))}
        # older cards do not say: four, none of them ahead
        sees = {"frames": int(card.get("frames", 4)), "ahead": int(card.get("ahead", 0))}
        return {**card, **known, **sees}
    except FileNotFoundError as error:
        raise ShuttleError(f"{path}: no such model; train the version or fetch its weights") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ShuttleError(f"{path}: damaged ({error!r}); export the version again") from error


def default_pair(models_dir: Path | None = None) -> tuple[Path, Path]:
    """Folders of the shipped stage-1 and stage-2 versions, as models/default.json names them.

    Raises:
        ShuttleError: the file is missing or damaged, or a new pair was put there by half.
    """
    root = Path(models_dir or paths.MODELS)
    if (root / WAITING / "old").is_dir():
        raise ShuttleError(f"{root}: `shuttle publish` was cut short; run it again, it puts that right first")
    try:
        names = json.loads((root / "default.json").read_text("utf-8"))
        return root / names["stage1"], root / names["stage2"]
    except FileNotFoundError as error:
        raise ShuttleError(f"{root}: has no default.json; point --models to a folder of models") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ShuttleError(
            f'{root / "default.json"}: must hold {{"stage1": name, "stage2": name}}'
        ) from error


def graph_path(model_dir: Path, precision: str = "fp32", graphs: Mapping[str, str] = GRAPHS) -> Path:
    """The ONNX graph of a model folder in a precision.

    Raises:
        ShuttleError: there is none, or only a pointer of Git LFS to it.
    """
    path = Path(model_dir) / graphs[precision]
    if not path.is_file():
        runs_fp32 = graphs[precision] == graphs["fp32"]  # as bf16 does
        write = f"shuttle export {model_dir} --precision {'fp32' if runs_fp32 else precision}"
        instead = "--backend torch --precision fp32" if runs_fp32 else "--precision fp32"
        raise ShuttleError(f"{path}: missing; write it with `{write}`, or use {instead}")
    require_fetched(path)
    return path


def check_inputs(names: Sequence[str], path: Path) -> None:
    """Refuse a graph that was not exported from a version.

    Raises:
        ShuttleError: it does not take frames.
    """
    if "frames" not in names:
        raise ShuttleError(f"{path}: has inputs {list(names)}, not 'frames'; export the version again")


def warm_up(backend: Backend, batches: Sequence[int] = (1,)) -> None:
    """Have everything that is made at the first run of a batch size made before the first frame."""
    if hasattr(backend, "warm_up"):  # of those that have more to do
        backend.warm_up(batches)
    else:
        run_blank(backend, batches)


def run_blank(backend: Backend, batches: Sequence[int]) -> None:
    """Run once at each batch size, on black frames."""
    for batch in batches:
        frames = np.zeros((batch, backend.frames, *backend.input_hw, 3), np.uint8)
        backend.run(frames, np.zeros((batch, PAST, 3), np.float32) if backend.uses_history else None)
