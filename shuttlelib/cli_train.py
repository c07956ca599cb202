"""The commands `shuttle run|train|publish|versions`; thin, over pipeline, recipes and shipping."""

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shuttlelib.cli_data import Cache, Folder, Seed, listed
from shuttlelib.errors import UsageError

if TYPE_CHECKING:
    from shuttlelib.clips import Clip

_SHOWN = 5  # changes that the list of versions names

Stage1 = Annotated[
    Path | None,
    typer.Option(**Folder, help="Stage-1 model folder whose false places stage 2 learns to reject."),
]
Rows = Annotated[str, typer.Option(help="With --lineage: versions, separated by commas; all if left out.")]
Backbone = Annotated[
    str, typer.Option(help="With --lineage: a timm model in place of each row's own backbone.")
]
UnetChannels = Annotated[
    int, typer.Option(min=0, help="With --lineage: of U-Nets at full resolution; 0 leaves them theirs.")
]
Scale = Annotated[
    float,
    typer.Option(min=0.25, max=2.0, help="With --lineage: times the sides of every row's input."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE of how the row is trained, like lr=0.001; repeat for more."),
]
Parts = Annotated[
    int, typer.Option(min=1, help="Cut a batch into so many parts, one after the other, to save memory.")
]
Precision = Annotated[str, typer.Option(help="bf16, fp16 or no; auto is bf16 where the hardware has it.")]
DataPath = Annotated[
    str,
    typer.Option(help="Where samples are cut and augmented: cpu, device; auto: on a GPU that holds them."),
]
MeasureData = Annotated[
    bool,
    typer.Option(
        "--measure-data",
        help="Only measure data and training steps, alone and together: --steps of each, or 30.",
    ),
]
versions_app = typer.Typer(help="The lineage of model versions.", invoke_without_command=True)


def run(
    profile: Annotated[
        str, typer.Option(help="quick (minutes on a CPU) or full (hours on a GPU).")
    ] = "quick",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/<time>-<profile> if left out.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Some notebooks by number, on what an earlier run left in --out.")
    ] = None,
    seed: Annotated[int, typer.Option(**Seed, help="Of data, weights and draws.")] = 0,
    data: Annotated[
        Path | None, typer.Option(**Folder, help="Data folder; rendered rallies are made if left out.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Loader processes of the trainings; 0 loads in their own.")
    ] = 0,
) -> None:
    """Run the notebooks in order, render the report, track the sample video."""
    from shuttlelib import pipeline

    pipeline.run_command(profile, out, only, seed, data, workers)


def train(
    data: Annotated[
        list[Path], typer.Option(**Folder, help="Data folder; give it again to add rendered rallies.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted one resumes.")],
    version: Annotated[str, typer.Option(help="A row of `shuttle versions`.")] = "",
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Train all rows under one budget and compare them.")
    ] = False,
    cache: Cache = None,
    init: Annotated[Path | None, typer.Option(**Folder, help="Model folder to start from.")] = None,
    stage1: Stage1 = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimizer steps; the version's own if left out.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="With --lineage: of training a row, instead of --steps.")
    ] = None,
    rows: Rows = "",
    val_clips: Annotated[
        int, typer.Option(min=0, help="With --lineage: val clips tracked free-running for each row.")
    ] = 3,
    backbone: Backbone = "",
    unet_channels: UnetChannels = 0,
    scale: Scale = 1.0,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples a step.")] = None,
    changes: Changes = None,
    accumulate: Parts = 1,
    precision: Precision = "auto",
    data_path: DataPath = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Loader processes of the data path cpu.")] = 0,
    measure_data: MeasureData = False,
    seed: Annotated[int, typer.Option(**Seed, help="Of weights and draws.")] = 0,
    pretrained: Annotated[
        bool, typer.Option(help="Start historic rows from ImageNet weights (needs the Hub once).")
    ] = True,
) -> None:
    """Train a version, or with --lineage all of them; OUT/best is a model folder with its ONNX graph."""
    if lineage == bool(version):
        raise UsageError(f"--version {version or '(none)'}: give a version, or --lineage, not both")
    if lineage:
        _refuse("--version", {"--init": init, "--set": changes, "--measure-data": measure_data})
    else:
        alone = {"--minutes": minutes, "--rows": rows, "--backbone": backbone, "--scale": scale != 1}
        _refuse("--lineage", alone | {"--val-clips": val_clips != 3, "--unet-channels": unet_channels})
    if measure_data:
        _refuse("a training", {"--init": init, "--stage1": stage1, "--set": changes})
    options: dict[str, Any] = {"workers": workers, "precision": precision, "data_path": data_path}
    wanted = {"steps": steps, "batch": batch, "accumulate": accumulate}
    options |= {key: value for key, value in wanted.items() if value is not None}
    with resumable():
        if measure_data:
            from shuttlelib import throughput

            print(throughput.report(version, data, cache or out / "cache", out, seed, options))
        elif lineage:
            every = {"minutes": minutes, "backbone": backbone, "scale": scale, "unet_channels": unet_channels}
            _lineage(data, out, cache, seed, stage1, pretrained, every, rows, val_clips, options)
        else:
            _version(version, data, out, cache, seed, init, stage1, pretrained, changes or [], options)


