import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shuttlelib import export_planes, networks, versions
from shuttlelib.cut import Cut
from shuttlelib.export_planes import FromPlanes, example, sample_window
from shuttlelib.runtime import tensorrt

HAS_TENSORRT = any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx"))


class Darkest(torch.nn.Module):
    """Stands for a deployed network, whose export takes long: says the darkest level of each input."""

    def __init__(self, version):
        super().__init__()
        self.net = SimpleNamespace(spec=versions.resolve(version, input_hw=(96, 96)))

    def forward(self, frames, history=None):
        darkest = frames.float().flatten(2).amin(2)
        if history is not None:
            darkest = darkest + history.sum((1, 2))[:, None]
        return frames.float().mean((1, 2, 3))[:, None, :2], darkest, darkest[:, 0]


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """The stand-in of a row with history."""
    monkeypatch.setattr(networks, "load", lambda _: Darkest("stage1_v4"))
    export_planes.export_planes(tmp_path, (360, 640))
    return tmp_path


def agrees(exported, size_hw):
    """Whether ONNX Runtime says what torch says of frames of that size."""
    import onnxruntime as ort

    deployed = networks.load(exported)
    spec = deployed.net.spec
    window = sample_window(spec.stage, spec.input_hw, size_hw)
    inputs = example(window, size_hw, spec.frames, batch=3)
    if networks.uses_history(spec):
        inputs = (*inputs, torch.rand(3, networks.HISTORY, 3))
    with torch.inference_mode():
        ours = FromPlanes(deployed, Cut([window], spec.stage == 1))(*inputs)
    session = ort.InferenceSession(exported / export_planes.NAME, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    assert names == ["planes", "slots", "windows", "history"][: len(inputs)]
    theirs = session.run(None, {name: value.numpy() for name, value in zip(names, inputs)})
    return all(np.allclose(a.numpy(), b, atol=2e-3) for a, b in zip(ours, theirs))


def parsed_by_tensorrt(path):
    trt = tensorrt.find_tensorrt()
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, builder.logger)
    return parser.parse(path.read_bytes()) and network.get_input(0).dtype == trt.uint8


@pytest.mark.slow
def test_the_graph_cuts_windows_of_frames_of_any_size(exported):
    assert agrees(exported, (360, 640))
    assert agrees(exported, (180, 320))
    if HAS_TENSORRT:
        assert parsed_by_tensorrt(exported / export_planes.NAME)
