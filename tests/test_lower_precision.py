import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from shuttlelib import lower_precision


def weights(name, *shape):
    array = np.random.default_rng(len(name)).normal(0, 0.3, shape).astype(np.float32)
    return numpy_helper.from_array(array, name)


@pytest.fixture
def graph(tmp_path):
    """Bytes, cast, convolution, resize, addition, convolution, mean: what versions are made of."""
    node = helper.make_node
    nodes = [
        node("Cast", ["frames"], ["pixels"], "cast", to=TensorProto.FLOAT),
        node("Mul", ["pixels", "scale"], ["scaled"], "scaling"),
        node("Conv", ["scaled", "w1", "b1"], ["first"], "conv1", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["first"], ["rectified"], "relu"),
        node("Resize", ["rectified", "", "twice"], ["larger"], "resize", mode="nearest"),
        node("Add", ["larger", "shift"], ["shifted"], "add"),
        node("Conv", ["shifted", "w2"], ["second"], "conv2"),
        node("ReduceMean", ["second", "axes"], ["xy"], "mean", keepdims=0),
    ]
    values = [
        numpy_helper.from_array(np.float32(1 / 255), "scale"),
        weights("w1", 8, 3, 3, 3),
        weights("b1", 8),
        numpy_helper.from_array(np.float32([1, 1, 2, 2]), "twice"),
        numpy_helper.from_array(np.full((1, 8, 1, 1), 0.5, np.float32), "shift"),
        weights("w2", 4, 8, 1, 1),
        numpy_helper.from_array(np.int64([2, 3]), "axes"),
    ]
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("xy", TensorProto.FLOAT, ["batch", 4])],
        values,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def frames(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 3, 16, 16), np.uint8)


def run(path, pixels):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["xy"], {"frames": pixels})[0]


def types(path):
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    return {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}


def test_only_what_lies_between_convolutions_is_chosen(graph):
    inside = lower_precision.nodes_between_convs(onnx.load(graph).graph)
    assert inside == {"conv1", "relu", "resize", "add", "conv2"}


def test_half_precision_keeps_bytes_in_and_float32_out(graph, tmp_path):
    half = tmp_path / "half.onnx"
    lower_precision.write_fp16(graph, half)
    kinds = types(half)
    assert {kinds[name] for name in ("first", "larger", "second")} == {TensorProto.FLOAT16}
    assert {kinds[name] for name in ("scaled", "xy")} == {TensorProto.FLOAT}
    answer, before = run(half, frames()), run(graph, frames())
    assert answer.dtype == np.float32
    assert answer == pytest.approx(before, abs=5e-3)
    assert not np.array_equal(answer, before)
    stored = {value.name: value.data_type for value in onnx.load(half).graph.initializer}
    assert "w1" not in stored  # only its half remains
    assert stored["w1_fp16"] == TensorProto.FLOAT16
    assert stored["twice"] == TensorProto.FLOAT


@pytest.mark.parametrize("tensorrt", [False, True])
def test_convolutions_in_integers_stay_close(graph, tmp_path, tensorrt):
    path = tmp_path / "int8.onnx"
    lower_precision.write_int8(graph, path, {"frames": frames(9)}, tensorrt)
    assert run(path, frames()) == pytest.approx(run(graph, frames()), abs=0.03)
    quantized = onnx.load(path).graph
    kinds = {value.data_type for value in quantized.initializer}
    assert TensorProto.INT8 in kinds
    # TensorRT takes no int32 biases and no unsigned activations
    assert (TensorProto.INT32 in kinds, TensorProto.UINT8 in kinds) == (not tensorrt, not tensorrt)


def test_a_graph_that_cannot_be_written_leaves_nothing(graph, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise onnx.checker.ValidationError("no")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(onnx.checker.ValidationError):
        lower_precision.write_fp16(graph, tmp_path / "half.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]
