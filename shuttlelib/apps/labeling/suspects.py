"""Lists of labels in doubt, as hard-example mining writes them: frames to look at again; used by `serve`."""

from pathlib import Path

import numpy as np
import pandas as pd

from shuttlelib.labels import LabelError

WHY_SUSPECT = "label in doubt"
_CONFIDENCE = ("confidence", "p_visible", "score")


def read_suspects(path: Path) -> pd.DataFrame:
    """A list of suspects: Parquet or CSV with clip and frame, and what the model says there.

    Returns:
        clip, frame, x_px, y_px (native px; nan where the model sees nothing or the file does not say) and
        confidence (nan where unknown), one row a frame, in the file's order.

    Raises:
        LabelError: the file is missing or unreadable, lacks a column, has a frame that is no whole number,
            or a place or confidence that is no number.
    """
    if not path.is_file():
        raise LabelError(f"{path}: no such list of suspects; write one with notebook 05 or give another file")
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"clip": str})
    except (ValueError, OSError) as error:
        raise LabelError(f"{path}: neither Parquet nor CSV ({error}); write the list again") from error
    for column in ("clip", "frame"):
        if column not in table:
            raise LabelError(
                f"{path}: column {column!r} is missing; a list of suspects has clip, frame, x_px, y_px"
            )
    frame = _numbers(table["frame"], "frame", path)
    bad = ~((frame >= 0) & (frame == np.floor(frame)))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        said = table["frame"].tolist()[row]
        raise LabelError(f"{path}: row {row + 1}, column 'frame' is {said!r}: write a whole number from 0")
    known = next((name for name in _CONFIDENCE if name in table), None)
    nothing = pd.Series(np.nan, table.index)
    given = {"x_px": table.get("x_px", nothing), "y_px": table.get("y_px", nothing)}
    given["confidence"] = table[known] if known else nothing
    values = {name: _numbers(column, str(column.name), path) for name, column in given.items()}
    result = pd.DataFrame({"clip": table["clip"].astype(str), "frame": frame.astype(int), **values})
    return result.drop_duplicates(["clip", "frame"]).reset_index(drop=True)


def _numbers(column: pd.Series, name: str, path: Path) -> np.ndarray:
    """A column (N,) as numbers, nan where it is empty."""
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & column.notna())
    if len(wrong):
        row = int(wrong[0])
        raise LabelError(f"{path}: row {row + 1}, column {name!r} is {column.iloc[row]!r}: write a number")
    return numbers.to_numpy(np.float64)
