"""The canonical label table and its Parquet file: the first station of the flow, read by all others.

One row says what is known of one frame: `clip, frame, visible, x_px, y_px, origin, flags`. A frame without
a row is unlabelled, which is not the same as invisible. `origin` is where the label came from
(label_studio, tracknet_csv, racketvision_csv, normalized_csv, synthetic, onto, prelabel). `flags` holds
';'-joined names of what importers and cleanup noticed; rows with an `UNUSABLE` flag stay in the file but
out of training. `read_text` is for labels and splits that are still text.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write

COLUMNS = ("clip", "frame", "visible", "x_px", "y_px", "origin", "flags")
# Neither visibility nor place can be trusted: such a frame counts as unlabelled.
UNUSABLE = frozenset(
    {"zero_point", "no_coordinates", "out_of_frame", "duplicate_conflict", "annotators_disagree"}
)
_METADATA_KEY = b"shuttlelib.clip_info"


class LabelError(ShuttleError):
    """A label file or table is wrong."""


@dataclass(frozen=True)
class ClipInfo:
    """What the labels of a clip need to know of its video.

    Attributes:
        width, height: native px.
        fps: frames per second, fractional (29.97).
        frame_count: frames that the video holds; 0 when unknown.
        video_sha256: hash of the video file, "" when unknown.
    """

    width: int
    height: int
    fps: float
    frame_count: int
    video_sha256: str = ""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width), native px."""
        return self.height, self.width

    @property
    def even_hw(self) -> tuple[int, int]:
        """(height, width) as frames are decoded: an odd side loses its last row or column."""
        return self.height // 2 * 2, self.width // 2 * 2


def make_table(
    clip: object,
    frame: object,
    visible: object,
    x_px: object,
    y_px: object,
    origin: str,
    flags: object = "",
) -> pd.DataFrame:
    """A canonical table from columns (N,) or single values; invisible rows lose their coordinates."""
    seen = np.asarray(visible, dtype=bool)
    columns = {
        "clip": clip,
        "frame": np.asarray(frame, dtype=np.int64),
        "visible": seen,
        "x_px": np.where(seen, np.asarray(x_px, dtype=np.float64), np.nan),
        "y_px": np.where(seen, np.asarray(y_px, dtype=np.float64), np.nan),
        "origin": origin,
        "flags": flags,
    }
    return as_canonical(pd.DataFrame(columns))


def as_canonical(table: pd.DataFrame) -> pd.DataFrame:
    """The columns in order with their exact dtypes (text columns as plain Python strings)."""
    text = dict.fromkeys(("clip", "origin", "flags"), object)
    numbers = {"frame": np.int64, "visible": bool, "x_px": np.float64, "y_px": np.float64}
    return table[list(COLUMNS)].astype({**text, **numbers}).reset_index(drop=True)


