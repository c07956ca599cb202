"""Data folders of clips and labels: reading, importing, splitting, counting; between labels and samples.

A data folder holds `<clip>.mp4` (or another container), `<clip>.parquet` with its labels, and `splits.csv`
with the columns `clip,venue,split`. Splits are by venue, never by frame or clip: frames of one
venue are near-copies, so any finer split measures memory.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pandas as pd

from shuttlelib import importers, labels, layouts, splits, video
from shuttlelib.files import atomic_write
from shuttlelib.labels import ClipInfo, LabelError
from shuttlelib.video import VIDEO_SUFFIXES

UNKNOWN_VENUE = "unknown"
VAL_SLACK = 1.25  # whole venues rarely give the wanted share; this much more is accepted


@dataclass(frozen=True, eq=False)
class Clip:
    """One rally: its video, its labels and where it was played.

    Attributes:
        name: the file's stem.
        video_path: the video in the data folder.
        table: canonical label table, in frame order; a frame without a row is unlabelled.
        info: size, fps, frame count and hash of the video.
        venue: the place (or match); the unit of a split.
        split: train, val or test.
    """

    name: str
    video_path: Path
    table: pd.DataFrame
    info: ClipInfo
    venue: str
    split: str


def load_dataset(data_dir: str | Path, raw: bool = False) -> list[Clip]:
    """The clips of a data folder, sorted by name.

    Args:
        data_dir: the folder.
        raw: keep every row as stored, for cleanup to look at. Otherwise rows flagged as unusable
            are left out (their frames count as unlabelled) and the rest must be clean.

    Raises:
        LabelError: no clips, a label file without its video, labels that need cleaning, a clip that
            `splits.csv` does not name, or a split that is not by venue.
    """
    data_dir = Path(data_dir)
    paths = sorted(data_dir.glob("*.parquet"))
    if not paths:
        raise LabelError(
            f"{data_dir}: no clips (*.parquet) there; run `shuttle data import` or `shuttle data synth`"
        )
    places = splits.read(data_dir)
    dataset = []
    for path in paths:
        table, info = labels.read_table(path)
        if not raw:
            table = labels.usable(table)
            labels.require_clean(table, path, info.frame_count)
        if places and path.stem not in places:
            source = data_dir / "splits.csv"
            raise LabelError(f"{source}: clip {path.stem!r} is missing; add a line of its venue and split")
        venue, part = places.get(path.stem, (UNKNOWN_VENUE, "train"))
        dataset.append(Clip(path.stem, _video_of(path), table, info, venue, part))
    splits.check({clip.name: (clip.venue, clip.split) for clip in dataset}, data_dir / "splits.csv")
    return dataset


def split(dataset: Sequence[Clip], name: str) -> list[Clip]:
    """The clips of one split: "train", "val" or "test"."""
    if name not in splits.NAMES:
        raise LabelError(f"split {name!r} is unknown; choose one of {', '.join(splits.NAMES)}")
    return [clip for clip in dataset if clip.split == name]


def import_folder(src: str | Path, out: str | Path, fmt: str = "auto", link: bool = True) -> list[Clip]:
    """Bring a folder of videos and labels of any supported format into a data folder.

    Each video takes the label file of its name (`<clip>.csv`, `<clip>_ball.csv`, `<clip>.json`,
    `<clip>.parquet`), otherwise its rows of a Label Studio export that lies beside it. Videos without
    labels are left out. `splits.csv` is carried over; a clip that it does not name keeps its place in `out`,
    or its venue is "unknown". Where no video lies in `src` itself, the layouts of public sets are looked for,
    whose matches are venues (`layouts`). The places of all clips are checked as a whole before any is stored.

    Args:
        src: the folder to read.
        out: the data folder to write; clips already there stay.
        fmt: one of `importers.FORMATS`.
        link: link to the videos instead of copying them.

    Returns:
        The imported clips as stored, not yet cleaned.

    Raises:
        LabelError: nothing to import, a label file that cannot be read, a Parquet file older than other
            labels of its clip, or a venue that would be in two splits.
        VideoError: a video that cannot be read.
    """
    src, out = Path(src), Path(out)
    kept, exports = splits.read(out), exports_in(src, fmt)
    places = {**kept, **splits.read(src)}
    imported = []
    for name, path in videos_in(src).items():
        exported = exports.get(name, {})
        source = _own_labels(src, name, fmt, exported)
        if source is None and not exported:
            continue
        info = probe(path)
        if source:
            table = importers.read_labels(source, info.size_hw, name, fmt)
        else:
            table = pd.concat(exported.values(), ignore_index=True)
        imported.append(Clip(name, path, table, info, *places.get(name, (UNKNOWN_VENUE, "train"))))
    for rally in layouts.find(src, VIDEO_SUFFIXES) if not videos_in(src) else ():
        info = probe(rally.video)
        table = importers.read_labels(rally.labels, info.size_hw, rally.name, fmt)
        place = places.get(rally.name, (rally.venue, rally.split))
        imported.append(Clip(rally.name, rally.video, table, info, *place))
    if not imported:
        raise LabelError(
            f"{src}: no video there has labels of the same name; put <clip>.mp4 beside <clip>.csv"
        )
    # all at once: a venue may move to another split as a whole, never clip by clip
    splits.write(out, {**kept, **{clip.name: (clip.venue, clip.split) for clip in imported}})
    return [store(clip, out, link) for clip in imported]


def store(clip: Clip, out: str | Path, link: bool = True) -> Clip:
    """Write one clip into a data folder: video (linked or copied), labels, and its line of `splits.csv`.

    Raises:
        LabelError: the table is not canonical, or the venue is in another split there.
        WriteError: the folder cannot be written.
    """
    # first, so that what it refuses is not stored
    splits.write(out, {**splits.read(out), clip.name: (clip.venue, clip.split)})
    target = Path(out) / f"{clip.name}{clip.video_path.suffix}"
    if target.resolve() != clip.video_path.resolve():
        _place(clip.video_path, target, link)
    labels.write_table(Path(out) / f"{clip.name}.parquet", clip.table, clip.info)
    return replace(clip, video_path=target)


def videos_in(folder: str | Path) -> dict[str, Path]:
    """The videos of a folder by clip name.

    Raises:
        LabelError: no such folder, or two videos of one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LabelError(f"{folder}: no such folder; give the folder that holds the videos and labels")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            if path.stem in found:
                raise LabelError(f"{path}: {found[path.stem].name} has the same name; rename one of them")
            found[path.stem] = path
    return found


