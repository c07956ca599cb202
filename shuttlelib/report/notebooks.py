"""Executed notebooks as pages: HTML with their figures inside, their parameters above.

The pages load nothing from the network. Of this machine's paths only what follows the run or the repository
is shown.
"""

import base64
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import nbformat
import numpy as np

from shuttlelib.files import read_json
from shuttlelib.paths import REPO
from shuttlelib.report.blocks import Link, Page, Table, Text, sections
from shuttlelib.report.store import ReportError
from shuttlelib.runs import RESERVED

_MAIN_NUMBERS = 6  # shown for a notebook that does not name its own
PATTERN = "[0-9][0-9]_*.ipynb"
_MADE = {
    "profile": "profile",
    "seed": "seed",
    "data_hash": "data hash",
    "commit": "commit",
    "cpu": "processor",
}
QUALITY = 75  # of the pictures of cells, WebP
_WIDGET = "application/vnd.jupyter.widget-view+json"  # needs scripts from the network
_PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


@dataclass(frozen=True)
class NotebookRun:
    """What became of one notebook."""

    name: str
    status: str  # ok, failed, not run
    seconds: float = 0.0
    executed: Path | None = None  # the executed copy; partial when it failed
    metrics: Mapping[str, Any] = field(default_factory=dict)  # what the notebook wrote to metrics.json


@dataclass(frozen=True)
class Run:
    """The executed notebooks of one folder."""

    name: str
    folder: Path
    notebooks: Sequence[NotebookRun]


def executed(folder: Path) -> list[Path]:
    """The executed notebooks of a run folder, in order."""
    return sorted(folder.glob(PATTERN))


def read(folder: Path) -> Run:
    """The notebooks that papermill left in a run folder.

    Raises:
        ShuttleError: a notebook or its `metrics.json` is damaged.
    """
    made = []
    for path in executed(folder):
        facts = _load(path).metadata.get("papermill", {})
        status = "failed" if facts.get("exception") else "ok" if facts.get("end_time") else "not run"
        seconds = float(facts.get("duration") or 0)
        made.append(
            NotebookRun(path.stem, status, seconds, path, read_json(folder / path.stem / "metrics.json"))
        )
    return Run(folder.name, folder, made)


def run_page(run: Run, slug: str, title: str) -> Page:
    """What became of a run's notebooks, in order, with links to their pages."""
    base = slug.rpartition("/")[0]
    place = f"{base}/" if base else ""
    rows = []
    for each in run.notebooks:
        shown = each.executed is not None and each.executed.exists()
        name: Text = Link(each.name, f"{place}{each.name}.html") if shown else each.name
        numbers = ", ".join(f"{key} {_short(value)}" for key, value in main_numbers(each.metrics).items())
        rows.append((name, each.status, numbers, f"{each.seconds:.1f}" if shown else ""))
    table = Table(("notebook", "status", "main numbers", "seconds"), tuple(rows), left=3)
    facts: dict[str, Any] = {}
    for each in run.notebooks:
        facts = {**each.metrics.get("environment", {}), **each.metrics.get("run", {}), **facts}
    how = tuple((name, str(facts[key])) for key, name in _MADE.items() if facts.get(key) not in (None, ""))
    made = Table(("", ""), how, left=2) if how else None
    about = "Each notebook as it ran, with its parameters, outputs and figures."
    return Page(slug, title, about, sections(("Notebooks", [table]), ("How it was made", [made])))


def main_numbers(metrics: Mapping[str, Any]) -> dict[str, float | str]:
    """What a reader should see of a notebook's `metrics.json`.

    Its `main` mapping where it has one, else its first numbers (nested keys joined by dots); and
    `skipped`, which says what a notebook left out and why.
    """
    picked: dict[str, float | str] = {}
    if isinstance(metrics.get("main"), Mapping):
        picked |= _scalars(metrics["main"])
    else:
        measures = {key: value for key, value in metrics.items() if key not in RESERVED}
        picked |= itertools.islice(_scalars(measures), _MAIN_NUMBERS)
    if metrics.get("skipped"):
        picked["skipped"] = "; ".join(f"{item['cell']}: {item['reason']}" for item in metrics["skipped"])
    return picked


def parameters(path: Path) -> dict[str, Any]:
    """What papermill ran a notebook with, paths cut short; its own defaults are in its first code cell."""
    given = _load(path).metadata.get("papermill", {}).get("parameters", {})
    return {name: _cut(str(value), path, given) for name, value in given.items()}


def body(path: Path) -> str:
    """An executed notebook's cells as HTML, without a page around them.

    Raises:
        ReportError: it cannot be read.
    """
    from nbconvert import HTMLExporter  # slow to import, and only notebooks need it
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook = _load(path)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)  # the minute in which each ran
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if _WIDGET not in out.get("data", {})]
    exporter = HTMLExporter(template_name="basic", exclude_anchor_links=True)
    # of a progress bar only its last state
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)
    text, _ = exporter.from_notebook_node(notebook)
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    return _PNG.sub(_smaller, _cut(text, path, given))


def _smaller(match: re.Match[str]) -> str:
    """A picture of a cell as WebP, where that is smaller: the pages of a run would be 20 MB otherwise."""
    png = base64.b64decode(match[1])
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return match[0]
    webp = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()
    return match[0] if len(webp) >= len(png) else f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def _cut(text: str, notebook: Path, given: Mapping[str, Any]) -> str:
    """Without the folders that lead to the run, where it was made and where it is, and to the repository."""
    run = notebook.resolve().parent
    then = given.get("run_dir") or run
    for folder, stays in ((then, Path(then).name), (run, run.name), (REPO, "."), (Path.home(), "~")):
        if Path(folder).name:  # "." and "/" are everywhere
            text = re.sub(rf"{re.escape(str(folder))}(?=[/\s\"'<),;:]|$)", stays, text)
    return text


def _load(path: Path) -> Any:
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat lets JSON's and its own errors through
        raise ReportError(f"{path}: no notebook ({error}); run it again") from error


def _scalars(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
