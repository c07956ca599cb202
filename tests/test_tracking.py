import csv
import json
import math
import multiprocessing
import os
import signal
import struct
import time
import weakref
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from bad_days import encode
from fakes import BrightBackend, cut_short, write_models

from shuttlelib import paths, tracking
from shuttlelib.ahead import read_ahead
from shuttlelib.errors import UsageError
from shuttlelib.files import WriteError
from shuttlelib.frames import Frame
from shuttlelib.looks import answer_all
from shuttlelib.outputs import COLUMNS, check_outputs, check_stems
from shuttlelib.sources import Footage, Source, video_file
from shuttlelib.together import take_on_host
from shuttlelib.track_params import TrackParams
from shuttlelib.tracking import Networks, load_networks, track_source, track_video, tracking_source
from shuttlelib.video import VideoError, VideoInfo, probe, read_frames

SIZE_HW = (180, 320)
EARLIER = ",".join(COLUMNS) + "\n"  # what a file of an earlier run begins with


UPRIGHT, TURNED = (1 << 16, 0, 0, 0, 1 << 16), (0, 1 << 16, 0, -1 << 16, 0)  # in an mp4's track header


def court(index):
    """A dark court with a bright dot that flies right and is gone from frame 15 on."""
    rgb = np.random.default_rng(index).integers(20, 40, (*SIZE_HW, 3), dtype=np.uint8)
    rgb[-16:, 16 * (index % 15) :][:, :16] = 120  # somebody walks, so that no frame repeats another
    if index < 15:
        x = 60 + 6 * index
        rgb[80:88, x : x + 8] = 250
    return rgb


@pytest.fixture
def clip(tiny_video):
    return tiny_video("rally.mp4", frames=20, size_hw=SIZE_HW, fps=29.97, draw=court)


def networks():
    return Networks(BrightBackend((90, 160), 90), BrightBackend((160, 160), 150))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("rereadable", "warm"), [(True, []), (False, [1, 2, 3])])
def test_networks_are_warm_before_frames_come_that_cannot_wait(clip, tmp_path, rereadable, warm):
    video, pair, batches = video_file(clip), networks(), []

    def open_(asked):
        footage = video.open(asked)

        def frames():
            batches.extend(len(batch) for batch in pair.stage2.batches)
            yield from footage.frames

        return replace(footage, frames=frames())

    track_source(replace(video, open=open_, rereadable=rereadable), tmp_path, pair)
    assert batches == warm


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("mode", ["smart", "offline"])
@pytest.mark.parametrize("frames", [1, 3, 20])
def test_a_network_that_looks_ahead_is_shown_the_current_frame_in_its_place(
    tiny_video, tmp_path, monkeypatch, frames, mode, backend
):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    clip, texts = tiny_video("rally.mp4", frames, SIZE_HW, 29.97, court), []
    for ahead in (0, 2):  # the brightest pixel is that of the current frame, whatever comes after it
        models = write_models(tmp_path / f"{ahead}", (90, 160), (160, 160), ahead=ahead)
        found = load_networks(backend, "cpu", 1, models)
        texts.append(track_video(clip, tmp_path / f"out{ahead}", mode, networks=found).csv.read_text())
        assert found.last.ahead == ahead
    assert texts[0].count(",1,") >= min(frames, 15)
    assert texts[1] == texts[0]


@pytest.mark.parametrize("mode", ["smart", "fast", "calibration", "offline"])
def test_a_row_for_every_frame(clip, tmp_path, mode):
    result = track_video(clip, tmp_path / "out", mode, networks=networks())
    text = result.csv.read_text()
    assert text.splitlines()[0] == "frame,time_s,visible,x_px,y_px,confidence,source"
    assert "\r" not in text
    rows = rows_of(result.csv)
    assert [int(row["frame"]) for row in rows] == list(range(20))
    assert [row["visible"] for row in rows] == ["1"] * 15 + ["0"] * 5
    for index, row in enumerate(rows):
        assert float(row["time_s"]) == pytest.approx(index / 29.97, abs=1e-3)
        assert 0 <= float(row["confidence"]) <= 1
        if index < 15:
            assert row["source"] == "detected"
            place = float(row["x_px"]), float(row["y_px"])
            assert place == pytest.approx((64 + 6 * index, 84), abs=5)
        else:
            assert (row["x_px"], row["y_px"], row["source"]) == ("", "", "none")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rally.csv", "rally.json"]


