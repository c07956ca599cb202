"""A small graph made of what versions are made of, for tests of precisions."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def weights(name, *shape):
    array = np.random.default_rng(len(name)).normal(0, 0.3, shape).astype(np.float32)
    return numpy_helper.from_array(array, name)


def write(path: Path) -> Path:
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
    onnx.save(model, path)
    return path


def frames(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 3, 16, 16), np.uint8)


def run(path, pixels, as_written=False):
    """What a graph says; as written: node by node, without the integer kernels of this processor.

    On processors without VNNI those for signed activations, which are TensorRT's, lose what exceeds 16 bits.
    """
    options = onnxruntime.SessionOptions()
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["xy"], {"frames": pixels})[0]
