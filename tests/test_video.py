import errno
import math
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from shuttlelib import video
from shuttlelib.files import WriteError
from shuttlelib.video import TruncatedVideoError, VideoError, VideoWriter, probe, read_frames

BITS = 8


def numbered(index: int, size_hw=(64, 160)) -> np.ndarray:
    """A frame that carries its own number: one light or dark square a bit, over noise that moves."""
    noise = np.random.default_rng(index).integers(0, 60, (*size_hw, 3), dtype=np.uint8)
    for bit in range(BITS):
        noise[16:32, 16 * bit : 16 * bit + 16] = 230 if index >> bit & 1 else 20
    return noise


def number_of(rgb: np.ndarray) -> int:
    squares = (rgb[20:28, 16 * bit + 4 : 16 * bit + 12].mean() for bit in range(BITS))
    return sum(int(light > 128) << bit for bit, light in enumerate(squares))


def encode(
    path,
    frames=40,
    fps=30.0,
    codec="libx264",
    pix_fmt="yuv420p",
    size_hw=(64, 160),
    container=None,
    **options,
):
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = size_hw
        stream.pix_fmt = pix_fmt
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(numbered(index, size_hw), format="rgb24")
            out.mux(stream.encode(picture.reformat(format=pix_fmt)))
        out.mux(stream.encode())
    return path


def read_all(path) -> tuple[list, VideoError | None]:
    frames = []
    try:
        for frame in read_frames(path):
            frames.append(frame)
    except VideoError as error:
        return frames, error
    return frames, None


def test_every_frame_is_itself_with_b_frames_in_between(tmp_path):
    path = encode(tmp_path / "b.mp4", frames=60, bf="3", **{"b-adapt": "0"})
    with av.open(str(path)) as container:
        shown = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert shown != sorted(shown), "the encoder made no B-frames: the test proves nothing"
    frames, error = read_all(path)
    assert error is None
    assert [frame.index for frame in frames] == list(range(60))
    assert [number_of(frame.rgb) for frame in frames] == list(range(60))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 30 for i in range(60)], abs=1e-4)


@pytest.mark.parametrize("fps", [29.97, 30000 / 1001, 23.976, 119.88, 25.0, 1 / 3600])
def test_the_rate_stays_fractional(tmp_path, fps):
    with VideoWriter(tmp_path / "v.mp4", (64, 160), fps) as writer:
        for index in range(10):
            writer.write(numbered(index))
    assert probe(tmp_path / "v.mp4").fps == pytest.approx(fps, rel=1e-9)
    frames, _ = read_all(tmp_path / "v.mp4")
    assert frames[-1].time_s == pytest.approx(9 / fps, rel=1e-3)


def test_probe_says_what_the_container_says(tmp_path):
    path = encode(tmp_path / "v.mp4", frames=7, fps=25)
    assert probe(path) == video.VideoInfo(path, 160, 64, 25.0, 7)
    assert probe(encode(tmp_path / "v.mkv", frames=7)).frame_count == 0


def test_a_single_frame_and_a_tiny_video_are_videos(tmp_path):
    for name, count, size_hw in (("one.mp4", 1, (64, 160)), ("tiny.mp4", 5, (16, 16))):
        frames, error = read_all(encode(tmp_path / name, count, size_hw=size_hw))
        assert error is None
        assert len(frames) == count
        assert frames[0].rgb.shape == (*size_hw, 3)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "size_hw"),
    [
        ("odd.mp4", "libx264", "yuv444p", (65, 161)),
        ("ten_bit.mp4", "libx264", "yuv420p10le", (64, 160)),
        ("full_range.mp4", "libx264", "yuvj420p", (64, 160)),
        ("rgb.mkv", "ffv1", "bgr0", (64, 160)),
    ],
)
def test_other_pixel_formats_and_odd_sizes_show_the_same_picture(tmp_path, name, codec, pix_fmt, size_hw):
    frames, error = read_all(encode(tmp_path / name, 12, codec=codec, pix_fmt=pix_fmt, size_hw=size_hw))
    assert error is None
    assert [number_of(frame.rgb) for frame in frames] == list(range(12))
    assert frames[0].size_hw == (64, 160)
    assert frames[5].rgb[20:28, 4:12].mean() == pytest.approx(230, abs=8)
    assert frames[5].rgb[20:28, 20:28].mean() == pytest.approx(20, abs=8)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6, 0.75, 0.9, 0.97])
def test_a_truncated_video_gives_its_frames_and_then_says_so(tmp_path, share):
    whole = encode(tmp_path / "whole.mp4", container={"movflags": "faststart"}).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: int(len(whole) * share)])
    frames, error = read_all(cut)
    assert isinstance(error, TruncatedVideoError)
    assert 0 < len(frames) < 40
    assert [number_of(frame.rgb) for frame in frames] == list(range(len(frames)))
    assert (error.frames_read, error.frames_expected) == (len(frames), 40)
    assert str(error).startswith(f"{cut}: the video stops in the middle, {len(frames)} of 40 frames read")


