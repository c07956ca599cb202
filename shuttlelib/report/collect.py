"""Find what a report is made of: models, what is kept beside them, runs, comparison, bench files."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shuttlelib import runtime, versions
from shuttlelib.errors import UsageError
from shuttlelib.files import read_json
from shuttlelib.report import bench, notebooks, store, trainings
from shuttlelib.report.notebooks import Run
from shuttlelib.report.store import ReportError
from shuttlelib.spec import Spec

_UNSEARCHED = {"cache", "checkpoints", "data", "report", "tensorboard"}  # folders of a run that hold no runs

_SUMMARY = {"accuracy", "f1", "fp2_share", "error_px", "hit_error_px", "curve", "counts", "clips", "frames"}
_SUMMARY |= {"calibration", "interval95"}
_OUTDATED = "is of other weights, left out"


@dataclass(frozen=True, eq=False)
class Version:
    """A row of the lineage and all that is known of it.

    Attributes:
        spec: as its card says where it is shipped, else as its row resolves.
        folder: of the shipped model; None where it is not shipped.
        metrics: its `metrics.json`; limits: what its card says that it cannot do.
        trainings: of `trainings.read`, the one that made the shipped weights first.
        measured: its entry of the lineage's comparison.
    """

    spec: Spec
    folder: Path | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    trainings: tuple[Mapping[str, Any], ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Found:
    """What there is to report.

    Attributes:
        versions: by name, in the order of the lineage.
        pair: names of the shipped stage-1 and stage-2 version.
        evaluation: of the pair, as `measure.evaluate` gives it; pictures: folder of its gallery.
        speed: rows of bench files (`bench.read`).
        lineage: the comparison that `shuttle train --lineage` wrote.
        runs: executed notebooks by run.
        notes: what was left out, and why.
    """

    versions: Mapping[str, Version]
    pair: tuple[str, str]
    evaluation: Mapping[str, Any]
    pictures: Path
    speed: Sequence[Mapping[str, Any]]
    lineage: Mapping[str, Any]
    runs: Sequence[Run]
    notes: Sequence[str] = ()


def collect(models: Path, run_roots: Sequence[Path] = (), bench_files: Sequence[Path] = ()) -> Found:
    """Read everything.

    Args:
        models: folder of models with a default pair.
        run_roots: folders that are runs or hold some.
        bench_files: of `shuttle bench`.

    Raises:
        ShuttleError: a file is damaged; the message names it.
        UsageError: a folder or file is not there.
    """
    folders = runtime.default_pair(models)
    shipped = {path.parent.name: _model(path.parent) for path in sorted(models.glob("*/version.json"))}
    found = list(_walk(run_roots))
    trained = [trainings.read(folder) for folder in found if _is_training(folder)]
    lineage = _lineage(models, found)
    kept = read_json(folders[1] / store.FILE)
    current = {folder.name: store.weights(folder) for folder in folders}
    notes = []
    for block, option in (("evaluation", "--data"), ("speed", "--bench")):
        if block in kept and kept[block].get("pair") != current:
            where = folders[1] / store.FILE
            notes.append(f"{where}: {block} {_OUTDATED}; give {option} again")
            del kept[block]
    timed = bench.read(bench_files)
    speed = [row for row in timed if set(filter(None, row["versions"].values())) <= set(current)]
    if len(speed) < len(timed):
        notes.append(f"{len(timed) - len(speed)} rows of bench files are of other versions, left out")
    names = [*versions.names(), *(name for name in shipped if name not in versions.ROWS)]
    return Found(
        {name: _version(name, shipped, trained, lineage) for name in names},
        (folders[0].name, folders[1].name),
        kept.get("evaluation", {}),
        folders[1] / store.GALLERY,
        speed or kept.get("speed", {}).get("rows", []),
        lineage,
        _named_apart([notebooks.read(folder) for folder in found if notebooks.executed(folder)]),
        notes,
    )


def _named_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs whose folders have one name get their parent's before it, and a number if that is not enough."""
    named: dict[str, Run] = {}
    for run in runs:
        longer = f"{run.folder.resolve().parent.name}-{run.name}"
        names = itertools.chain((run.name, longer), (f"{longer}-{n}" for n in itertools.count(2)))
        name = next(name for name in names if name not in named)
        named[name] = replace(run, name=name)
    return list(named.values())


