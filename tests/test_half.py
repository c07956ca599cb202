import numpy as np
import onnx
import pytest
import small_graph
from onnx import TensorProto
from small_graph import frames, run

from shuttlelib import half


@pytest.fixture
def graph(tmp_path):
    return small_graph.write(tmp_path / "model.onnx")


def types(path):
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    return {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}


def test_only_what_lies_between_convolutions_is_chosen(graph):
    inside = half.nodes_between_convs(onnx.load(graph).graph)
    assert inside == {"conv1", "relu", "resize", "add", "conv2"}


def test_half_precision_keeps_bytes_in_and_float32_out(graph, tmp_path):
    path = tmp_path / "half.onnx"
    half.write_fp16(graph, path)
    kinds = types(path)
    assert {kinds[name] for name in ("first", "larger", "second")} == {TensorProto.FLOAT16}
    assert {kinds[name] for name in ("scaled", "xy")} == {TensorProto.FLOAT}
    answer, before = run(path, frames()), run(graph, frames())
    assert answer.dtype == np.float32
    assert answer == pytest.approx(before, abs=5e-3)
    assert not np.array_equal(answer, before)
    stored = {value.name: value.data_type for value in onnx.load(path).graph.initializer}
    assert "w1" not in stored  # only its half remains
    assert stored["w1_fp16"] == TensorProto.FLOAT16
    assert stored["twice"] == TensorProto.FLOAT


def test_a_graph_that_cannot_be_written_leaves_nothing(graph, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise onnx.checker.ValidationError("no")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(onnx.checker.ValidationError):
        half.write_fp16(graph, tmp_path / "half.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]
