import os

import pytest

from shuttlelib.errors import ShuttleError
from shuttlelib.runtime import tensorrt


class Runtime:
    """Takes engines of this machine, like TensorRT's."""

    def deserialize_cuda_engine(self, data):
        return data if data.startswith(b"fits") else None


def test_the_stored_engine_is_used_while_it_is_newer_and_fits(tmp_path, monkeypatch):
    graph, stored = tmp_path / "model.onnx", tmp_path / "model.engine"
    graph.write_bytes(b"graph")
    monkeypatch.setattr(tensorrt, "build_engine", lambda _: b"fits, new")

    def loaded():
        return tensorrt.load_engine(graph, Runtime())

    assert loaded() == b"fits, new"
    stored.write_bytes(b"fits, stored")
    assert loaded() == b"fits, stored"
    stored.write_bytes(b"of another GPU")
    assert loaded() == b"fits, new"
    stored.write_bytes(b"fits, stored")
    os.utime(stored, (0, 0))
    assert loaded() == b"fits, new"
    monkeypatch.setattr(tensorrt, "build_engine", lambda _: b"of another GPU")
    with pytest.raises(ShuttleError, match="does not load on this GPU"):
        loaded()
