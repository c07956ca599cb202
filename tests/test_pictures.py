from fractions import Fraction

import numpy as np
import pytest
from bad_days import SIZE_HW, bar, bar_at, encode

from shuttlelib import video
from shuttlelib.video import TruncatedVideoError, VideoError, probe, read_frames

COLOURS = ((200, 30, 30), (30, 180, 60), (40, 60, 220), (250, 250, 250), (12, 12, 12))
SHARP = {"qp": "1"}


def read(path):
    """Frames, notes, and the error at the end."""
    frames, notes, error = [], [], None
    try:
        for frame in read_frames(path, notes):
            frames.append(frame)
    except VideoError as found:
        error = found
    return frames, notes, error


def patches():
    rgb = np.zeros((*SIZE_HW, 3), np.uint8)
    for place, colour in enumerate(COLOURS):
        rgb[:, 32 * place : 32 * place + 32] = colour
    return rgb


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "full_range", "options"),
    [
        ("v.mkv", "libx264", "yuv420p", False, SHARP),
        ("v.mkv", "libx264", "yuvj420p", True, SHARP),
        ("v.mkv", "libx264", "yuv420p10le", False, SHARP),
        ("v.mkv", "libx264", "yuv420p10le", True, SHARP),
        ("v.mp4", "libx264", "yuv422p", False, SHARP),
        ("v.mp4", "libx264", "yuv444p", True, SHARP),
        ("v.mp4", "libx264", "nv12", False, SHARP),
        ("v.avi", "mjpeg", "yuvj422p", True, {}),
        ("v.mkv", "ffv1", "bgr0", False, {}),
        ("v.mov", "prores_ks", "yuv422p10le", False, {}),
        ("v.avi", "rawvideo", "nv12", False, {}),
    ],
)
def test_colours_are_the_same_whatever_the_format(tmp_path, name, codec, pix_fmt, full_range, options):
    path = encode(tmp_path / name, [patches()] * 3, codec, pix_fmt, full_range=full_range, **options)
    frames, notes, error = read(path)
    assert (len(frames), notes, error) == (3, [], None)
    seen = frames[1].rgb[48, 16::32].astype(int)
    assert np.abs(seen - COLOURS).max() <= 3


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize(("hflip", "vflip"), [(False, False), (True, False), (False, True)])
def test_a_turned_or_mirrored_video_is_read_as_players_show_it(tmp_path, degrees, hflip, vflip):
    rgb = np.full((*SIZE_HW, 3), 40, np.uint8)
    rgb[8:24, 8:40] = (230, 40, 40)
    shown = np.rot90(rgb, degrees // 90)  # counter-clockwise, as FFmpeg counts
    shown = shown[:, ::-1] if hflip else shown
    shown = shown[::-1] if vflip else shown
    path = encode(tmp_path / "v.mp4", [rgb] * 3, turn=(degrees, hflip, vflip), **SHARP)
    frames, notes, error = read(path)
    h, w = shown.shape[:2]
    told = [f"its pictures are stored turned or mirrored; shown as {w}x{h}"]
    assert notes == (told if degrees or hflip or vflip else [])
    assert (len(frames), error) == (3, None)
    info = probe(path)
    assert (info.height, info.width) == info.even_hw == frames[0].size_hw == shown.shape[:2]
    assert np.abs(frames[1].rgb.astype(int) - shown).mean() < 3


def comb(rgb):
    """How much neighbouring rows differ, as they do where two fields show two moments."""
    rows = rgb[..., 0].astype(int)
    return np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean()


def test_interlaced_pictures_are_made_whole_one_for_one(tmp_path):
    def two_moments(index):
        rgb = bar(index)
        rgb[1::2] = bar(index + 0.5)[1::2]
        return rgb

    pictures = [two_moments(index) for index in range(12)]
    assert comb(pictures[5]) > 10
    path = encode(tmp_path / "v.mp4", pictures, **SHARP, **{"x264-params": "interlaced=1"})
    frames, notes, error = read(path)
    assert error is None
    assert notes == ["its pictures are interlaced; each was made whole (bwdif)"]
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(12)])
    assert max(comb(frame.rgb) for frame in frames) < 1.5
    for frame in frames:
        assert 20 + 8 * frame.index <= bar_at(frame.rgb) <= 24 + 8 * frame.index