def test_the_summary_says_what_ran(clip, tmp_path):
    result = track_video(clip, tmp_path / "out", networks=networks())
    summary = json.loads(result.summary_json.read_text())
    assert summary == result.summary
    expected = {
        "width": 320,
        "height": 180,
        "fps": 29.97,
        "frames": 20,
        "visible_share": 0.75,
        "mode": "smart",
    }
    assert {key: summary[key] for key in expected} == expected
    assert (summary["backend"], summary["device"], summary["warning"]) == ("fake", "cpu", "")
    assert summary["versions"]["stage1"] == "bright"
    assert summary["counts"]["lost"] == 1
    fired = summary["triggers"]
    assert (fired["start"], fired["lost"], fired["unseen"]) == ([0], [15], [17])
    assert {name: len(frames) for name, frames in fired.items()}.items() <= summary["counts"].items()
    assert summary["params"]["triangle_radius_heights"] == 0.06


def test_the_overlay_shows_every_frame_marked(clip, tmp_path):
    seen = []
    result = track_video(
        clip,
        tmp_path / "out",
        networks=networks(),
        overlay=True,
        on_frame=lambda n, info: seen.append((n, info.fps)),
    )
    assert seen == [(n, 29.97) for n in range(1, 21)]
    assert result.overlay == tmp_path / "out" / "rally.mp4"
    info = probe(result.overlay)
    assert (info.width, info.height, info.fps, info.frame_count) == (320, 180, 29.97, 20)
    plain, marked = ([frame.rgb for frame in read_frames(path)] for path in (clip, result.overlay))
    changed = np.abs(plain[10].astype(int) - marked[10]).max(-1)[60:110, 100:150]
    assert changed.max() > 80


def test_a_version_alone_is_tracked_with_its_own_folder_or_with_a_pairs_first(clip, tmp_path):
    models = write_models(tmp_path / "models", (180, 320), (160, 160))
    one = load_networks("onnx", "cpu", 1, models / "bright1", mode="whole")
    assert (one.stage2, one.last.version) == (None, "bright1")
    alone = track_video(clip, tmp_path / "a", mode="whole", networks=one)
    pair = load_networks("onnx", "cpu", 1, models)
    first = track_video(clip, tmp_path / "b", mode="whole", networks=pair)
    assert alone.csv.read_bytes() == first.csv.read_bytes()
    assert alone.summary["versions"]["stage2"] is None
    assert alone.summary["counts"] == {"stage1_inputs": 20}


def test_models_load_from_a_folder_and_repeat(clip, tmp_path):
    models = write_models(tmp_path / "models", (90, 160), (160, 160))
    first = track_video(clip, tmp_path / "a", networks=load_networks("onnx", "cpu", 1, models))
    pair = load_networks("onnx", "cpu", 1, models, versions=("bright1", "bright2"))
    second = track_video(clip, tmp_path / "b", networks=pair)
    assert first.csv.read_bytes() == second.csv.read_bytes()
    assert first.summary["versions"]["stage2"] == "bright2"
    assert first.summary["backend_why"] == "asked for"


def test_a_calibration_on_the_card_reaches_the_rows(clip, tmp_path):
    models = write_models(tmp_path / "models", (90, 160), (160, 160))
    card = json.loads((models / "bright2" / "version.json").read_text())
    card["calibration"] = {"visible": [0.0, 0.0], "invisible": [0.0, math.log(3)]}
    (models / "bright2" / "version.json").write_text(json.dumps(card))
    rows = rows_of(track_video(clip, tmp_path / "o", networks=load_networks("onnx", "cpu", 1, models)).csv)
    assert {row["confidence"] for row in rows if row["visible"] == "1"} == {"0.5000"}
    assert {row["confidence"] for row in rows if row["visible"] == "0"} == {"0.7500"}