def _refuse(kind: str, options: dict[str, Any]) -> None:
    """Options that would do nothing, if they are given."""
    for option, value in options.items():
        if value:
            raise UsageError(f"{option}: goes with {kind} alone; leave it out")


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C ends with one line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; give the same command again to resume", file=sys.stderr)
        raise typer.Exit(1) from None


def _lineage(
    data: list[Path],
    out: Path,
    cache: Path | None,
    seed: int,
    stage1: Path | None,
    pretrained: bool,
    every: dict[str, Any],
    rows: str,
    val_clips: int,
    options: dict[str, Any],
) -> None:
    from shuttlelib import recipes, train, versions
    from shuttlelib.lineage.comparison import Looks
    from shuttlelib.lineage.training import Budget
    from shuttlelib.report import lineage

    names = listed(rows) or versions.names()
    steps = options.pop("steps", None)
    if steps is None and every["minutes"] is None:
        raise UsageError("--lineage: give every row the same --steps or the same --minutes")
    budget = Budget(options.pop("batch", 16), steps, **every)
    train.TrainConfig(1, budget.batch, 1.0, **options)  # a wrong one is told here and not by every row
    _check_stage1(stage1)
    report = lineage.compare(
        names,
        recipes.load_data(data),
        out,
        cache or out / "cache",
        budget,
        seed,
        stage1,
        pretrained,
        Looks(clips=val_clips),
        **options,
    )
    for claim in report["claims"]:
        print(f"{claim['verdict']}: {claim['claim']}: {claim['numbers']}")
    failed = [name for name, row in report["rows"].items() if "error" in row]
    print(f"{len(names) - len(failed)} of {len(names)} rows compared; see {out / 'lineage.md'}")
    if failed:
        print(f"failed: {', '.join(failed)}; see error.txt in their folders", file=sys.stderr)
        raise typer.Exit(1)


def _version(
    version: str,
    data: list[Path],
    out: Path,
    cache: Path | None,
    seed: int,
    init: Path | None,
    stage1: Path | None,
    pretrained: bool,
    changes: list[str],
    options: dict[str, Any],
) -> None:
    from shuttlelib import export, recipes, runs, versions
    from shuttlelib.files import write_json
    from shuttlelib.overrides import training_overrides

    own = {"pretrained": pretrained and versions.resolve(version).pretrained}
    overrides = {**own, **training_overrides(changes)}
    if stage1 is not None and versions.resolve(version).stage == 1:
        raise UsageError(f"--stage1 {stage1}: goes with a stage-2 version alone; leave it out")
    _check_stage1(stage1)
    result = recipes.train_version(
        version, data, out, cache or out / "cache", seed, init, stage1, overrides, **options
    )
    if int(os.environ.get("RANK", "0")):  # under torchrun the first process writes for all
        return
    made = {
        "seed": seed,
        "command": shlex.join(["shuttle", *sys.argv[1:]]),
        "environment": runs.environment(),
    }
    write_json(out / "metrics.json", {**result, **made})
    export.export_onnx(out / "best")
    grid = "the 512x288 grid" if versions.resolve(version).stage == 1 else "1280x720"
    print(
        f"{version}: accuracy {result['accuracy']:.3f}, f1 {result['f1']:.3f} within 4 px of {grid} "
        f"on validation samples after {result['steps']} steps; "
        f"weights in {out / 'best'}"
    )


def _check_stage1(stage1: Path | None) -> None:
    from shuttlelib import runtime

    if stage1 is None:
        return
    card = runtime.read_card(stage1)
    if card["stage"] != 1:
        raise UsageError(f"--stage1 {stage1}: holds {card['name']}; give a model folder of a stage-1 version")


