"""The commands `shuttle run`, `shuttle train` and `shuttle versions`; thin, over pipeline and recipes."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from shuttlelib.cli_data import Folder

Parts = Annotated[
    int, typer.Option(min=1, help="Cut a batch into so many parts, one after the other, to save memory.")
]
Precision = Annotated[str, typer.Option(help="bf16, fp16 or no; auto is bf16 where the hardware has it.")]
DataPath = Annotated[
    str,
    typer.Option(help="Where samples are cut and augmented: cpu, device; auto: on a GPU that holds them."),
]
MeasureData = Annotated[
    bool, typer.Option("--measure-data", help="Only measure data and training steps, alone and together.")
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
    seed: Annotated[int, typer.Option(help="Of data, weights and draws.")] = 0,
    data: Annotated[
        Path | None, typer.Option(**Folder, help="Data folder; rendered rallies are made if left out.")
    ] = None,
) -> None:
    """Run the notebooks in order, render the report, track the sample video."""
    from shuttlelib import pipeline

    pipeline.run_command(profile, out, only, seed, data)


def train(
    version: Annotated[str, typer.Option(help="A row of `shuttle versions`.")],
    data: Annotated[
        list[Path], typer.Option(**Folder, help="Data folder; give it again to add rendered rallies.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted one resumes.")],
    cache: Annotated[
        Path | None, typer.Option(help="Folder of decoded frames; OUT/cache if left out.")
    ] = None,
    init: Annotated[Path | None, typer.Option(**Folder, help="Model folder to start from.")] = None,
    stage1: Annotated[
        Path | None,
        typer.Option(**Folder, help="Stage-1 model folder whose false places stage 2 learns to reject."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimizer steps; the version's own if left out.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples a step.")] = None,
    accumulate: Parts = 1,
    precision: Precision = "auto",
    data_path: DataPath = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Loader processes of the data path cpu.")] = 0,
    measure_data: MeasureData = False,
    seed: Annotated[int, typer.Option(help="Of weights and draws.")] = 0,
    pretrained: Annotated[
        bool, typer.Option(help="Start historic rows from ImageNet weights (needs the Hub once).")
    ] = True,
) -> None:
    """Train a version; OUT/best is a model folder. Several GPUs: torchrun --no-python shuttle train …"""
    from shuttlelib import recipes, versions

    given: dict[str, Any] = {"steps": steps, "batch": batch, "accumulate": accumulate, "workers": workers}
    given |= {"precision": precision, "data_path": data_path}
    wanted = {key: value for key, value in given.items() if value is not None}
    if measure_data:
        return _measure(version, data, cache or out / "cache", out, seed, wanted)
    try:
        result = recipes.train_version(
            version,
            data,
            out,
            cache or out / "cache",
            seed,
            init,
            stage1,
            {"pretrained": pretrained and versions.resolve(version).pretrained},
            **wanted,
        )
    except KeyboardInterrupt:
        print("interrupted; give the same command again to resume", file=sys.stderr)
        raise typer.Exit(1) from None
    if not int(os.environ.get("RANK", "0")):  # under torchrun the first process writes for all
        _finish(version, out, result)


def _finish(version: str, out: Path, result: dict[str, Any]) -> None:
    from shuttlelib import export
    from shuttlelib.evaluation import write_json

    write_json(out / "metrics.json", result)
    export.export_onnx(out / "best")
    print(
        f"{version}: accuracy {result['accuracy']:.3f}, f1 {result['f1']:.3f}, "
        f"error {result['error_px']:.2f} px on validation samples after {result['steps']} steps; "
        f"weights in {out / 'best'}"
    )


def _measure(*arguments: Any) -> None:
    from shuttlelib import throughput

    print(throughput.report(*arguments))


def publish(
    stage1: Annotated[Path, typer.Option(**Folder, help="Stage-1 model folder, like runs/stage1/best.")],
    stage2: Annotated[Path, typer.Option(**Folder, help="Stage-2 model folder.")],
    data: Annotated[Path, typer.Option(**Folder, help="Data folder; its val split calibrates and judges.")],
    out: Annotated[Path, typer.Option(help="Folder for the tracks and metrics.json.")],
    trained_on: Annotated[str, typer.Option(help="For the cards: data, schedule, hardware, time.")],
    models: Annotated[
        Path | None, typer.Option(help="Folder of models; the shipped ones if left out.")
    ] = None,
) -> None:
    """Make two trained versions the default pair: export, calibrate, judge, write cards."""
    from shuttlelib import clips, paths, shipping
    from shuttlelib.evaluation import format_summary, write_json

    dataset = clips.split(clips.load_dataset(data), "val")
    facts = {"trained on": trained_on, "judged on": f"{len(dataset)} clips, hash {clips.data_hash(dataset)}"}
    results = shipping.publish(stage1, stage2, dataset, models or paths.MODELS, out, facts)
    write_json(out / "metrics.json", results)
    for mode, result in results.items():
        print(f"\n{mode}: {result['speed_fps']:.0f} fps\n{format_summary(result)}")


@versions_app.callback(epilog="Example: shuttle versions")
def list_versions(context: typer.Context) -> None:
    """List the versions with their parents and what they taught."""
    if context.invoked_subcommand:
        return
    from shuttlelib import versions

    for name in versions.names():
        spec = versions.resolve(name)
        print(f"{name:<12} parent {spec.parent or '-':<10} {spec.backbone:<28} {spec.notes}")


@versions_app.command("diff", epilog="Example: shuttle versions diff stage2_v5 stage2_v8")
def diff_versions(
    a: Annotated[str, typer.Argument(help="A version.")], b: Annotated[str, typer.Argument(help="Another.")]
) -> None:
    """Show the fields in which two versions differ."""
    from shuttlelib import versions

    for field, (left, right) in versions.diff(a, b).items():
        print(f"{field:<20} {left!s:<32} {right}")
