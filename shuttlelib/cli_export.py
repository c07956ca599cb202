"""The command `shuttle export`; thin, over `deployment`."""

from pathlib import Path
from typing import Annotated

import typer

from shuttlelib.cli_data import Folder

SHOWN = ["backend", "precision", "device", "size_mb", "build_s", "position_px", "visible", "latency_ms"]


def export(
    models: Annotated[list[Path], typer.Argument(**Folder, help="Model folders, like models/stage2_v8.")],
    precision: Annotated[str, typer.Option(help="Graphs to write, of fp32, fp16 and int8.")] = "fp32,fp16",
    engine: Annotated[
        str, typer.Option(help="Compute capabilities to build TensorRT engines for, like 8.6,12.0; or none.")
    ] = "none",
    data: Annotated[
        Path | None, typer.Option(**Folder, help="Data folder: int8 is calibrated on its train split.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores if left out.")] = None,
) -> None:
    """Write what a trained version is deployed as, and export.csv beside it: size, parity, latency."""
    import pandas as pd

    from shuttlelib import clips, deployment, runtime

    precisions = list(dict.fromkeys(precision.split(",")))
    capabilities = [] if engine == "none" else engine.split(",")
    dataset = clips.load_dataset(data) if data else []
    for model in models:
        deployment.write_graphs(model, precisions, clips.split(dataset, "train"))
        parts = []
        if capabilities:
            parts.append(deployment.build_engines(model, precisions, capabilities))
        judged = clips.split(dataset, "val") or deployment.sample_clips()
        inputs = deployment.real_inputs(runtime.read_card(model), judged, deployment.PARITY)
        ran = [kind for kind in runtime.PRECISIONS if kind in precisions or kind == "bf16"]
        measured = deployment.measure(model, ran, inputs, threads)
        table = pd.concat([measured, *parts], ignore_index=True)
        deployment.write_table(table, model / "export.csv")
        skipped = table["skipped"].fillna("") != ""
        shown = table[~skipped].reindex(columns=SHOWN)
        print(f"{model}\n{shown.to_string(index=False, na_rep='', float_format='{:.3f}'.format)}")
        for row in table[skipped].itertuples():
            print(f"skipped {row.backend} {row.precision}: {row.skipped}")
