"""Model cards: what a shipped version is, was trained on, reaches and cannot do; after recipes' metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shuttlelib import runtime
from shuttlelib.files import atomic_write, write_json
from shuttlelib.spec import Spec

LIMITS = """## Limits

- Weakest on footage unlike what it was trained on: another view, hall, light or lens.
- The labels' own noise{noise}; an error near that is a floor, not a merit.
- A shuttle in a hand, under a racket or behind a player is where visibility is wrong most often.
- Not trained for anything but badminton; says nothing about who hit the shuttle or whether it was in.
"""


def write_card(
    model_dir: Path,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
    also: Mapping[str, Any] | None = None,
    judged_on: Mapping[str, Any] | None = None,
) -> Path:
    """Write README.md and metrics.json of a shipped version.

    Args:
        metrics: of `recipes.evaluate_pair` with the pair this version ships in, by tracking mode.
        training: what the card says of data and schedule, as label: text.
        also: the same of further clips in smart mode, by name.
        judged_on: data_hash and clips of `metrics`, by which a later pair is compared.
    """
    spec = Spec.from_dict(runtime.read_card(model_dir))
    facts = {"training": dict(training), "judged_on": dict(judged_on or {})}
    results = {"free_running": dict(metrics), "also": dict(also or {})}
    write_json(model_dir / "metrics.json", {**facts, **results})
    rows = [_row(f"{mode}, in all", result) for mode, result in metrics.items()]
    smart = metrics["smart"]
    rows += [_row(f"smart, {venue}", part) for venue, part in smart["per_venue"].items()]
    rows += [_row(f"smart, {name}", part) for name, part in (also or {}).items()]
    kind = "region in the whole frame" if spec.stage == 1 else "head in a crop"
    h, w = spec.input_hw
    text = f"""# {spec.name}

Stage {spec.stage}, {kind}: {spec.backbone}, {spec.fusion} fusion of {_frames(spec)},
{spec.neck.upper()} over strides {", ".join(map(str, spec.taps))}, input {w}x{h}, heatmap stride
{spec.heatmap_stride}, {spec.decode.replace("_", "-")} decoding. The lineage says of this row: {spec.notes}.

## Training

{chr(10).join(f"- {name}: {text}" for name, text in training.items())}

## Free-running on the val split

Whole tracker with the default pair, its history its own predictions, venues never trained on; TP within
4 px on the 512x288 grid (10 px at 1280x720). Weights and the confidence curves were chosen on this split,
the thresholds on that of the shipped pair, so a new venue will do somewhat worse.{_elsewhere(also or {})}

| | frames | accuracy | F1 | false alarms | median error, px at 1920x1080 | mean of hits | calibration error |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

False alarms are the share of frames without a shuttle in which one was reported.

{LIMITS.replace("{noise}", _noise(smart))}"""
    with atomic_write(model_dir / "README.md") as temp:
        temp.write_text(text, encoding="utf-8")
    return model_dir / "README.md"


def _frames(spec: Spec) -> str:
    return f"{spec.frames} frames" + (f", {spec.ahead} of them after the current one" if spec.ahead else "")


def _noise(smart: Mapping[str, Any]) -> str:
    """What the evaluator says of the labels, where it says it."""
    measured = smart.get("label_noise_px", {}).get("1920x1080")
    return " was not measured" if measured is None else f" is {measured:.1f} px at 1920x1080"


def _elsewhere(also: Mapping[str, Any]) -> str:
    if not also:
        return ""
    return f"\n\nOther clips, never trained on, beside them: {'; '.join(also)}."


def _row(name: str, part: Mapping[str, Any]) -> str:
    values = (
        part["accuracy"]["grid512_4px"],
        part["f1"]["grid512_4px"],
        part["fp2_share"],
        part["error_px"]["1920x1080"]["median"],
        part["hit_error_px"]["1920x1080"],
        part["calibration"]["expected_calibration_error"],
    )
    digits = (3, 3, 3, 2, 2, 3)
    cells = ("-" if v is None else f"{v:.{n}f}" for v, n in zip(values, digits, strict=True))
    return f"| {name} | {part['frames']} | " + " | ".join(cells) + " |"
