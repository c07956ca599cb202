"""Values of label files, with their place, so that a bad one is named; used by their readers."""

import math
from dataclasses import dataclass
from typing import Any

from shuttlelib.labels import LabelError

LARGEST = 1e9  # no frame number and no coordinate is larger; what is, is a mistake


@dataclass(frozen=True)
class Cell:
    """A value of a file and where it stands.

    Attributes:
        value: text of a CSV, or any JSON value.
        source: the file.
        row: line of a CSV file or number of a task in JSON, from 1.
        column: header of the column, or key in JSON.
    """

    value: Any
    source: str
    row: int
    column: str

    def fail(self, fix: str) -> LabelError:
        """The error that names file, row, column, value and fix."""
        return LabelError(f"{self.source}: row {self.row}, column {self.column!r} is {self.value!r}: {fix}")


def number(cell: Cell) -> float:
    """A finite number; nan where the file says nothing.

    Raises:
        LabelError: text, or a number beyond `LARGEST`.
    """
    if cell.value is None or cell.value == "":
        return math.nan
    try:
        value = float(cell.value)
    except (TypeError, ValueError, OverflowError):
        raise cell.fail("write a number") from None
    if abs(value) > LARGEST:
        raise cell.fail(f"write a number of at most {LARGEST:.0f}")
    return value


def whole_number(cell: Cell) -> int:
    """A frame number: a whole number from 0.

    Raises:
        LabelError: anything else.
    """
    value = number(cell)
    if math.isnan(value) or value < 0 or value != int(value):
        raise cell.fail("write a whole number from 0")
    return int(value)


def zero_or_one(cell: Cell) -> bool:
    """A visibility: 0 or 1.

    Raises:
        LabelError: anything else.
    """
    value = number(cell)
    if value not in (0, 1):
        raise cell.fail("write 0 (not visible) or 1 (visible)")
    return value == 1
