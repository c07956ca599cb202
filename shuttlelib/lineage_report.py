"""The comparison of the lineage as files: CSV, JSON, Markdown and figures; after comparison and claims."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from shuttlelib import charts_lineage as drawn
from shuttlelib import clips, comparison, lineage_run, recipes, runs, runtime
from shuttlelib.claims import Row, judge_all
from shuttlelib.clips import Clip
from shuttlelib.comparison import Looks
from shuttlelib.files import atomic_write, write_json
from shuttlelib.lineage_run import LEVELS, Budget
from shuttlelib.plots import CYCLE, GREY, new_figure

UNITS = """\
Accuracy is the share of samples that are right at 4 px of the 512x288 grid: placed within it and
said to be visible, or not visible and not said to be. Samples are whole frames for stage 1 and for
the baselines, crops centred near the label for stage 2, so stages are not compared with each other
there; px are of the 512x288 grid for both (1 px is 2.5 px at 1280x720). "Placed" leaves visibility
aside: of the samples with a shuttle, those whose best place is within 4 px. Weights are those at the
end of the budget, whatever they scored before. Rows without a
visibility head say "visible" always; their accuracy pays for it. Loss is each row's own, on
training samples as training saw them (augmented) and on val samples; the ratio compares the two
within a row. Free-running accuracy is the whole tracker's: a stage-1 row with the pair's stage 2, a
stage-2 row with its stage 1, a baseline alone. Brackets are 95% bootstrap intervals over clips."""
COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "parent": lambda r: r["parent"] or "-",
    "parameters": lambda r: f"{r['parameters'] / 1e6:.1f} M",
    "from": lambda r: r["start"].partition(" (")[0],
    "loss, training": lambda r: _text(r["train_loss"], 4),
    "loss, val": lambda r: _text(r["val_loss"], 4),
    "ratio": lambda r: _text(r["loss_ratio"], 1),
    "accuracy": lambda r: _between(r, "accuracy"),
    "placed": lambda r: _between(r, "placed_share"),
    "median error, px": lambda r: _between(r, "median_px", 2),
    "mean, px": lambda r: _text(r["mean_px"], 2),
    "false alarms": lambda r: _text(r["fp2_share"]),
    "free-running": lambda r: _between(r, "free_accuracy"),
    "one look, ms": lambda r: _text(r["latency_ms"], 1),
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
    **config: Any,
) -> dict[str, Any]:
    """Train rows under one budget, measure them, judge the claims, write the comparison into `out`.

    Args:
        names, dataset, out, cache_dir, budget, seed, stage1, pretrained, overrides, config: see
            `lineage_run.train_rows`.
        looks: how closely rows are looked at.

    Returns:
        What `lineage.json` holds: facts, rows, claims.
    """
    looks = looks or Looks()
    results = lineage_run.train_rows(
        names, dataset, out, cache_dir, budget, seed, stage1, pretrained, overrides, say, **config
    )
    entries, rows = comparison.measure_rows(results, dataset, out, cache_dir, looks, stage1, say)
    facts = {
        "budget": str(budget),
        "seed": seed,
        "data_hash": clips.data_hash(dataset),
        "clips": {part: len(clips.split(dataset, part)) for part in ("train", "val")},
        "hardware": recipes.hardware(),
        "trained_on": ", ".join(sorted({row["hardware"] for row in entries.values() if "hardware" in row})),
        "free_running_with": [
            runtime.read_card(folder)["name"] for folder in looks.pair or runtime.default_pair()
        ]
        if looks.clips
        else [],
        "environment": runs.environment(),
    }
    report = {"facts": facts, "rows": entries, "claims": [claim.as_dict() for claim in judge_all(rows)]}
    write(report, rows, out)
    return report


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
        temp.write_text(markdown(report))


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
        "accuracy_against_latency": drawn.accuracy_against_latency(table, "accuracy", hardware),
    }
    noisy = {name: row.noise for name, row in rows.items() if not row.noise.empty}
    if noisy:
        made["noise"] = loss_against_noise(noisy)
    return made


def loss_against_noise(sweeps: Mapping[str, pd.DataFrame]) -> Figure:
    """Validation loss over the noise put on the frames, one line a row, as multiples of its loss without any.

    Args:
        sweeps: `measures.noise_sweep` by name: level and loss.
    """
    figure, axes = new_figure(1, 1, (6.4, 3.8))
    axis = axes[0, 0]
    for i, (name, table) in enumerate(sweeps.items()):
        losses = table.groupby("level")["loss"].mean()
        axis.plot(
            losses.index,
            losses / losses.loc[0.0],
            color=CYCLE[i % len(CYCLE)],
            marker="o",
            lw=1.8,
            label=name,
        )
    axis.axhline(1, color=GREY, lw=1, ls=":")
    axis.set(ylim=(0, None), xlabel="noise on the frames (standard deviation, share of the range)")
    axis.set_ylabel("val loss, times that without noise")
    axis.grid(visible=True, color="#E3E3E3", lw=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    return figure


def markdown(report: Mapping[str, Any]) -> str:
    """The comparison as a page."""
    facts, rows = report["facts"], report["rows"]
    good = {name: row for name, row in rows.items() if "error" not in row}
    parts = [
        "# The lineage, measured",
        f"{facts['budget']}, seed {facts['seed']}, on {facts['clips']['train']} training and "
        f"{facts['clips']['val']} validation clips (data hash {facts['data_hash']}), on {facts['hardware']}.",
        "![family tree](figures/family_tree.png)",
        "## The story, claim by claim",
        _verdicts(report["claims"]),
        _table(
            ("claim", "told", "measured by", "numbers", "verdict"),
            [
                [c["claim"], c["told"], c["measured"], c["numbers"], f"**{c['verdict']}**"]
                for c in report["claims"]
            ],
        ),
        "## Rows",
        UNITS,
        f"The pair is {' and '.join(facts['free_running_with'])}." if facts.get("free_running_with") else "",
        _table(
            ("version", *COLUMNS), [[name, *(f(row) for f in COLUMNS.values())] for name, row in good.items()]
        ),
        _failures(rows),
        _starts(good),
        "![accuracy](figures/accuracy.png)\n![median error](figures/median_error.png)\n"
        "![free-running](figures/free_running.png)",
        "## Time",
        f"Seconds of training to each accuracy on val samples, on {trained_on(facts)}; empty where it was "
        "not reached, exact to the time between two validations.",
        _time_table(good),
        "![accuracy over time](figures/accuracy_over_time.png)",
        "## Cost of a look",
        _fusion(good),
        "![accuracy against latency](figures/accuracy_against_latency.png)",
        "## What each row changed",
        _changes(rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdicts(claims: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts in words, the contradictions first."""
    said = {
        "does not hold here": "Our measurement contradicts the story here",
        "holds": "Our measurement agrees",
        "not decided": "Our measurement does not decide",
        "not measured": "Not measured",
    }
    lines = []
    for verdict, words in said.items():
        found = [f"{c['claim']} ({c['numbers']})" for c in claims if c["verdict"] == verdict]
        if found:
            lines.append(f"- {words}: {'; '.join(found)}.")
    return "\n".join(lines)


