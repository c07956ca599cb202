"""Label Studio exports of point labels in, the canonical table out; used by `importers`.

JSON, JSON_MIN and CSV are read. A task is one extracted frame with one point label (`KeyPointLabels`)
and one choice of visibility. Its data fields `clip` and `frame` say which frame it is; without them the
image's name does (`00030/291.jpg`, `00030_frame_000291.png`), less the random part of an uploaded file.
Points are in percent of the picture; its size in px is the
task's data fields `image_width` and `image_height`, without them the point's `original_width` and
`original_height`, which change when frames are cut out again at another size. Cancelled (skipped) and
unlabelled tasks give no row.

Source: the formats as Label Studio 1.23 writes them, https://labelstud.io/guide/export
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd

from shuttlelib.cells import Cell, number, whole_number
from shuttlelib.labels import COLUMNS, LabelError, as_canonical, make_table

VISIBLE = ("visible", "yes", "true", "1")
INVISIBLE = (
    "invisible", "not visible", "hidden", "occluded", "out of frame", "not in play", "no", "false", "0",
)  # fmt: skip
# What Label Studio puts before an uploaded file's name.
_UPLOADED = re.compile(r"^.*/upload/\d+/[0-9a-f]{8}-")
_NO_POINT = "mark the shuttle by a point of the label shuttle (keypointlabels), not by another shape"
_FRAME_FILE = re.compile(r"(?P<clip>[^/\\=]+?)[/\\_-](?:frame[_-]?)?(?P<frame>\d+)\.\w+$")


@dataclass(frozen=True)
class Annotation:
    """What one annotator said of one task.

    Attributes:
        source, row: the file and the place in it.
        data: the task's own fields, `clip`, `frame` and `image` among them.
        points: dicts with x and y in percent, original_width and original_height.
        choice: the visibility chosen, "" when there is none.
        annotator: who, "" when unknown.
        number, updated_at: the server's number and time of the annotation, where the export has them.
    """

    source: str
    row: int
    data: dict[str, Any]
    points: list[dict[str, Any]]
    choice: str
    annotator: str
    number: int = 0
    updated_at: str = ""

    def cell(self, column: str, value: Any) -> Cell:
        """A value of this annotation with its place."""
        return Cell(value, self.source, self.row, column)


def from_json(text: str, source: str | Path) -> pd.DataFrame:
    """The canonical table of a JSON or JSON_MIN export, all clips.

    Raises:
        LabelError: not such an export, or a value that cannot be read; rows are tasks, from 1.
    """
    try:
        tasks = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        row = getattr(error, "lineno", 1)
        raise LabelError(f"{source}: row {row} is not JSON; export the file again") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise LabelError(
            f"{source}: not a Label Studio export (a list of tasks); export as JSON, JSON_MIN or CSV"
        )
    annotations: list[Annotation] = []
    for row, task in enumerate(tasks, start=1):
        if isinstance(task.get("annotations"), list):
            annotations.extend(of_task(task, str(source), row))
        elif "annotation_id" in task or "annotator" in task:
            annotations.extend(_flat(task, str(source), row))
        elif "image" not in task:  # JSON_MIN writes an unlabelled task as its data alone
            raise LabelError(
                f"{source}: row {row}, column 'annotations' is missing; export as JSON, JSON_MIN or CSV"
            )
    return _table(annotations)


def from_csv(header: list[str], rows: list[tuple[int, list[str]]], source: str | Path) -> pd.DataFrame:
    """The canonical table of a CSV export, all clips; rows come with their line in the file."""
    points = any('"original_width"' in value for _, values in rows for value in values)
    if not points and not {"kp", "visibility"} & set(header):
        raise LabelError(
            f"{source}: row 1, column 'kp' is missing; export a project with a point label named kp"
        )
    found = (_flat(dict(zip(header, values)), str(source), line) for line, values in rows)
    return _table([annotation for annotations in found for annotation in annotations])


def of_task(task: dict[str, Any], source: str, row: int) -> Iterator[Annotation]:
    """The annotations of one task of a full JSON export, cancelled ones left out.

    Raises:
        LabelError: a part of the task is not what an export has there; also while iterating.
    """
    data = _objects(Cell([task.get("data")], source, row, "data"))[0]
    for entry in _objects(Cell(task["annotations"], source, row, "annotations")):
        if entry.get("was_cancelled"):
            continue
        points, choice = [], ""
        results = _objects(Cell(entry.get("result"), source, row, "result"))
        for result in results:
            value = _objects(Cell([result.get("value")], source, row, "value"))[0]
            if "keypointlabels" in value:
                points.append({**result, **value})
            elif "choices" in value:
                choice = _choice(value)
        if results and not points and not choice:
            kinds = ", ".join(str(result.get("type")) for result in results)
            raise Cell(kinds, source, row, "result").fail(_NO_POINT)
        who = entry.get("completed_by", "")
        who = who.get("email") or who.get("id", "") if isinstance(who, dict) else who
        number = whole_number(Cell(entry.get("id", 0), source, row, "id"))
        changed = str(entry.get("updated_at") or "")
        yield Annotation(source, row, data, points, choice, str(who), number, changed)


def _flat(task: dict[str, Any], source: str, row: int) -> Iterator[Annotation]:
    """The annotation of one entry of JSON_MIN or CSV, where results stand beside the task's data."""
    if task.get("annotation_id", "?") in ("", None):
        return
    points, other = list[dict[str, Any]](), ""
    for key, value in task.items():
        if key == "kp" or "original_width" in str(value):
            shapes = _objects(Cell(value, source, row, key))
            points.extend(shape for shape in shapes if key == "kp" or "keypointlabels" in shape)
            other = key if shapes else other
    choice = _choice(task.get("visibility"))
    if other and not points and not choice:
        raise Cell(other, source, row, other).fail(_NO_POINT)
    yield Annotation(source, row, task, points, choice, str(task.get("annotator") or ""))


