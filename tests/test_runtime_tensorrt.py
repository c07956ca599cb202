"""The TensorRT backend against stand-ins for the package and the GPU: it runs nowhere without a driver."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes import BrightBackend, write_models

from shuttlelib import paths, runtime
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.runtime import choice, engines, tensorrt
from shuttlelib.runtime import memory as memory_


def memory(address, shape, kind):
    """The array that lies at an address."""
    count = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_char * count).from_address(address), kind).reshape(shape)


class Context:
    """Runs the brightest-pixel network on the memory it is given."""

    def __init__(self, config):
        self.config, self.shapes, self.at, self.works = config, {}, {}, True

    def set_input_shape(self, name, shape):
        assert 1 <= shape[0] <= 16, "outside the optimization profile"
        self.shapes[name] = shape

    def get_tensor_shape(self, name):
        batch = self.shapes["frames"][0]
        return {"xy": (batch, 1, 2), "score": (batch, 1), "visible": (batch,)}[name]

    def set_tensor_address(self, name, address):
        self.at[name] = address

    def execute_async_v3(self, stream):
        assert stream == 42
        if self.works:
            frames = memory(self.at["frames"], self.shapes["frames"], np.uint8)
            for name, part in BrightBackend((32, 32)).run(frames)._asdict().items():
                memory(self.at[name], part.shape, part.dtype)[:] = part
            if self.config is not None:
                self.config.cache.held = b"kernels of this GPU"
        return self.works


class Cache:
    held = b""

    def deserialize(self, blob):
        self.held = blob if blob.endswith(b"of this GPU") else self.held
        return self.held == blob

    def serialize(self):
        return self.held


class Config:
    cache = None

    def create_runtime_cache(self):
        return Cache()

    def set_runtime_cache(self, cache):
        self.cache = cache


class Engine:
    names, num_io_tensors = ("frames", "xy", "score", "visible"), 4

    def get_tensor_name(self, index):
        return self.names[index]

    def create_execution_context(self, config=None):
        return Context(config)


class RTXEngine(Engine):
    def create_runtime_config(self):
        return Config()


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """A GPU and a TensorRT of stand-ins; returns the package, whose `engine` is what it loads."""
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    stream = SimpleNamespace(cuda_stream=42, wait_stream=lambda _: None)
    cuda = {"is_available": True, "get_device_name": "NVIDIA RTX A4000", "get_device_capability": (8, 6)}
    for name, answer in {**cuda, "Stream": stream, "current_stream": stream}.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self, **_: self)
    monkeypatch.setattr(engines, "build_engine", lambda graph, capability: f"for {capability}".encode())
    package = SimpleNamespace(__name__="tensorrt_rtx", __version__="1.7.1", engine=RTXEngine)
    package.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    package.Logger = type("Logger", (), {"ERROR": 0, "__init__": lambda *_: None})
    package.Runtime = lambda _: SimpleNamespace(deserialize_cuda_engine=lambda data: package.engine())
    for module in (engines, tensorrt):
        monkeypatch.setattr(module, "find_tensorrt", lambda rtx_first=False: package)
    return package


@pytest.fixture
def model(tmp_path):
    return write_models(tmp_path / "models") / "bright2"


def load(model):
    return tensorrt.TensorRTBackend(model, runtime.read_card(model))


def spots(batch):
    frames = np.zeros((batch, 4, 32, 32, 3), np.uint8)
    frames[np.arange(batch), -1, 2 + np.arange(batch), 9] = 240
    return frames


@pytest.mark.parametrize("engine", [Engine, RTXEngine])
@pytest.mark.parametrize("batch", [1, 16, 20])
def test_any_batch_is_answered_in_parts_of_the_profile(gpu, model, engine, batch):
    gpu.engine = engine
    backend = load(model)
    assert (backend.name, backend.device, backend.note) == ("tensorrt", "cuda (NVIDIA RTX A4000)", "")
    assert not backend.uses_history
    ours, theirs = backend.run(spots(batch)), BrightBackend((32, 32)).run(spots(batch))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    on_gpu = backend.run_device(torch.from_numpy(spots(batch)))
    assert [tuple(part.shape) for part in on_gpu] == [(batch, 1, 2), (batch, 1), (batch,)]


def test_each_batch_size_has_a_context_that_compiles_for_it_at_once(gpu, model):
    backend = load(model)
    for batch in (1, 4, 1, 20):
        backend.run(spots(batch))
    assert set(backend._contexts) == {1, 4, 16}
    assert backend._contexts[4].shapes["frames"][0] == 4
    for context in backend._contexts.values():
        assert context.config.dynamic_shapes_kernel_specialization_strategy == "eager"


def test_a_gpu_that_is_full_is_known_as_such(gpu, model):
    gpu.engine = type("Full", (Engine,), {"create_execution_context": lambda *_: None})
    with pytest.raises(ShuttleError) as caught:
        load(model)
    assert memory_.is_out_of_memory(caught.value)


def test_compiled_kernels_are_kept_and_used_at_the_next_start(gpu, model):
    load(model)
    (kept,) = (paths.CACHE / "engines").glob("*.kernels")
    assert kept.read_bytes() == b"kernels of this GPU"
    written = kept.stat().st_mtime_ns
    backend = load(model)
    assert backend._contexts[1].config.cache.held == b"kernels of this GPU"
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(b"kernels of another")
    backend = load(model)
    assert kept.read_bytes() == b"kernels of this GPU"
    kept.unlink()
    backend.run(spots(1))
    assert not kept.exists(), "nothing new was compiled"
    backend.run(spots(4))
    assert kept.read_bytes() == b"kernels of this GPU", "nor is a later batch size compiled at every start"


def test_an_engine_is_kept_for_this_gpu(gpu, model):
    load(model)
    (kept,) = (paths.CACHE / "engines").glob("*.engine")
    assert kept.name.startswith("model-sm86-tensorrt_rtx-1.7.1-")
    assert engines.read_engine(kept) == b"for 8.6"
    kept.write_bytes(b"damaged")
    assert load(model).note == f"{kept}: damaged, so the engine was built again"


def test_a_gpu_that_tensorrt_rtx_does_not_know_is_left_to_other_backends(gpu, model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(engines, "build_engine", lambda _, capability: engines._capability(gpu, capability))
    with pytest.raises(ShuttleError, match=r"does not run on GPUs of compute capability 9\.0") as caught:
        load(model)
    assert not isinstance(caught.value, UsageError), "nobody gave that number"
    assert not choice._works("tensorrt", model, "fp32")


def test_int8_takes_the_graph_that_tensorrt_reads(gpu, model):
    with pytest.raises(ShuttleError, match=r"model\.int8-tensorrt\.onnx: missing"):
        tensorrt.TensorRTBackend(model, runtime.read_card(model), "int8")


def test_what_does_not_start_or_run_is_said(gpu, model):
    backend = load(model)
    backend._contexts[1].works = False
    with pytest.raises(ShuttleError, match="version bright2: TensorRT failed to run it"):
        backend.run(spots(1))
    gpu.engine = type("Full", (Engine,), {"create_execution_context": lambda *_: None})
    with pytest.raises(ShuttleError, match="version bright2: TensorRT is out of memory; use --device cpu"):
        load(model)
    gpu.engine = type("Other", (Engine,), {"names": ("image", "a", "b", "c")})
    with pytest.raises(ShuttleError, match=r"has inputs .* not 'frames'"):
        load(model)


def test_without_a_gpu_the_fix_is_named(gpu, model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ShuttleError, match="there is no GPU here; use --backend onnx"):
        load(model)
