"""What every label replaced, who set it and when: a table a clip that only grows; used by `pull`.

`<data folder>/history/<clip>.parquet`, one row a change: an annotation that came in, or one that was removed.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from shuttlelib.apps.labeling.answers import Answer
from shuttlelib.labels import LabelError

ADDED, REPLACED, CONFIRMED, REMOVED = "added", "replaced", "confirmed", "removed"
RESTORED = "restored"  # told of, not kept: the history has the answer
COLUMNS: dict[str, Any] = {
    "clip": object,
    "frame": "int64",
    "action": object,
    "who": object,
    "at": object,
    "choice": object,
    "visible": bool,
    "x_px": "float64",
    "y_px": "float64",
    "replaced": object,  # the rows of the label table until then, as JSON
    "server": object,
    "project": "int64",
    "task": "int64",
    "annotation": "int64",
    "pulled_at": object,
}
FROM_ANSWER = ("frame", "who", "at", "choice", "visible", "x_px", "y_px", "task", "annotation")
_CONFIRMED_PX = 1e-6
_ROW = ["visible", "x_px", "y_px", "origin", "flags"]


def path_of(data: Path, clip: str) -> Path:
    """The history of a clip."""
    return data / "history" / f"{clip}.parquet"


def read(path: Path) -> pd.DataFrame:
    """A history, in the order of its changes; empty where there is none.

    Raises:
        LabelError: the file is damaged.
    """
    if not path.is_file():
        return empty()
    try:
        return pd.read_parquet(path)[list(COLUMNS)].astype(COLUMNS)
    except (ValueError, KeyError, OSError) as error:
        raise LabelError(
            f"{path}: not a readable history ({error}); restore it from a backup or move it away"
        ) from error


def empty() -> pd.DataFrame:
    """A history without a row."""
    return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in COLUMNS.items()})


def entries(
    answers: Sequence[Answer], old: pd.DataFrame, clip: str, server: str, project: int, removed: bool = False
) -> pd.DataFrame:
    """History rows of the answers for one frame.

    Args:
        answers: what came in; what was removed, with `removed`.
        old: rows of the label table for the frame until now.
        clip: its present name.
        server, project: where from.
    """
    replaced = rows_as_json(old)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return pd.DataFrame(
        [
            {
                **{name: getattr(answer, name) for name in FROM_ANSWER},
                "clip": clip,
                "action": REMOVED if removed else _action(answer, old),
                "replaced": replaced,
                "server": server,
                "project": project,
                "pulled_at": now,
            }
            for answer in answers
        ]
    )[list(COLUMNS)].astype(COLUMNS)


def rows_as_json(rows: pd.DataFrame) -> str:
    """Rows of the label table as the `replaced` column holds them."""
    return json.dumps(json.loads(rows[_ROW].to_json(orient="records", double_precision=15)))


def _action(answer: Answer, old: pd.DataFrame) -> str:
    if old.empty:
        return ADDED
    same = old[old["visible"] == answer.visible]
    if answer.visible:
        apart = (same["x_px"] - answer.x_px).abs() + (same["y_px"] - answer.y_px).abs()
        same = same[apart <= _CONFIRMED_PX]
    return REPLACED if same.empty else CONFIRMED
