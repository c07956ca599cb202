"""The pages that are about more than one version: index, comparisons, runs; beside `version_page`."""

from collections.abc import Iterable, Mapping
from typing import Any

from shuttlelib import charts_lineage, versions
from shuttlelib.report import figures, lineage, notebooks, published, scores, version_page
from shuttlelib.report.blocks import (
    NONE,
    Block,
    Bullets,
    Chooser,
    Link,
    Node,
    Page,
    Prose,
    Table,
    Text,
    Tree,
    number,
    sections,
)
from shuttlelib.report.collect import Found, Version
from shuttlelib.report.lineage import MEASURED
from shuttlelib.report.scores import AT, VAL
from shuttlelib.report.version_page import compared, said

FREE = {  # of the pair's smart mode: name, digits, whether lower is better
    "accuracy": ("pair: accuracy", 3, False),
    "f1": ("pair: F1", 3, False),
    "fp2_share": ("pair: false alarms", 3, True),
    "hit_error": ("pair: px error of hits, 1920x1080", 2, True),
    "ece": ("pair: calibration error", 3, True),
}
# Of whole frames for stage 1, of crops for stage 2
OF_SAMPLES = ("accuracy", "placed_share", "median_px", "fp2_share", "loss_ratio")
LOWER = {"median_px", "fp2_share", "latency_ms", "parameters", "loss_ratio", "seconds"}


def build(found: Found) -> list[Page]:
    """Every page of the site."""
    runs = [
        notebooks.run_page(run, f"runs/{run.name}/index", f"Run {run.name}: executed notebooks")
        for run in found.runs
    ]
    pairs, data = _pairs(found), _chooser(found)
    return [
        index(found),
        *(version_page.page(version, found) for version in found.versions.values()),
        compare(pairs, data),
        *(comparison(found, data, a, b) for a, b in pairs),
        published.page(found),
        *runs,
    ]


def index(found: Found) -> Page:
    """The family tree, the shipped pair, and where everything is."""
    wide = None if found.lineage else 4  # what nobody measured is no column
    head = ("version", "stage", "parent", "what it is", "accuracy on samples", "free-running", "one look, ms")
    rows = tuple(_line(version)[:wide] for version in found.versions.values())
    return Page(
        "index",
        "Model versions",
        "Find the badminton shuttle in video: every version, what it changed and what that bought.",
        sections(
            ("The shipped pair", _shipped(found)),
            ("Family tree", [Prose(_about_tree(found)), tree(found)]),
            ("All versions", [Table(head[:wide], rows, left=4, note=_ABOUT_ROWS if found.lineage else "")]),
            ("The lineage, measured", _lineage(found)),
            ("More", [Bullets(_more(found))]),
            ("How to read the numbers", [Bullets(_HOW)]),
        ),
    )


def _shipped(found: Found) -> list[Block | None]:
    last = found.versions[found.pair[1]]
    shown = scores.sets(last, found)
    about = Prose(
        (
            "Stage 1 (",
            Link(found.pair[0], f"versions/{found.pair[0]}"),
            ") finds the region in a small whole frame, stage 2 (",
            Link(found.pair[1], f"versions/{found.pair[1]}"),
            ") places the head in a sharp crop. Their pages hold everything that is measured of them.",
        )
    )
    if VAL not in shown:
        return [about]
    part = shown[VAL]
    where = Prose(
        f"Free-running on {part['frames']:,} frames of {part['clips']} val clips, venues never trained on; "
        "right within 4 px of the 512x288 grid (10 px at 1280x720). Weights and thresholds were chosen on "
        "these clips."
    )
    return [about, scores.headline(part), where]


def _about_tree(found: Found) -> str:
    if found.lineage:
        return (
            "Each version with its accuracy on val samples under one budget and what it bought: the change "
            "against its parent, ▲ better, ▼ worse. A row that had hardly learned by the end of the budget "
            "says nothing of its idea; the comparison names them."
        )
    return (
        "Each version with what it changed and taught. `shuttle train --lineage` compares all of them "
        "under one budget; its numbers then stand here."
    )


