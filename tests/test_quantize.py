from dataclasses import replace

import numpy as np
import onnx
import pytest
import small_graph
from onnx import TensorProto
from small_graph import frames, run

from shuttlelib import clips, export, half, networks, quantize, runtime, versions
from shuttlelib.paths import REPO, SAMPLES

SHIPPED = runtime.default_pair(REPO / "models")


@pytest.fixture
def graph(tmp_path):
    return small_graph.write(tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def sample():
    return clips.load_dataset(SAMPLES)


@pytest.mark.parametrize("tensorrt", [False, True])
def test_convolutions_in_integers_stay_close(graph, tmp_path, tensorrt):
    path = tmp_path / "int8.onnx"
    quantize.write_int8(graph, path, {"frames": frames(9)}, tensorrt)
    assert run(path, frames(), as_written=tensorrt) == pytest.approx(run(graph, frames()), abs=0.03)
    quantized = onnx.load(path).graph
    kinds = {value.data_type for value in quantized.initializer}
    assert TensorProto.INT8 in kinds
    # TensorRT takes no int32 biases and no unsigned activations
    assert (TensorProto.INT32 in kinds, TensorProto.UINT8 in kinds) == (not tensorrt, not tensorrt)


def test_inputs_are_what_the_tracker_would_cut(sample):
    whole, crops = (quantize.real_inputs(runtime.read_card(folder), sample, 8) for folder in SHIPPED)
    assert whole["frames"].shape == (8, 4, 288, 512, 3)
    assert crops["frames"].shape == (8, 5, 160, 160, 3)
    assert "history" not in crops
    moving = np.abs(np.diff(whole["frames"].astype(int), axis=1)).mean((0, 2, 3, 4))
    assert (moving > 0).all()  # frames of several times, not one
    unknown = [replace(clip, info=replace(clip.info, frame_count=0)) for clip in sample]
    assert quantize.real_inputs(runtime.read_card(SHIPPED[1]), unknown, 8)["frames"].shape[0] == 8
    card = {**runtime.read_card(SHIPPED[1]), "history": True}
    assert quantize.real_inputs(card, sample, 2)["history"].shape == (2, 30, 3)
    for folder in SHIPPED:  # a version that looks ahead is shown as many
        five = {**runtime.read_card(folder), "frames": 5, "ahead": 2}
        assert quantize.real_inputs(five, sample, 8)["frames"].shape[:2] == (8, 5)


@pytest.mark.slow
def test_every_precision_of_a_version_is_written(tmp_path, sample):
    spec = versions.resolve("stage2_v8", pretrained=False, input_hw=(96, 96))
    networks.save(networks.build(spec), tmp_path)
    half.write_fp16(export.export_onnx(tmp_path), tmp_path / "model.fp16.onnx")
    written = quantize.write_int8_graphs(tmp_path, sample)
    assert [path.name for path in written] == ["model.int8.onnx", "model.int8-tensorrt.onnx"]
    inputs = quantize.real_inputs(runtime.read_card(tmp_path), sample, 4)
    truth = runtime.load(tmp_path, "onnx", "cpu", 1).run(**inputs)
    for precision in ("fp16", "int8"):
        answer = runtime.load(tmp_path, "onnx", "cpu", 1, precision).run(**inputs)
        assert export.gaps(truth, answer)["visible"] < 0.1