def test_each_mode_has_a_calibration_of_its_own(clip, tmp_path):
    models = write_models(tmp_path / "models", (90, 160), (160, 160))
    card = json.loads((models / "bright2" / "version.json").read_text())
    card["calibration"] = {"smart": {"visible": [0.0, 0.0]}, "fast": {"visible": [0.0, math.log(3)]}}
    (models / "bright2" / "version.json").write_text(json.dumps(card))
    pair = load_networks("onnx", "cpu", 1, models)
    for mode, confidence in (("smart", "0.5000"), ("fast", "0.7500")):
        rows = rows_of(track_video(clip, tmp_path / mode, mode, networks=pair).csv)
        assert {row["confidence"] for row in rows if row["visible"] == "1"} == {confidence}


@pytest.mark.parametrize(("size_hw", "frames"), [((16, 16), 4), ((90, 160), 1), ((720, 406), 3)])
def test_small_short_and_upright_videos_are_tracked(tiny_video, tmp_path, size_hw, frames):
    path = tiny_video("v.mp4", frames=frames, size_hw=size_hw)
    result = track_video(path, tmp_path / "out", networks=networks(), overlay=True)
    assert len(rows_of(result.csv)) == frames


def test_a_truncated_video_keeps_its_rows_and_warns(tiny_video, tmp_path):
    cut = cut_short(tiny_video("cut.mp4", frames=40, size_hw=SIZE_HW, draw=court), 0.6)
    result = track_video(cut, tmp_path / "out", networks=networks())
    rows = rows_of(result.csv)
    assert 0 < len(rows) < 40
    assert result.summary["frames"] == len(rows)
    assert result.warning == result.summary["warning"]
    assert "the video stops in the middle" in result.warning


@pytest.mark.parametrize("overlay", [False, True])
def test_nothing_is_left_when_the_folder_cannot_be_written(clip, tmp_path, overlay):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written"):
        track_video(clip, tmp_path / "file" / "out", networks=networks(), overlay=overlay)
    assert (tmp_path / "file").read_text() == "in the way"


def test_nothing_is_left_when_the_disk_fills_up(clip, tmp_path, monkeypatch):
    def full(frame, row):
        if frame.index == 12:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tracking, "overlay_video", lambda *_: full)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rally.csv").write_text(EARLIER)
    with pytest.raises(WriteError, match="disk is full"):
        track_video(clip, tmp_path / "out", networks=networks(), overlay=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rally.csv"]
    assert (tmp_path / "out" / "rally.csv").read_text() == EARLIER


def test_a_bad_video_writes_nothing(tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(VideoError, match="not a video"):
        track_video(tmp_path / "bad.mp4", tmp_path / "out", networks=networks())
    assert not (tmp_path / "out").exists()


def test_outputs_may_not_overwrite_each_other_or_the_video(clip, tmp_path):
    check_stems([video_file(tmp_path / "a.mp4"), video_file(tmp_path / "b.mp4")])
    with pytest.raises(UsageError, match=r"would both write a\.csv"):
        check_stems([video_file(tmp_path / "x" / "a.mp4"), video_file(tmp_path / "y" / "a.mkv")])
    with pytest.raises(UsageError, match="would replace"):
        track_video(clip, clip.parent, networks=networks(), overlay=True)
    assert probe(clip).frame_count == 20


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rally.csv", "Frame,Visibility,X,Y\n"),
        ("rally.json", "[]"),
        ("rally.json", "no JSON"),
        ("rally.json", '{"versions": ["1.0", "1.1"]}'),
        ("rally.mp4", ""),
    ],
)
def test_only_an_earlier_track_is_overwritten(clip, tmp_path, name, text):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(text)
    with pytest.raises(UsageError, match=rf"{name}: is no .*move it away"):
        track_video(clip, out, networks=networks(), overlay=True)
    assert [path.name for path in out.iterdir()] == [name]
    (out / name).unlink()
    track_video(clip, out, networks=networks(), overlay=True)
    check_outputs(video_file(clip), out, overlay=True)


