"""What is kept beside a model so that its report can be made again without data and runs: `report.json`.

    {"training": {…}, "evaluation": {…}, "speed": {…}}

`training` is what `trainings.read` finds of the run that made these very weights; `evaluation` what
`measure.evaluate` found of the pair, in the stage-2 version's folder, with its pictures in `gallery/`.
All name the weights that they speak of, and are left out once those have changed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write, read_json, sha256

FILE, GALLERY = "report.json", "gallery"


class ReportError(ShuttleError):
    """Something that the report is made of cannot be read."""


def weights(folder: Path) -> str:
    """What tells a model's weights from others: the start of their SHA-256, "" where there are none."""
    path = folder / "model.safetensors"
    return sha256(path)[:16] if path.is_file() else ""


def keep(folder: Path, blocks: Mapping[str, Any], pictures: Mapping[str, bytes] | None = None) -> None:
    """Write blocks of a model's `report.json`, the others stay; and, where given, its pictures anew."""
    held = {**read_json(folder / FILE), **blocks}
    for name, picture in (pictures or {}).items():
        with atomic_write(folder / GALLERY / name) as temp:
            temp.write_bytes(picture)
    write_json(folder / FILE, held)
    if pictures is not None:  # those of before only now, when nothing names them any more
        for path in (folder / GALLERY).glob("*"):
            if path.name not in pictures:
                path.unlink()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON that is small, a line an entry down to the third level, so that a change shows as such."""
    with atomic_write(path) as temp:
        temp.write_text(_compact(dict(sorted(values.items()))) + "\n", encoding="utf-8")


def _compact(value: Any, depth: int = 0) -> str:
    if isinstance(value, dict) and value and depth < 3:
        inside = (f"{json.dumps(key)}: {_compact(item, depth + 1)}" for key, item in value.items())
        return "{\n" + ",\n".join(inside) + "\n}"
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
