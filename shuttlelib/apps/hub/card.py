"""The cards of a data set and of weights on the Hub: what they are, how good, their faults, their licence."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

from shuttlelib import cleanup, clips
from shuttlelib.apps.hub.layout import AUDIT, SPLITS
from shuttlelib.clips import Clip
from shuttlelib.errors import UsageError
from shuttlelib.files import read_json

TAGS = ["badminton", "shuttlecock", "object-tracking", "sports"]
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

CONVENTION = """## Labels

One row a labelled frame: `frame` (from 0), `visible`, `x_px`, `y_px`, `origin` (where the label came from),
`flags` (what importing and cleanup noticed, joined by `;`). The point is the shuttle's head (cork) in
continuous image coordinates at native resolution: the left and top edges are 0, the centre of the top-left
pixel is (0.5, 0.5). It is empty where the shuttle is not visible. A frame without a row is unlabelled, which
is not the same as invisible. Splits are by venue, never by frame: frames of one venue are near-copies."""


def check_licence(licence: str | None) -> str:
    """The licence as the Hub writes it.

    Raises:
        UsageError: there is none, or it is no identifier.
    """
    text = (licence or "").strip().lower()
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", text):
        raise UsageError(
            f"--licence {licence or '(none)'}: nothing is pushed without a licence: give one that the Hub "
            "knows, like cc-by-4.0, mit or other; you need the right to publish the pictures"
        )
    return text


def dataset_card(repo: str, dataset: Sequence[Clip], data_dir: Path, licence: str) -> str:
    """README.md of a data set: what, how many, venues, label convention, known faults, licence, its use."""
    table = clips.stats(dataset)
    labelled = int(table["labelled"].sum())
    used = [name for name in SPLITS if name in set(table["split"])]
    files = [{"split": SPLITS[name], "path": f"clips/{name}/*"} for name in used]
    head = DatasetCardData(
        license=licence,
        pretty_name=repo.rpartition("/")[2],
        task_categories=["object-detection", "video-classification"],
        size_categories=[next((name for most, name in SIZES if labelled < most), "n>1M")],
        tags=TAGS,
        configs=[{"config_name": "default", "data_files": files}],
    )
    seen = int((table["visible"].fillna(0) * table["labelled"]).round().sum())
    sizes = ", ".join(sorted({f"{c.info.width}x{c.info.height} at {c.info.fps:g} fps" for c in dataset}))
    return f"""---
{head.to_yaml()}
---

# {repo.rpartition("/")[2]}

Badminton rallies with the place of the shuttle in every labelled frame: {len(dataset)} clips,
{labelled:,} labelled frames of which {seen:,} show the shuttle, {table["venue"].nunique()} venues; {sizes}.

| split | venue | clips | frames | labelled | visible |
|---|---|---|---|---|---|
{_venues(table)}

{CONVENTION}

## Known faults

{_faults(dataset, data_dir)}

## Use

```
shuttle data pull {repo} --out data/{repo.rpartition("/")[2]}
```

brings clips, canonical tables and splits, and notes the commit for the runs that use them. Or stream it:

```python
from datasets import load_dataset

rallies = load_dataset("{repo}", split="{SPLITS[used[0]]}", streaming=True)
rallies = rallies.decode(False)  # videos as addresses; without this line torchcodec decodes them
rally = next(iter(rallies))
print(rally["video"]["path"], rally["venue"], rally["frame"][:5], rally["x_px"][:5], rally["y_px"][:5])
```

Data hash {clips.data_hash(dataset)}.

## Licence

`{licence}`, as the person who pushed it said. Pictures of broadcasts belong to their owners.
"""


def model_card(repo: str, folders: Sequence[Path], licence: str) -> str:
    """README.md of a repository of weights, from the metrics of the versions in it."""
    results = [result for folder in folders for result in _results(folder)]
    head = ModelCardData(
        license=licence,
        library_name="shuttlelib",
        pipeline_tag="keypoint-detection",
        tags=TAGS,
        model_name=repo.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    names = ", ".join(f"`{folder.name}`" for folder in folders)
    return f"""---
{head.to_yaml()}
---