def validate(table: pd.DataFrame, source: str | Path) -> pd.DataFrame:
    """Check the structure of a canonical table and return it with exact dtypes.

    What a person may have got wrong (a duplicate, a point outside the frame) is left to cleanup.

    Raises:
        LabelError: a missing column, a value of the wrong kind, a negative or missing frame
            number, or an invisible row with coordinates. Rows are counted from 1.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise LabelError(
            f"{source}: column {missing[0]!r} is missing; a label table has {', '.join(COLUMNS)}"
        )
    for name in ("clip", "origin", "flags"):
        bad = ~table[name].map(lambda value: isinstance(value, str)).to_numpy(dtype=bool)
        _reject(table, bad, name, source, "write text (an empty text where there is nothing to say)")
    for name in ("frame", "x_px", "y_px"):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise LabelError(f"{source}: column {name!r} holds {table[name].dtype}; write numbers")
    frame = table["frame"].to_numpy(dtype=np.float64)
    whole = (frame >= 0) & (frame == np.floor(frame))
    _reject(table, ~whole, "frame", source, "write a whole number from 0")
    flag = table["visible"]
    bad = ~flag.isin([0, 1]).to_numpy(dtype=bool)
    _reject(table, bad, "visible", source, "write true or false")
    for name in ("x_px", "y_px"):
        value = table[name].to_numpy(dtype=np.float64)
        _reject(table, np.isinf(value), name, source, "write a finite number of px, or nan")
        bad = np.isfinite(value) & ~flag.to_numpy(dtype=bool)
        _reject(table, bad, name, source, "an invisible row has nan coordinates")
    return as_canonical(table)


def require_clean(table: pd.DataFrame, source: str | Path, frame_count: int) -> None:
    """Check that training may use a validated table: one row a frame, in order, every visible one placed.

    Args:
        table: see `validate`.
        source: named in errors.
        frame_count: of the video; 0 when unknown.

    Raises:
        LabelError: names the row; the fix is `shuttle data clean`.
    """
    fix = "run `shuttle data clean`"
    frame = table["frame"].to_numpy()
    _reject(table, np.r_[False, np.diff(frame) <= 0], "frame", source, f"repeated or out of order; {fix}")
    if frame_count:
        _reject(table, frame >= frame_count, "frame", source, f"the video has {frame_count} frames; {fix}")
    bare = table["visible"].to_numpy() & ~np.isfinite(table[["x_px", "y_px"]].to_numpy()).all(axis=1)
    _reject(table, bare, "x_px", source, f"a visible row needs coordinates; {fix}")


def has_flag(table: pd.DataFrame, *names: str) -> np.ndarray:
    """(N,) bool: rows that carry any of the flags."""
    wanted = set(names)
    return np.array([not wanted.isdisjoint(flags.split(";")) for flags in table["flags"]], dtype=bool)


def add_flag(table: pd.DataFrame, rows: pd.Index, name: str) -> None:
    """Add a flag to the rows of an index, in place; a flag already there stays once."""
    without = rows[~has_flag(table.loc[rows], name)]
    table.loc[without, "flags"] = (table.loc[without, "flags"] + f";{name}").str.removeprefix(";")


def usable(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that training may believe: those without an `UNUSABLE` flag."""
    return table[~has_flag(table, *UNUSABLE)].reset_index(drop=True)


def write_table(path: str | Path, table: pd.DataFrame, info: ClipInfo) -> None:
    """Write a canonical table as Parquet with the clip's facts in the schema metadata, atomically.

    Raises:
        LabelError: the table is not canonical.
        WriteError: the file cannot be written.
    """
    arrow = pa.Table.from_pandas(validate(table, path), preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), _METADATA_KEY: json.dumps(asdict(info)).encode()}
    with atomic_write(path) as temp:
        pq.write_table(arrow.replace_schema_metadata(metadata), temp)


def read_table(path: str | Path) -> tuple[pd.DataFrame, ClipInfo]:
    """Read what `write_table` wrote.

    Raises:
        LabelError: the file is missing, not Parquet, without metadata, or not canonical.
    """
    try:
        arrow = pq.read_table(path)
    except FileNotFoundError as error:
        raise LabelError(f"{path}: no such label file; run `shuttle data import` first") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise LabelError(f"{path}: not a readable Parquet file; import the labels again") from error
    table = validate(arrow.to_pandas(), path)
    raw = (arrow.schema.metadata or {}).get(_METADATA_KEY)
    if raw is None:
        raise LabelError(f"{path}: no clip information in the metadata; write it with `shuttle data import`")
    try:
        return table, ClipInfo(**json.loads(raw))
    except (TypeError, ValueError) as error:
        raise LabelError(f"{path}: damaged clip information; import the labels again") from error


def wrong_separator(header: str) -> str:
    """What is wrong with a header that was written with semicolons or tabs; "" where nothing is."""
    found = [name for mark, name in ((";", "';'"), ("\t", "tabs")) if mark in header and "," not in header]
    return f"separated by {found[0]}, not by ','; save it with commas" if found else ""


def read_text(path: Path) -> str:
    """The text of a label or splits file, less a byte order mark.

    Raises:
        LabelError: it is not UTF-8, or its values are not separated by commas.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(
            f"{path}: not a text file in UTF-8 (byte {error.start}); save it as UTF-8, in Excel as CSV UTF-8"
        ) from error
    if wrong := wrong_separator(text.partition("\n")[0]):
        raise LabelError(f"{path}: {wrong}")
    return text


def _reject(table: pd.DataFrame, bad: np.ndarray, column: str, source: str | Path, fix: str) -> None:
    """Raise for the first bad row, naming row, column, value and fix."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        value = table[column].tolist()[row]  # a plain Python value, which prints as a person writes it
        raise LabelError(f"{source}: row {row + 1}, column {column!r} is {value!r}: {fix}")