def test_a_turned_video_is_tracked_as_players_show_it(clip, tmp_path):
    upright, turned = (struct.pack(">9i", *m, 0, 0, 0, 1 << 30) for m in (UPRIGHT, TURNED))
    head, track, rest = clip.read_bytes().partition(b"tkhd")
    clip.write_bytes(head + track + rest.replace(upright, turned, 1))
    result = track_video(clip, tmp_path / "b", networks=networks())
    assert (result.summary["width"], result.summary["height"], result.warning) == (180, 320, "")
    for row in rows_of(result.csv)[:15]:  # a quarter turn clockwise: what flew right falls
        place = float(row["x_px"]), float(row["y_px"])
        assert place == pytest.approx((180 - 84, 64 + 6 * int(row["frame"])), abs=5)


@pytest.mark.parametrize(
    ("degrees", "stored", "shown"),
    [(0, None, 1), (0, Fraction(4, 3), Fraction(4, 3)), (90, Fraction(4, 3), Fraction(3, 4))],
)
def test_an_overlay_plays_in_the_shape_of_its_video(tmp_path, degrees, stored, shown):
    pictures, turn = map(court, range(4)), (degrees, False, False)
    path = encode(tmp_path / "rally.mp4", pictures, turn=turn, pixel_aspect=stored)
    result = track_video(path, tmp_path / "out", networks=networks(), overlay=True)
    with av.open(str(result.overlay)) as container:
        (stream,) = container.streams
        assert (stream.sample_aspect_ratio or 1) == shown
        assert (stream.height, stream.width) == (SIZE_HW[::-1] if degrees else SIZE_HW)


def once(clip, stop_after=None, fail_after=None):
    """A source that can be read once: it is asked to stop, or fails, after so many frames."""
    file = video_file(clip)

    def open_(stopped):
        footage = file.open(stopped)

        def frames():
            for frame in footage.frames:
                yield frame
                if frame.index == stop_after:
                    signal.raise_signal(signal.SIGTERM)
                if frame.index == fail_after:
                    raise OSError(28, os.strerror(28))

        return replace(footage, frames=frames())

    return replace(file, open=open_, rereadable=False, endless=True)


def test_who_stops_a_camera_keeps_every_row(clip, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    result = track_source(once(clip, stop_after=9), tmp_path / "out", networks(), overlay=True)
    assert [int(row["frame"]) for row in rows_of(result.csv)] == list(range(10))
    assert result.summary["interrupted"]
    assert probe(result.overlay).frame_count == 10
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "rally.csv",
        "rally.json",
        "rally.mp4",
    ]
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_camera_leaves_its_rows_when_the_disk_fills_up(clip, tmp_path):
    with pytest.raises(WriteError, match="disk is full"):
        track_source(once(clip, fail_after=12), tmp_path / "out", networks())
    (left,) = (tmp_path / "out").iterdir()
    assert left.name == f"rally.partial-{os.getpid()}.csv"
    assert [int(row["frame"]) for row in rows_of(left)] == list(range(13))


def test_a_killed_run_leaves_its_final_rows_and_nothing_that_looks_complete(clip, tmp_path):
    reached, killed = multiprocessing.get_context("fork").Pipe(duplex=False)

    def run():
        def wait_for_death(done, _):
            if done == 10:
                killed.send(True)
                signal.pause()

        track_video(clip, tmp_path / "out", networks=networks(), on_frame=wait_for_death)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    assert reached.poll(30)
    process.kill()
    process.join()
    (left,) = (path for path in (tmp_path / "out").iterdir() if path.stat().st_size)
    assert left.name == f"rally.partial-{process.pid}.csv"
    assert [int(row["frame"]) for row in rows_of(left)] == list(range(10))


def test_the_tracker_starts_afresh_after_a_gap(clip, tmp_path):
    file = video_file(clip)

    def open_(stopped):
        footage = file.open(stopped)

        def frames():
            for frame in footage.frames:
                frame.time_s += 5.0 * (frame.index >= 8)
                yield frame

        return replace(footage, frames=frames())

    result = track_source(replace(file, open=open_), tmp_path, networks())
    assert [int(row["frame"]) for row in rows_of(result.csv)] == list(range(20))
    assert result.summary["gaps"] == [{"from_s": 0.234, "to_s": 5.267}]
    assert result.summary["counts"]["start"] == 2


