"""Run the notebooks in order and render the report: the last stage of the flow, behind `shuttle run`.

A run is one folder: the executed notebooks, what each of them wrote under its own name (`metrics.json` among
it), `data/`, `report/` (HTML) and `track/` (the sample video's CSV and overlay).
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
from tqdm import tqdm

from shuttlelib import paths, profiles
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import read_json, writing
from shuttlelib.report import site
from shuttlelib.report.notebooks import PATTERN, NotebookRun, Run
from shuttlelib.report.notebooks import read as read_run
from shuttlelib.report.store import ReportError


class PipelineError(ShuttleError):
    """A notebook failed, or the run was interrupted."""


def select_notebooks(only: str | None = None, folder: Path | None = None) -> list[Path]:
    """The notebooks in order, or those of them that `only` names ("03,04" or "03_train_stage1").

    Raises:
        UsageError: the folder has no notebooks, or `only` names one that is not there.
    """
    folder = folder or paths.NOTEBOOKS
    found = sorted(folder.glob(PATTERN))
    if not found:
        raise UsageError(f"no notebooks in {folder}: run from a clone installed with pip install -e .")
    if only is None:
        return found
    wanted = [part.strip().removesuffix(".ipynb") for part in only.split(",") if part.strip()]
    if not wanted:
        raise UsageError(f"--only {only!r}: names no notebook; give numbers like 03,04")
    for part in wanted:
        if not any(part in (path.stem, path.stem[:2]) for path in found):
            numbers = ", ".join(path.stem[:2] for path in found)
            raise UsageError(f"--only {only!r}: there is no notebook {part!r}, there are {numbers}")
    return [path for path in found if path.stem in wanted or path.stem[:2] in wanted]


def run_notebooks(
    notebooks: Sequence[Path], out_dir: Path, profile: str, parameters: Mapping[str, Any] | None = None
) -> list[NotebookRun]:
    """Execute notebooks in order with papermill, in this interpreter's environment, and render the report.

    Notebooks that an earlier run left in `out_dir` keep their rows of the report.

    Each gets `run_dir` (= `out_dir`), `data_dir` (`out_dir/data` unless given), `profile` and whatever
    `parameters` adds. The executed copies are `out_dir/<name>.ipynb`. The first failure ends the run, after
    the report of what there is has been written.

    Raises:
        UsageError: the profile does not exist.
        PipelineError: a notebook failed or the run was interrupted; the message names the notebook, the
            cell, the error's last line and the partial notebook.
    """
    profiles.get(profile)
    out_dir = Path(out_dir).resolve()
    with writing(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    values = {
        "data_dir": str(out_dir / "data"),
        **(parameters or {}),
        "run_dir": str(out_dir),
        "profile": profile,
    }
    runs: list[NotebookRun] = []
    try:
        with _kernel_of_this_interpreter(), _progress(notebooks) as progress:
            for path in notebooks:
                runs.append(_run_one(path, out_dir, values, progress))
    except _Stopped as stop:
        runs.append(stop.run)
        raise PipelineError(str(stop)) from None
    finally:
        done = {run.name for run in runs}
        runs += [NotebookRun(path.stem, "not run") for path in notebooks if path.stem not in done]
        of_run = {run.name: run for run in (*_earlier(out_dir), *runs)}  # this run's replace earlier ones
        rows = sorted(of_run.values(), key=lambda run: run.name)
        site.write_run(
            out_dir / "report", Run(out_dir.name, out_dir, rows), f"shuttle run, profile {profile}"
        )
    return runs


def _earlier(out_dir: Path) -> Sequence[NotebookRun]:
    """What earlier runs left in a folder; a notebook cut off by a kill must not cost this run its report."""
    try:
        return read_run(out_dir).notebooks
    except ReportError as error:
        print(f"left out of the report: {error}", file=sys.stderr)
        return ()


class _Stopped(Exception):
    """Carries the notebook that stopped the run past the cleanup of bar and kernel."""

    def __init__(self, run: NotebookRun, reason: str):
        super().__init__(f"{run.name}.ipynb {reason}; the partial notebook is {run.executed}")
        self.run = run


def _run_one(path: Path, out_dir: Path, values: Mapping[str, Any], progress: "_Progress") -> NotebookRun:
    import papermill  # slow to import, and only a run needs it
    from papermill.exceptions import PapermillExecutionError

    executed, start = out_dir / path.name, time.perf_counter()
    progress.begin(path)

    def stopped(reason: str) -> _Stopped:
        return _Stopped(NotebookRun(path.stem, "failed", time.perf_counter() - start, executed), reason)

    try:
        papermill.execute_notebook(
            path,
            executed,
            parameters=_known(path, values),
            kernel_name="python3",
            cwd=out_dir,
            progress_bar=False,
            on_cell_start=progress.cell_start,
            on_cell_complete=progress.cell_complete,
        )
    except PapermillExecutionError as error:
        message = error.evalue.strip().splitlines() or ["(no message)"]
        raise stopped(f"failed in cell [{error.exec_count}]: {error.ename}: {message[-1]}") from None
    except KeyboardInterrupt:
        raise stopped(f"was interrupted at {progress.place}") from None
    except RuntimeError as error:  # a kernel that dies or never starts leaves no output with the cause
        raise stopped(f"lost its kernel at {progress.place} (out of memory?): {error}") from None
    seconds = time.perf_counter() - start
    progress.end(path, seconds)
    return NotebookRun(path.stem, "ok", seconds, executed, read_json(out_dir / path.stem / "metrics.json"))


def _known(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a notebook gets: all, but loader processes only where it has a use for them."""
    import papermill

    unknown = {"workers"} - set(papermill.inspect_notebook(path))
    return {name: value for name, value in values.items() if name not in unknown}


