import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import BrightBackend, write_models

from shuttlelib import runtime
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.runtime import choice
from shuttlelib.runtime.base import GRAPHS


@pytest.fixture
def models(tmp_path):
    return write_models(tmp_path / "models")


def spots(hw, batch=3):
    frames = np.zeros((batch, 4, *hw, 3), np.uint8)
    for index in range(batch):
        frames[index, -1, 5 + index, 9 + 2 * index] = 240
    return frames


def test_onnx_runs_a_model_folder(models):
    backend = runtime.load(models / "bright2", "onnx", "cpu", threads=1)
    assert (backend.name, backend.device, backend.version) == ("onnx", "cpu (1 threads)", "bright2")
    assert backend.input_hw == (32, 32)
    assert not backend.uses_history
    for batch in (1, 3):
        ours, theirs = (
            backend.run(spots((32, 32), batch)),
            BrightBackend((32, 32)).run(spots((32, 32), batch)),
        )
        assert ours.xy.shape == (batch, 1, 2)
        assert np.array_equal(ours.xy, theirs.xy)
        assert ours.visible == pytest.approx(theirs.visible, abs=1e-6)
        assert ours.visible.shape == (batch,)


def test_onnx_names_a_lower_precision(models):
    folder = models / "bright2"
    (folder / GRAPHS["fp16"]).write_bytes((folder / "model.onnx").read_bytes())
    assert runtime.load(folder, "onnx", "cpu", threads=1, precision="fp16").device == "cpu (1 threads, fp16)"


@pytest.mark.parametrize("history", [False, True])
def test_threads_that_share_a_batch_answer_as_one_does(tmp_path, history):
    folder = write_models(tmp_path, history=history) / "bright2"
    frames = np.random.default_rng(0).integers(0, 256, (5, 4, 32, 32, 3), dtype=np.uint8)
    past = np.zeros((5, 30, 3), np.float32)
    one, three = (runtime.load(folder, "onnx", "cpu", threads).run(frames, past) for threads in (1, 3))
    for alone, shared in zip(one, three, strict=True):
        assert np.array_equal(alone, shared)
    assert len(np.unique(one.xy, axis=0)) == 5  # each input has an answer of its own


def test_a_graph_with_history_is_fed_it(tmp_path):
    models = write_models(tmp_path / "models", history=True)
    backend = runtime.load(models / "bright2", "onnx", "cpu", threads=1)
    assert backend.uses_history
    assert backend.run(spots((32, 32), 2), np.zeros((2, 30, 3), np.float32)).xy.shape == (2, 1, 2)


def test_the_default_pair_comes_from_the_models_folder(models):
    assert runtime.default_pair(models) == (models / "bright1", models / "bright2")
    (models / "default.json").write_text("[]")
    with pytest.raises(ShuttleError, match="must hold"):
        runtime.default_pair(models)
    with pytest.raises(ShuttleError, match=r"no default\.json"):
        runtime.default_pair(models / "bright1")


def test_auto_takes_what_works_here_and_says_why(models, monkeypatch):
    model = models / "bright1"
    monkeypatch.setattr(choice, "_gpu_present", lambda: False)
    monkeypatch.setattr(choice, "_works", lambda *_: False)
    monkeypatch.setattr(choice, "_installed", lambda _: False)
    assert runtime.choose(model)[:2] == ("onnx", "cpu")
    monkeypatch.setattr(choice, "_installed", lambda package: package == "openvino")
    monkeypatch.setattr(choice.platform, "machine", lambda: "aarch64")
    assert runtime.choose(model, precision="int8")[:2] == ("onnx", "cpu")
    monkeypatch.setattr(choice.platform, "machine", lambda: "x86_64")
    why = "no GPU asked for or found; OpenVINO is the fastest here on a CPU"
    assert runtime.choose(model, precision="int8") == ("openvino", "cpu", "int8", why)
    assert runtime.choose(model)[:2] == ("onnx", "cpu")
    monkeypatch.setattr(choice, "_gpu_present", lambda: True)
    assert runtime.choose(model, device="cpu")[:2] == ("onnx", "cpu")
    monkeypatch.setattr(choice, "_works", lambda backend, *_: backend == "onnx")
    assert runtime.choose(model)[:2] == ("onnx", "cuda")
    monkeypatch.setattr(choice, "_works", lambda *_: True)
    assert runtime.choose(model, precision="fp16")[:2] == ("tensorrt", "cuda")
    assert runtime.choose(model, precision="bf16")[:2] == ("openvino", "cpu")
    monkeypatch.setattr(choice, "_works", lambda *_: False)
    monkeypatch.setattr(choice, "_torch_cuda", lambda: True)
    assert runtime.choose(model) == (
        "torch",
        "cuda",
        "fp32",
        "a GPU, and neither TensorRT nor ONNX Runtime's CUDA provider here",
    )
    assert runtime.choose(model, "onnx")[:2] == ("onnx", "cpu")
    assert runtime.choose(model, "torch")[:2] == ("torch", "cuda")
    (model / "model.onnx").unlink()
    assert runtime.choose(model, device="cpu")[2:] == ("fp32", "no model.onnx in the model folder")


