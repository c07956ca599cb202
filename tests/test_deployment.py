import importlib.util
import shutil

import numpy as np
import pytest

from shuttlelib import deployment, export, networks, runtime, versions
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.paths import REPO
from shuttlelib.runtime import engines

HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
SHIPPED = runtime.default_pair(REPO / "models")
LIMITS_PX = {"fp32": 0.1, "fp16": 0.5}


@pytest.fixture(scope="module")
def sample():
    return deployment.sample_clips()


@pytest.fixture(scope="module", params=SHIPPED, ids=lambda folder: folder.name)
def shipped(request, tmp_path_factory):
    """A copy of a shipped version with its graph in half precision written anew."""
    folder = tmp_path_factory.mktemp("models") / request.param.name
    shutil.copytree(request.param, folder)
    deployment.lower_precision.write_fp16(folder / "model.onnx", folder / "model.fp16.onnx")
    return folder


def test_shipped_graphs_agree_with_torch_on_the_sample_rally(shipped, sample):
    inputs = deployment.real_inputs(runtime.read_card(shipped), sample, 12)
    backends = ("torch", "onnx", "openvino")
    table = deployment.measure(shipped, list(LIMITS_PX), inputs, 1, 1, backends)
    assert list(zip(table["precision"], table["backend"])) == [
        ("fp32", "torch"),
        ("fp32", "onnx"),
        ("fp32", "openvino"),
        ("fp16", "onnx"),
        ("fp16", "openvino"),
    ]
    ran = table[table["skipped"] == ""]
    assert {"torch", "onnx"} <= set(ran["backend"])
    assert (ran["position_px"] < ran["precision"].map(LIMITS_PX)).all()
    assert (ran["visible"] < 0.01).all()
    assert (ran["latency_ms"] > 0).all()
    assert ran["size_mb"].notna().all()


def test_inputs_are_what_the_tracker_would_cut(sample):
    whole, crops = (deployment.real_inputs(runtime.read_card(folder), sample, 8) for folder in SHIPPED)
    assert whole["frames"].shape == (8, 4, 288, 512, 3)
    assert crops["frames"].shape == (8, 4, 160, 160, 3)
    assert "history" not in crops
    moving = np.abs(np.diff(whole["frames"].astype(int), axis=1)).mean((0, 2, 3, 4))
    assert (moving > 0).all()  # four frames, not one
    card = {**runtime.read_card(SHIPPED[1]), "history": True}
    assert deployment.real_inputs(card, sample, 2)["history"].shape == (2, 30, 3)


def test_what_cannot_run_here_says_why(shipped, sample):
    inputs = deployment.real_inputs(runtime.read_card(shipped), sample, 1)
    table = deployment.measure(shipped, ["int8"], inputs, 1, 1, ("onnx",))
    assert table["skipped"].item().startswith(f"{shipped / 'model.int8.onnx'}: missing")


@pytest.mark.slow
def test_every_precision_of_a_version_is_written(tmp_path, sample):
    spec = versions.resolve("stage2_v8", pretrained=False, input_hw=(96, 96))
    networks.save(networks.build(spec), tmp_path)
    written = deployment.write_graphs(tmp_path, ["fp16", "int8"], sample)
    names = ["model.onnx", "model.fp16.onnx", "model.int8.onnx", "model.int8-tensorrt.onnx"]
    assert [path.name for path in written] == names
    inputs = deployment.real_inputs(runtime.read_card(tmp_path), sample, 4)
    truth = runtime.load(tmp_path, "onnx", "cpu", 1).run(**inputs)
    for precision in ("fp16", "int8"):
        answer = runtime.load(tmp_path, "onnx", "cpu", 1, precision).run(**inputs)
        assert export.gaps(truth, answer)["visible"] < 0.1


@pytest.mark.skipif(not HAS_RTX, reason="TensorRT-RTX is not installed")
def test_engines_for_other_gpus_are_found_by_their_names(shipped):
    table = deployment.build_engines(shipped, ["fp16"], ["8.6", "12.0"])
    assert table["backend"].tolist() == ["tensorrt 8.6", "tensorrt 12.0"]
    assert (table["build_s"] > 0).all()
    trt = engines.find_tensorrt()
    name = engines.engine_name(shipped / "model.fp16.onnx", trt, "8.6", "NVIDIA RTX A4000")
    assert name == table["file"][0]
    assert engines.read_engine(shipped / name)


def test_wrong_wishes_are_wrong_usage(shipped):
    with pytest.raises(UsageError, match="--precision fp8: choose of fp32, fp16, int8"):
        deployment.write_graphs(shipped, ["fp32", "fp8"])
    with pytest.raises(UsageError, match=r"--precision int8: .* give --data FOLDER"):
        deployment.write_graphs(shipped, ["int8"])
    with pytest.raises(ShuttleError, match=r"int8-tensorrt\.onnx: missing"):
        deployment.build_engines(shipped, ["int8"], ["8.6"])
