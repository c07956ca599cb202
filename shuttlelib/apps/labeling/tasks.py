"""Tasks as Label Studio imports them: a frame, those before it, the model's answer as a pre-annotation."""

import math
from collections.abc import Sequence
from typing import Any

from shuttlelib import __version__
from shuttlelib.apps.labeling.page import CHOICES, PAST
from shuttlelib.apps.labeling.work import WorkClip
from shuttlelib.geometry import SizeHW
from shuttlelib.studio_tasks import results

CURRENT_LABEL = "current label"  # the "model" of a suspect's label, shown beside the model's answer


def task(
    clip: WorkClip,
    frame: int,
    why: str,
    urls: Sequence[str],
    answers: list[dict[str, Any]],
) -> dict[str, Any]:
    """One task.

    Args:
        clip, frame, why: what is shown, and why it was chosen.
        urls: addresses of pictures: the frame, then the looks before it, nearest first.
        answers: of `prediction`.
    """
    data = {
        "clip": clip.name,
        "frame": frame,
        "why": why,
        "image": urls[0],
        **{f"past_{n}": urls[n] for n in range(1, PAST + 1)},
        "image_width": clip.width,
        "image_height": clip.height,
        "video_sha256": clip.sha256,
        "made_by": f"shuttlelib {__version__}",
    }
    return {"data": data, "predictions": answers}


def prediction(
    visible: bool, x_px: float, y_px: float, confidence: float, size_hw: SizeHW, model: str
) -> dict[str, Any]:
    """A model's answer as a pre-annotation; nothing is drawn for "not visible".

    A model cannot say why it sees nothing, so that choice is left to the person.

    Args:
        x_px, y_px: native px.
        confidence: of the answer, in [0, 1]; nan where unknown.
        size_hw: of the picture.
        model: its version.
    """
    result = results(CHOICES[0], (x_px, y_px), size_hw) if visible and math.isfinite(x_px + y_px) else []
    score = confidence if math.isfinite(confidence) else 0.0
    return {"model_version": model, "score": round(score, 4), "result": result}
