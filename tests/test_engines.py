from types import SimpleNamespace

import pytest
from fakes import write_models

from shuttlelib import paths
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.paths import REPO
from shuttlelib.runtime import default_pair, engines, memory


class Runtime:
    """Takes engines of this machine, like TensorRT's."""

    def deserialize_cuda_engine(self, data):
        return data if data.startswith(b"fits") else None


@pytest.fixture
def graph(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return write_models(tmp_path / "models") / "bright2" / "model.onnx"


@pytest.fixture
def built(monkeypatch):
    """The calls of a builder whose engines fit."""
    calls = []
    monkeypatch.setattr(engines, "build_engine", lambda *args: calls.append(args) or b"fits, new")
    monkeypatch.setattr(engines, "free_bytes", lambda: 1 << 30)
    return calls


SHIPPED = default_pair(REPO / "models")[1] / "model.onnx"
RTX = SimpleNamespace(__name__="tensorrt_rtx", __version__="1.7.1")
NAME = "model-sm86-tensorrt_rtx-1.7.1-0.engine"


def test_an_engine_is_built_once_for_a_gpu(graph, built):
    for _ in range(2):
        assert engines.load_engine(graph, Runtime(), NAME, "8.6") == (b"fits, new", "")
    assert built == [(graph, "8.6")]
    assert [path.name for path in (paths.CACHE / "engines").iterdir()] == [NAME]


def test_an_engine_beside_the_graph_comes_first(graph, built):
    engines.write_engine(graph.parent / NAME, b"fits, exported")
    assert engines.load_engine(graph, Runtime(), NAME, "8.6") == (b"fits, exported", "")
    assert built == []


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"x"])
def test_a_damaged_engine_is_built_again_and_said(graph, built, damage):
    kept = paths.CACHE / "engines" / NAME
    engines.write_engine(kept, b"fits, kept")
    kept.write_bytes(damage(kept.read_bytes()))
    engine, note = engines.load_engine(graph, Runtime(), NAME, "8.6")
    assert engine == b"fits, new"
    assert note == f"{kept}: damaged, so the engine was built again"
    assert engines.read_engine(kept) == b"fits, new"


def test_an_engine_that_does_not_load_is_built_again_or_refused(graph, built, monkeypatch):
    engines.write_engine(paths.CACHE / "engines" / NAME, b"of another driver")
    assert engines.load_engine(graph, Runtime(), NAME, "8.6")[0] == b"fits, new"
    monkeypatch.setattr(engines, "build_engine", lambda *_: b"of another GPU")
    with pytest.raises(ShuttleError, match="does not load on this GPU"):
        engines.load_engine(graph, Runtime(), "other.engine", "8.6")


def test_an_engine_that_a_full_gpu_does_not_take_is_not_built_again(graph, built, monkeypatch):
    engines.write_engine(paths.CACHE / "engines" / NAME, b"no room for it")
    monkeypatch.setattr(engines, "free_bytes", lambda: 4)
    with pytest.raises(ShuttleError) as caught:
        engines.load_engine(graph, Runtime(), NAME, "8.6")
    assert memory.is_out_of_memory(caught.value)
    assert built == []


def test_a_cache_that_cannot_be_written_is_done_without(graph, built, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "file" / "cache")
    assert engines.load_engine(graph, Runtime(), NAME, "8.6") == (b"fits, new", "")


def test_the_name_holds_all_that_an_engine_depends_on(graph):
    plain = SimpleNamespace(__name__="tensorrt", __version__="10.13.3")
    names = [
        engines.engine_name(graph, RTX, "8.6", "NVIDIA RTX A4000"),
        engines.engine_name(graph, RTX, "12.0", "NVIDIA GeForce RTX 5080"),
        engines.engine_name(graph, SimpleNamespace(__name__="tensorrt_rtx", __version__="1.8"), "8.6", ""),
        engines.engine_name(graph, plain, "8.0", "NVIDIA A100-SXM4-40GB"),
        engines.engine_name(graph, plain, "8.0", "NVIDIA A100-SXM4-80GB"),
        engines.engine_name(graph.parent.with_name("bright1") / "model.onnx", RTX, "8.6", "NVIDIA RTX A4000"),
    ]
    assert len(set(names)) == len(names)
    assert names[0] == engines.engine_name(graph, RTX, "8.6", "NVIDIA RTX A5000")
    assert names[3].startswith("model-sm80-nvidia_a100_sxm4_40gb-tensorrt-10.13.3-")


def test_without_a_package_the_fix_is_named(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(engines.importlib, "import_module", absent)
    with pytest.raises(ShuttleError, match=r"pip install -e '\.\[tensorrt\]'.* '\.\[rtx\]'"):
        engines.find_tensorrt()


def test_of_two_packages_the_one_that_builds_for_other_gpus_can_come_first(monkeypatch):
    monkeypatch.setattr(engines.importlib, "import_module", lambda name: name)
    assert engines.find_tensorrt() == "tensorrt"
    assert engines.find_tensorrt(rtx_first=True) == "tensorrt_rtx"


def test_the_package_whose_engine_lies_there_runs_it(monkeypatch, tmp_path):
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"graph")
    data_centre = SimpleNamespace(__name__="tensorrt", __version__="10.14.1")
    monkeypatch.setattr(engines, "find_tensorrt", lambda rtx_first=False: RTX if rtx_first else data_centre)
    asked = graph, "8.6", "NVIDIA RTX A4000"
    assert engines.choose_tensorrt(*asked)[0] is data_centre
    name = engines.engine_name(graph, RTX, "8.6", "")  # as `shuttle export --engine 8.6` writes it
    (tmp_path / name).write_bytes(b"engine")
    assert engines.choose_tensorrt(*asked) == (RTX, name)


@pytest.mark.parametrize("capability", ["8.6", "8.9", "12.0"])
def test_rtx_engines_are_built_without_a_gpu(capability):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    engine = engines.build_engine(SHIPPED, capability)
    assert len(engine) > SHIPPED.stat().st_size
    # Without a driver an engine does not load; the names of its tensors stand in it all the same
    assert all(name in engine for name in (b"frames", b"score", b"visible", b"xy"))


def test_tensorrt_reads_bytes_and_answers_in_floats_at_any_batch():
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = engines.parse(trt, builder, SHIPPED)
    inputs, outputs = (
        {value.name: (value.dtype, tuple(value.shape)) for value in map(get, range(count))}
        for get, count in (
            (network.get_input, network.num_inputs),
            (network.get_output, network.num_outputs),
        )
    )
    assert inputs == {"frames": (trt.uint8, (-1, 5, 160, 160, 3))}
    assert outputs == {
        "xy": (trt.float32, (-1, 4, 2)),
        "score": (trt.float32, (-1, 4)),
        "visible": (trt.float32, (-1,)),
    }


def test_a_capability_that_is_none_and_a_graph_that_is_none(graph):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    with pytest.raises(UsageError, match=r"--engine 9\.9: tensorrt_rtx .* pip install -e '\.\[rtx\]'"):
        engines.build_engine(SHIPPED, "9.9")
    graph.write_bytes(b"no graph")
    with pytest.raises(ShuttleError, match=r"model\.onnx: TensorRT cannot parse it"):
        engines.build_engine(graph)