class _Progress:
    """One bar over the code cells of all notebooks, driven by nbclient's cell hooks."""

    def __init__(self, bar: Any):
        self._bar = bar
        self._cells = self._cell = 0
        self.place = ""

    def begin(self, path: Path) -> None:
        self._name, self._cells, self._cell, self._heading = path.stem, _code_cells(path), 0, ""
        self._show("starting")

    def end(self, path: Path, seconds: float) -> None:
        self._bar.write(f"{path.stem:<28} {seconds:6.1f} s", file=sys.stderr)

    def cell_start(self, cell: Any, **_: Any) -> None:
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")]
            self._heading = headings[-1] if headings else self._heading
        elif cell.source.strip():
            self._cell += 1
            self._show(self._heading)

    def cell_complete(self, cell: Any, **_: Any) -> None:
        if cell.cell_type == "code":
            self._bar.update(1)

    def _show(self, heading: str) -> None:
        self.place = f"cell {self._cell} of {self._cells}"
        text = f"{self._name} · {self.place} · {heading[:32]}"
        self._bar.set_description_str(text, refresh=sys.stderr.isatty())


@contextmanager
def _progress(notebooks: Sequence[Path]) -> Iterator[_Progress]:
    total = sum(_code_cells(path) for path in notebooks)
    # In a log file every refresh is a line of its own, so there it comes rarely.
    interval = 0.2 if sys.stderr.isatty() else 30.0
    layout = "{percentage:3.0f}% |{bar:20}| {elapsed} {desc}"
    with tqdm(total=total, mininterval=interval, bar_format=layout, dynamic_ncols=True) as bar:
        yield _Progress(bar)


def _code_cells(path: Path) -> int:
    """Number of code cells that will run: those of the notebook and the one that papermill injects."""
    cells = nbformat.read(path, as_version=4).cells
    return 1 + sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in cells)


@contextmanager
def _kernel_of_this_interpreter() -> Iterator[None]:
    """Make "python3" mean this interpreter, whatever kernels the machine or the user has registered."""
    before = os.environ.get("JUPYTER_PATH")
    with tempfile.TemporaryDirectory(prefix="shuttle-kernel-") as folder:
        spec = Path(folder, "kernels", "python3", "kernel.json")
        spec.parent.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
        os.environ["JUPYTER_PATH"] = os.pathsep.join([folder, before] if before else [folder])
        try:
            yield
        finally:
            del os.environ["JUPYTER_PATH"]
            if before is not None:
                os.environ["JUPYTER_PATH"] = before


def _track_sample(out_dir: Path) -> dict[str, Path]:
    """Track the sample video with the shipped weights; paths of the CSV and the overlay by what they are."""
    from shuttlelib import tracking

    video = next(iter(sorted(paths.SAMPLES.glob("*.mp4"))), None)
    if video is None:
        raise PipelineError(f"no sample video in {paths.SAMPLES}: restore it with git checkout samples")
    print(f"tracking {video.name} with the shipped weights")
    result = tracking.track_video(video, out_dir, overlay=True)
    if result.warning:
        raise PipelineError(f"the sample video is damaged: {result.warning}")
    return {"CSV": result.csv, "overlay video": result.overlay or out_dir}


def run_command(
    profile: str = "quick",
    out: Path | None = None,
    only: str | None = None,
    seed: int = 0,
    data_dir: Path | None = None,
    workers: int = 0,
) -> None:
    """What `shuttle run` does: run the notebooks, track the sample video, say where everything is.

    With `only`, just those notebooks run, on what an earlier run left in `out`, without the sample.

    Raises:
        UsageError: the profile or a notebook of `only` does not exist.
        PipelineError: see `run_notebooks`.
    """
    out_dir = (out or Path("runs", f"{datetime.now():%Y%m%d-%H%M%S}-{profile}")).resolve()
    values: dict[str, Any] = {"seed": seed, "workers": workers}
    if data_dir is not None:
        values["data_dir"] = str(Path(data_dir).resolve())
    start = time.perf_counter()
    run_notebooks(select_notebooks(only), out_dir, profile, values)
    results = {"report": out_dir / "report" / "index.html"}
    if only is None:
        results |= _track_sample(out_dir / "track")
    print(f"finished in {(time.perf_counter() - start) / 60:.1f} minutes")
    for what, path in results.items():
        print(f"{what + ':':<15}{path}")
