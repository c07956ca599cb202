import av
import numpy as np
import pytest

from shuttlelib import nvdec
from shuttlelib.video import VideoError, read_frames


@pytest.fixture
def clip(tiny_video):
    return tiny_video(frames=5)


def planes(path, notes, decoder):
    return [frame.planes for frame in read_frames(path, notes, decoder)]


def test_without_nvdec_the_cpu_decodes_and_only_who_asked_is_told(clip, monkeypatch):
    monkeypatch.setattr(nvdec, "open_on_gpu", lambda _: (None, "no GPU"))
    told, untold = [], []
    expected = planes(clip, [], "cpu")
    assert np.array_equal(planes(clip, told, "nvdec"), expected)
    assert np.array_equal(planes(clip, untold, "auto"), expected)
    assert told == ["NVDEC cannot be used (no GPU), so it was decoded on the CPU"]
    assert untold == []


def test_what_the_gpu_opens_is_read(clip, monkeypatch):
    opened = []

    def open_on_gpu(path):
        opened.append(av.open(str(path)))
        return opened[0], ""

    monkeypatch.setattr(nvdec, "open_on_gpu", open_on_gpu)
    notes = []
    assert len(planes(clip, notes, "nvdec")) == 5
    assert (len(opened), notes) == (1, [])


def test_why_the_gpu_does_not_decode_is_said(clip, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    ordinary = av.open
    monkeypatch.setattr(av, "open", refuse)
    assert nvdec.open_on_gpu(clip) == (None, "Operation not permitted")
    monkeypatch.setattr(av, "open", lambda path, **_: ordinary(path))  # as PyAV falls back by itself
    assert nvdec.open_on_gpu(clip) == (None, "it does not decode h264")


def test_a_file_that_is_no_video_is_told_as_ever(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(VideoError, match="not a video"):
        planes(tmp_path / "a.mp4", [], "nvdec")