def tree(found: Found) -> Tree:
    """The lineage from its roots."""
    children: dict[str, list[str]] = {}
    for name, version in found.versions.items():
        parent = version.spec.parent if version.spec.parent in found.versions else ""
        children.setdefault(parent, []).append(name)

    def node(name: str) -> Node:
        version = found.versions[name]
        value, text, better = _bought(found, version)
        return Node(
            Link(name, f"versions/{name}"),
            version.spec.notes,
            value,
            text,
            better,
            tuple(node(child) for child in children.get(name, ())),
        )

    return Tree(tuple(node(name) for name in children.get("", ())))


def _bought(found: Found, version: Version) -> tuple[str, str, bool | None]:
    """A version's number, its change against the parent in words, and whether that is better."""
    shipped = "shipped" if version.spec.name in found.pair else ""
    own = version.measured.get("accuracy")
    if own is None:
        return "", "failed" if version.measured.get("error") else shipped, None
    parent = found.versions.get(version.spec.parent)
    change = charts_lineage.gain(version.measured, parent.measured if parent else {})
    if change is None:
        return number(own), shipped, None
    if not change:
        return number(own), f"same {shipped}".strip(), None
    return number(own), f"{'▲' if change > 0 else '▼'} {change:+.3f} {shipped}".strip(), change > 0


def _line(version: Version) -> tuple[Text, ...]:
    row, spec = version.measured, version.spec
    return (
        Link(spec.name, f"versions/{spec.name}"),
        str(spec.stage) if spec.network != "unet" else "baseline",
        Link(spec.parent, f"versions/{spec.parent}") if spec.parent else NONE,
        spec.notes,
        *(lineage.written(row, key) for key in ("accuracy", "free_accuracy", "latency_ms")),
    )


def _lineage(found: Found) -> list[Block | None]:
    if not found.lineage:
        return []
    rows, facts = found.lineage["rows"], found.lineage["facts"]
    claims = lineage.claims(found.lineage["claims"], ("claim", "told", "numbers", "verdict"))
    return [
        Prose(lineage.about(facts)),
        lineage.where_measured(rows),
        *figures.lineage(rows, facts["hardware"]),
        claims,
    ]


def _more(found: Found) -> tuple[Text, ...]:
    links: list[Text] = [
        (
            Link("Compare any two versions", "compare/index"),
            ": what they changed, and their numbers side by side.",
        ),
        (Link("Against published systems", "published"), ": with the exact conditions of every number."),
    ]
    for run in found.runs:
        links.append(
            (
                Link(f"Run {run.name}", f"runs/{run.name}/index"),
                f": {len(run.notebooks)} executed notebooks, with their parameters.",
            )
        )
    return tuple(links)


_ABOUT_ROWS = (
    "Accuracy at 4 px of the 512x288 grid. On samples stages are not compared with each other: stage 1 "
    "sees whole frames, stage 2 crops near the label. Free-running is the whole tracker with the version "
    "in its place, on the few clips that the comparison names: not the shipped pair's accuracy on all of val."
)
_HOW = (
    "A frame is right if the shuttle is visible and placed within the tolerance, or not visible and not "
    "reported.",
    "Accuracy is the share of frames that are right. F1 is that of the TrackNet papers.",
    "Free-running: the tracker's history is its own past predictions, never the labels.",
    "Intervals resample whole clips, since frames of one clip are near-copies of each other.",
    "Splits are by venue: no hall is in training and in validation.",
)


def _pairs(found: Found) -> list[tuple[str, str]]:
    """Versions that get a page together: every parent and child, and the shipped two."""
    pairs = [(v.spec.parent, name) for name, v in found.versions.items() if v.spec.parent in found.versions]
    return [*pairs, found.pair] if found.pair not in pairs else pairs


def compare(pairs: list[tuple[str, str]], data: Mapping[str, Any]) -> Page:
    """Any two, chosen in the browser; and the pages of those that are related; `data`: of `_chooser`."""
    links = tuple((Link(f"{a} and {b}", compared(a, b)),) for a, b in pairs)
    return Page(
        "compare/index",
        "Compare two versions",
        "What differs between any two, and their numbers side by side.",
        sections(("Any two", [Chooser(data)]), ("Parents and children", [Bullets(links)])),
    )


