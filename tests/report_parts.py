"""What the tests of the report make it of: models, a fabricated run, hostile names in all of them."""

import base64
import json
from pathlib import Path
from shutil import copytree

import cv2
import nbformat
import numpy as np
import pandas as pd
from test_charts_lineage import ROWS

from shuttlelib import labels, metrics, paths, runtime, versions
from shuttlelib.report import store

HOSTILE = "<script>alert(1)</script> | **x** $y"
BENCH = {
    "schema": "shuttle-bench-1",
    "environment": {"cpu": "a CPU", "cores": 2, "commit": "beef", "time": "2026-11-25T03:05:00+00:00"},
    "video": {"name": "rally.mp4", "width": 1280, "height": 720, "fps": 30.0, "frames": 180},
    "rows": [
        {
            "backend": "onnx",
            "mode": "smart",
            "precision": "fp32",
            "streams": 1,
            "threads": 2,
            "end_to_end": {
                "fps": 151.2,
                "fps_best": 155.0,
                "frame_ms": {"p50": 5.9, "p95": 12.0, "p99": 21.0},
            },
            "stages": {"decode": {"ms_per_frame": 0.7}, "stage1": {}},
            "peak_rss_mb": 260.0,
            "startup_s": {"cold": None, "warm": 0.42},
            "accuracy": None,
        },
        {
            "backend": "tensorrt",
            "mode": "smart",
            "precision": "fp16",
            "streams": 1,
            "threads": 2,
            "reason": "no GPU",
        },
    ],
}


def summary(clip: str = HOSTILE) -> dict:
    """Metrics of two clips, one of them with this name."""
    table = labels.make_table(
        "c", range(20), [True] * 15 + [False] * 5, np.arange(20.0), np.full(20, 9.0), "synthetic"
    )
    said = table.assign(x_px=table["x_px"] + np.linspace(0, 14, 20), confidence=0.9)
    scores = {name: metrics.score_clip(said, table, (720, 1280)) for name in (clip, "other")}
    return metrics.summarize(scores, {clip: HOSTILE, "other": HOSTILE})


def evaluation(models: Path) -> tuple[dict, dict[str, bytes]]:
    """What `measure.evaluate` would say of a rendered set."""
    pictures = {"set-worst-1.jpg": cv2.imencode(".jpg", np.zeros((27, 48, 3), np.uint8))[1].tobytes()}
    bin_ = {"low_edge": 0.0, "high_edge": None, "frames": 3, "median_px": None, "median_low": None}
    bin_ |= {"median_high": None, "missed": 0.5, "missed_low": 0.2, "missed_high": 0.8}
    placed = {**bin_, "low_edge": 3.0, "median_px": 2.0, "median_low": 1.0, "median_high": 3.0}
    entry = {"why": "worst", "clip": HOSTILE, "frame": 3, "outcome": "FP1", "error_px": 40.0}
    entry |= {"confidence": 0.9, "file": "set-worst-1.jpg"}
    part = {
        "data_hash": "abc",
        "summary": summary(),
        "speed": [bin_],
        "size": [bin_, placed],
    }
    part |= {"causes": [], "gallery": [entry]}
    pair = {folder.name: store.weights(folder) for folder in runtime.default_pair(models)}
    return {"pair": pair, "sets": {HOSTILE: part}}, pictures


def make_models(folder: Path) -> Path:
    """The shipped models, with an evaluation beside them."""
    copytree(paths.MODELS, folder)
    made, pictures = evaluation(folder)
    store.keep(runtime.default_pair(folder)[1], {"evaluation": made}, pictures)
    return folder


def make_runs(folder: Path, models: Path) -> Path:
    """The training that made the shipped stage 2, the lineage compared, notebooks, a bench file."""
    shipped = runtime.default_pair(models)[1]
    training = folder / "training"
    copytree(shipped, training / "best")
    history = pd.DataFrame({"step": [1, 2], "seconds": [1.0, 2.0], "train_loss": [3.0, 2.0]})
    history.assign(loss=[3.5, 2.5], accuracy_512=[0.5, 0.75]).to_csv(training / "history.csv", index=False)
    made = {
        "seed": 7,
        "data_hash": "d474",
        "command": "shuttle train --data /home/me/secret/rallies --out runs/a",
    }
    made |= {"environment": {"commit": "c0ffee"}}
    (training / "metrics.json").write_text(json.dumps(made))
    (folder / "bench.json").write_text(json.dumps(BENCH))
    (folder / "lineage").mkdir()
    (folder / "lineage" / "lineage.json").write_text(json.dumps(lineage()))
    notebook(folder / "mine" / "00_look.ipynb", "full")
    notebook(folder / "fast" / "00_look.ipynb", "quick")
    copytree(training, folder / "fast" / "03_train")
    (folder / "mine" / "00_look").mkdir()
    (folder / "mine" / "00_look" / "metrics.json").write_text(json.dumps({"main": {HOSTILE: 0.5}}))
    return folder


def lineage() -> dict:
    """A comparison with the shape of `lineage.json`: a parent, a better child, one that failed."""
    history = {"step": [1, 2], "seconds": [60.0, 120.0], "accuracy": [0.3, 0.5], "median_px": [9.0, 5.0]}
    rows = {name: dict(row) for name, row in zip(versions.names(), ROWS.values())}
    for name, row in rows.items():
        row["parent"] = versions.resolve(name).parent
        if "error" not in row:
            row["history"] = history
    facts = {"budget": "2 steps", "seed": 0, "data_hash": "d474", "hardware": "a CPU"}
    facts["clips"] = {"train": 3, "val": 2}
    claim = {"claim": HOSTILE, "told": "t", "measured": "m", "numbers": "2.00 times", "verdict": "holds"}
    return {"facts": facts, "rows": rows, "claims": [claim]}


def notebook(path: Path, profile: str) -> None:
    """An executed notebook that prints a path of this machine and something hostile, and shows a picture."""
    new = nbformat.v4
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    png = cv2.imencode(".png", picture)[1].tobytes()
    shown = {"image/png": base64.b64encode(png).decode()}
    outputs = [
        new.new_output("stream", text=f"{path.parent.resolve()}/data {paths.REPO}/shuttlelib {HOSTILE}\n"),
        new.new_output("display_data", data=shown),
    ]
    cells = [
        new.new_markdown_cell("# Look"),
        new.new_code_cell("print(1)", outputs=outputs, execution_count=1),
    ]
    made = new.new_notebook(cells=cells)
    made.metadata.papermill = {
        "parameters": {"profile": profile, "run_dir": str(path.parent.resolve()), "note": HOSTILE},
        "duration": 2.5,
        "end_time": "2026-11-25T00:00:00",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)
