import ctypes
import locale
import sys

import numpy as np
import pytest
from fakes import BrightBackend, write_models

from shuttlelib import paths, runtime
from shuttlelib.errors import ShuttleError
from shuttlelib.runtime import openvino as backends

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return write_models(tmp_path / "models")


def spots(batch):
    frames = np.zeros((batch, 4, 32, 32, 3), np.uint8)
    for index in range(batch):
        frames[index, -1, 5 + index, 9 + 2 * index] = 240
    return frames


def load(models, precision="fp32", threads=1):
    return runtime.load(models / "bright2", "openvino", "cpu", threads=threads, precision=precision)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_it_says_the_same_at_any_batch_on_any_number_of_threads(models, threads):
    backend = load(models, threads=threads)
    assert (backend.name, backend.version) == ("openvino", "bright2")
    assert backend.device == f"cpu ({threads} threads)"
    for batch in (1, 3, 2, 5, 3, 1):
        ours, theirs = backend.run(spots(batch)), BrightBackend((32, 32)).run(spots(batch))
        assert ours.xy.shape == (batch, 1, 2)
        assert np.array_equal(ours.xy, theirs.xy)
        assert ours.visible == pytest.approx(theirs.visible, abs=1e-5)


def test_of_several_inputs_each_thread_takes_its_own(models):
    backend, compiled = load(models, threads=4), []
    requests = backend._requests
    backend._requests = lambda threads: compiled.append(threads) or requests(threads)
    backend.run(spots(2))
    assert compiled == [[1, 1]]
    backend.run(spots(3))
    backend.run(spots(9))
    backend.run(spots(5))
    assert compiled == [[1, 1], [1], [1]]
    backend.run(spots(1))
    assert compiled[3:] == [[4]]  # one input is shared by all threads


def test_a_run_that_fails_waits_for_those_beside_it(models, monkeypatch):
    backend = load(models, threads=2)
    backend.run(spots(2))
    with pytest.raises(RuntimeError):
        backend.run(np.zeros((2, 4, 32, 31, 3), np.uint8))
    assert backend.run(spots(2)).xy.shape == (2, 1, 2)


def test_a_probability_near_1_keeps_its_digits(tmp_path, monkeypatch):
    """In bfloat16 there is nothing between 255/256 and 1: the network tells log-odds."""
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    shipped = runtime.default_pair()[1]
    ours, theirs = (runtime.load(shipped, name, "cpu", threads=2) for name in ("openvino", "onnx"))
    frames = np.random.default_rng(0).integers(0, 256, (2, ours.frames, *ours.input_hw, 3), np.uint8)
    visible = ours.run(frames).visible
    assert visible == pytest.approx(theirs.run(frames).visible, abs=1e-4)
    told = [request.get_tensor("visible").data[0] for request in ours._alone]
    assert visible == pytest.approx([1 / (1 + np.exp(-one)) for one in told], abs=1e-6)


def test_text_is_read_as_before_once_networks_are_compiled(models):
    before = locale.setlocale(locale.LC_ALL)
    for _ in range(5):
        load(models, threads=3).run(spots(3))
        assert locale.setlocale(locale.LC_ALL) == before


def test_answers_outlive_the_next_run(models):
    backend = load(models, threads=2)
    for batch in (1, 2, 3):
        first = backend.run(spots(batch))
        before = first.xy.copy()
        backend.run(spots(batch + 1)[1:])
        assert np.array_equal(first.xy, before)


def test_a_graph_with_history_is_fed_it(tmp_path):
    models = write_models(tmp_path / "models", history=True)
    backend = load(models)
    assert backend.uses_history
    assert backend.run(spots(2), np.zeros((2, 30, 3), np.float32)).xy.shape == (2, 1, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's C library")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_signals_keep_their_stack(models, precision):
    if precision == "bf16" and not backends.has_bf16():
        pytest.skip("this processor has no bfloat16")

    class Stack(ctypes.Structure):
        _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    def stack():
        now = Stack()
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now)) == 0
        return now.start, now.size

    before = stack()
    backend = load(models, precision, threads=2)
    backend.run(spots(1))
    backend.run(spots(3))
    assert stack() == before


def test_compiled_networks_are_kept_and_damaged_ones_made_anew(models, tmp_path):
    load(models).run(spots(1))
    kept = list((tmp_path / "cache" / "openvino").glob("*.blob"))
    assert kept
    kept[0].chmod(0o644)
    kept[0].write_bytes(b"no network")
    assert load(models).run(spots(1)).visible.shape == (1,)


def test_a_cache_that_cannot_be_written_is_done_without(models, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "file" / "cache")
    assert load(models).run(spots(1)).visible.shape == (1,)


def test_bfloat16_needs_a_processor_that_has_it(models, monkeypatch):
    monkeypatch.setattr(backends, "has_bf16", lambda _: False)
    with pytest.raises(ShuttleError, match="no bfloat16 instructions; use fp32"):
        load(models, "bf16")
    monkeypatch.undo()
    if backends.has_bf16(openvino.Core()):
        assert load(models, "bf16").device == "cpu (1 threads, bf16)"


def test_a_damaged_graph_and_a_missing_package_are_named(models, monkeypatch):
    (models / "bright2" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ShuttleError, match=r"model\.onnx: cannot be loaded"):
        load(models)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ShuttleError, match=r"pip install -e '\.\[openvino\]'"):
        load(models)