def with_evaluation(found: Found, evaluation: Mapping[str, Any]) -> Found:
    """The same with the pair looked at anew."""
    notes = [note for note in found.notes if f"evaluation {_OUTDATED}" not in note]
    return replace(found, evaluation=evaluation, notes=notes)


def keep(found: Found, models: Path) -> list[Path]:
    """Put what runs and bench files say of the shipped weights beside them; the files written."""
    written = []
    for name, version in found.versions.items():
        if version.folder is None:
            continue
        blocks: dict[str, Any] = {}
        made = [t for t in version.trainings if t["weights"] == store.weights(version.folder)]
        if made:
            blocks["training"] = made[0]
        if name == found.pair[1] and found.speed:
            pair = {folder.name: store.weights(folder) for folder in runtime.default_pair(models)}
            blocks["speed"] = {"pair": pair, "rows": list(found.speed)}
        if blocks:
            store.keep(version.folder, blocks)
            written.append(version.folder / store.FILE)
    if found.lineage:
        store.write_json(models / "lineage.json", found.lineage)
        written.append(models / "lineage.json")
    return written


def _model(folder: Path) -> Version:
    try:
        spec = Spec.from_dict(runtime.read_card(folder))
    except (TypeError, UsageError) as error:
        raise ReportError(f"{folder / 'version.json'}: {error}; export the version again") from error
    readme = folder / "README.md"
    limits = _limits(readme.read_text(encoding="utf-8")) if readme.is_file() else ()
    own = read_json(folder / store.FILE).get("training")
    made = (own,) if own and own["weights"] == store.weights(folder) else ()
    return Version(spec, folder, _metrics(folder / "metrics.json"), limits, made)


def _metrics(path: Path) -> dict[str, Any]:
    """A model's `metrics.json`, whose summaries must be whole."""
    found = read_json(path)
    for block in ("free_running", "also"):
        for name, part in found.get(block, {}).items():
            missing = _SUMMARY - part.keys()
            if missing:
                raise ReportError(
                    f"{path}: {block} {name!r} has no {', '.join(sorted(missing))}; publish it again"
                )
    return found


def _limits(card: str) -> tuple[str, ...]:
    """The list under "## Limits" of a model card."""
    part = card.partition("## Limits")[2].partition("\n## ")[0]
    items = (" ".join(item.split()) for item in f"\n{part}".split("\n- ")[1:])
    return tuple(item for item in items if item)


def _version(
    name: str,
    shipped: Mapping[str, Version],
    trained: Sequence[Mapping[str, Any]],
    lineage: Mapping[str, Any],
) -> Version:
    base = shipped.get(name) or Version(versions.resolve(name))
    mine = [training for training in trained if training["version"] == name]
    if base.folder is not None:
        own = store.weights(base.folder)
        mine.sort(key=lambda training: training["weights"] != own)
    kept = [t for t in base.trainings if t["weights"] not in {other["weights"] for other in mine}]
    measured = lineage.get("rows", {}).get(name, {})
    return Version(base.spec, base.folder, base.metrics, base.limits, (*kept, *mine), measured)


def _lineage(models: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """The comparison of the lineage that some run wrote, or that was kept."""
    for path in (*(folder / "lineage.json" for folder in folders), models / "lineage.json"):
        held = read_json(path)
        if held and not {"facts", "rows", "claims"} <= held.keys():
            raise ReportError(f"{path}: no comparison of the lineage; make it with `shuttle train --lineage`")
        if held:
            return held
    return {}


def _is_training(folder: Path) -> bool:
    return (folder / "history.csv").is_file() and (folder / "best" / "version.json").is_file()


def _walk(roots: Sequence[Path]) -> Iterator[Path]:
    """The folders in and under some roots, in order.

    Left out are those where runs keep their own things, and what notebooks did at the quick profile: that
    proves the road and is worth nothing as a result.
    """
    for root in roots:
        if not root.is_dir():
            raise UsageError(f"--runs {root}: no such folder")
        for folder, inside, _ in os.walk(root.resolve()):
            inside[:] = sorted(name for name in inside if name not in _UNSEARCHED and name[0] != ".")
            ran = notebooks.executed(Path(folder))
            if any(notebooks.parameters(path).get("profile") == "quick" for path in ran):
                inside.clear()
            yield Path(folder)
