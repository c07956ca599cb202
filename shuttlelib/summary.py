"""Metrics as a table for the terminal; beside `metrics`, which says what the numbers mean."""

from collections.abc import Mapping
from typing import Any

from shuttlelib.metrics import RATIOS


def format_summary(result: Mapping[str, Any]) -> str:
    """A table for the terminal: in all, then one line a venue and one a clip."""
    measures = "".join(f"{name:>15}" for name in RATIOS)
    lines = [
        f"{result['clips']} clip{'s'[: result['clips'] != 1]}, {result['frames']} labelled frames, "
        f"{result['missing_predictions']} of them without a prediction",
        f"{'':<14}{measures}",
    ]
    for kind in ("grid512_4px", "native_4px"):
        lines.append(f"{kind:<14}" + "".join(f"{_text(result[name][kind]):>15}" for name in RATIOS))
    for name in ("accuracy", "f1"):
        limits = result["interval95"][name]["grid512_4px"]
        if limits is not None:
            lines.append(f"95% interval of {name} over clips: {_text(limits[0])} to {_text(limits[1])}")
    for scale, error in result["error_px"].items():
        values = ", ".join(f"{name} {_text(value, 2)}" for name, value in error.items())
        lines.append(f"error at {scale}, px: {values}")
    hit = result["hit_error_px"]
    lines.append(
        f"error of hits, px: {_text(hit['1920x1080'], 2)} at 1920x1080, {_text(hit['grid512'], 2)} at 512x288"
    )
    noise = list(result["label_noise_px"].values())
    lines.append(
        f"noise of the labels themselves, px at 1920x1080: {_text(noise[0], 2)} "
        f"({_text(noise[1], 2)} with repeated pictures counted), a floor under any error"
    )
    fp2, blinks = result["counts"]["grid512_4px"]["fp2"], result["blinks"]
    lines.append(
        f"predicted without a shuttle: {_text(result['fp2_share'])} of such frames "
        f"({blinks['fp2']} of {fp2} where labels blink, see docs/metrics.md)"
    )
    error = result["calibration"]["expected_calibration_error"]
    lines.append(f"calibration error of confidence: {_text(error)}")
    groups = {"venue": result["per_venue"], "clip": result["per_clip"]}
    if len(result["per_fps"]) > 1:  # else it says nothing new
        groups = {"frame rate": result["per_fps"], **groups}
    for title, group in groups.items():
        lines += _group_lines(title, group)
    return "\n".join(lines)


def _group_lines(title: str, group: Mapping[str, Any]) -> list[str]:
    """One line a venue or clip, at grid512_4px, with the native pixel error."""
    if not group:
        return []
    width = max(len(title), *map(len, group)) + 2
    head = ("frames", "accuracy", "precision", "recall", "recall_strict", "f1", "median_px", "p95_px")
    lines = ["", f"{title:<{width}}" + "".join(f"{name:>{max(10, len(name) + 2)}}" for name in head)]
    for name, part in group.items():
        values = [str(part["frames"])] + [_text(part[measure]["grid512_4px"]) for measure in head[1:6]]
        values += [_text(part["error_px"]["native"][kind], 2) for kind in ("median", "p95")]
        cells = zip(values, head)
        lines.append(f"{name:<{width}}" + "".join(f"{v:>{max(10, len(h) + 2)}}" for v, h in cells))
    return lines


def _text(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
