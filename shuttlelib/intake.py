"""Folders of videos and labels in any supported format in, a data folder out, and its splits by venue.

`importers` reads the label files, `layouts` knows how public sets are laid out.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from shuttlelib import clips, importers, labels, layouts, splits
from shuttlelib.clips import Clip
from shuttlelib.labels import LabelError

VAL_SLACK = 1.25  # whole venues rarely give the wanted share; this much more is accepted


def import_folder(src: str | Path, out: str | Path, fmt: str = "auto", link: bool = True) -> list[Clip]:
    """Bring a folder of videos and labels of any supported format into a data folder.

    Each video takes the label file of its name (`<clip>.parquet`, `<clip>_ball.csv`, `<clip>.csv`,
    `<clip>.json`: the first that there is), otherwise its rows of a Label Studio export that lies beside it.
    Videos without labels, or with a label file of no rows, are left out. `splits.csv` is carried over; a clip
    that it does not name keeps its place in `out`, and without the file its venue is "unknown". Where no
    video lies in `src` itself, the layouts of public sets are looked for, whose matches are venues
    (`layouts`). The places of all clips are checked as a whole before any is stored.

    Args:
        src: the folder to read.
        out: the data folder to write; other clips there stay, and labels that were pulled into it.
        fmt: one of `importers.FORMATS`.
        link: link to the videos instead of copying them.

    Returns:
        The imported clips as stored, not yet cleaned.

    Raises:
        LabelError: nothing to import, a label file that cannot be read, a Parquet file older than other
            labels of its clip, labels or a clip in `out` of another video, a clip that `splits.csv` does not
            name, or a venue that would be in two splits.
        VideoError: a video that cannot be read, or stops early.
    """
    src, out = Path(src), Path(out)
    kept, named = splits.read(out), splits.read(src)
    places = {**kept, **named}
    find = _labelled if clips.videos_in(src) else _in_layouts
    imported, bare = [], []
    for source, clip in find(src, fmt):
        if clip.table.empty:
            bare.append(str(source))
            continue
        if clip.name in places or clip.venue == splits.UNKNOWN_VENUE:  # a public set names its venues
            venue, part = splits.place_of(clip.name, places, src if named else None)
            clip = replace(clip, venue=venue, split=part)
        imported.append(clips.over_stored(clip, out))
    if not imported:
        without = f"{', '.join(bare)}: no rows; write one row a frame under the header"
        none = f"{src}: no video there has labels of the same name; put <clip>.mp4 beside <clip>.csv"
        raise LabelError(without if bare else none)
    # all at once: a venue may move to another split as a whole, never clip by clip
    splits.write(out, {**kept, **{clip.name: (clip.venue, clip.split) for clip in imported}})
    return [clips.store(clip, out, link) for clip in imported]


def split_by_venue(dataset: Sequence[Clip], val_share: float, seed: int) -> list[Clip]:
    """Choose whole venues for validation, write the folder's `splits.csv` and return the clips.

    Venues are taken in random order as long as the validation frames stay within their share (and a
    quarter of it); where every venue is larger, the smallest is taken. Test venues stay as they are.

    Args:
        dataset: clips of one data folder.
        val_share: wanted share of validation among the frames that are not test, between 0 and 1.
        seed: of the draw.

    Raises:
        LabelError: `val_share` is out of range, or there are fewer than two venues to divide.
    """
    if not 0 < val_share < 1:
        raise LabelError(f"val_share is {val_share}: give a share between 0 and 1")
    frames: dict[str, int] = {}
    for clip in sorted(dataset, key=lambda clip: clip.name):
        if clip.split != "test":
            frames[clip.venue] = frames.get(clip.venue, 0) + clip.frames
    if len(frames) < 2:
        where = dataset[0].video_path.parent / "splits.csv" if dataset else "splits.csv"
        raise LabelError(
            f"{where}: all clips are of {' and '.join(map(repr, frames)) or 'no venue'}: "
            "give each the venue where it was played; two are the least"
        )
    wanted, have = val_share * sum(frames.values()), 0
    chosen: list[str] = []
    for venue in np.random.default_rng(seed).permutation(sorted(frames)):
        if have + frames[venue] <= wanted * VAL_SLACK and len(chosen) < len(frames) - 1:
            chosen.append(str(venue))
            have += frames[venue]
    chosen = chosen or [min(frames, key=lambda venue: (frames[venue], venue))]
    parts = {venue: "val" if venue in chosen else "train" for venue in frames}
    divided = [replace(clip, split=parts.get(clip.venue, clip.split)) for clip in dataset]
    folder = dataset[0].video_path.parent
    # a line whose clip is gone moves with its venue
    kept = {name: (venue, parts.get(venue, part)) for name, (venue, part) in splits.read(folder).items()}
    splits.write(folder, {**kept, **{clip.name: (clip.venue, clip.split) for clip in divided}})
    return divided


def exports_in(folder: Path, fmt: str) -> dict[str, dict[Path, pd.DataFrame]]:
    """Labels by clip name and file, of the Label Studio exports of a folder that hold many clips."""
    found: dict[str, dict[Path, pd.DataFrame]] = {}
    own = {file for name in clips.videos_in(folder) for file in _label_files(folder, name)}
    tables = (path for path in folder.iterdir() if path.suffix.lower() in (".json", ".csv"))
    for path in sorted(tables, key=lambda path: (path.suffix.lower() == ".csv", path)):
        if fmt in ("auto", "label_studio") and path not in own and importers.is_label_studio(path):
            for name, rows in importers.read_labels(path).groupby("clip"):
                found.setdefault(str(name), {})[path] = rows
    return found


def _labelled(src: Path, fmt: str) -> Iterator[tuple[Path, Clip]]:
    """Each video of a folder that has labels of its name: the label file, and the clip with its rows."""
    exports = exports_in(src, fmt)
    for name, path in clips.videos_in(src).items():
        exported = exports.get(name, {})
        source = _own_labels(src, name, fmt, exported)
        if source is None and not exported:
            continue
        info = clips.probe(path)
        if source:
            table = importers.read_labels(source, info.size_hw, name, fmt)
            if source.suffix.lower() == ".parquet":
                stated, fix = labels.read_table(source)[1], "import them beside the video that was labelled"
                clips.require_same(source, stated, path, info, fix)
        else:
            table = pd.concat(exported.values(), ignore_index=True)
        yield source or next(iter(exported)), Clip(name, path, table, info, splits.UNKNOWN_VENUE, "train")


def _in_layouts(src: Path, fmt: str) -> Iterator[tuple[Path, Clip]]:
    """Each rally of a folder in the layout of a public set: the label file, and the clip."""
    for rally in layouts.find(src):
        info = clips.probe(rally.video)
        table = importers.read_labels(rally.labels, info.size_hw, rally.name, fmt)
        yield rally.labels, Clip(rally.name, rally.video, table, info, rally.venue, rally.split)


def _label_files(folder: Path, clip: str, fmt: str = "auto") -> list[Path]:
    """A clip's own label files of a format, best first; what follows its name may be of any case."""
    ends: tuple[str, ...] = (".parquet", "_ball.csv", ".csv", ".json")  # .csv may be a track
    if fmt in importers.CSV_FORMATS:
        ends = ("_ball.csv", ".csv")
    elif fmt in ("parquet", "label_studio"):
        ends = ends[:1] if fmt == "parquet" else ends[1:]
    named = sorted((name for name in os.listdir(folder) if name.startswith(clip)), reverse=True)
    found = (folder / name for end in ends for name in named if name[len(clip) :].lower() == end)
    return [path for path in found if path.is_file()]


def _own_labels(folder: Path, clip: str, fmt: str, exported: Iterable[Path]) -> Path | None:
    """A clip's own label file, None without one; `exported` are the exports that hold the clip as well.

    Raises:
        LabelError: it is a Parquet file (an earlier import, often), and other labels are newer.
    """
    found = _label_files(folder, clip, fmt)
    if fmt == "auto" and found and found[0].suffix.lower() == ".parquet":
        for other in (*found[1:], *exported):
            if other.stat().st_mtime_ns > found[0].stat().st_mtime_ns:
                raise LabelError(
                    f"{other}: newer than {found[0].name}, which holds the same clip: give the --format of "
                    "the one to read, or delete the other"
                )
    return found[0] if found else None