def test_an_automatic_precision_is_bfloat16_where_openvino_has_it_and_no_gpu_is_better(models, monkeypatch):
    model = models / "bright1"
    monkeypatch.setattr(choice, "_gpu_present", lambda: False)
    monkeypatch.setattr(choice, "_bf16_here", lambda: True)
    why = "no GPU asked for or found; OpenVINO is the fastest here on a CPU, in bfloat16"
    assert runtime.choose(model, precision="auto") == ("openvino", "cpu", "bf16", why)
    assert runtime.choose(model, "openvino", precision="auto")[:3] == ("openvino", "cpu", "bf16")
    assert runtime.choose(model, "onnx", precision="auto")[:3] == ("onnx", "cpu", "fp32")
    assert runtime.choose(model)[:3] == ("onnx", "cpu", "fp32")
    monkeypatch.setattr(choice, "_gpu_present", lambda: True)
    monkeypatch.setattr(choice, "_works", lambda *_: True)
    assert runtime.choose(model, precision="auto")[:3] == ("tensorrt", "cuda", "fp32")
    monkeypatch.setattr(choice, "_works", lambda *_: False)
    monkeypatch.setattr(choice, "_torch_cuda", lambda: False)
    assert runtime.choose(model, precision="auto").precision == "bf16"
    monkeypatch.setattr(choice, "_bf16_here", lambda: False)
    assert runtime.choose(model, precision="auto")[:3] == ("onnx", "cpu", "fp32")
    (model / "model.onnx").unlink()
    monkeypatch.setattr(choice, "_bf16_here", lambda: True)
    assert runtime.choose(model, device="cpu", precision="auto")[:3] == ("torch", "cpu", "fp32")


def test_bfloat16_is_asked_of_openvino_only_where_it_may_be(monkeypatch):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from shuttlelib.runtime import openvino

    monkeypatch.setattr(openvino, "has_bf16", lambda: True)
    monkeypatch.setattr(choice.Path, "is_file", lambda _: True)
    for flags, there in (("flags: avx2", False), ("flags: avx512_bf16", True)):
        monkeypatch.setattr(choice.Path, "read_text", lambda _, flags=flags: flags)
        assert choice._bf16_here() == there
    monkeypatch.setattr(choice, "_installed", lambda _: False)
    assert not choice._bf16_here()


def test_a_driver_without_a_usable_gpu_falls_back_to_the_cpu(models, monkeypatch):
    model = models / "bright1"
    monkeypatch.setattr(choice, "_gpu_present", lambda: True)
    monkeypatch.setattr(choice, "_works", lambda *_: False)
    monkeypatch.setattr(choice, "_torch_cuda", lambda: False)
    monkeypatch.setattr(choice, "_installed", lambda _: False)
    why = "a GPU, but nothing here can use it; ONNX Runtime is the fastest here on a CPU"
    assert runtime.choose(model) == ("onnx", "cpu", "fp32", why)
    assert runtime.choose(model, "torch") == ("torch", "cpu", "fp32", "asked for")
    assert runtime.choose(model, device="cuda")[1] == "cuda"  # asked for: an error when it is loaded
    assert runtime.choose(model, "torch", "cuda")[1] == "cuda"
    (model / "model.onnx").unlink()
    assert runtime.choose(model)[:2] == ("torch", "cpu")


def test_a_cuda_provider_that_does_not_start_is_noticed(models, monkeypatch):
    import onnxruntime as ort

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: session)
    with pytest.raises(ShuttleError, match="does not start here; install the CUDA and cuDNN"):
        runtime.load(models / "bright1", "onnx", "cuda")
    monkeypatch.setattr(choice, "_gpu_present", lambda: True)
    assert runtime.choose(models / "bright1", "onnx")[:2] == ("onnx", "cpu")


