"""The `shuttle data` commands: import, synth, onto, stats, split and clean; a thin end of the flow.

Each command calls one function of the library and prints what it did. Imports inside the commands keep
`shuttle track` from loading pandas.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from shuttlelib.errors import UsageError, check_choice

data_app = typer.Typer(
    help="Bring labelled clips into a data folder, make rendered ones, look at them, divide and clean them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


Folder: dict[str, Any] = {"exists": True, "file_okay": False}  # of an option or argument: it must be there
Models = Annotated[
    Path | None, typer.Option(**Folder, help="Folder of models; the shipped ones if left out.")
]
Cache = Annotated[Path | None, typer.Option(help="Folder of decoded frames; OUT/cache if left out.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores if left out.")]
Seed: dict[str, Any] = {"min": 0, "max": 2**32 - 1}  # of an option: what every random generator takes


def parse_size(text: str) -> tuple[int, int]:
    """A --size of WIDTHxHEIGHT as (height, width), px.

    Raises:
        UsageError: it is something else.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--size {text}: give WIDTHxHEIGHT, like 1280x720")
    return int(height), int(width)


def listed(text: str) -> list[str]:
    """The parts of an option that holds several, separated by commas; each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def counted(number: int, thing: str) -> str:
    """So many things, in the singular where it is one."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


class Format(StrEnum):
    """Label formats that can be insisted on."""

    auto = "auto"
    tracknet = "tracknet"
    racketvision = "racketvision"
    normalized = "normalized"
    tracker = "tracker"
    label_studio = "label_studio"
    parquet = "parquet"


@data_app.command("import")
def import_command(
    source: Annotated[
        Path, typer.Argument(**Folder, help="folder of videos with label files of the same names")
    ],
    out: Annotated[Path, typer.Option(help="data folder to write")],
    format: Annotated[Format, typer.Option(help="label format; auto tells by the header")] = Format.auto,
    copy: Annotated[bool, typer.Option("--copy", help="copy the videos instead of linking them")] = False,
) -> None:
    """Import videos and labels of any supported format.

    Example: shuttle data import my_rallies --out data/mine
    """
    from shuttlelib import clips, intake

    imported = intake.import_folder(source, out, format.value, link=not copy)
    names = {clip.name for clip in imported}
    left = sorted(set(clips.videos_in(source)) - names)
    bare = sorted(set(intake.exports_in(source, format.value)) - names)
    rows = sum(len(clip.table) for clip in imported)
    typer.echo(f"{counted(len(imported), 'clip')} with {counted(rows, 'labelled frame')} in {out}")
    if left:
        without = counted(len(left), "video")
        typer.echo(f"{without} without labels left out: {', '.join(left[:10])}", err=True)
    if bare:
        without = counted(len(bare), "exported clip")
        typer.echo(f"{without} without a video left out: {', '.join(bare[:10])}", err=True)


@data_app.command("synth")
def synth_command(
    out: Annotated[Path, typer.Option(help="data folder to write")],
    clips: Annotated[int, typer.Option(min=1, help="number of rallies")] = 6,
    seed: Annotated[int, typer.Option(**Seed, help="the same seed renders the same rallies")] = 0,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in px")] = "1280x720",
    fps: Annotated[float, typer.Option(min=1, max=1000, help="frames per second")] = 30.0,
    frames: Annotated[int, typer.Option(min=1, help="frames a rally")] = 150,
    view: Annotated[str, typer.Option(help="broadcast, side, corner, wide or mixed")] = "mixed",
    val_share: Annotated[float, typer.Option(min=0, max=0.9, help="share of venues for validation")] = 0.25,
) -> None:
    """Render labelled rallies.

    Example: shuttle data synth --out data/rendered --clips 8 --size 1280x720 --seed 1
    """
    from tqdm import tqdm

    from shuttlelib.labels import LabelError
    from shuttlelib.synth import VIEWS, make_dataset

    size_hw = parse_size(size)
    if min(size_hw) < 16 or size_hw[0] % 2 or size_hw[1] % 2:
        raise UsageError(f"--size {size}: give an even width and height of at least 16, like 1280x720")
    check_choice("--view", view, (*VIEWS, "mixed"))
    with tqdm(total=clips, desc="render", unit="clip") as bar:
        try:
            make_dataset(out, clips, seed, size_hw, fps, frames, (view,), val_share, bar.update)
        except LabelError as error:  # of the splits that are there
            raise UsageError(f"--out {out} --seed {seed}: {error}; or give another of the two") from error
    typer.echo(f"{clips} rendered {'rally' if clips == 1 else 'rallies'} in {out}")