def _failures(rows: Mapping[str, Mapping[str, Any]]) -> str:
    failed = [f"- {name}: {row['error']}" for name, row in rows.items() if "error" in row]
    failed += [
        f"- {name} did not track: {row['free_error']}" for name, row in rows.items() if "free_error" in row
    ]
    return "Failed:\n\n" + "\n".join(failed) if failed else ""


def _starts(rows: Mapping[str, Mapping[str, Any]]) -> str:
    wanted = [name for name, row in rows.items() if row["start"].startswith("scratch (")]
    if not wanted:
        return ""
    why = rows[wanted[0]]["start"].removeprefix("scratch (").removesuffix(")")
    return f"From scratch, though the row starts from ImageNet weights: {', '.join(wanted)} ({why})."


def _time_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    levels = [f"{level:g}" for level in LEVELS]
    head = ("version", "steps", "batch", "seconds", "samples a second", *levels)
    body = []
    for name, row in rows.items():
        reached = [_text(row["time_to_accuracy_s"][level], 0, "") for level in levels]
        facts = (
            f"{row['steps']:,}",
            str(row["batch"]),
            _text(row["seconds"], 0),
            _text(row["samples_per_s"], 0),
        )
        body.append([name, *facts, *reached])
    return _table(head, body)


def _fusion(rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, row in rows.items():
        price = row.get("latency_by_fusion_ms")
        if price:
            lines.append(
                f"- {name}, everything else as it is: {price['late']:.1f} ms with a pass a frame, "
                f"{price['early']:.1f} ms with one early-fused pass."
            )
    return "\n".join(lines)


def _changes(rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, row in rows.items():
        changed = "; ".join(
            f"{field} {old or '-'} → {new or '-'}" for field, (old, new) in row["changed"].items()
        )
        lines.append(
            f"- **{name}**: {row['notes']}" + (f"  \n  from {row['parent']}: {changed}" if changed else "")
        )
    return "\n".join(lines)


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


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def _between(row: Mapping[str, Any], key: str, digits: int = 3) -> str:
    limits = row.get(f"{key}_interval")
    if row.get(key) is None or not limits or None in limits:
        return _text(row.get(key), digits)
    return f"{row[key]:.{digits}f} ({limits[0]:.{digits}f} to {limits[1]:.{digits}f})"


def _text(value: float | None, digits: int = 3, missing: str = "-") -> str:
    return missing if value is None else f"{value:,.{digits}f}"
