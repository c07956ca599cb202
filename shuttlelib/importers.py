"""Label files of any supported format in, the canonical table out; stands right after `labels` in the flow.

Values are kept as they are: duplicates, odd orders and points outside the frame are for cleanup to
see. Only what cannot be read (text for a number, a visibility that is not 0 or 1) is an error, and it
names file, row (line of the file, from 1) and column. Pixel positions are taken as continuous image
coordinates; the half pixel between that and a pixel's number is below the noise of any label.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shuttlelib import label_studio
from shuttlelib.cells import Cell, number, whole_number, zero_or_one
from shuttlelib.geometry import SizeHW, norm_to_px
from shuttlelib.labels import LabelError, make_table, read_table, read_text


@dataclass(frozen=True)
class CsvFormat:
    """How a one-clip CSV names its columns, and what its positions mean."""

    frame: str
    visible: str
    x: str
    y: str
    unit: str  # "px" or "fraction" of width and height
    origin: str
    header: tuple[str, ...]  # the leading columns that give it away


# TrackNet and RacketVision share their columns and differ in the order only.
CSV_FORMATS = {
    "tracknet": CsvFormat(
        "Frame", "Visibility", "X", "Y", "px", "tracknet_csv", ("Frame", "Visibility", "X", "Y")
    ),
    "racketvision": CsvFormat(
        "Frame", "Visibility", "X", "Y", "px", "racketvision_csv", ("Frame", "X", "Y", "Visibility")
    ),
    "normalized": CsvFormat(
        "Frame", "Ball", "x", "y", "fraction", "normalized_csv", ("Frame", "Ball", "x", "y")
    ),
    "tracker": CsvFormat(
        "frame", "visible", "x_px", "y_px", "px", "prelabel", ("frame", "time_s", "visible", "x_px", "y_px")
    ),
}
FORMATS = ("auto", *CSV_FORMATS, "label_studio", "parquet")


def read_labels(
    path: str | Path, size_hw: SizeHW | None = None, clip: str | None = None, fmt: str = "auto"
) -> pd.DataFrame:
    """Read a label file of any supported format into the canonical table.

    Args:
        path: CSV, JSON or Parquet; CSV formats are told apart by their header.
        size_hw: native (height, width) of the video; needed by formats that hold fractions.
        clip: names the clip of a one-clip file (its stem otherwise, less a trailing "_ball"); picks
            a clip out of a Label Studio export (all of them otherwise).
        fmt: one of `FORMATS`, to insist on one.

    Returns:
        Rows in the file's order, duplicates included. Several annotators of one frame give a row
        each, flagged `annotator=<who>`, so that cleanup can compare them.

    Raises:
        LabelError: the file is missing, of no known format, or holds a value that cannot be read.
    """
    path = Path(path)
    if fmt not in FORMATS:
        raise LabelError(f"format {fmt!r} is unknown; choose one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise LabelError(f"{path}: no such label file; check the path")
    if path.suffix.lower() == ".parquet" or fmt == "parquet":
        table, _ = read_table(path)
        return table.assign(clip=clip) if clip else table
    text = read_text(path)
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{"):
        return _of_clip(label_studio.from_json(text, path), clip, path)
    header, rows = _read_csv(path, text)
    found = detect(header, path) if fmt == "auto" else fmt
    if found == "label_studio":
        return _of_clip(label_studio.from_csv(header, rows, path), clip, path)
    name = clip or path.stem.removesuffix("_ball")
    return _one_clip_table(CSV_FORMATS[found], header, rows, path, size_hw, name)


def is_label_studio(path: Path) -> bool:
    """Whether a file looks like a Label Studio export (which may hold many clips)."""
    head = path.read_bytes()[:2000].lstrip(b"\xef\xbb\xbf \t\r\n")  # a byte order mark and blanks
    if path.suffix.lower() == ".json":
        return head[:1] == b"["
    return b"annotation_id" in head.split(b"\n")[0]


def detect(header: list[str], source: str | Path) -> str:
    """The name of the CSV format with this header.

    Raises:
        LabelError: no format has it; the message names the column that is missing from the nearest one.
    """
    if "annotation_id" in header or "annotator" in header:
        return "label_studio"
    for name, form in CSV_FORMATS.items():
        if tuple(header[: len(form.header)]) == form.header:
            return name
    for name, form in CSV_FORMATS.items():
        if set(form.header) <= set(header):
            return name
    nearest = max(CSV_FORMATS.values(), key=lambda form: len(set(form.header) & set(header)))
    missing = next(name for name in nearest.header if name not in header)
    known = "; ".join(",".join(form.header) for form in CSV_FORMATS.values())
    raise LabelError(
        f"{source}: row 1, column {missing!r} is missing (found {','.join(header) or 'nothing'}): "
        f"write a header of one of: {known}; or a Label Studio export"
    )


def _of_clip(table: pd.DataFrame, clip: str | None, source: Path) -> pd.DataFrame:
    """The rows of one clip of an export, or all."""
    if clip is None:
        return table
    chosen = table[table["clip"] == clip].reset_index(drop=True)
    if chosen.empty:
        found = ", ".join(sorted(table["clip"].unique())[:10]) or "nothing"
        raise LabelError(f"{source}: no labels of clip {clip!r}; the file holds {found}")
    return chosen


def _one_clip_table(
    form: CsvFormat,
    header: list[str],
    rows: list[tuple[int, list[str]]],
    path: Path,
    size_hw: SizeHW | None,
    clip: str,
) -> pd.DataFrame:
    """Rows of a one-clip CSV as a canonical table."""
    for name in (form.frame, form.visible, form.x, form.y):
        if name not in header:
            raise LabelError(f"{path}: row 1, column {name!r} is missing: write {','.join(form.header)}")

    def column(name: str, parse: Callable[[Cell], Any]) -> list:
        at = header.index(name)
        return [parse(Cell(values[at].strip(), str(path), line, name)) for line, values in rows]

    frame, visible = column(form.frame, whole_number), column(form.visible, zero_or_one)
    xy = np.array([column(form.x, number), column(form.y, number)], dtype=np.float64).T.reshape(-1, 2)
    xy[(xy == -1).all(axis=1)] = np.nan  # both kinds of file write -1,-1 for "no point"
    if form.unit == "fraction":
        if size_hw is None:
            raise LabelError(
                f"{path}: columns x and y are fractions of the frame: give size_hw (height, width)"
            )
        xy = norm_to_px(xy, size_hw)
    return make_table(clip, frame, visible, xy[:, 0], xy[:, 1], form.origin)


def _read_csv(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and the rows, each with its line in the file; blank lines are skipped."""
    reader = csv.reader(text.splitlines(keepends=True))
    try:
        lines = [(reader.line_num, values) for values in reader if any(value.strip() for value in values)]
    except csv.Error as error:
        raise LabelError(
            f"{path}: row {reader.line_num} is not CSV ({error}); export the file again"
        ) from error
    if not lines:
        raise LabelError(f"{path}: the file is empty; write a header and one row a frame")
    header = [name.strip() for name in lines[0][1]]
    for line, values in lines[1:]:
        if len(values) != len(header):
            at = min(len(values), len(header) - 1)
            raise LabelError(
                f"{path}: row {line} has {len(values)} values where the header has {len(header)}, "
                f"from column {header[at]!r} on: write one value a column"
            )
    return header, lines[1:]