def hidden_for_a_moment(index):
    return court(19 if index in (8, 9) else index)


def test_offline_fills_what_is_hidden_within_a_flight_and_keeps_no_frames(tiny_video, tmp_path, monkeypatch):
    clip = tiny_video("rally.mp4", frames=60, size_hw=SIZE_HW, fps=29.97, draw=hidden_for_a_moment)
    alive, most = weakref.WeakSet(), []

    def counted(*arguments):
        for frame in read_frames(*arguments):
            alive.add(frame)
            most.append(len(alive))
            yield frame

    monkeypatch.setattr("shuttlelib.sources.read_frames", counted)
    loose = TrackParams(rectify_rms_heights=0.06)  # the brightest pixel of the dot is anywhere in it
    result = track_video(clip, tmp_path / "off", "offline", networks=networks(), overlay=True, params=loose)
    assert len(most) == 120
    assert max(most) < 40  # 8 that wait, those whose rows may change yet, and what threads have in hand
    rows = rows_of(result.csv)
    sources = ["detected"] * 8 + ["rectified"] * 2 + ["detected"] * 5 + ["none"] * 45
    assert [row["source"] for row in rows] == sources
    for index in (8, 9):
        place = float(rows[index]["x_px"]), float(rows[index]["y_px"])
        assert place == pytest.approx((64 + 6 * index, 84), abs=8)
    assert result.summary["counts"]["rectified_rows"] == 2
    online = rows_of(track_video(clip, tmp_path / "on", networks=networks()).csv)
    assert [row["visible"] for row in online[8:10]] == ["0", "0"]


