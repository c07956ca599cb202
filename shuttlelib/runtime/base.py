"""What every backend is and reads: the interface, its answer, a model folder's files."""

import json
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from shuttlelib import paths
from shuttlelib.errors import ShuttleError


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


def graph_path(model_dir: Path) -> Path:
    """The ONNX graph of a model folder.

    Raises:
        ShuttleError: there is none.
    """
    path = model_dir / "model.onnx"
    if not path.is_file():
        raise ShuttleError(f"{path}: missing; export the version (notebook 07), or use --backend torch")
    return path
