import io
import json
import math
import os
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest

from shuttlelib.errors import UsageError
from shuttlelib.files import WriteError
from shuttlelib.outputs import (
    COLUMNS,
    check_outputs,
    growing_csv,
    is_ours,
    json_rows,
    overlay_left,
    overlay_video,
)
from shuttlelib.rows import Row
from shuttlelib.sources import video_file
from shuttlelib.video import probe

SEEN = Row(3, 0.1, True, 100.12345, 50.5, 0.87654, "detected")
UNSEEN = Row(4, 4 / 30, False, math.nan, math.nan, 0.5, "none")
FRAME = SimpleNamespace()
SUMMARY = {  # as the first release wrote it, of one network
    **dict.fromkeys(("width", "height", "fps", "frames", "frames_expected", "visible_share"), 1),
    **dict.fromkeys(("seconds", "speed_fps"), 1.0),
    **{"video": "rally.mov", "backend": "onnx", "backend_why": "", "device": "cpu", "mode": "whole"},
    **{"versions": {"stage1": "stage1_v5", "stage2": None, "shuttlelib": "0.1.0"}},
    **{"counts": {}, "params": {}, "warning": ""},
}


def test_a_row_is_a_line_of_json_with_the_columns_of_the_csv():
    out = io.StringIO()
    emit = json_rows(out, "v.mp4")
    emit(FRAME, SEEN)
    emit(FRAME, UNSEEN)
    seen, unseen = map(json.loads, out.getvalue().splitlines())
    assert tuple(seen) == ("video", *COLUMNS)
    assert seen == {
        "video": "v.mp4",
        "frame": 3,
        "time_s": 0.1,
        "visible": 1,
        "x_px": 100.123,
        "y_px": 50.5,
        "confidence": 0.8765,
        "source": "detected",
    }
    assert (unseen["x_px"], unseen["y_px"], unseen["visible"]) == (None, None, 0)


def test_rows_can_be_read_while_the_csv_grows(tmp_path):
    with ExitStack() as outputs:
        emit = growing_csv(tmp_path / "v.csv", outputs, keep=False)
        emit(FRAME, SEEN)
        (partial,) = tmp_path.iterdir()
        assert partial.name == f"v.partial-{os.getpid()}.csv"
        header, row = partial.read_text().splitlines()
        assert header == ",".join(COLUMNS)
        assert row == "3,0.100000,1,100.123,50.500,0.8765,detected"
    assert [path.name for path in tmp_path.iterdir()] == ["v.csv"]


def grow_and_fail(path, keep):
    with ExitStack() as outputs:
        growing_csv(path, outputs, keep)(FRAME, SEEN)
        raise OSError(28, os.strerror(28))


@pytest.mark.parametrize("keep", [False, True])
def test_after_an_error_only_what_cannot_be_made_again_stays(tmp_path, keep):
    with pytest.raises(WriteError, match="disk is full"):
        grow_and_fail(tmp_path / "v.csv", keep)
    assert [path.name for path in tmp_path.iterdir()] == [f"v.partial-{os.getpid()}.csv"] * keep


def test_rows_that_standard_output_does_not_take_are_no_fault_of_the_csv(tmp_path):
    def full(_):
        raise OSError(28, os.strerror(28))

    out = SimpleNamespace(write=full)
    refused = pytest.raises(WriteError, match="standard output: cannot be written: the disk is full")
    with refused, ExitStack() as outputs:
        growing_csv(tmp_path / "v.csv", outputs, keep=False)
        json_rows(out, "v.mp4")(FRAME, SEEN)


@pytest.mark.parametrize("suffix", ["csv", "json", "mp4"])
def test_a_folder_in_the_way_is_named_before_any_work(tiny_video, tmp_path, suffix):
    source = video_file(tiny_video("rally.mov"))
    (tmp_path / f"rally.{suffix}").mkdir()
    with pytest.raises(UsageError, match=rf"rally\.{suffix}: is no track"):
        check_outputs(source, tmp_path, overlay=True)


@pytest.mark.parametrize(
    "other",
    [
        {"versions": SUMMARY["versions"]},
        {**SUMMARY, "versions": {"shuttlelib": "0.1.0"}},
        {**SUMMARY, "versions": None},
        [*SUMMARY],
    ],
)
def test_json_is_a_summary_only_if_it_holds_what_every_summary_does(tmp_path, other):
    path = tmp_path / "rally.json"
    for content, ours in ((SUMMARY, True), ({**SUMMARY, "gaps": [], "note": ""}, True), (other, False)):
        path.write_text(json.dumps(content))
        assert is_ours(path) == ours


def test_a_video_is_overwritten_only_if_it_is_an_overlay(tiny_video, tmp_path):
    source, video = video_file(tiny_video("rally.mov")), tiny_video("rally.mp4")
    (tmp_path / "rally.json").write_text(json.dumps(SUMMARY))
    check_outputs(source, tmp_path)
    assert overlay_left(source, tmp_path) is None
    with pytest.raises(UsageError, match=r"rally\.mp4: is no track's overlay .*move it away"):
        check_outputs(source, tmp_path, overlay=True)
    with ExitStack() as outputs:
        emit = overlay_video(video, probe(source.name), outputs)
        emit(SimpleNamespace(rgb=np.zeros((64, 96, 3), np.uint8), time_s=0.0), UNSEEN)
    check_outputs(source, tmp_path, overlay=True)
    assert overlay_left(source, tmp_path) == video
    assert overlay_left(video_file(video), tmp_path) is None
