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
    """Stands for a container whose codec NVDEC knows; `failure` is what decoding it raises."""

    def __init__(self, path, failure=None):
        self._container, self._failure = av.open(path), failure

    def __enter__(self):
        self._container.__enter__()
        return self

    def __exit__(self, *error):
        return self._container.__exit__(*error)

    @property
    def streams(self):
        context = SimpleNamespace(is_hwaccel=True)
        return SimpleNamespace(video=[SimpleNamespace(codec_context=context)])

    def decode(self, video):
        if self._failure is not None:
            raise self._failure
        return self._container.decode(video=video)


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
        return ordinary(path)

    monkeypatch.setattr(av, "open", open_)
    told, untold = [], []
    expected = planes(clip, [], "cpu")
    assert np.array_equal(planes(clip, told, "nvdec"), expected)
    assert np.array_equal(planes(clip, untold, "auto"), expected)
    assert told == [f"NVDEC cannot be used ({reason}), so it was decoded on the CPU"]
    assert untold == []


def test_what_the_gpu_decodes_is_read_from_there(clip, monkeypatch):
    opened, ordinary = [], av.open

    def open_(path, hwaccel=None):
        opened.append(hwaccel.allow_software_fallback)
        return ordinary(path) if len(opened) > 1 else OnGpu(path)

    expected = planes(clip, [], "cpu")
    monkeypatch.setattr("shuttlelib.nvdec.av", SimpleNamespace(open=open_, FFmpegError=av.FFmpegError))
    notes = []
    assert np.array_equal(planes(clip, notes, "nvdec"), expected)
    assert (opened, notes) == ([False, False], []), "once to see that it works"


def test_what_the_gpu_knows_and_cannot_decode_is_decoded_on_the_cpu(clip, monkeypatch):
    expected, ordinary = planes(clip, [], "cpu"), av.open
    failure = av.error.ExternalError(-1, "No decoder surfaces")
    open_ = lambda path, hwaccel=None: OnGpu(path, failure) if hwaccel else ordinary(path)  # noqa: E731
    monkeypatch.setattr(av, "open", open_)
    notes = []
    assert np.array_equal(planes(clip, notes, "nvdec"), expected)
    assert notes == ["NVDEC cannot be used (No decoder surfaces), so it was decoded on the CPU"]


def test_a_file_that_is_no_video_is_told_as_ever(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(VideoError, match="not a video"):
        planes(tmp_path / "a.mp4", [], "nvdec")
