import importlib
import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shuttlelib import export_planes, networks, versions
from shuttlelib.cut import Cut
from shuttlelib.export_planes import FromPlanes, example
from shuttlelib.frames import PAST
from shuttlelib.looks import sample_window
from shuttlelib.runtime import engines


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


def test_frames_smaller_than_those_it_was_written_for_are_cut_whole(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(networks, "load", lambda _: Darkest("stage2_v8"))
    monkeypatch.setattr(export_planes.export, "write_graph", lambda module, *_: made.append(module))
    export_planes.export_planes(tmp_path)
    (module,) = made
    spec = module.deployed.net.spec
    for size_hw in ((1080, 1920), (1050, 1680), (936, 1664), (768, 1366), (720, 1280), (480, 854)):
        window = sample_window(spec.stage, spec.input_hw, size_hw)
        planes, *rest = example(window, size_hw, spec.frames)
        planes[:, : size_hw[0]], planes[:, size_hw[0] :] = 200, 128
        darkest = module(planes, *rest)[1]
        assert darkest.min() >= 213, size_hw  # video level 200 is 214 of 255


def agrees(exported, size_hw):
    """Whether ONNX Runtime says what torch says of frames of that size."""
    import onnxruntime as ort

    deployed = networks.load(exported)
    spec = deployed.net.spec
    window = sample_window(spec.stage, spec.input_hw, size_hw)
    inputs = example(window, size_hw, spec.frames, batch=3)
    if networks.uses_history(spec):
        inputs = (*inputs, torch.rand(3, PAST, 3))
    with torch.inference_mode():
        ours = FromPlanes(deployed, Cut([window], spec.stage == 1))(*inputs)
    session = ort.InferenceSession(exported / export_planes.NAME, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    assert names == ["planes", "slots", "windows", "history"][: len(inputs)]
    theirs = session.run(None, {name: value.numpy() for name, value in zip(names, inputs)})
    return all(np.allclose(a.numpy(), b, atol=2e-3) for a, b in zip(ours, theirs))


def engine_for_an_a4000(path):
    """What TensorRT-RTX builds of the graph, without needing a GPU."""
    trt = importlib.import_module("tensorrt_rtx")
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    network = engines.parse(trt, builder, path)
    profile = builder.create_optimization_profile()
    for name, least, most in (
        ("planes", (4, 270, 320), (16, 540, 640)),
        ("slots", (1, 4), (16, 4)),
        ("windows", (1, 4), (16, 4)),
        ("history", (1, 30, 3), (16, 30, 3)),
    ):
        profile.set_shape(name, least, least, most)
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    return builder.build_serialized_network(network, config)


@pytest.mark.slow
def test_the_graph_cuts_windows_of_frames_of_any_size(exported):
    assert agrees(exported, (360, 640))
    assert agrees(exported, (180, 320))
    if importlib.util.find_spec("tensorrt_rtx"):
        assert engine_for_an_a4000(exported / export_planes.NAME) is not None