def test_wrong_choices_are_wrong_usage(models):
    with pytest.raises(UsageError, match="--backend jax: choose one of auto, onnx"):
        runtime.load(models / "bright1", "jax")
    with pytest.raises(UsageError, match="--device tpu"):
        runtime.load(models / "bright1", "onnx", "tpu")
    with pytest.raises(UsageError, match="needs a GPU"):
        runtime.load(models / "bright1", "tensorrt", "cpu")
    with pytest.raises(UsageError, match="runs on the CPU only; use --device cpu"):
        runtime.load(models / "bright1", "openvino", "cuda")
    with pytest.raises(UsageError, match="--precision fp8: choose one of auto, fp32, fp16, bf16, int8"):
        runtime.load(models / "bright1", "onnx", "cpu", precision="fp8")
    with pytest.raises(UsageError, match="does not run --precision bf16; use openvino"):
        runtime.load(models / "bright1", "onnx", "cpu", precision="bf16")
    with pytest.raises(ShuttleError, match=r"int8\.onnx: missing; .* or use --precision fp32"):
        runtime.load(models / "bright1", "onnx", "cpu", precision="int8")
    with pytest.raises(UsageError, match="CUDA graphs need a GPU; use --backend torch"):
        runtime.load(models / "bright1", "torch-graph", "cpu")


def test_cuda_without_its_provider_names_the_fix(models, monkeypatch):
    import onnxruntime as ort

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ShuttleError, match="pip install onnxruntime-gpu"):
        runtime.load(models / "bright1", "onnx", "cuda")


def test_tensorrt_without_its_package_names_the_fix(models, monkeypatch):
    for package in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ShuttleError, match=r"pip install -e .*\[rtx\]"):
        runtime.load(models / "bright1", "tensorrt", "auto")


def test_a_damaged_model_folder_is_named(models):
    with pytest.raises(ShuttleError, match="no such model"):
        runtime.load(models / "bright9", "onnx", "cpu")
    (models / "bright1" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ShuttleError, match=r"model\.onnx: cannot be loaded"):
        runtime.load(models / "bright1", "onnx", "cpu")
    (models / "bright1" / "model.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ShuttleError, match=r"model\.onnx: only a pointer .* run `git lfs pull`"):
        runtime.load(models / "bright1", "onnx", "cpu")
    (models / "bright1" / "model.onnx").unlink()
    with pytest.raises(ShuttleError, match="missing; write it with `shuttle export"):
        runtime.load(models / "bright1", "onnx", "cpu")
    with pytest.raises(ShuttleError, match="--precision fp32`, or use --backend torch --precision fp32"):
        runtime.base.graph_path(models / "bright1", "bf16")  # which runs the graph of fp32
    (models / "bright2" / "version.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(ShuttleError, match=r"version\.json: damaged \(KeyError\('input_hw'\)\)"):
        runtime.load(models / "bright2", "onnx", "cpu")


@pytest.mark.slow
def test_torch_runs_the_weights(tmp_path):
    from shuttlelib import networks, versions

    networks.save(networks.build(versions.resolve("stage2_v8", input_hw=(64, 64))), tmp_path / "m")
    backend = runtime.load(tmp_path / "m", "torch", "cpu", threads=1)
    answer = backend.run(spots((64, 64), 2))
    assert (backend.name, backend.input_hw, backend.uses_history) == ("torch", (64, 64), False)
    assert answer.xy.shape[::2] == (2, 2)
    assert answer.score.shape == answer.xy.shape[:2]
    assert ((answer.visible >= 0) & (answer.visible <= 1)).all()


def test_a_compiler_that_does_not_work_is_noticed_at_the_start(tmp_path, monkeypatch):
    import torch

    from shuttlelib import networks, versions

    networks.save(networks.build(versions.resolve("stage2_v8", input_hw=(64, 64))), tmp_path / "m")
    monkeypatch.setattr(torch, "compile", lambda net: net)
    backend = runtime.load(tmp_path / "m", "torch-compile", "cpu", threads=1)
    eager = runtime.load(tmp_path / "m", "torch", "cpu", threads=1)
    assert backend.name == "torch-compile"
    assert np.array_equal(backend.run(spots((64, 64), 2)).xy, eager.run(spots((64, 64), 2)).xy)

    def broken(_):
        def run(*_):
            raise RuntimeError("no g++\nlong story")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ShuttleError, match=r"cannot compile here \(no g\+\+\); install a C\+\+ compiler"):
        runtime.load(tmp_path / "m", "torch-compile", "cpu", threads=1)


def test_onnx_starts_without_torch_and_pandas(models):
    code = (
        "import sys; from pathlib import Path; from shuttlelib import cli, tracking; "
        f"tracking.load_networks('onnx', 'cpu', 1, Path({str(models)!r})); "
        "print([name for name in ('torch', 'pandas', 'matplotlib', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
