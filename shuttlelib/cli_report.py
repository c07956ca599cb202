"""The command `shuttle report`; thin, over the report's modules."""

from pathlib import Path
from typing import Annotated

import typer

from shuttlelib.cli_data import Models
from shuttlelib.cli_train import named_data
from shuttlelib.errors import UsageError


def report(
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("reports"),
    runs: Annotated[
        list[Path] | None, typer.Option(help="Folder of runs: trainings, executed notebooks, comparisons.")
    ] = None,
    bench: Annotated[list[Path] | None, typer.Option(help="A file of `shuttle bench`.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="DIR or NAME=DIR: measure the pair on its val split first.")
    ] = None,
    models: Models = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Keep curves, speed, comparison and what --data gave beside the weights."
        ),
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Show real frames of --data.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also OUT/report.pdf, by Chromium.")] = False,
) -> None:
    """Make a static site of model versions: curves, metrics, errors, pictures, comparisons, notebooks."""
    _check_private(private, keep, out, data or [])
    from shuttlelib import paths
    from shuttlelib.report import collect, measure, printing, site, store

    models = models or paths.MODELS
    sets = named_data(data or [], "--data")
    found = collect.collect(models, runs or [], bench or [])
    pictures: dict[str, bytes] = {}
    if sets:
        evaluation, pictures = measure.evaluate(models, sets, private)
        if keep:
            store.keep(models / found.pair[1], {"evaluation": evaluation}, pictures)
        found = collect.with_evaluation(found, evaluation)
    for path in collect.keep(found, models) if keep else ():
        print(f"kept in {path}")
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    written = site.write(found, out, pictures, book=pdf)
    print(f"{len(written)} files; open {out / 'index.html'}")
    if pdf:
        print(f"for paper: {printing.to_pdf(out / f'{site.BOOK}.html', out / 'report.pdf')}")


def _check_private(private: bool, keep: bool, out: Path, data: list[str]) -> None:
    """Refuse what would put the user's own pictures where they are shared."""
    from shuttlelib import paths

    if not private:
        return
    if not data:
        raise UsageError("--private: shows frames of --data; give --data DIR")
    if keep:
        raise UsageError("--private: keeps nothing beside the weights; leave out --keep")
    if out.resolve().is_relative_to(paths.REPORTS.resolve()):
        raise UsageError(
            f"--private --out {out}: {paths.REPORTS} is shared; choose another, like local/report"
        )