@data_app.command("onto")
def onto_command(
    data: Annotated[Path, typer.Argument(**Folder, help="data folder with train clips")],
    out: Annotated[Path, typer.Option(help="data folder to write")],
    clips: Annotated[int, typer.Option(min=1, help="clips to write; train clips are taken in turn")] = 6,
    seed: Annotated[int, typer.Option(**Seed, help="the same seed writes the same clips")] = 0,
) -> None:
    """Put rendered shuttles on the train clips, in place of their own.

    Example: shuttle data onto data/mine --out data/onto --clips 40
    """
    from tqdm import tqdm

    from shuttlelib import onto

    with tqdm(total=clips, desc="render", unit="clip") as bar:
        onto.make_dataset(data, out, clips, seed, bar.update)
    typer.echo(f"{counted(clips, 'clip')} with rendered shuttles in {out}")


@data_app.command("stats")
def stats_command(
    data: Annotated[Path, typer.Argument(**Folder, help="data folder")],
    csv: Annotated[Path | None, typer.Option(help="also write the table to this file")] = None,
) -> None:
    """Print a line a clip: venue, split, frames, visible share, speeds.

    Example: shuttle data stats data/mine
    """
    from shuttlelib import clips
    from shuttlelib.files import atomic_write

    dataset = clips.load_dataset(data, raw=True)
    table = clips.stats(dataset)
    typer.echo(table.round(2).to_string())
    for name, part in table.groupby("split"):
        shown = (part["visible"] * part["labelled"]).sum() / max(part["labelled"].sum(), 1)
        typer.echo(
            f"{name}: {counted(len(part), 'clip')}, {counted(part['venue'].nunique(), 'venue')}, "
            f"{counted(int(part['labelled'].sum()), 'labelled frame')}, {shown:.0%} visible"
        )
    typer.echo(f"data hash {clips.data_hash(dataset)}")
    if csv:
        with atomic_write(csv) as temp:
            table.to_csv(temp)


@data_app.command("split")
def split_command(
    data: Annotated[Path, typer.Argument(**Folder, help="data folder; its splits.csv is written")],
    val_share: Annotated[float, typer.Option(help="wanted share of validation frames")] = 0.2,
    seed: Annotated[int, typer.Option(**Seed, help="of the draw of venues")] = 0,
) -> None:
    """Divide whole venues into training and validation; test venues stay.

    Example: shuttle data split data/mine --val-share 0.2 --seed 1
    """
    from shuttlelib import clips, intake, splits

    if not 0 < val_share < 1:
        raise UsageError(f"--val-share is {val_share}: give a share between 0 and 1")
    divided = intake.split_by_venue(clips.load_dataset(data, raw=True), val_share, seed)
    for name in splits.NAMES:
        part = clips.split(divided, name)
        venues = ", ".join(sorted({clip.venue for clip in part})) or "none"
        frames = counted(sum(c.info.frame_count for c in part), "frame")
        typer.echo(f"{name}: {counted(len(part), 'clip')}, {frames}, venues: {venues}")


@data_app.command("clean")
def clean_command(
    data: Annotated[Path, typer.Argument(**Folder, help="data folder")],
    out: Annotated[Path, typer.Option(help="data folder for the cleaned labels; may be the same")],
) -> None:
    """Flag what looks wrong in the labels, repair what is certain, and list all of it.

    Example: shuttle data clean data/mine --out data/clean
    """
    from shuttlelib import cleanup

    audit = cleanup.clean_dataset(data, out)
    for (check, action), rows in audit.groupby(["check", "action"]):
        where = f"{counted(len(rows), 'row')} in {counted(rows['clip'].nunique(), 'clip')}"
        typer.echo(f"{check}: {where} {action}")
    typer.echo(f"{counted(len(audit), 'finding')}, listed in {out / 'cleanup' / 'audit.csv'}")
