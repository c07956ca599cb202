"""The command `shuttle export`; thin, over `deployment`."""

from pathlib import Path
from typing import Annotated

import typer

from shuttlelib.cli_data import Folder, Threads, listed
from shuttlelib.errors import UsageError
from shuttlelib.files import atomic_write

PARITY = 32  # inputs on which a backend is compared with torch
SHOWN = ["backend", "precision", "device", "size_mb", "build_s", "position_px", "visible", "latency_ms"]


def export(
    models: Annotated[list[Path], typer.Argument(**Folder, help="Model folders, like models/stage2_v11.")],
    precision: Annotated[str, typer.Option(help="Graphs to write, of fp32, fp16 and int8.")] = "fp32,fp16",
    engine: Annotated[
        str, typer.Option(help="Compute capabilities to build TensorRT engines for, like 8.6,12.0; or none.")
    ] = "none",
    data: Annotated[
        Path | None, typer.Option(**Folder, help="Data folder: int8 is calibrated on its train split.")
    ] = None,
    planes: Annotated[
        bool, typer.Option("--planes", help="Also write model.planes.onnx, which cuts windows itself.")
    ] = False,
    threads: Threads = None,
) -> None:
    """Write what a trained version is deployed as, and export.csv beside it: size, parity, latency."""
    import pandas as pd

    from shuttlelib import clips, deployment, export_planes, half, paths, quantize, runtime
    from shuttlelib import export as exporting

    precisions = listed(precision)
    if not precisions or not set(precisions) <= {"fp32", "fp16", "int8"}:
        raise UsageError(f"--precision {precision}: choose from fp32, fp16, int8")
    dataset = clips.load_dataset(data) if data else []
    if "int8" in precisions and not clips.split(dataset, "train"):
        raise UsageError("--precision int8: is made by ranges seen on real frames; give --data FOLDER")
    judged = clips.split(dataset, "val") or clips.load_dataset(paths.SAMPLES)
    for model in models:
        graph = exporting.export_onnx(model)
        if planes:
            export_planes.export_planes(model)
        if "fp16" in precisions:
            half.write_fp16(graph, model / "model.fp16.onnx")
        if "int8" in precisions:
            quantize.write_int8_graphs(model, clips.split(dataset, "train"))
        built = []  # before what takes longer: a GPU that is not known ends it
        if engine != "none":
            built = [deployment.build_engines(model, precisions, listed(engine))]
        inputs = quantize.real_inputs(runtime.read_card(model), judged, PARITY)
        ran = [kind for kind in runtime.PRECISIONS if kind in precisions or kind == "bf16"]
        table = pd.concat([deployment.measure(model, ran, inputs, threads), *built], ignore_index=True)
        with atomic_write(model / "export.csv") as temp:
            table.round(4).to_csv(temp, index=False)
        skipped = table["skipped"].fillna("") != ""
        shown = table[~skipped].reindex(columns=SHOWN)
        print(f"{model}\n{shown.to_string(index=False, na_rep='', float_format='{:.3f}'.format)}")
        for row in table[skipped].itertuples():
            print(f"skipped {row.backend} {row.precision}: {row.skipped}")
