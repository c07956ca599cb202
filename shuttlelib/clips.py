"""Data folders of clips and labels: reading, storing, splitting, counting; between labels and samples.

A data folder holds `<clip>.mp4` (or another container), `<clip>.parquet` with its labels, and `splits.csv`
(see `splits`).
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import escape
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pandas as pd

from shuttlelib import labels, splits, video
from shuttlelib.files import as_url, atomic_write, is_stray, sha256
from shuttlelib.labels import ClipInfo, LabelError
from shuttlelib.pictures import Pictures
from shuttlelib.video import VIDEO_SUFFIXES, is_video


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

    @property
    def frames(self) -> int:
        """How many frames it has; where that is unknown, those up to the last label."""
        return self.info.frame_count or 1 + int(max(self.table["frame"], default=-1))

    @property
    def rendered(self) -> bool:
        """Whether every label was made by the renderer, onto real frames or not."""
        return bool(self.table["origin"].isin(("synthetic", "onto")).all())

    def heads(self) -> pd.DataFrame:
        """x_px and y_px of every frame; nan where the head is not visible, or nothing is labelled."""
        table = self.table.drop_duplicates("frame").set_index("frame")
        return table[["x_px", "y_px"]].reindex(range(self.frames))

    def steps_px(self) -> np.ndarray:
        """(N,) native px from each head to that of the next frame, where both are visible."""
        steps = np.hypot(*self.heads().diff().to_numpy().T)
        return steps[np.isfinite(steps)]

    def near_heads(self) -> np.ndarray:
        """(frames, 2) px: the head, or the last one before, the first after, the middle of the frame."""
        h, w = self.info.even_hw
        return self.heads().ffill().bfill().fillna({"x_px": w / 2, "y_px": h / 2}).to_numpy()


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
    paths = sorted(path for path in data_dir.glob("*.parquet") if not is_stray(path))
    if not paths:
        raise LabelError(
            f"{data_dir}: no clips (*.parquet) there; run `shuttle data import` or `shuttle data synth`"
        )
    places = splits.read(data_dir)
    dataset = []
    for path in paths:
        table, info = labels.read_table(path)
        table["clip"] = path.stem  # its files may have been renamed
        if not raw:
            table = labels.usable(table)
            labels.require_clean(table, path, info.frame_count)
        venue, part = splits.place_of(path.stem, places, data_dir if places else None)
        dataset.append(Clip(path.stem, _video_of(path), table, info, venue, part))
    splits.check({clip.name: (clip.venue, clip.split) for clip in dataset}, data_dir / "splits.csv")
    return dataset


def split(dataset: Sequence[Clip], name: str) -> list[Clip]:
    """The clips of one split: "train", "val" or "test"."""
    if name not in splits.NAMES:
        raise LabelError(f"split {name!r} is unknown; choose one of {', '.join(splits.NAMES)}")
    return [clip for clip in dataset if clip.split == name]


def require_splits(dataset: Sequence[Clip], *names: str) -> None:
    """Make sure that none of these splits is empty, before the clips of the others are decoded.

    Raises:
        LabelError: one is.
    """
    for name in names:
        if not split(dataset, name):
            folders = ", ".join(sorted({str(clip.video_path.parent) for clip in dataset}))
            raise LabelError(
                f"{folders}: no clip is in split {name!r}; `shuttle data split` divides a folder by venue"
            )


def store(clip: Clip, out: str | Path, link: bool = True) -> Clip:
    """Write one clip into a data folder: video (linked or copied), labels, and its line of `splits.csv`.

    Raises:
        LabelError: the table is not canonical, or the venue is in another split there.
        WriteError: the folder cannot be written.
    """
    # first, so that what it refuses is not stored
    splits.write(out, {**splits.read(out), clip.name: (clip.venue, clip.split)})
    target = Path(out) / f"{clip.name}{clip.video_path.suffix}"
    if target.resolve() != clip.video_path.resolve() or (target.is_symlink() and not link):
        _place(clip.video_path, target, link)
    labels.write_table(Path(out) / f"{clip.name}.parquet", clip.table, clip.info)
    return replace(clip, video_path=target)


def over_stored(clip: Clip, out: str | Path) -> Clip:
    """The clip as it may replace one of its name in `out`: labels that were pulled there stay.

    Raises:
        LabelError: the one in `out` is of another video, its video has another suffix, or the history of its
            pulled labels cannot be read.
    """
    path, history = (Path(out, folder, f"{clip.name}.parquet") for folder in ("", "history"))
    beside = video_beside(path, clip.name)
    fix = "rename one, write to another folder, or delete"
    if beside and beside.suffix.lower() != clip.video_path.suffix.lower():
        raise LabelError(f"{clip.video_path}: {beside} has the same name: {fix} {beside.name} to replace it")
    try:
        stored, stated = labels.read_table(path)
    except LabelError:  # none, or a damaged one, which is to be imported again
        return clip
    require_same(path, stated, clip.video_path, clip.info, f"{fix} {path} to replace it")
    if not history.is_file():
        return clip
    try:
        frames = pd.read_parquet(history)["frame"]
    except (OSError, ValueError, KeyError) as error:  # pyarrow's are of these
        what = str(error).splitlines()[0]
        raise LabelError(
            f"{history}: not a history of pulled labels ({what}); restore it, or move it away to let the "
            "imported labels take the place of those that were pulled"
        ) from error
    pulled = stored["frame"].isin(frames) & (stored["origin"] == "label_studio")
    rest = clip.table[~clip.table["frame"].isin(stored.loc[pulled, "frame"])]
    table = pd.concat([rest, stored[pulled]]).sort_values("frame", kind="stable", ignore_index=True)
    return replace(clip, table=table)


def videos_in(folder: str | Path) -> dict[str, Path]:
    """The videos of a folder by clip name.

    Raises:
        LabelError: no such folder, two videos of one name, or a blank at an end of a name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LabelError(f"{folder}: no such folder; give the folder that holds the videos and labels")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_video(path):
            if path.stem in found:
                raise LabelError(f"{path}: {found[path.stem].name} has the same name; rename one of them")
            if path.stem != path.stem.strip():
                raise LabelError(f"{path}: its name begins or ends with a blank; rename it")
            found[path.stem] = path
    return found


