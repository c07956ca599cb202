"""The comparison of the lineage as files (CSV, JSON, Markdown, figures), and its tables for the site too."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from shuttlelib import charts_lineage as drawn
from shuttlelib import clips, recipes, runs, runtime
from shuttlelib.clips import Clip
from shuttlelib.files import atomic_write, read_json, write_json
from shuttlelib.lineage import comparison, training
from shuttlelib.lineage.claims import Row, judge_all
from shuttlelib.lineage.comparison import Looks
from shuttlelib.lineage.training import LEVELS, Budget
from shuttlelib.report import markdown
from shuttlelib.report.blocks import (
    NONE,
    Block,
    Bullets,
    Gallery,
    Page,
    Picture,
    Prose,
    Table,
    between,
    number,
    sections,
)

UNITS = """\
Accuracy is the share of samples that are right at 4 px of the 512x288 grid: placed within it and
said to be visible, or not visible and not said to be. Samples are whole frames for stage 1 and for
the baselines, crops centred near the label for stage 2, so stages are not compared with each other
there; px are of the 512x288 grid for both (1 px is 2.5 px at 1280x720). "Placed" leaves visibility
aside: of the samples with a shuttle, those whose best place is within 4 px. Weights are those at the
end of the budget, whatever they scored before. Rows without a
visibility head say "visible" always; their accuracy pays for it. Loss is each row's own, on
training samples (augmented, evenly from all) and on val samples; the ratio compares the two
within a row. Free-running accuracy is the whole tracker's: a stage-1 row with the pair's stage 2, a
stage-2 row with its stage 1, a baseline alone. Brackets are 95% bootstrap intervals over clips."""
MEASURED = {  # of a row: key, name, digits
    "accuracy": ("accuracy on samples", 3),
    "placed_share": ("placed within 4 px", 3),
    "median_px": ("median error, px of 512x288", 2),
    "fp2_share": ("false alarms", 3),
    "free_accuracy": ("free-running accuracy", 3),
    "free_f1": ("free-running F1", 3),
    "latency_ms": ("one look, ms", 1),
    "parameters": ("parameters", 0),
    "loss_ratio": ("val loss over training loss", 2),
    "seconds": ("seconds of training", 0),
}
_MORE = {  # not comparable across rows, or not robust
    "train_loss": ("loss, training", 4),
    "val_loss": ("loss, val", 4),
    "mean_px": ("mean error, px of 512x288", 2),
}
CLAIM = ("claim", "told", "measured", "numbers", "verdict")  # measured: how
_VERDICTS = {  # the contradictions first
    "does not hold here": "Our measurement contradicts the story here",
    "holds": "Our measurement agrees",
    "not decided": "Our measurement does not decide",
    "not measured": "Not measured",
}


def compare(
    names: Sequence[str],
    dataset: list[Clip],
    out: Path,
    cache_dir: Path,
    budget: Budget,
    seed: int = 0,
    stage1: Path | None = None,
    pretrained: bool = True,
    looks: Looks | None = None,
    overrides: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
    time_left: Callable[[], bool] = lambda: True,
    **config: Any,
) -> dict[str, Any]:
    """Train rows under one budget, measure them, judge the claims, write the comparison into `out`.

    What is written is whole after each row, so that a stop loses none of those before.

    Args:
        names, dataset, out, cache_dir, budget, seed, stage1, pretrained, overrides, time_left, config: see
            `training.train_rows`.
        looks: how closely rows are looked at.

    Returns:
        What `lineage.json` holds: facts, rows, claims.
    """
    looks = looks or Looks()
    written = read_json(out / "lineage.json").get("rows", {})
    entries, rows = dict[str, dict[str, Any]](), dict[str, Row]()
    report: dict[str, Any] = {}
    each = training.train_rows(
        names, dataset, out, cache_dir, budget, seed, stage1, pretrained, overrides, say, time_left, **config
    )
    for name, result in each:
        more = comparison.measure_rows({name: result}, dataset, out, cache_dir, looks, stage1, say)
        entries.update(more[0])
        rows.update(more[1])
        if name == names[-1] or entries[name] != written.get(name):
            facts = _facts(entries, dataset, budget, seed, looks)
            claims = [claim.as_dict() for claim in judge_all(rows)]
            report = {"facts": facts, "rows": dict(entries), "claims": claims}
            write(report, rows, out)
    return report


def _facts(
    entries: Mapping[str, Mapping[str, Any]], dataset: list[Clip], budget: Budget, seed: int, looks: Looks
) -> dict[str, Any]:
    return {
        "budget": str(budget),
        "seed": seed,
        "data_hash": clips.data_hash(dataset),
        "clips": {part: len(clips.split(dataset, part)) for part in ("train", "val")},
        "hardware": _all_of(entries, "measured_on") or recipes.hardware(),
        "trained_on": _all_of(entries, "hardware"),
        "free_running_with": [
            runtime.read_card(folder)["name"] for folder in looks.pair or runtime.default_pair()
        ]
        if looks.clips
        else [],
        "environment": runs.environment(),
    }


def write(report: Mapping[str, Any], rows: Mapping[str, Row], out: Path) -> None:
    """Write `lineage.csv`, `lineage.json`, `figures/` and, last, `lineage.md`."""
    flat = {name: _flat(row) for name, row in report["rows"].items()}
    with atomic_write(out / "lineage.csv") as temp:
        pd.DataFrame(flat).T.rename_axis("version").to_csv(temp)
    write_json(out / "lineage.json", report)
    for name, figure in figures(report, rows).items():
        with atomic_write(out / "figures" / f"{name}.png") as temp:
            figure.savefig(temp, dpi=110, format="png")
    with atomic_write(out / "lineage.md") as temp:
        temp.write_text(markdown.render(page(report)), encoding="utf-8")


def trained_on(facts: Mapping[str, Any]) -> str:
    """The hardware of the trainings, which may be another than that of the measurements."""
    return str(facts.get("trained_on") or facts["hardware"])


def figures(report: Mapping[str, Any], rows: Mapping[str, Row]) -> dict[str, Figure]:
    """The figures of a comparison by name; `rows` may be empty where only the JSON is at hand."""
    table, hardware = report["rows"], report["facts"]["hardware"]
    histories = {name: pd.DataFrame(row["history"]) for name, row in table.items() if "history" in row}
    made = {
        "family_tree": drawn.family_tree(table),
        "accuracy": drawn.bars(table, "accuracy", "share of samples", "accuracy on samples, 4 px of 512x288"),
        "median_error": drawn.bars(table, "median_px", "px of the 512x288 grid", "median error", lower=True),
        "free_running": drawn.bars(table, "free_accuracy", "share of frames", "free-running accuracy"),
        "accuracy_over_time": drawn.accuracy_over_time(histories, trained_on(report["facts"])),
        "accuracy_against_latency": drawn.accuracy_against_latency(table, hardware),
    }
    noisy = {name: row.noise for name, row in rows.items() if not row.noise.empty}
    if noisy:
        made["noise"] = drawn.loss_against_noise(noisy)
    return made


def page(report: Mapping[str, Any]) -> Page:
    """The comparison as a page, with the figures that `write` puts beside it."""
    facts, rows = report["facts"], report["rows"]
    good = {name: row for name, row in rows.items() if "error" not in row}
    pair = " and ".join(facts.get("free_running_with", []))
    time = (
        f"Seconds of training to each accuracy on val samples, on {trained_on(facts)}; empty where it was "
        "not reached, exact to the time between two validations."
    )
    return Page(
        "lineage",
        "The lineage, measured",
        about(facts),
        sections(
            ("Family tree", [_picture("family_tree", "What each row changed, and what that bought")]),
            ("The story, claim by claim", [_verdicts(report["claims"]), claims(report["claims"])]),
            (
                "Rows",
                [
                    Prose(UNITS),
                    Prose(f"The pair is {pair}.") if pair else None,
                    _measured(good),
                    *_failures(rows),
                    _starts(good),
                    where_measured(good),
                    _picture("accuracy", "Accuracy on samples"),
                    _picture("median_error", "Median error"),
                    _picture("free_running", "Free-running accuracy"),
                ],
            ),
            ("Time", [Prose(time), _times(good), _picture("accuracy_over_time", "Accuracy while training")]),
            (
                "Cost of a look",
                [_bullets(_fusion(good)), _picture("accuracy_against_latency", "Accuracy for its price")],
            ),
            ("What each row changed", [_bullets(_changes(rows))]),
        ),
    )


def about(facts: Mapping[str, Any]) -> str:
    """Under what the rows were compared."""
    return (
        f"{facts['budget']}, seed {facts['seed']}, {facts['clips']['train']} training and "
        f"{facts['clips']['val']} val clips (data hash {facts['data_hash']}), on {facts['hardware']}."
    )


def where_measured(rows: Mapping[str, Mapping[str, Any]]) -> Prose | None:
    """Which rows were looked at on which hardware, where there was more than one."""
    found: dict[str, list[str]] = {}
    for name, row in rows.items():
        if "measured_on" in row:
            found.setdefault(row["measured_on"], []).append(name)
    if len(found) < 2:
        return None
    each = "; ".join(f"{hardware}: {', '.join(names)}" for hardware, names in found.items())
    return Prose(f"Not all looks were timed on the same hardware, so compare them within one. {each}.")


def claims(judged: Sequence[Mapping[str, Any]], shown: tuple[str, ...] = CLAIM) -> Table:
    """The claims of the story, one a row; `shown`: of `CLAIM`."""
    return Table(shown, tuple(tuple(claim[key] for key in shown) for claim in judged), left=len(shown))


def written(row: Mapping[str, Any], key: str) -> str:
    """A measure of a row as readers see it, with its interval where it has one."""
    return between(row.get(key), row.get(f"{key}_interval"), {**MEASURED, **_MORE}[key][1])


def _all_of(rows: Mapping[str, Mapping[str, Any]], key: str) -> str:
    """The different values that rows have of a key."""
    return " and ".join(sorted({row[key] for row in rows.values() if key in row}))


def _measured(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """What was measured of the rows, but for the seconds, which `_times` has."""
    names = {key: name for key, (name, _) in {**_MORE, **MEASURED}.items() if key != "seconds"}
    body = tuple(
        (name, row["parent"] or NONE, row["start"].partition(" (")[0], *(written(row, key) for key in names))
        for name, row in rows.items()
    )
    return Table(("version", "parent", "from", *names.values()), body, left=3)


def _times(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    levels = [f"{level:g}" for level in LEVELS]
    body = []
    for name, row in rows.items():
        reached = (row["time_to_accuracy_s"][level] for level in levels)
        facts = (number(row[key], 0) for key in ("steps", "batch", "seconds", "samples_per_s"))
        body.append((name, *facts, *("" if seconds is None else number(seconds, 0) for seconds in reached)))
    return Table(("version", "steps", "batch", "seconds", "samples a second", *levels), tuple(body))


def _verdicts(judged: Sequence[Mapping[str, Any]]) -> Bullets | None:
    """The verdicts in words."""
    lines = []
    for verdict, words in _VERDICTS.items():
        found = [f"{claim['claim']} ({claim['numbers']})" for claim in judged if claim["verdict"] == verdict]
        lines += [f"{words}: {'; '.join(found)}."] if found else []
    return _bullets(lines)


def _failures(rows: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    failed = [f"{name}: {row['error']}" for name, row in rows.items() if "error" in row]
    failed += [
        f"{name} did not track: {row['free_error']}" for name, row in rows.items() if "free_error" in row
    ]
    return [Prose("Failed:"), Bullets(tuple(failed))] if failed else []


def _starts(rows: Mapping[str, Mapping[str, Any]]) -> Prose | None:
    wanted = [name for name, row in rows.items() if row["start"].startswith("scratch (")]
    if not wanted:
        return None
    why = rows[wanted[0]]["start"].removeprefix("scratch (").removesuffix(")")
    return Prose(f"From scratch, though the row starts from ImageNet weights: {', '.join(wanted)} ({why}).")


def _fusion(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{name}, everything else as it is: {price['late']:.1f} ms with a pass a frame, "
        f"{price['early']:.1f} ms with one early-fused pass."
        for name, row in rows.items()
        if (price := row.get("latency_by_fusion_ms"))
    ]


def _changes(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, row in rows.items():
        changed = "; ".join(
            f"{field} {old or 'none'} → {new or 'none'}" for field, (old, new) in row["changed"].items()
        )
        lines.append(f"{name}: {row['notes']}" + (f". From {row['parent']}: {changed}" if changed else ""))
    return lines


def _bullets(items: Sequence[str]) -> Bullets | None:
    return Bullets(tuple(items)) if items else None


def _picture(name: str, caption: str) -> Gallery:
    return Gallery((Picture(f"figures/{name}.png", caption, name.replace("_", " ")),))


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the CSV."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "time_to_accuracy_s":
            flat |= {f"s_to_{level}": seconds for level, seconds in value.items()}
        elif key.endswith("_interval") and value:
            flat |= {
                f"{key.removesuffix('_interval')}_low": value[0],
                f"{key.removesuffix('_interval')}_high": value[1],
            }
        elif key == "changed":
            flat[key] = "; ".join(value)
        elif key == "latency_by_fusion_ms":
            flat |= {f"latency_{fusion}_ms": ms for fusion, ms in value.items()}
        elif key not in ("history", "free_clips"):
            flat[key] = value
    return flat