def exports_in(folder: Path, fmt: str = "auto") -> dict[str, dict[Path, pd.DataFrame]]:
    """Labels by clip name and file, of the Label Studio exports of a folder that hold many clips."""
    found: dict[str, dict[Path, pd.DataFrame]] = {}
    for path in sorted((*folder.glob("*.json"), *folder.glob("*.csv"))):
        own = {file for name in videos_in(folder) for file in _label_names(folder, name)}
        if fmt in ("auto", "label_studio") and path not in own and importers.is_label_studio(path):
            for name, rows in importers.read_labels(path).groupby("clip"):
                found.setdefault(str(name), {})[path] = rows
    return found


def video_beside(path: Path, name: str) -> Path | None:
    """The video of that name (without suffix) in the folder of a label file; None without one."""
    places = (path.with_name(name + suffix) for suffix in VIDEO_SUFFIXES)
    return next((place for place in places if place.exists()), None)


def probe(path: str | Path) -> ClipInfo:
    """Size, fps, exact frame count and hash of a video.

    Frames are counted as packets, without decoding: the container's own number is missing or wrong too
    often, and reading the packets costs no more than the hash does.
    """
    info = video.probe(path)
    with av.open(str(path)) as container:
        packets = container.demux(video.video_stream(container, Path(path)))
        try:
            count = sum(packet.size > 0 and not packet.is_discard for packet in packets)
        except av.error.InvalidDataError as error:
            raise video.VideoError(
                f"{path}: the video is damaged ({error.strerror}); record it again"
            ) from error
    return ClipInfo(info.width, info.height, info.fps, count, video.sha256(path))


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
            frames[clip.venue] = frames.get(clip.venue, 0) + clip.info.frame_count
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
    splits.write(folder, {**splits.read(folder), **{clip.name: (clip.venue, clip.split) for clip in divided}})
    return divided