def require_labelled(clip: Clip) -> None:
    """Make sure that a clip's video is the one that was labelled, where its table knows.

    Raises:
        VideoError: it is another one.
    """
    if clip.info.video_sha256 and sha256(clip.video_path) != clip.info.video_sha256:
        raise video.VideoError(f"{clip.video_path}: is not the video that was labelled; import it again")


def require_same(path: Path, stated: ClipInfo, shown: Path, info: ClipInfo, fix: str) -> None:
    """Check that a Parquet file's labels are of this very video; by the size, where it does not say the hash.

    Raises:
        LabelError: they are of another one.
    """
    same_video, same_size = stated.video_sha256 == info.video_sha256, stated.size_hw == info.size_hw
    if not (same_video if stated.video_sha256 else same_size):
        had, has = (f"{i.width}x{i.height}, hash {i.video_sha256[:12] or '?'}" for i in (stated, info))
        raise LabelError(f"{path}: labels of another video ({had}) than {shown} ({has}): {fix}")


def video_beside(path: Path, name: str) -> Path | None:
    """The video of that name (without suffix, which may be of any case) beside a file; None without one."""
    usual = (path.with_name(name + suffix) for suffix in VIDEO_SUFFIXES)
    others = path.parent.glob(f"{escape(name)}.*")  # read only where none has the usual name
    named = (place for place in others if place.stem == name and place.suffix.lower() in VIDEO_SUFFIXES)
    return next((place for place in chain(usual, named) if place.is_file()), None)


def probe(path: str | Path) -> ClipInfo:
    """Size, fps, exact frame count and hash of a video.

    Frames are counted as packets, without decoding: the container's own number is missing or wrong too
    often, and reading the packets costs no more than the hash does.

    Raises:
        VideoError: the video cannot be read, or stops before its own claim.
    """
    info = video.probe(path)
    with av.open(as_url(path)) as container:
        pictures = Pictures(container, video.video_stream(container, path))
        count = sum(_is_shown(packet) for packet in pictures.packets())
    if pictures.stopped_early:
        of = f" of {info.frame_count}" if info.frame_count else ""
        raise video.VideoError(f"{path}: stops early, {count}{of} frames; copy or record it again")
    return ClipInfo(info.width, info.height, info.fps, count, sha256(path))


def stats(dataset: Sequence[Clip]) -> pd.DataFrame:
    """One row a clip: what a person wants to know before training on it.

    Returns:
        Indexed by clip: venue, split, width, height, fps, frames, labelled and flagged (rows),
        visible (share of the labelled), longest_hidden_frames (the longest run of frames, from the clip's
        first to its last, that are labelled not visible or not at all), and the speed percentiles
        speed_p50, speed_p95, speed_max (native px between consecutive frames;
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
    edges = sorted({-1, clip.frames, *seen.loc[seen["frame"] < clip.frames, "frame"]})
    p50, p95, top = pd.Series(clip.steps_px()).quantile([0.5, 0.95, 1.0])
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
        "longest_hidden_frames": np.diff(edges).max() - 1,
        "speed_p50": p50,
        "speed_p95": p95,
        "speed_max": top,
    }


def _is_shown(packet: "av.Packet") -> bool:
    """Whether a packet is a picture to show: within the edit list, and none that VP8 only refers to."""
    # show_frame, the fifth bit of a VP8 frame (RFC 6386, 9.1)
    hidden = packet.stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10
    return not packet.is_discard and not hidden


def _place(source: Path, target: Path, link: bool) -> None:
    """Link or copy a video, atomically; where links are not allowed (Windows) it is copied."""
    with atomic_write(target) as temp:
        if link:
            temp.unlink()
            with suppress(OSError):
                os.symlink(source.resolve(), temp)
                return
        shutil.copyfile(source, temp)


def _video_of(path: Path) -> Path:
    found = video_beside(path, path.stem)
    if found:
        return found
    raise LabelError(f"{path}: no video of that name beside it (or a broken link); import the clip again")
