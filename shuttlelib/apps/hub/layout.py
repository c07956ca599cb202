"""How a data folder lies in a repository of the Hub, so that `datasets`, the Hub's viewer and we can read it.

    README.md                        the card, with the splits for `datasets`
    clips/<split>/<clip>.mp4         the videos, and beside them
    clips/<split>/metadata.parquet   a row a clip: its facts, its labels as lists (a VideoFolder: it streams)
    labels/<split>/<clip>.parquet    the canonical tables, byte for byte
    splits.csv, audit.csv            venues, and what cleanup found

`datasets` takes one reader a repository, so the labels stand twice: as lists beside the videos for people
who stream, and as canonical tables for `shuttle data pull`.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from shuttlelib import splits
from shuttlelib.apps.hub import transfer
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError
from shuttlelib.files import plain
from shuttlelib.video import VIDEO_SUFFIXES

OWN = ("clips/*", "labels/*", "splits.csv", "audit.csv")
SPLITS = {"train": "train", "val": "validation", "test": "test"}  # ours to the name that `datasets` uses
AUDIT = Path("cleanup", "audit.csv")
MOST_FILES = (
    10_000  # in one folder of a repository [Hugging Face, "Repository limitations and recommendations"]
)
_OURS = re.compile(r"(clips|labels)/(train|val|test)/[^/\\]+")


def stage(dataset: Sequence[Clip], data_dir: Path, out: Path) -> list[Path]:
    """Lay a data folder out as a repository, with links to its files.

    Returns:
        The local files that went in, for the record of what was pushed.

    Raises:
        ShuttleError: too many clips for one folder of the Hub.
    """
    used = []
    for name in splits.NAMES:
        part = [clip for clip in dataset if clip.split == name]
        if len(part) >= MOST_FILES:
            raise ShuttleError(
                f"{data_dir}: {len(part)} clips in split {name!r}; the Hub takes {MOST_FILES - 1}"
            )
        for clip in part:
            labels = data_dir / f"{clip.name}.parquet"
            transfer.link(clip.video_path, out / "clips" / name / clip.video_path.name)
            transfer.link(labels, out / "labels" / name / labels.name)
            used += [clip.video_path, labels]
        if part:
            pq.write_table(metadata(part), out / "clips" / name / "metadata.parquet")
    splits.write(out, {clip.name: (clip.venue, clip.split) for clip in dataset})
    if (data_dir / AUDIT).is_file():
        transfer.link(data_dir / AUDIT, out / "audit.csv")
        used.append(data_dir / AUDIT)
    return used


def metadata(part: Sequence[Clip]) -> pa.Table:
    """A row a clip for `datasets`: file, venue, facts, and lists of a value a labelled frame.

    `x_px` and `y_px` are null where the shuttle is not visible.
    """

    rows = [
        {
            "file_name": clip.video_path.name,
            "clip": clip.name,
            "venue": clip.venue,
            "width": clip.info.width,
            "height": clip.info.height,
            "fps": float(clip.info.fps),
            "frame_count": clip.info.frame_count,
            "video_sha256": clip.info.video_sha256,
            "frame": clip.table["frame"].tolist(),
            "visible": clip.table["visible"].tolist(),
            "x_px": plain(clip.table["x_px"].to_numpy()),
            "y_px": plain(clip.table["y_px"].to_numpy()),
            "origin": clip.table["origin"].tolist(),
            "flags": clip.table["flags"].tolist(),
        }
        for clip in part
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


SCHEMA = pa.schema(
    {
        **dict.fromkeys(("file_name", "clip", "venue"), pa.string()),
        **dict.fromkeys(("width", "height"), pa.int32()),
        "fps": pa.float64(),
        "frame_count": pa.int32(),
        "video_sha256": pa.string(),
        "frame": pa.list_(pa.int32()),
        "visible": pa.list_(pa.bool_()),
        **dict.fromkeys(("x_px", "y_px"), pa.list_(pa.float64())),
        **dict.fromkeys(("origin", "flags"), pa.list_(pa.string())),
    }
)


def local_names(paths: Sequence[str]) -> dict[str, str]:
    """Name in a data folder to path in the repository, of the files that a pull brings.

    Raises:
        ShuttleError: two files would get one name.
    """
    wanted: dict[str, str] = {}
    for path in paths:
        name = _local_name(path)
        if name in wanted:
            raise ShuttleError(f"{path}: {wanted[name]} would get the same name; remove one of them")
        if name:
            wanted[name] = path
    return wanted


def _local_name(path: str) -> str:
    """Where a file of the repository belongs in a data folder; "" for all others."""
    file = PurePosixPath(path)
    if path == "splits.csv":
        return path
    if path == "audit.csv":
        return AUDIT.as_posix()
    if not _OURS.fullmatch(path) or file.name.startswith("."):
        return ""
    suffixes = VIDEO_SUFFIXES if file.parts[0] == "clips" else (".parquet",)
    return file.name if file.suffix.lower() in suffixes else ""