def publish(
    stage1: Annotated[Path, typer.Option(**Folder, help="Stage-1 model folder, like runs/stage1/best.")],
    stage2: Annotated[Path, typer.Option(**Folder, help="Stage-2 model folder.")],
    data: Annotated[Path, typer.Option(**Folder, help="Data folder; its val split calibrates and judges.")],
    out: Annotated[Path, typer.Option(help="Folder for the tracks and metrics.json.")],
    trained_on: Annotated[
        list[str],
        typer.Option(help="For the cards: data, schedule, hardware, time; twice: of stage 1, of stage 2."),
    ],
    models: Annotated[
        Path | None, typer.Option(help="Folder of models; the shipped ones if left out.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="FOLDER or NAME=FOLDER: judge on its val split too."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Ship it even if the shipped pair is better.")
    ] = False,
) -> None:
    """Make two trained versions the default pair: export, calibrate, judge, write cards."""
    from shuttlelib import clips, paths, shipping
    from shuttlelib.summary import format_summary

    dataset = val_clips(f"--data {data}", data)
    if len(trained_on) > 2:
        raise UsageError(f"--trained-on {trained_on[2]}: give it once for both stages, or twice")
    facts = {
        "trained on, stage 1": trained_on[0],
        "trained on, stage 2": trained_on[-1],
        "judged on": f"{len(dataset)} clips, hash {clips.data_hash(dataset)}",
    }
    results = shipping.publish(
        stage1, stage2, dataset, models or paths.MODELS, out, facts, named_data(also or []), force
    )
    for mode, result in results.items():
        print(f"\n{mode}: {result['speed_fps']:.0f} fps\n{format_summary(result)}")


def val_clips(option: str, folder: Path) -> "list[Clip]":
    """The val split of a data folder, which has to hold something."""
    from shuttlelib import clips

    found = clips.split(clips.load_dataset(folder), "val")
    if not found:
        raise UsageError(f"{option}: has no val clip; `shuttle data split` makes a val split")
    return found


def named_data(given: list[str], option: str = "--also") -> "dict[str, list[Clip]]":
    """The val split of each NAME=FOLDER, by name; of a FOLDER alone under its own name."""
    found = {}
    for text in given:
        named, equals, folder = text.partition("=")
        folder = folder if equals else named
        name = named if equals else Path(folder).resolve().name
        if not (name and folder and Path(folder).is_dir()):
            raise UsageError(f"{option} {text}: no such folder; give NAME=FOLDER, like side=data/side")
        if name in found:
            raise UsageError(f"{option} {text}: a second set named {name}; give NAME=FOLDER")
        found[name] = val_clips(f"{option} {text}", Path(folder))
    return found


Json = Annotated[bool, typer.Option("--json", help="For machines.")]


@versions_app.callback(epilog="Example: shuttle versions diff stage2_v5 stage2_v8")
def list_versions(context: typer.Context, as_json: Json = False) -> None:
    """List the versions with their parents, what changed and what it taught."""
    context.obj = as_json
    if context.invoked_subcommand:
        return
    from shuttlelib import versions

    if as_json:
        rows = [{**versions.resolve(n).as_dict(), "changed": versions.changes(n)} for n in versions.names()]
        print(json.dumps(rows, indent=2))
        return
    print(f"{'name':<11} {'parent':<10} {'stage':<5} backbone")
    for name in versions.names():
        spec = versions.resolve(name)
        print(f"{name:<11} {spec.parent or '-':<10} {spec.stage:<5} {spec.backbone}")
        changes = versions.changes(name).items()
        changed = [f"{field} {_plain(new)}" for field, (_, new) in changes if field != "backbone"]
        more = f", and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        lines = [f"changed: {', '.join(changed[:_SHOWN])}{more}"] if changed else []
        print(*(f"{'':<11} {line}" for line in (*lines, spec.notes)), sep="\n")


@versions_app.command("diff", epilog="Example: shuttle versions diff stage2_v5 stage2_v8")
def diff_versions(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="A version.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    as_json: Json = False,
) -> None:
    """Show the fields in which two versions differ."""
    from shuttlelib import versions

    changed = versions.diff(a, b)
    if as_json or context.obj:
        print(json.dumps(changed, indent=2))
        return
    rows = [
        ("field", a, b),
        *((field, _plain(left), _plain(right)) for field, (left, right) in changed.items()),
    ]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    for row in rows if changed else []:
        print(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}")
    if not changed:
        print(f"{a} and {b} differ in no field")


def _plain(value: object) -> str:
    """A field's value as a person writes it."""
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
