import importlib.util
import shutil

import pytest

from shuttlelib import clips, deployment, half, quantize, runtime
from shuttlelib.errors import ShuttleError
from shuttlelib.paths import REPO, SAMPLES
from shuttlelib.runtime import engines

HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
SHIPPED = runtime.default_pair(REPO / "models")
LIMITS_PX = {"fp32": 0.1, "fp16": 0.5}


@pytest.fixture(scope="module")
def sample():
    return clips.load_dataset(SAMPLES)


@pytest.fixture(scope="module", params=SHIPPED, ids=lambda folder: folder.name)
def shipped(request, tmp_path_factory):
    """A copy of a shipped version with its graph in half precision written anew."""
    folder = tmp_path_factory.mktemp("models") / request.param.name
    shutil.copytree(request.param, folder)
    half.write_fp16(folder / "model.onnx", folder / "model.fp16.onnx")
    return folder


def test_shipped_graphs_agree_with_torch_on_the_sample_rally(shipped, sample):
    inputs = quantize.real_inputs(runtime.read_card(shipped), sample, 12)
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


def test_what_cannot_run_here_says_why(shipped, sample):
    inputs = quantize.real_inputs(runtime.read_card(shipped), sample, 1)
    table = deployment.measure(shipped, ["int8"], inputs, 1, 1, ("onnx",))
    assert table["skipped"].item().startswith(f"{shipped / 'model.int8.onnx'}: missing")


def test_names_of_precisions_may_have_blanks_around_them_and_are_known(shipped, sample):
    inputs = quantize.real_inputs(runtime.read_card(shipped), sample, 1)
    table = deployment.measure(shipped, ["fp16", " int8 "], inputs, 1, 1, ("onnx",))
    assert table["precision"].tolist() == ["fp16", "int8"]
    with pytest.raises(ShuttleError, match=r"^precision fp61: choose one of fp32, fp16, bf16, int8$"):
        deployment.measure(shipped, ["fp32", "fp61"], inputs, 1, 1, ("onnx",))


@pytest.mark.skipif(not HAS_RTX, reason="TensorRT-RTX is not installed")
def test_engines_for_other_gpus_are_found_by_their_names(shipped):
    table = deployment.build_engines(shipped, ["fp16"], ["8.6", " 12.0"])
    assert table["backend"].tolist() == ["tensorrt 8.6", "tensorrt 12.0"]
    assert (table["build_s"] > 0).all()
    trt = engines.find_tensorrt()
    name = engines.engine_name(shipped / "model.fp16.onnx", trt, "8.6", "NVIDIA RTX A4000")
    assert name == table["file"][0]
    assert engines.read_engine(shipped / name)


def test_an_engine_needs_its_graph(shipped):
    with pytest.raises(ShuttleError, match=r"int8-tensorrt\.onnx: missing"):
        deployment.build_engines(shipped, ["int8"], ["8.6"])
