"""The report of a run: executed notebooks as HTML pages and one index; the end of the flow, under `pipeline`.

The pages load nothing from the network: figures are embedded, and notebooks hold no widgets or formulas
that would need a script.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from shuttlelib.files import atomic_write
from shuttlelib.runs import RESERVED

_MAIN_NUMBERS = 6  # shown for a notebook that does not name its own

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; color: #222 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .8rem; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { text-align: right; white-space: nowrap }
.ok { color: #1a7f37 } .failed { color: #cf222e; font-weight: 600 } .not { color: #777 }
"""


@dataclass(frozen=True)
class NotebookRun:
    """What became of one notebook."""

    name: str
    status: str  # ok, failed, not run
    seconds: float = 0.0
    executed: Path | None = None  # the executed copy; partial when it failed
    metrics: Mapping[str, Any] = field(default_factory=dict)  # what the notebook wrote to metrics.json


def write(folder: Path, runs: Sequence[NotebookRun], title: str) -> Path:
    """Render every executed notebook to `folder/<name>.html` and link them in order; path of the index.

    Raises:
        WriteError: the folder cannot be written.
    """
    rows = "\n".join(_row(run, _render(run, folder)) for run in runs)
    head = "<tr><th>notebook</th><th>status</th><th>seconds</th><th>main numbers</th></tr>"
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n<table>\n{head}\n{rows}\n"
        "</table></body></html>\n"
    )
    with atomic_write(folder / "index.html") as temp:
        temp.write_text(page, encoding="utf-8")
    return folder / "index.html"


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


def _scalars(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value


def _row(run: NotebookRun, page: Path | None) -> str:
    name = escape(run.name)
    link = f'<a href="{escape(page.name)}">{name}</a>' if page else name
    pairs = main_numbers(run.metrics).items()
    numbers = ", ".join(f"{escape(key)}&nbsp;{escape(_short(value))}" for key, value in pairs)
    seconds = f"{run.seconds:.1f}" if page else ""
    status = f'<td class="{run.status.split()[0]}">{run.status}</td>'
    return f'<tr><td>{link}</td>{status}<td class="number">{seconds}</td><td>{numbers}</td></tr>'


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _render(run: NotebookRun, folder: Path) -> Path | None:
    """The notebook's HTML page; None for one that did not run."""
    if run.executed is None or not run.executed.exists():
        return None
    from nbconvert import HTMLExporter  # slow to import, and only a run needs it

    # Empty addresses keep the page from fetching scripts.
    exporter = HTMLExporter(require_js_url="", jquery_url="", mathjax_url="", mermaid_js_url="")
    body, _ = exporter.from_filename(str(run.executed))
    page = folder / f"{run.name}.html"
    with atomic_write(page) as temp:
        temp.write_text(body, encoding="utf-8")
    return page