def stats(dataset: Sequence[Clip]) -> pd.DataFrame:
    """One row a clip: what a person wants to know before training on it.

    Returns:
        Indexed by clip: venue, split, width, height, fps, frames, labelled and flagged (rows),
        visible (share of the labelled), longest_gap (frames from one visible row to the next) and
        the speed percentiles speed_p50, speed_p95, speed_max (native px between consecutive frames;
        nan where no two consecutive frames are visible).
    """
    return pd.DataFrame([_stats(clip) for clip in dataset]).set_index("clip")


def data_hash(dataset: Sequence[Clip]) -> str:
    """12 hex digits that change with any video, usable label or split of a dataset."""
    digest = hashlib.sha256()
    for clip in sorted(dataset, key=lambda clip: clip.name):
        table = labels.usable(clip.table)
        digest.update(f"{clip.name};{clip.info};{clip.split};{len(table)}".encode())
        for column in ("frame", "visible", "x_px", "y_px"):
            digest.update(table[column].to_numpy().tobytes())
    return digest.hexdigest()[:12]


def _stats(clip: Clip) -> dict[str, object]:
    """One row of `stats`."""
    table = clip.table
    seen = table[table["visible"]]
    gap = seen["frame"].diff()
    step = pd.Series(np.hypot(seen["x_px"].diff(), seen["y_px"].diff()))[gap == 1].dropna()
    p50, p95, top = step.quantile([0.5, 0.95, 1.0]) if len(step) else (np.nan,) * 3
    return {
        "clip": clip.name,
        "venue": clip.venue,
        "split": clip.split,
        "width": clip.info.width,
        "height": clip.info.height,
        "fps": clip.info.fps,
        "frames": clip.info.frame_count,
        "labelled": len(table),
        "flagged": int((table["flags"] != "").sum()),
        "visible": table["visible"].mean(),
        "longest_gap": gap.max(),
        "speed_p50": p50,
        "speed_p95": p95,
        "speed_max": top,
    }


def _place(source: Path, target: Path, link: bool) -> None:
    """Link or copy a video, atomically; where links are not allowed (Windows) it is copied."""
    with atomic_write(target) as temp:
        if link:
            temp.unlink()
            with suppress(OSError):
                os.symlink(source.resolve(), temp)
                return
        shutil.copyfile(source, temp)


def _label_names(folder: Path, clip: str, fmt: str = "auto") -> tuple[Path, ...]:
    """Where a clip's own label file of a format may be, best first."""
    ends: tuple[str, ...] = (".parquet", ".csv", "_ball.csv", ".json")
    if fmt in importers.CSV_FORMATS:
        ends = (".csv", "_ball.csv")
    elif fmt in ("parquet", "label_studio"):
        ends = ends[:1] if fmt == "parquet" else ends[1:]
    return tuple(folder / f"{clip}{end}" for end in ends)


def _own_labels(folder: Path, clip: str, fmt: str, exported: Iterable[Path]) -> Path | None:
    """A clip's own label file, None without one; `exported` are the exports that hold the clip as well.

    Raises:
        LabelError: it is a Parquet file (an earlier import, often), and other labels are newer.
    """
    found = [file for file in _label_names(folder, clip, fmt) if file.is_file()]
    if fmt == "auto" and found and found[0].suffix == ".parquet":
        for other in (*found[1:], *exported):
            if other.stat().st_mtime_ns > found[0].stat().st_mtime_ns:
                raise LabelError(
                    f"{other}: newer than {found[0].name}, which holds the same clip: give the --format of "
                    "the one to read, or delete the other"
                )
    return found[0] if found else None


def _video_of(path: Path) -> Path:
    found = video_beside(path, path.stem)
    if found:
        return found
    raise LabelError(f"{path}: no video of that name beside it (or a broken link); import the clip again")