def test_a_truncated_stream_without_an_index_is_noticed_by_its_duration(tmp_path):
    whole = encode(tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    frames, error = read_all(tmp_path / "cut.mkv")
    assert isinstance(error, TruncatedVideoError)
    assert 0 < len(frames) < 40


def test_damaged_packets_are_stepped_over_and_told(tmp_path):
    path = encode(tmp_path / "v.mp4", container={"movflags": "faststart"}, g="5")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start, size = packets[20].pos, packets[20].size
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    frames, error = read_all(path)
    assert isinstance(error, TruncatedVideoError)
    assert "damaged packet" in str(error)
    assert 30 < len(frames) < 40


def test_pictures_that_the_decoder_patched_are_told(tmp_path):
    path = encode(tmp_path / "v.mp4", container={"movflags": "faststart"}, g="250")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for packet in packets[5:30]:
        middle = packet.pos + packet.size // 2
        data[middle : middle + 4] = b"\xff" * 4
    path.write_bytes(data)
    notes = []
    with suppress(TruncatedVideoError):
        list(read_frames(path, notes))
    assert len(notes) == 1
    assert "pictures were damaged, and shown as the decoder patched them" in notes[0]


def audio_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", 44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


def without_index(path):
    whole = encode(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


BAD = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.touch(), "the file is empty"),
    "text": (lambda path: path.write_text("not a video\n" * 99), "not a video"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "sound": (audio_only, "no video stream"),
    "without index": (without_index, "has no index"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_gets_one_clear_line(tmp_path, kind):
    make, words = BAD[kind]
    path = tmp_path / "bad.mp4"
    make(path)
    for read in (probe, lambda path: next(iter(read_frames(path)))):
        with pytest.raises(VideoError, match=words) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_a_disk_that_fails_is_no_video(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    path = encode(tmp_path / "a.mp4")
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(VideoError, match="not a video"):
        probe(path)


def test_the_writer_leaves_nothing_behind_when_it_fails(tmp_path):
    def write_and_fail() -> None:
        with VideoWriter(tmp_path / "v.mp4", (64, 160), 30) as writer:
            writer.write(numbered(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with (
        pytest.raises(VideoError, match="no frame was written"),
        VideoWriter(tmp_path / "v.mp4", (64, 160), 30),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_writer_names_what_is_wrong(tmp_path):
    with pytest.raises(VideoError, match="161x65 is odd"):
        VideoWriter(tmp_path / "v.mp4", (65, 161), 30)
    with (
        pytest.raises(VideoError, match=r"not uint8"),
        VideoWriter(tmp_path / "v.mp4", (64, 160), 30) as writer,
    ):
        writer.write(np.zeros((64, 160, 3), np.float32))
    (tmp_path / "file").touch()
    with (
        pytest.raises(WriteError, match="cannot be written"),
        VideoWriter(tmp_path / "file" / "v.mp4", (64, 160), 30),
    ):
        pass


def test_written_colours_come_back(tmp_path):
    colours = np.zeros((64, 160, 3), np.uint8)
    for place, rgb in enumerate(((200, 30, 30), (30, 180, 60), (40, 60, 220), (250, 250, 250))):
        colours[:, 40 * place : 40 * place + 40] = rgb
    with VideoWriter(tmp_path / "v.mp4", (64, 160), 30, crf=10) as writer:
        writer.write(colours)
    frame = next(iter(read_frames(tmp_path / "v.mp4")))
    assert np.abs(frame.rgb[:, 20::40].astype(int) - colours[:, 20::40]).max() <= 6
    assert math.isclose(frame.time_s, 0)


def stamps(path):
    return [frame.time_s for frame in read_frames(path)]


def test_written_frames_keep_their_times_at_a_rate_that_varies(tmp_path):
    at_s = [i / 60 for i in range(60)] + [1 + i / 20 for i in range(20)]  # 40 a second on average
    with VideoWriter(tmp_path / "v.mp4", (64, 96), 40) as writer:
        for time_s in at_s:
            writer.write(np.zeros((64, 96, 3), np.uint8), time_s)
    assert stamps(tmp_path / "v.mp4") == pytest.approx(at_s, abs=0.5 / 40)
    with VideoWriter(tmp_path / "even.mp4", (64, 96), 30) as writer:
        for index in range(60):
            writer.write(np.zeros((64, 96, 3), np.uint8), round(index / 30, 2))  # as a container rounds them
    assert stamps(tmp_path / "even.mp4") == pytest.approx([i / 30 for i in range(60)], abs=1e-4)


def test_a_jump_of_the_clock_is_held_for_no_day(tmp_path):
    at_s = [0, 1 / 30, 40 * 3600, 40 * 3600 + 1 / 30, 40 * 3600 + 60]
    with VideoWriter(tmp_path / "v.mp4", (64, 96), 30000 / 1001) as writer:
        for time_s in at_s:
            writer.write(np.zeros((64, 96, 3), np.uint8), time_s)
    assert stamps(tmp_path / "v.mp4") == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30, 60 + 2 / 30], abs=0.03)


def test_a_name_with_a_colon_is_a_file(tmp_path, monkeypatch, tiny_video):
    tiny_video("a.mp4", frames=4).rename(tmp_path / "18:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(read_frames("18:30.mp4"))) == 4
    with VideoWriter("18:31.mp4", (64, 96), 30) as writer:
        writer.write(np.zeros((64, 96, 3), np.uint8))
    assert probe("18:31.mp4").width == 96


def test_a_recording_that_paused_has_the_rate_of_its_pictures(tmp_path):
    path = tmp_path / "v.mp4"
    with VideoWriter(path, (64, 96), 30) as writer:
        for index in range(60):
            writer.write(np.zeros((64, 96, 3), np.uint8), index / 30 + 300 * (index >= 30))
    assert probe(path).fps == pytest.approx(30, rel=0.01)
    assert stamps(path)[-1] == pytest.approx(300 + 59 / 30, abs=0.01)
