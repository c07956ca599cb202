"""Graphs in half precision, made of the fp32 graph; between export and deployment.

Bytes go in and float32 comes out all the same: only what lies between the first and the last convolution
changes. Half precision holds a pixel's level to a thirtieth, and the same one in every frame, so what does
not move cancels still. Reading places from a heatmap (softmax, sums over thousands of cells, coordinates)
stays fp32, which costs next to nothing and keeps a hundredth of a pixel.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shuttlelib.files import atomic_write


def write_fp16(graph: Path, path: Path) -> None:
    """Write a graph whose convolutions, and what lies between them, run in half precision.

    Not ONNX Runtime's converter: it leaves nodes out of order, which ONNX's own check refuses.
    """
    model = onnx.load(graph)
    half_between(model, nodes_between_convs(model.graph))
    with atomic_write(path) as temp:
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, temp)


def nodes_between_convs(graph: onnx.GraphProto) -> set[str]:
    """Names of the convolutions and of every node on a path from one to another."""
    makers = {output: node for node in graph.node for output in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def reached(step: Callable[[onnx.NodeProto], Iterable[onnx.NodeProto]]) -> set[str]:
        ahead = [node for node in graph.node if node.op_type == "Conv"]
        seen = {node.name for node in ahead}
        while ahead:
            for node in step(ahead.pop()):
                if node.name not in seen:
                    seen.add(node.name)
                    ahead.append(node)
        return seen

    after = reached(lambda node: (user for output in node.output for user in users.get(output, ())))
    return after & reached(lambda node: (makers[name] for name in node.input if name in makers))


def half_between(model: onnx.ModelProto, inside: set[str]) -> None:
    """Turn the nodes named `inside` to half precision, with casts where values enter and leave."""
    graph = model.graph
    floats = _float_values(model)
    stored = {value.name: value for value in graph.initializer}
    made_inside = {output for node in graph.node if node.name in inside for output in node.output} & floats
    nodes: list[onnx.NodeProto] = []
    cast: set[str] = set()

    def as_type(name: str, kind: int, suffix: str) -> str:
        """The same value in another type: a constant is converted, another value cast once."""
        if name + suffix not in cast:
            cast.add(name + suffix)
            if name in stored:
                array = numpy_helper.to_array(stored[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(array, name + suffix))
            else:
                nodes.append(
                    helper.make_node("Cast", [name], [name + suffix], f"cast_{name}{suffix}", to=kind)
                )
        return name + suffix

    for node in list(graph.node):
        for place, name in enumerate(node.input):
            if node.name in inside and name in floats - made_inside:
                if node.op_type != "Resize" or place == 0:  # its scales are always fp32
                    node.input[place] = as_type(name, TensorProto.FLOAT16, "_fp16")
            elif node.name not in inside and name in made_inside:
                node.input[place] = as_type(name, TensorProto.FLOAT, "_fp32")
        nodes.append(node)
    del graph.node[:], graph.value_info[:]  # ONNX works out types again
    graph.node.extend(nodes)
    _drop_unused(graph)


def _float_values(model: onnx.ModelProto) -> set[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = [*graph.value_info, *graph.input, *graph.output]
    floats = {value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return floats | {value.name for value in graph.initializer if value.data_type == TensorProto.FLOAT}


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
