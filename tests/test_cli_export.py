import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from shuttlelib import cli_export, deployment, export_planes, runtime
from shuttlelib.cli import app
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.paths import REPO


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A shipped version; its graph stays as it is, since exporting it again takes long."""
    source = runtime.default_pair(REPO / "models")[1]
    folder = tmp_path / source.name
    shutil.copytree(source, folder)
    monkeypatch.setattr(deployment.export, "export_onnx", lambda folder: folder / "model.onnx")
    return folder


def test_export_writes_graphs_and_a_table(model, monkeypatch):
    monkeypatch.setattr(cli_export, "PARITY", 2)
    (model / "model.fp16.onnx").unlink()
    cutting = []
    monkeypatch.setattr(export_planes, "export_planes", cutting.append)
    wanted = ["export", str(model), "--threads", "1", "--planes"]
    done = CliRunner().invoke(app, wanted, catch_exceptions=False)
    assert (done.exit_code, cutting) == (0, [model])
    assert (model / "model.fp16.onnx").is_file()
    table = pd.read_csv(model / "export.csv")
    ran = table[table["skipped"].isna()]
    assert {("fp32", "onnx"), ("fp16", "onnx"), ("fp32", "torch")} <= set(zip(ran.precision, ran.backend))
    assert str(model) in done.output
    assert "latency_ms" in done.output
    assert "skipped tensorrt fp32: --backend tensorrt" in done.output


def test_engines_that_cannot_be_built_are_told_before_anything_is_measured(model, monkeypatch):
    def refuse(*_):
        raise ShuttleError("no TensorRT here")

    monkeypatch.setattr(deployment, "build_engines", refuse)
    monkeypatch.setattr(deployment, "measure", lambda *_: pytest.fail("measured first"))
    with pytest.raises(ShuttleError, match="no TensorRT here"):
        CliRunner().invoke(app, ["export", str(model), "--engine", "8.6"], catch_exceptions=False)


def test_wrong_wishes_are_wrong_usage(model):
    with pytest.raises(UsageError, match="--precision fp8: choose from fp32, fp16, int8"):
        CliRunner().invoke(app, ["export", str(model), "--precision", "fp8"], catch_exceptions=False)
    with pytest.raises(UsageError, match="give --data FOLDER"):
        CliRunner().invoke(app, ["export", str(model), "--precision", "int8"], catch_exceptions=False)
