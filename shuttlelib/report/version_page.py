"""The page of a version: card, curves, metrics, errors, pictures, speed, and how it was made."""

from collections.abc import Mapping
from typing import Any

from shuttlelib import networks, versions
from shuttlelib.report import figures, lineage, results, scores, store
from shuttlelib.report.blocks import (
    NONE,
    Block,
    Bullets,
    Headline,
    Link,
    Page,
    Prose,
    Table,
    Text,
    number,
    sections,
)
from shuttlelib.report.collect import Found, Version
from shuttlelib.report.scores import VAL

OWN = ("Card", "What it changed", "How it learned", "How it was made")  # sections that are not about the pair
ALWAYS_MADE = ("commit", "data hash", "seed", "command")  # asked of the run that made shipped weights


def page(version: Version, found: Found) -> Page:
    """All that is known of a version; what is not is left out, or said where a reader would look for it."""
    spec = version.spec
    name, shown = spec.name, scores.sets(version, found)
    lede: Text = f"{spec.notes[:1].upper()}{spec.notes[1:]}."
    parts = sections(
        ("At a glance", [_glance(version, found), *_partner(version, found)]),
        ("Card", [*_card(version), Bullets(version.limits) if version.limits else None]),
        ("What it changed", _changed(version, found)),
        ("How it learned", _learned(version)),
        ("Under the same budget as every other row", _measured(version, found)),
        ("Metrics", [scores.metrics_table(version, found)]),
        ("Error from 1 to 20 px", results.curves(version, found, shown)),
        ("By venue and by clip", results.groups(name, shown)),
        ("Calibration", results.calibrated(name, shown)),
        *results.looked_at(version, found),
        ("Speed by backend", results.speed(version, found)),
        ("How it was made", _made(version, found)),
    )
    return Page(f"versions/{name}", name, lede, parts)


def _glance(version: Version, found: Found) -> Headline | Prose | None:
    shown = scores.sets(version, found)
    if VAL in shown:
        return scores.headline(shown[VAL])
    if version.measured:
        return None
    return Prose(
        "Not measured here: `shuttle train --lineage` compares all rows, and its numbers then stand here."
    )


def _partner(version: Version, found: Found) -> list[Block]:
    if version.spec.name not in found.pair:
        return []
    other = found.pair[1 - found.pair.index(version.spec.name)]
    return [
        Prose(
            (
                "Measured as a pair with ",
                Link(other, f"versions/{other}"),
                ": the whole tracker, free-running (its history is its own predictions), on clips of venues "
                "that were never trained on; right within 4 px of the 512x288 grid.",
            )
        )
    ]


def _card(version: Version) -> list[Block | None]:
    spec = version.spec
    h, w = spec.input_hw
    kind = "region in the whole frame" if spec.stage == 1 else "head in a crop"
    ahead = f", {spec.ahead} of them ahead" if spec.ahead else ""
    rows = [
        ("stage", f"{spec.stage}, {kind}" if spec.network != "unet" else "one network over the whole frame"),
        ("network", f"{spec.network}, {spec.backbone}"),
        ("input", f"{w}x{h}, {spec.frames} frames{ahead}, {spec.fusion} fusion"),
        (
            "neck",
            f"{spec.neck}, strides {', '.join(map(str, spec.taps)) or NONE}, {spec.neck_channels} channels",
        ),
        (
            "head",
            f"{said(spec.decode)}, heatmap stride {spec.heatmap_stride}, visibility {said(spec.visibility)}",
        ),
        ("track given", f"trajectory {spec.trajectory}, prior {spec.prior}"),
        ("loss", spec.loss.replace("_", " ")),
        ("default schedule", f"{spec.steps:,} steps of {spec.batch} samples at a rate of {spec.lr:g}"),
    ]
    if version.folder is not None:
        size = sum(weight.numel() for weight in networks.build(spec).parameters())
        rows.append(("parameters", f"{size / 1e6:.2f} million"))
        onnx = version.folder / "model.onnx"
        rows += [("ONNX file", f"{onnx.stat().st_size / 1e6:.1f} MB")] if onnx.is_file() else []
    return [Table(("", ""), tuple(rows), left=2)]


def _changed(version: Version, found: Found) -> list[Block | None]:
    parent = version.spec.parent
    if parent not in found.versions:
        return []
    changed = versions.spec_diff(found.versions[parent].spec, version.spec)
    rows = tuple((field.replace("_", " "), said(old), said(new)) for field, (old, new) in changed.items())
    links = (
        "Beside its parent: ",
        Link(f"{parent} and {version.spec.name}", compared(parent, version.spec.name)),
        ".",
    )
    return [Table(("field", parent, version.spec.name), rows, left=3), Prose(links)]


def compared(a: str, b: str) -> str:
    """Slug of the page that compares two versions."""
    return f"compare/{a}-{b}"


def said(value: Any) -> str:
    """A field's value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "-".join(map(str, value)) or "none"
    if isinstance(value, float) and abs(value) >= 100:
        return number(value, 0)
    return str(value) or "none"


def _learned(version: Version) -> list[Block | None]:
    blocks: list[Block | None] = []
    own = made_by(version)
    for n, training in enumerate(version.trainings):
        figure = figures.learning(f"{version.spec.name}-learning-{n}", training["series"])
        which = f"Run {training['run']}{', which made these weights' if training is own else ''}."
        blocks += [Prose(which), figure] if figure else []
    return blocks


def made_by(version: Version) -> Mapping[str, Any] | None:
    """The training that made the shipped weights, where it was found."""
    own = store.weights(version.folder) if version.folder is not None else ""
    return next((t for t in version.trainings if own and t["weights"] == own), None)


def _measured(version: Version, found: Found) -> list[Block | None]:
    row = version.measured
    if not row:
        return []
    if "error" in row:
        return [Prose(f"It was {row['error']}")]
    rows = tuple(
        (name, lineage.written(row, key))
        for key, (name, _) in lineage.MEASURED.items()
        if row.get(key) is not None
    )
    about = (
        f"{lineage.about(found.lineage['facts'])} Samples are whole frames for stage 1 and for baselines, "
        "crops near the label for stage 2: compare within a stage."
    )
    return [Table(("measure", "value"), rows), Prose(about)]


def _made(version: Version, found: Found) -> list[Block | None]:
    spec, rows = version.spec, []
    training = made_by(version)
    if training is not None:
        made = training["made"]
        rows += [(name, said(made.get(name, "not recorded"))) for name in ALWAYS_MADE]
        rows += [(name, said(value)) for name, value in made.items() if name not in ALWAYS_MADE]
    rows += [(name, str(text)) for name, text in version.metrics.get("training", {}).items()]
    if spec.name in found.pair:
        for name, part in found.evaluation.get("sets", {}).items():
            rows.append(
                (f"measured closely: {name}", f"{part['summary']['clips']} clips, hash {part['data_hash']}")
            )
    if version.folder is None:
        rows.append(
            ("train it with", f"`shuttle train --version {spec.name} --data DIR --out runs/{spec.name}`")
        )
    return [Table(("", ""), tuple(rows), left=2)] if rows else []