def _choice(value: Any) -> str:
    """A choice: its text, or `{"choices": [text]}`, or nothing."""
    chosen = value.get("choices") if isinstance(value, dict) else value
    chosen = (chosen or [""])[0] if isinstance(chosen, list) else chosen
    return str(chosen or "")


def _objects(cell: Cell) -> list[dict[str, Any]]:
    """A list of JSON objects, also as the text that CSV holds; empty where there is nothing."""
    value = cell.value or []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise cell.fail("write a JSON list of points, as Label Studio exports it") from None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise cell.fail("write a list of objects, as Label Studio exports it")
    return value


def _table(annotations: list[Annotation]) -> pd.DataFrame:
    """One row an annotation (one a point, where there are several), the annotator in the flags."""
    people = defaultdict(set)
    rows: list[tuple] = []
    for annotation in annotations:
        clip, frame = clip_and_frame(annotation)
        people[clip, frame].add(annotation.annotator)
        rows.extend((annotation, clip, frame, *seen) for seen in sightings(annotation))
    if not rows:
        return as_canonical(pd.DataFrame({name: [] for name in COLUMNS}))
    flags = []
    for annotation, clip, frame, visible, x, _ in rows:
        several = len(people[clip, frame]) > 1
        who = re.sub(r"[;=\s]", "_", annotation.annotator) or "unknown"
        notes = (several and f"annotator={who}", not visible and x == x and "invisible_with_point")
        flags.append(";".join(note for note in notes if note))
    _, clips, frames, visible, x, y = zip(*rows)
    return make_table(clips, frames, visible, x, y, "label_studio", flags)


def clip_and_frame(annotation: Annotation) -> tuple[str, int]:
    """Which frame a task shows: by its data fields, otherwise by its image's name.

    Raises:
        LabelError: neither says.
    """
    data = annotation.data
    if data.get("clip") not in ("", None) and data.get("frame") not in ("", None):
        return str(data["clip"]), whole_number(annotation.cell("frame", data["frame"]))
    match = _FRAME_FILE.search(_UPLOADED.sub("", unquote(str(data.get("image", "")))))
    if not match:
        raise annotation.cell("image", data.get("image", "")).fail(
            "give tasks the data fields clip and frame, or name images <clip>_<frame>.jpg"
        )
    return match["clip"], whole_number(annotation.cell("image", match["frame"]))


def sightings(annotation: Annotation) -> list[tuple[bool, float, float]]:
    """(visible, x_px, y_px) of each point; without a choice, a point means visible.

    Raises:
        LabelError: an unknown choice, or a point or a size that is no number.
    """
    choice = annotation.choice.strip().lower().replace("_", " ").replace("-", " ")
    if choice and choice not in VISIBLE + INVISIBLE:
        raise annotation.cell("visibility", annotation.choice).fail(
            f"choose one of {', '.join(VISIBLE)} or {', '.join(INVISIBLE)}"
        )
    visible = choice in VISIBLE if choice else bool(annotation.points)
    found = [
        (visible, _px(annotation, point, "x", "width"), _px(annotation, point, "y", "height"))
        for point in annotation.points
    ]
    return found or [(visible, float("nan"), float("nan"))]


def _px(annotation: Annotation, point: dict[str, Any], axis: str, extent: str) -> float:
    """Percent of the picture's extent to px."""
    column, said = f"original_{extent}", point.get(f"original_{extent}")
    if annotation.data.get(f"image_{extent}") not in ("", None):
        column, said = f"image_{extent}", annotation.data[f"image_{extent}"]
    size = number(annotation.cell(column, said))
    if not size > 0:
        raise annotation.cell(column, said).fail("write the image's size in px")
    return number(annotation.cell(axis, point.get(axis))) / 100 * size
