"""`splits.csv` of a data folder (clip, venue, split): read, checked and written; used by `clips`.

Splits are by venue, never by clip or frame: frames of one venue are near-copies, so any finer split
measures memory.
"""

import csv
import io
from pathlib import Path

from shuttlelib.files import atomic_write
from shuttlelib.labels import LabelError, read_text

NAMES = ("train", "val", "test")
COLUMNS = ("clip", "venue", "split")
UNKNOWN_VENUE = "unknown"
Places = dict[str, tuple[str, str]]  # clip name to (venue, split)


def read(data_dir: str | Path) -> Places:
    """Clip name to (venue, split) from `splits.csv`; empty where there is no such file.

    Raises:
        LabelError: not UTF-8, another separator, a missing column, an unknown split, a clip twice, or a venue
            in two splits.
    """
    path = Path(data_dir) / "splits.csv"
    if not path.exists():
        return {}
    places: Places = {}
    reader = csv.DictReader(io.StringIO(read_text(path)))
    for name in COLUMNS:
        if name not in (reader.fieldnames or ()):
            raise LabelError(f"{path}: row 1, column {name!r} is missing; write clip,venue,split")
    for row in reader:
        clip, venue, part = ((row[name] or "").strip() for name in COLUMNS)
        place = f"{path}: row {reader.line_num}"
        if part not in NAMES:
            raise LabelError(f"{place}, column 'split' is {part!r}: write one of {', '.join(NAMES)}")
        if not clip or not venue or clip in places:
            raise LabelError(
                f"{place}, column 'clip' is {clip!r} (venue {venue!r}): name a clip once, with its venue"
            )
        places[clip] = (venue, part)
    check(places, path)
    return places


def write(data_dir: str | Path, places: Places) -> None:
    """Write `splits.csv` of clip name to (venue, split), atomically; further columns there stay.

    Raises:
        LabelError: a venue is in two splits.
    """
    path = Path(data_dir) / "splits.csv"
    check(places, path)
    before = csv.DictReader(io.StringIO(read_text(path) if path.exists() else ""))
    columns = dict.fromkeys((*COLUMNS, *(before.fieldnames or ())))
    rows = {(row.get("clip") or "").strip(): row for row in before}
    with atomic_write(path) as temp, temp.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for clip in sorted(places):
            writer.writerow({**rows.get(clip, {}), **dict(zip(COLUMNS, (clip, *places[clip])))})


def place_of(clip: str, places: Places, folder: Path | None) -> tuple[str, str]:
    """(venue, split) of a clip. One that is not named is of the venue "unknown": in its split, else in train.

    Args:
        folder: the one whose `splits.csv` must name the clip; None where there is no such file.

    Raises:
        LabelError: it does not.
    """
    if folder and clip not in places:
        source = folder / "splits.csv"
        raise LabelError(f"{source}: clip {clip!r} is missing; add a line of its venue and split")
    return places.get(clip, (UNKNOWN_VENUE, dict(places.values()).get(UNKNOWN_VENUE, "train")))


def check(places: Places, source: Path) -> None:
    """Raise where one venue is in two splits."""
    parts: dict[str, str] = {}
    for clip, (venue, part) in places.items():
        if parts.setdefault(venue, part) != part:
            raise LabelError(
                f"{source}: venue {venue!r} is in the splits {parts[venue]!r} and {part!r} (clip {clip}): "
                "put all clips of a venue in one split"
            )