def test_pictures_that_change_size_are_scaled_to_the_first(tmp_path):
    first = encode(tmp_path / "a.ts", [bar(index) for index in range(6)], bf="0")
    then = [bar(index, scale=2) for index in range(6, 12)]
    second = encode(tmp_path / "b.ts", then, times=range(6, 12), bf="0")
    path = tmp_path / "ab.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    frames, notes, _ = read(path)  # the joint may count as damage
    assert notes == ["its pictures change size; all are scaled to 160x96, the first one's"]
    assert {frame.size_hw for frame in frames} == {SIZE_HW}
    assert [bar_at(frame.rgb) for frame in frames] == pytest.approx([20 + 8 * i for i in range(12)], abs=1)


def test_times_follow_the_stamps_of_a_variable_rate(tmp_path):
    times_ms = [0, 40, 80, 200, 210, 260, 1500]
    pictures = [bar(index) for index in range(len(times_ms))]
    path = encode(tmp_path / "v.mkv", pictures, times=times_ms, time_base=Fraction(1, 1000), bf="0")
    frames, _, error = read(path)
    assert error is None
    assert [frame.time_s for frame in frames] == pytest.approx([ms / 1000 for ms in times_ms])


def test_an_unsteady_clock_is_not_taken_for_the_rate(tmp_path):
    jitter = np.random.default_rng(0).integers(-8, 9, 60)
    times_ms = [round(1000 * index / 30 + by) + 8 for index, by in enumerate(jitter)]
    pictures = [bar(index % 12) for index in range(60)]
    path = encode(tmp_path / "v.ts", pictures, times=times_ms, time_base=Fraction(1, 1000), bf="0")
    frames, _, error = read(path)
    assert (len(frames), error) == (60, None)
    assert video.probe(path).fps == pytest.approx(30, rel=0.15)


def test_a_clock_that_was_set_anew_does_not_turn_time_back(tmp_path):
    whole = [encode(tmp_path / f"{at}.ts", [bar(0)] * 5, times=range(at, at + 5), bf="0") for at in (500, 50)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(each.read_bytes() for each in whole))
    times = [frame.time_s for frame in read(path)[0]]
    assert times == pytest.approx([index / 25 for index in range(10)], abs=1e-3)


def test_without_time_stamps_the_rate_counts_and_a_note_says_so(tmp_path):
    path = encode(tmp_path / "v.h264", [bar(index) for index in range(8)], bf="0")
    frames, notes, error = read(path)
    assert error is None
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(8)])
    assert notes == ["it has no time stamps; times assume 25 frames per second"]


def test_time_starts_at_the_first_picture_though_its_stamp_comes_later(tmp_path, monkeypatch):
    real = video.Converter.convert

    def forget(self, decoded, time_base):
        for index, (at_s, picture) in enumerate(real(self, decoded, time_base)):
            yield None if index < 3 else at_s, picture

    monkeypatch.setattr(video.Converter, "convert", forget)
    frames, notes, _ = read(encode(tmp_path / "v.mkv", [bar(index) for index in range(8)], bf="0"))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(8)])
    assert notes == []


def test_a_piece_lost_in_the_middle_costs_a_picture_and_not_the_rest(tmp_path):
    noisy = [np.random.default_rng(i).integers(0, 255, (*SIZE_HW, 3), dtype=np.uint8) for i in range(12)]
    path = encode(tmp_path / "v.ts", noisy, bf="0", g="1")
    data = path.read_bytes()
    middle = len(data) // 188 // 2 * 188
    path.write_bytes(data[:middle] + data[middle + 188 :])
    frames, _, error = read(path)
    assert isinstance(error, TruncatedVideoError)
    assert "1 damaged packets" in str(error)
    assert len(frames) >= 11
    assert frames[-1].time_s == pytest.approx(11 / 25)
