import numpy as np
import onnx
import pytest
import torch

from shuttlelib import blocks, export, networks, runtime, versions


@pytest.fixture(scope="module", params=["stage1_v5", "stage2_v5", "stage2_v3", "unet_8in8"])
def exported(request, tmp_path_factory):
    """One row of each kind: cells with offsets, soft-argmax with FiLM and prior, pooled, U-Net."""
    thin = {"neck_channels": 8} if versions.resolve(request.param).network == "unet" else {}
    spec = versions.resolve(request.param, pretrained=False, input_hw=(96, 96), **thin)
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    networks.save(networks.build(spec), folder)
    export.export_onnx(folder)
    return folder


def blobs(looks=4, count=3, side=96):
    """Frames with a bright spot that moves."""
    ys, xs = np.mgrid[:side, :side] + 0.5
    frames = np.zeros((count, looks, side, side, 3), np.uint8)
    for b in range(count):
        for t in range(looks):
            spot = np.exp(-((xs - 20 - 10 * b - 4 * t) ** 2 + (ys - 40) ** 2) / 18)
            frames[b, t] = (250 * spot).astype(np.uint8)[..., None]
    return frames


def test_onnx_runtime_agrees_with_torch_at_any_batch(exported):
    deployed = networks.load(exported)
    history = np.zeros((3, 30, 3), np.float32) if networks.uses_history(deployed.net.spec) else None
    frames = blobs(deployed.net.spec.frames)
    answers = [runtime.load(exported, name, "cpu").run(frames, history) for name in ("torch", "onnx")]
    gaps = export.gaps(*answers)
    assert gaps["position_px"] < 0.1
    assert gaps["visible"] < 1e-4
    one = None if history is None else history[:1]
    single = runtime.load(exported, "onnx", threads=1).run(frames[:1], one)
    batch = runtime.load(exported, "onnx", threads=1).run(frames, history)
    assert np.allclose(single.xy, batch.xy[:1], atol=1e-3)


def test_the_graph_takes_pixels_and_is_one_file(exported):
    graph = onnx.load(exported / "model.onnx").graph
    first = graph.input[0]
    assert first.name == "frames"
    assert first.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [output.name for output in graph.output] == ["xy", "score", "visible"]
    assert [path.name for path in exported.glob("model.onnx*")] == ["model.onnx"]
    assert b"shuttlelib/" not in (exported / "model.onnx").read_bytes()  # no paths of the exporting machine


def test_latency_is_a_positive_time(exported):
    assert 0 < export.latency_ms(runtime.load(exported, "onnx", threads=1), runs=2) < 60_000


def test_normalization_is_the_backbones():
    white = blocks.normalize(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert white[0, :, 0, 0].tolist() == pytest.approx(
        [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    )
