"""`splits.csv` of a data folder (clip, venue, split): read, checked and written; used by `clips`.

Splits are by venue, never by clip or frame: frames of one venue are near-copies, so any finer split
measures memory.
"""

import csv
from pathlib import Path

from shuttlelib.files import atomic_write
from shuttlelib.labels import LabelError

NAMES = ("train", "val", "test")
Places = dict[str, tuple[str, str]]  # clip name to (venue, split)


def read(data_dir: str | Path) -> Places:
    """Clip name to (venue, split) from `splits.csv`; empty where there is no such file.

    Raises:
        LabelError: a missing column, an unknown split, a clip twice, or a venue in two splits.
    """
    path = Path(data_dir) / "splits.csv"
    if not path.exists():
        return {}
    places: Places = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        for name in ("clip", "venue", "split"):
            if name not in (reader.fieldnames or ()):
                raise LabelError(f"{path}: row 1, column {name!r} is missing; write clip,venue,split")
        for row in reader:
            clip, venue, part = (row[name] or "" for name in ("clip", "venue", "split"))
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
    """Write `splits.csv` of clip name to (venue, split), atomically.

    Raises:
        LabelError: a venue is in two splits.
    """
    path = Path(data_dir) / "splits.csv"
    check(places, path)
    with atomic_write(path) as temp, temp.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("clip", "venue", "split"))
        writer.writerows((clip, *places[clip]) for clip in sorted(places))


def check(places: Places, source: Path) -> None:
    """Raise where one venue is in two splits."""
    parts: dict[str, str] = {}
    for clip, (venue, part) in places.items():
        if parts.setdefault(venue, part) != part:
            raise LabelError(
                f"{source}: venue {venue!r} is in the splits {parts[venue]!r} and {part!r} (clip {clip}): "
                "put all clips of a venue in one split"
            )
