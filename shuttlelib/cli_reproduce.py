"""The command `shuttle reproduce`; thin, over `reproduce`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from shuttlelib.cli_data import Device, Folder, Seed, listed
from shuttlelib.cli_train import named_data, resumable
from shuttlelib.errors import UsageError, check_choice

Version = Annotated[str, typer.Option(help="Version to ship; the shipped one's if left out.")]
Data = Annotated[list[Path], typer.Option(**Folder, help="Data folder, real or rendered; repeat for more.")]
Also = Annotated[list[str] | None, typer.Option(help="NAME=FOLDER: judge the pair on this val split too.")]
Rows = Annotated[str, typer.Option(help="Of lineage and baselines, separated by commas; all if left out.")]
Shares = Annotated[
    str, typer.Option(help="Of the time, like stage1=0.25,stage2=0.3,publish=0.1,rows=0.35; 0 leaves out.")
]
Pretrained = Annotated[bool, typer.Option(help="Start historic rows from ImageNet where the Hub is reached.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would run, and how long.")]


def reproduce(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted one goes on.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="In all, over as many sittings as it takes.")],
    cache: Annotated[Path | None, typer.Option(help="Folder of decoded frames; else OUT/cache.")] = None,
    models: Annotated[Path | None, typer.Option(help="Where the pair goes; else OUT/models.")] = None,
    shares: Shares = "",
    stage1: Version = "",
    stage2: Version = "",
    rows: Rows = "",
    also: Also = None,
    batch: Annotated[int, typer.Option(min=0, help="Samples a step of the shipped rows; 0: their own.")] = 0,
    rows_batch: Annotated[int, typer.Option(min=1, help="Samples a step of the lineage's rows.")] = 16,
    val_clips: Annotated[int, typer.Option(min=0, help="Val clips tracked for each row.")] = 3,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.")] = 0,
    seed: Annotated[int, typer.Option(**Seed, help="Of weights and draws.")] = 0,
    pretrained: Pretrained = True,
    device: Device = "auto",
    dry_run: DryRun = False,
) -> None:
    """Train and publish the shipped pair, then the lineage and the baselines, in a given time."""
    _use(device)
    from shuttlelib import reproduce as prepared

    plan = prepared.Plan(
        tuple(data),
        out,
        minutes,
        cache or out / "cache",
        models or out / "models",
        _shares(shares),
        stage1,
        stage2,
        tuple(listed(rows)) or None,
        named_data(also or []),
        seed,
        batch,
        rows_batch,
        clips=val_clips,
        pretrained=pretrained,
        config={"workers": workers},
    )
    if dry_run:
        print(prepared.dry_run(plan))
        return
    with resumable():
        outcome = prepared.run(plan)
    if any(text not in ("done", "done before") for text in outcome.values()):
        raise typer.Exit(1)


def _use(device: str) -> None:
    """Hold torch to a device before it is imported."""
    check_choice("--device", device, ("auto", "cpu", "cuda"))
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("--device cuda: torch finds no GPU here; use --device cpu")


def _shares(text: str) -> dict[str, float]:
    """ "stage1=0.3,rows=0" as a table."""
    found = {}
    for part in listed(text):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise UsageError(f"--shares {part}: give NAME=NUMBER, like stage1=0.3") from None
    return found