def comparison(found: Found, data: Mapping[str, Any], a: str, b: str) -> Page:
    """Two versions side by side; `data`: of `_chooser`."""
    left, right = data["values"][a], data["values"][b]
    same = {key: data["judged"][a].get(key) == data["judged"][b].get(key) for key in data["measures"]}
    rows = []
    for key, (name, digits, lower) in data["measures"].items():
        if left.get(key) is not None or right.get(key) is not None:
            rows.append(
                (
                    name,
                    number(left.get(key), digits),
                    number(right.get(key), digits),
                    _change(left.get(key), right.get(key), digits, lower, same[key]),
                )
            )
    changed = versions.spec_diff(*(found.versions[name].spec for name in (a, b)))
    fields = tuple((field.replace("_", " "), said(old), said(new)) for field, (old, new) in changed.items())
    measured = {name: found.versions[name].measured for name in (a, b)}
    plots: list[Block | None] = []
    if all(row.get("history") for row in measured.values()):
        plots = [figures.over_time(f"compare-{a}-{b}", measured, lineage.trained_on(found.lineage["facts"]))]
    return Page(
        compared(a, b),
        f"{a} and {b}",
        (found.versions[a].spec.notes, " / ", found.versions[b].spec.notes),
        sections(
            (
                "Numbers",
                [
                    Table(("measure", a, b, "change"), tuple(rows))
                    if rows
                    else Prose("Neither was measured here.")
                ],
            ),
            ("What differs", [Table(("field", a, b), fields, left=3)]),
            ("Learning", plots),
            ("Pages", [Bullets(tuple(Link(name, f"versions/{name}") for name in (a, b)))]),
        ),
    )


def _change(left: float | None, right: float | None, digits: int, lower: bool, same: bool) -> str:
    if left is None or right is None:
        return NONE
    if not same:
        return "not comparable"
    change = right - left
    if abs(change) < 0.5 * 10**-digits:
        return "same"
    return f"{change:+,.{digits}f} {'▲ better' if (change < 0) == lower else '▼ worse'}"


def _chooser(found: Found) -> dict[str, Any]:
    """What a comparison needs, for Python and the browser alike."""
    measures = {key: (name, digits, key in LOWER) for key, (name, digits) in MEASURED.items()}
    return {
        "measures": {**measures, **{f"pair_{key}": row for key, row in FREE.items()}},
        "values": {name: _values(version, found) for name, version in found.versions.items()},
        "judged": {name: _judged_on(version, measures) for name, version in found.versions.items()},
        "fields": {
            name: {
                key.replace("_", " "): said(value)
                for key, value in version.spec.as_dict().items()
                if key not in versions.LINEAGE_FIELDS
            }
            for name, version in found.versions.items()
        },
        "notes": {name: version.spec.notes for name, version in found.versions.items()},
        "first": [found.versions[found.pair[1]].spec.parent or found.pair[0], found.pair[1]],
    }


def _judged_on(version: Version, measures: Iterable[str]) -> dict[str, str]:
    """What each measure was taken of: samples of a stage, or the clips of a card."""
    spec = version.spec
    kind = charts_lineage.kind({"stage": spec.stage, "baseline": spec.name in versions.baselines()})
    clips = version.metrics.get("judged_on", {}).get("data_hash", "")
    samples = {key: str(kind) for key in measures if key in OF_SAMPLES}
    return {**samples, **{f"pair_{key}": clips for key in FREE}}


def _values(version: Version, found: Found) -> dict[str, float | None]:
    values = {key: version.measured.get(key) for key in MEASURED}
    part: Mapping[str, Any] = scores.sets(version, found).get(VAL, {})
    if part:
        free = {
            "accuracy": part["accuracy"][AT],
            "f1": part["f1"][AT],
            "fp2_share": part["fp2_share"],
            "hit_error": part["hit_error_px"]["1920x1080"],
            "ece": part["calibration"]["expected_calibration_error"],
        }
        values |= {f"pair_{key}": value for key, value in free.items()}
    return {key: value for key, value in values.items() if value is not None}