# {repo.rpartition("/")[2]}

Weights that find the badminton shuttle in video: {names}. Each folder holds `model.safetensors` and the
`version.json` that builds the network.

```
shuttle models pull {repo} --out models/{repo.rpartition("/")[2]}
shuttle track match.mp4 --out tracks --models models/{repo.rpartition("/")[2]}
```

{chr(10).join(_version_card(folder) for folder in folders)}"""


def _version_card(folder: Path) -> str:
    """The version's own card one heading deeper, or the facts of `version.json` where it has none."""
    own = folder / "README.md"
    if own.is_file():
        return re.sub(r"^(#+ )", r"#\1", own.read_text(encoding="utf-8"), flags=re.MULTILINE)
    facts = read_json(folder / "version.json")
    shown = ", ".join(
        f"{key} {facts[key]}" for key in ("stage", "backbone", "input_hw", "step") if key in facts
    )
    return f"## {folder.name}\n\n{facts.get('notes', '')}\n\n{shown}. Not evaluated free-running.\n"


def _results(folder: Path) -> list[EvalResult]:
    """What `metrics.json` of a shipped version says, in the Hub's terms."""
    facts = read_json(folder / "metrics.json")
    smart: dict[str, Any] = facts.get("free_running", {}).get("smart", {})
    judged = str(facts.get("training", {}).get("judged on", "val split"))
    return [
        EvalResult(
            task_type="keypoint-detection",
            dataset_type="badminton-rallies",
            dataset_name=judged,
            metric_type=metric,
            metric_name=f"{metric} at 4 px of a 512x288 grid, free-running with its pair ({folder.name})",
            metric_value=round(float(value), 4),
        )
        for metric in ("accuracy", "f1")
        if (value := smart.get(metric, {}).get("grid512_4px")) is not None
    ]


def _venues(table: pd.DataFrame) -> str:
    """A line a split and venue."""
    lines = []
    for (part, venue), rows in table.groupby(["split", "venue"], sort=True):
        labelled = int(rows["labelled"].sum())
        shown = (rows["visible"].fillna(0) * rows["labelled"]).sum() / max(labelled, 1)
        lines.append(
            f"| {part} | {venue} | {len(rows)} | {rows['frames'].sum()} | {labelled} | {shown:.0%} |"
        )
    return "\n".join(lines)


def _faults(dataset: Sequence[Clip], data_dir: Path) -> str:
    """What cleanup found: from the folder's audit, or from looking now (nothing is changed)."""
    if (data_dir / AUDIT).is_file():
        audit = pd.read_csv(data_dir / AUDIT, dtype={"clip": str})
        how = "The tables were cleaned with `shuttle data clean`; `audit.csv` lists every finding."
    else:
        found = [cleanup.clean(clip.table, clip.info)[1] for clip in dataset]
        audit = pd.concat([one for one in found if len(one)] or found[:1])
        audit["action"] = "left as it is"
        how = "The tables are as they were labelled; `shuttle data clean` flags and repairs what it can."
    if audit.empty:
        return f"{how} Nothing was found. Not looked for: labels that are plausible and wrong."
    unlabelled = sum(clip.info.frame_count - clip.table["frame"].nunique() for clip in dataset)
    meaning = {check.name: (check.find.__doc__ or "").partition("\n")[0] for check in cleanup.CHECKS}
    lines = []
    for (check, action), rows in audit.groupby(["check", "action"], sort=True):
        what = meaning.get(str(check), "")
        lines.append(f"| {check} | {what} | {len(rows)} | {rows['clip'].nunique()} | {action} |")
    table = "\n".join(["| check | what | rows | clips | done |", "|---|---|---|---|---|", *lines])
    return f"{how} Frames without a label: {max(unlabelled, 0):,}.\n\n{table}"
