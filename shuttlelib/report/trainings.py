"""What a training run says of itself: its curves and how it was made; from the files of `shuttle train`."""

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from shuttlelib.files import read_json
from shuttlelib.paths import REPO
from shuttlelib.report.store import ReportError, weights
from shuttlelib.runtime import read_card

POINTS = 120  # of a curve that are kept: more cannot be told apart in print
_MADE = {  # how a reader calls what metrics.json and run.json hold
    "commit": "commit",
    "command": "command",
    "data_hash": "data hash",
    "data_revision": "data on the Hub",
    "seed": "seed",
    "start": "starting weights",
    "hardware": "hardware",
    "steps": "steps",
    "batch": "samples a step",
    "seconds": "seconds of training",
}


def read(folder: Path) -> dict[str, Any]:
    """A training's version, weights, series ([step, value] pairs by tag) and `made`, JSON-ready.

    Args:
        folder: of a run, with `history.csv` and `best/`; `tensorboard/`, `metrics.json` and `run.json` need
            not be there.

    Raises:
        ShuttleError: a file there is damaged.
    """
    result, run = read_json(folder / "metrics.json"), read_json(folder / "run.json")
    environment = result.get("environment", {})
    plan = {key.removeprefix("config."): value for key, value in run.items()}
    facts = {**plan, **result.get("run", {}), **result, **environment}
    made = {name: facts[key] for key, name in _MADE.items() if facts.get(key) not in (None, "")}
    if "command" in made:
        made["command"] = portable(str(made["command"]))
    return {
        "run": folder.name,
        "version": read_card(folder / "best")["name"],
        "weights": weights(folder / "best"),
        "series": {tag: _thin(points) for tag, points in sorted(_series(folder).items())},
        "made": made,
    }


def portable(command: str) -> str:
    """A command without this machine's folders: absolute paths keep their last part."""
    short = []
    for word in shlex.split(command.replace(f"{REPO}/", "")):
        option, equals, value = word.rpartition("=")
        short.append(f"{option}{equals}{Path(value).name if value.startswith('/') else value}")
    return shlex.join(short)


def _series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalars by tag: what TensorBoard holds, and of `history.csv` what it does not."""
    found: dict[str, list[tuple[int, float]]] = {}
    path = folder / "history.csv"
    try:
        table = pd.read_csv(path)
        steps = table["step"].astype(int).tolist()
    except (ValueError, KeyError) as error:
        raise ReportError(f"{path}: not a training's history ({error}); delete it") from error
    for column in table.columns.drop(["step", "seconds"], errors="ignore"):
        tag = column.replace("train_", "train/", 1) if column.startswith("train_") else f"val/{column}"
        values = pd.to_numeric(table[column], errors="coerce").tolist()
        found[tag] = [(step, value) for step, value in zip(steps, values) if math.isfinite(value)]
    for tag, points in _events(folder / "tensorboard").items():
        if len(points) > len(found.get(tag, ())):
            found[tag] = points
    return {tag: points for tag, points in found.items() if points}


def _events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of TensorBoard's event files."""
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1})
    try:
        events.Reload()
    except Exception as error:  # whatever protobuf makes of a damaged file
        raise ReportError(f"{folder}: its event files cannot be read ({error}); delete them") from error
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag) if math.isfinite(event.value)]
        for tag in events.Tags()["scalars"]
    }


def _thin(points: list[tuple[int, float]]) -> list[list[float]]:
    """At most `POINTS` of them, evenly, the last among them; six digits."""
    stride = -(-len(points) // POINTS)
    kept = points[::-1][::stride][::-1]
    return [[step, json.loads(f"{value:.6g}")] for step, value in kept]
