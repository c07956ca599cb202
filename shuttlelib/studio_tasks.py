"""Tasks for Label Studio: the parts of its labelling page, and labels in doubt as a file to import there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from shuttlelib.files import write_json
from shuttlelib.geometry import SizeHW

IMAGE, POINT, LABEL, VISIBILITY = "img", "kp", "shuttle", "visibility"  # of the labelling page
_POINT_PERCENT = 0.4  # of the width: how large a point is drawn


def write_tasks(path: Path, rows: pd.DataFrame, sizes: Mapping[str, SizeHW], version: str) -> Path:
    """Write labels in doubt as tasks to import into Label Studio, the model's answer beside each.

    The project needs an Image `img` with the value `$image`, KeyPointLabels `kp` with `shuttle`, and Choices
    `visibility` with `visible` and `occluded`; images are served from this file's folder as the
    local files' root. A person corrects the annotation and exports the project as JSON.

    Args:
        rows: clip, frame, visible, label_x_px, label_y_px, x_px, y_px (native px) and confidence.
        sizes: (height, width) by clip.
        version: the model that answered.
    """
    tasks = []
    for row in rows.to_dict("records"):
        size_hw, clip, frame = sizes[row["clip"]], row["clip"], int(row["frame"])
        label = (row["label_x_px"], row["label_y_px"]) if row["visible"] else None
        answer = results("visible", (row["x_px"], row["y_px"]), size_hw)
        size = {"image_width": size_hw[1], "image_height": size_hw[0]}
        image = f"/data/local-files/?d={quote(f'{clip}_{frame:06d}.jpg')}"
        prediction = {"model_version": version, "score": float(row["confidence"]), "result": answer}
        tasks.append(
            {
                "data": {"image": image, "clip": clip, "frame": frame} | size,
                "predictions": [prediction],
                "annotations": [{"result": results("visible" if label else "occluded", label, size_hw)}],
            }
        )
    write_json(path, tasks)
    return path


def results(choice: str, xy_px: tuple[float, float] | None, size_hw: SizeHW) -> list[dict[str, Any]]:
    """A visibility and, where there is one, a point in native px, as Label Studio stores the two."""
    height, width = size_hw
    common = {"to_name": IMAGE, "original_width": width, "original_height": height, "image_rotation": 0}
    seen = {"type": "choices", "from_name": VISIBILITY, "value": {"choices": [choice]}}
    if xy_px is None:
        return [{**common, **seen}]
    place = {"x": xy_px[0] / width * 100, "y": xy_px[1] / height * 100, "width": _POINT_PERCENT}
    point = {"type": "keypointlabels", "from_name": POINT, "value": {**place, "keypointlabels": [LABEL]}}
    return [{**common, **point}, {**common, **seen}]