def test_a_picture_that_is_shown_twice_is_looked_at_once(tiny_video, tmp_path):
    clip = tiny_video("rally.mp4", frames=90, size_hw=SIZE_HW, fps=60.0, draw=lambda n: court(n // 2 % 15))
    result = track_video(clip, tmp_path, "calibration", networks=networks())
    rows = rows_of(result.csv)
    assert [int(row["frame"]) for row in rows] == list(range(90))
    assert [float(row["time_s"]) for row in rows] == pytest.approx(np.arange(90) / 60, abs=1e-6)
    assert result.summary["frames"] == 90
    assert result.summary["counts"]["repeated_rows"] == 37  # 17, 19, 21 to 89
    assert result.summary["counts"]["stage1_inputs"] == 53
    said = [{name: row[name] for name in ("visible", "x_px", "y_px", "confidence", "source")} for row in rows]
    assert said[16::2] == said[17::2]
    assert said[16] != said[18]
    smart = track_video(clip, tmp_path / "smart", networks=networks()).summary
    assert (smart["counts"]["start"], smart["gaps"]) == (2, [])  # anew once the rate of pictures is known


@pytest.mark.parametrize("overlay", [False, True])
def test_who_stops_a_camera_before_its_first_row_gets_an_empty_track(clip, tmp_path, overlay):
    out = tmp_path / "out"
    looks = tracking_source(once(clip), out, networks(), overlay=overlay, asked=lambda: True)
    assert next(looks, None) is None
    summary = json.loads((out / "rally.json").read_text())
    assert (summary["frames"], summary["interrupted"]) == (0, True)
    assert (out / "rally.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert sorted(path.name for path in out.iterdir()) == ["rally.csv", "rally.json"]


def test_when_the_reader_of_rows_leaves_no_row_and_no_count_is_lost(clip, tmp_path):
    read = []

    def reader(frame, row):
        if row.frame == 11:
            raise BrokenPipeError
        read.append(row.frame)

    with pytest.raises(BrokenPipeError):
        track_source(once(clip), tmp_path, networks(), also=[reader])
    assert read == list(range(11))
    rows = [int(row["frame"]) for row in rows_of(tmp_path / "rally.csv")]
    summary = json.loads((tmp_path / "rally.json").read_text())
    assert rows == list(range(summary["frames"]))
    assert 12 < len(rows) < probe(clip).frame_count, "rows under way are written, no further frame is read"
    assert summary["interrupted"]
    assert summary["counts"]["stage2_inputs"] > 0
    assert summary["triggers"]["start"] == [0]


@pytest.mark.parametrize("ahead", [False, True])
def test_an_error_does_not_wait_for_a_source_that_is_silent(clip, tmp_path, ahead):
    """Where frames go ahead to a device another thread waits for the next one."""
    file = video_file(clip)

    def open_(stopped):
        footage = file.open(stopped)

        def frames():
            for frame in footage.frames:
                yield frame
                if frame.index == 4:
                    while not stopped():
                        time.sleep(0.01)
                    return

        return replace(footage, frames=frames())

    class Eyes:
        def warm_up(self, size_hw):
            pass

        def ahead(self, frames):
            return frames

        def take(self, looks):
            if looks[0].frames[0][-1].index >= 2:
                raise MemoryError
            return take_on_host({1: nets.stage1, 2: nets.stage2}, looks)

    nets = networks()
    if ahead:
        nets = replace(nets, eyes=Eyes())
    source = replace(file, open=open_, rereadable=False, endless=True)
    take = Eyes().take
    with pytest.raises(MemoryError):
        answer_all(tracking.tracking_source(source, tmp_path, nets), lambda look: take([look])[0])


def test_offline_needs_a_source_that_can_be_read_twice(clip, tmp_path):
    once = replace(video_file(clip), rereadable=False, name="standard input")
    with pytest.raises(UsageError, match=r"--mode offline: .*input can only be read once; use"):
        track_source(once, tmp_path, networks(), "offline")
    assert list(tmp_path.glob("*.csv")) == []


def test_more_models_of_stage_2_vote(clip, tmp_path):
    models = write_models(tmp_path / "models", (90, 160), (160, 160))
    pair = load_networks("onnx", "cpu", 1, models, vote=[models / "bright2"])
    assert pair.stage2.version == "bright2+bright2"
    voted = track_video(clip, tmp_path / "a", networks=pair)
    single = track_video(clip, tmp_path / "b", networks=load_networks("onnx", "cpu", 1, models))
    assert voted.csv.read_text() == single.csv.read_text()
    with pytest.raises(UsageError, match=r"--vote .*bright1: is of stage 1"):
        load_networks("onnx", "cpu", 1, models, vote=[models / "bright1"])
    with pytest.raises(UsageError, match="--mode whole has no stage 2"):
        load_networks("onnx", "cpu", 1, models, mode="whole", vote=[models / "bright2"])


@pytest.mark.parametrize(("versions", "mode"), [(["bright2", "bright1"], "smart"), (["bright2"], "whole")])
def test_each_version_takes_the_place_of_its_stage(tmp_path, versions, mode):
    models = write_models(tmp_path / "models", (90, 160), (160, 160))
    with pytest.raises(UsageError, match=r"bright2: is of stage 2; give a version of stage 1 here"):
        load_networks("onnx", "cpu", 1, models, versions, mode)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the system does not say what memory is held"
)
def test_memory_does_not_grow_with_the_video(tmp_path):
    picture = np.full((480 * 3 // 2, 854), 128, np.uint8)  # 0.6 MB

    def frames():
        for index in range(3000):
            yield Frame(index, index / 30, picture.copy())

    def held_mb():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    info = VideoInfo(tmp_path / "long.mp4", 854, 480, 30.0, 3000)
    source = Source("long", "long", "long", lambda _: Footage(info, read_ahead(frames)))
    networks = tracking.load_networks("onnx", "cpu", 1, write_models(tmp_path / "models"))
    held = {}
    result = tracking.track_source(
        source, tmp_path, networks, on_frame=lambda count, _: held.setdefault(count, held_mb())
    )
    assert result.summary["frames"] == 3000
    assert held[3000] - held[300] < 30  # 50 frames; all of them would be 1,600 MB
