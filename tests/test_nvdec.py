from types import SimpleNamespace

import av
import numpy as np
import pytest

from shuttlelib.video import VideoError, read_frames


@pytest.fixture
def clip(tiny_video):
    return tiny_video(frames=5)


def planes(path, notes, decoder):
    return [frame.planes for frame in read_frames(path, notes, decoder)]


class OnGpu:
    """Stands for a container that NVDEC decodes."""

    def __init__(self, container):
        self._container, self.used = container, 0

    def __enter__(self):
        self.used += 1
        return self._container.__enter__()

    def __exit__(self, *error):
        return self._container.__exit__(*error)

    @property
    def streams(self):
        context = SimpleNamespace(is_hwaccel=True)
        return SimpleNamespace(video=[SimpleNamespace(codec_context=context)])


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (PermissionError(1, "Operation not permitted"), "Operation not permitted"),
        (None, "the GPU does not decode its codec"),
    ],
)
def test_without_nvdec_the_cpu_decodes_and_only_who_asked_is_told(clip, monkeypatch, failure, reason):
    ordinary = av.open

    def open_(path, hwaccel=None):
        if hwaccel is not None and failure is not None:
            raise failure
        return ordinary(path)  # PyAV falls back to the CPU by itself

    monkeypatch.setattr(av, "open", open_)
    told, untold = [], []
    expected = planes(clip, [], "cpu")
    assert np.array_equal(planes(clip, told, "nvdec"), expected)
    assert np.array_equal(planes(clip, untold, "auto"), expected)
    assert told == [f"NVDEC cannot be used ({reason}), so it was decoded on the CPU"]
    assert untold == []


def test_what_the_gpu_decodes_is_read_from_there(clip, monkeypatch):
    on_gpu = OnGpu(av.open(str(clip)))
    monkeypatch.setattr(av, "open", lambda _, hwaccel=None: on_gpu)
    notes = []
    assert len(planes(clip, notes, "nvdec")) == 5
    assert (on_gpu.used, notes) == (1, [])


def test_a_file_that_is_no_video_is_told_as_ever(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(VideoError, match="not a video"):
        planes(tmp_path / "a.mp4", [], "nvdec")
