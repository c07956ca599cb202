"""Folders as a user would have them."""

import json

import numpy as np
import pytest
from outcomes import HD, NAN, PRED, TRUTH, table

from shuttlelib import labels, summary, video
from shuttlelib.evaluation import evaluate_folders
from shuttlelib.files import write_json
from shuttlelib.metrics import MetricsError, score_clip, summarize


@pytest.fixture
def folders(tmp_path):
    pred, truth = tmp_path / "pred", tmp_path / "labels"
    pred.mkdir()
    truth.mkdir()
    return pred, truth


def write_pred(folder, stem, data=PRED):
    out = data.assign(time_s=data["frame"] / 30, source="detected")
    columns = ["frame", "time_s", "visible", "x_px", "y_px", "confidence", "source"]
    out[columns].to_csv(folder / f"{stem}.csv", index=False)


def write_tracknet(folder, stem, data=TRUTH):
    names = {"frame": "Frame", "visible": "Visibility", "x_px": "X", "y_px": "Y"}
    data.fillna(0)[list(names)].rename(columns=names).to_csv(folder / f"{stem}.csv", index=False)


def write_normalized(folder, stem):
    lines = [f"{f},1,{100 / 1920},{100 / 1080}" if f in (0, 1, 3) else f"{f},0,-1,-1" for f in range(5)]
    (folder / f"{stem}.csv").write_text("Frame,Ball,x,y\n" + "\n".join(lines) + "\n")


def write_parquet(folder, stem, size_hw, flags=""):
    data = labels.make_table(
        stem, TRUTH["frame"], TRUTH["visible"], TRUTH["x_px"], TRUTH["y_px"], "synthetic", flags
    )
    labels.write_table(folder / f"{stem}.parquet", data, labels.ClipInfo(size_hw[1], size_hw[0], 30.0, 5))


def scale_of(result):
    """1920 px over the frame width that was used, from the two pixel errors."""
    return result["error_px"]["1920x1080"]["mean"] / result["error_px"]["native"]["mean"]


def test_size_argument_comes_first(folders):
    pred, truth = folders
    write_pred(pred, "00001")
    write_normalized(truth, "00001")
    (pred / "00001.json").write_text('{"width": 640, "height": 360}')
    result = evaluate_folders(pred, truth, (1080, 1920))
    assert scale_of(result) == pytest.approx(1)
    assert result["counts"]["native_4px"] == {"tp": 1, "fp1": 1, "fp2": 1, "fn": 1, "tn": 1}


def test_size_from_the_sidecar(folders, capsys):
    pred, truth = folders
    write_pred(pred, "a")
    write_normalized(truth, "a")
    (pred / "a.json").write_text('{"width": 1920, "height": 1080, "mode": "smart"}')
    assert scale_of(evaluate_folders(pred, truth)) == pytest.approx(1)
    assert capsys.readouterr().err == ""
    (pred / "a.json").write_text('{"width": 19')
    with pytest.raises(MetricsError, match=r"a\.json: not valid JSON"):
        evaluate_folders(pred, truth)


def test_size_from_parquet_before_the_video(folders):
    pred, truth = folders
    write_pred(pred, "a")
    write_parquet(truth, "a", (1080, 1920))
    write_tracknet(truth, "a")  # Parquet is preferred where both lie
    (truth / "a.mp4").write_bytes(b"")
    assert scale_of(evaluate_folders(pred, truth)) == pytest.approx(1)


def test_unusable_labels_count_as_unlabelled(folders):
    pred, truth = folders
    write_pred(pred, "a")
    write_parquet(truth, "a", HD, flags=["", "", "", "out_of_frame", ""])
    assert evaluate_folders(pred, truth)["counts"]["grid512_4px"]["fn"] == 0


def test_size_from_the_video_beside_the_labels(folders):
    pred, truth = folders
    write_pred(pred, "a")
    write_tracknet(truth, "a")
    with video.VideoWriter(truth / "a.mp4", (360, 640), 30.0) as writer:
        for _ in range(2):
            writer.write(np.zeros((360, 640, 3), np.uint8))
    assert scale_of(evaluate_folders(pred, truth)) == pytest.approx(3)


def test_ball_files_match_the_videos_name_and_size(folders):
    pred, truth = folders
    for stem in ("a", "b_ball"):
        write_pred(pred, stem)
        write_tracknet(truth, stem)
    (truth / "a.csv").rename(truth / "a_ball.csv")
    for name in ("a", "b_ball"):
        with video.VideoWriter(truth / f"{name}.mp4", (360, 640), 30.0) as writer:
            writer.write(np.zeros((360, 640, 3), np.uint8))
        (truth / f"{name}.mp4").rename(truth / f"{name}.mov")
    result = evaluate_folders(pred, truth)
    assert list(result["per_clip"]) == ["a", "b_ball"]
    assert scale_of(result) == pytest.approx(3)


def test_what_follows_a_clips_name_may_be_of_any_case(folders):
    pred, truth = folders
    for stem in ("a", "b", "c"):
        write_pred(pred, stem)
    for stem, name in (("a", "a.CSV"), ("b", "b_Ball.CSV")):
        write_tracknet(truth, stem)
        (truth / f"{stem}.csv").rename(truth / name)
    write_parquet(truth, "c", HD)
    (truth / "c.parquet").rename(truth / "c.PARQUET")
    (pred / "a.csv").rename(pred / "a.Csv")
    assert list(evaluate_folders(pred, truth, HD)["per_clip"]) == ["a", "b", "c"]


def test_unknown_size_is_assumed_aloud_or_refused(folders, capsys):
    pred, truth = folders
    write_pred(pred, "a")
    write_tracknet(truth, "a")
    assert scale_of(evaluate_folders(pred, truth)) == pytest.approx(1.5)
    assert "assuming 1280x720; --size" in capsys.readouterr().err
    write_pred(pred, "a", PRED.assign(x_px=PRED["x_px"] + 1200))
    with pytest.raises(MetricsError, match="--size"):
        evaluate_folders(pred, truth)


def test_venues_come_from_splits_and_partnerless_files_are_named(folders, capsys):
    pred, truth = folders
    for stem in ("00001", "00002", "alone"):
        write_pred(pred, stem)
    for stem in ("00001", "00002", "unseen"):
        write_tracknet(truth, stem)
    (truth / "splits.csv").write_text("clip,venue,split\n00001,hall,val\n00002,gym,val\nunseen,barn,train\n")
    result = evaluate_folders(pred, truth, HD)
    assert {k: v["frames"] for k, v in result["per_venue"].items()} == {"gym": 5, "hall": 5}
    warned = capsys.readouterr().err
    assert f"alone in {pred}" in warned
    assert f"unseen in {truth}" in warned
    text = summary.format_summary(result)
    assert text.startswith("2 clips, 10 labelled frames")
    first = [line.split()[0] for line in text.splitlines() if line]
    assert first[-6:] == ["venue", "gym", "hall", "clip", "00001", "00002"]
    (truth / "splits.csv").write_text("clip,split\n00001,val\n")
    with pytest.raises(labels.LabelError, match=r"splits\.csv: row 1, column 'venue' is missing"):
        evaluate_folders(pred, truth, HD)


def test_frame_rates_are_told_apart_and_the_floor_stands_beside_the_error(folders):
    pred, truth = folders
    for stem, fps in (("a", 30.0), ("b", 119.88), ("c", 30.0)):
        write_pred(pred, stem)
        write_tracknet(truth, stem)
        (pred / f"{stem}.json").write_text(json.dumps({"width": 1280, "height": 720, "fps": fps}))
    result = evaluate_folders(pred, truth)
    assert {name: group["clips"] for name, group in result["per_fps"].items()} == {
        "30 fps": 2,
        "119.9 fps": 1,
    }
    text = summary.format_summary(result)
    assert "frame rate" in text
    assert "noise of the labels themselves, px at 1920x1080: –" in text  # no four visible frames in a row
    (pred / "b.json").unlink()
    assert "frame rate" not in summary.format_summary(evaluate_folders(pred, truth, HD))


def test_nothing_to_match_names_both_folders(folders):
    pred, truth = folders
    write_pred(pred, "left")
    write_tracknet(truth, "right")
    with pytest.raises(MetricsError, match=f"{pred} has left, {truth} has right"):
        evaluate_folders(pred, truth)
    with pytest.raises(MetricsError, match="nowhere: no such folder"):
        evaluate_folders(pred / "nowhere", truth)


@pytest.mark.parametrize("column", ["frame", "visible", "x_px", "y_px"])
def test_missing_column_names_file_and_column(folders, column):
    pred, truth = folders
    write_tracknet(truth, "a")
    PRED.drop(columns=column).to_csv(pred / "a.csv", index=False)
    with pytest.raises(MetricsError, match=rf"a\.csv: no column '{column}'"):
        evaluate_folders(pred, truth)


def test_predictions_separated_by_something_else_than_commas_are_named(folders):
    pred, truth = folders
    write_tracknet(truth, "a")
    for separator, name in ((";", "';'"), ("\t", "tabs")):
        PRED.to_csv(pred / "a.csv", index=False, sep=separator)
        with pytest.raises(MetricsError, match=rf"a\.csv: separated by {name}, not by ','; save it with"):
            evaluate_folders(pred, truth, HD)


def test_unreadable_predictions_and_bad_labels_are_named(folders):
    pred, truth = folders
    (pred / "a.csv").write_bytes(b"")
    write_tracknet(truth, "a")
    with pytest.raises(MetricsError, match=r"a\.csv: cannot be read as CSV"):
        evaluate_folders(pred, truth, HD)
    write_pred(pred, "a")
    (truth / "a.csv").write_text("Frame,Visibility,X\n0,1,3\n")
    with pytest.raises(labels.LabelError, match="'Y' is missing"):
        evaluate_folders(pred, truth, HD)


def test_header_without_rows_means_every_prediction_is_missing(folders):
    pred, truth = folders
    (pred / "a.csv").write_text("frame,time_s,visible,x_px,y_px,confidence,source\n")
    write_tracknet(truth, "a")
    result = evaluate_folders(pred, truth, HD)
    assert result["missing_predictions"] == result["frames"] == 5
    assert result["counts"]["grid512_4px"]["fn"] == 3


def test_labels_without_any_usable_row_are_an_error(folders):
    pred, truth = folders
    for stem in ("a", "b"):
        write_pred(pred, stem)
    (truth / "a.csv").write_text("Frame,Visibility,X,Y\n")
    write_parquet(truth, "b", HD, flags="out_of_frame")
    with pytest.raises(MetricsError, match="labels: no frame of a, b is labelled; write one row a frame"):
        evaluate_folders(pred, truth, HD)
    write_tracknet(truth, "a")
    assert evaluate_folders(pred, truth, HD)["frames"] == 5


def test_labels_of_another_size_than_the_track_are_refused(folders):
    pred, truth = folders
    PRED.to_csv(pred / "a.csv", index=False)
    (pred / "a.json").write_text(json.dumps({"width": 1920, "height": 1080}))
    info = labels.ClipInfo(1280, 720, 30.0, 5, "")
    labels.write_table(truth / "a.parquet", TRUTH.assign(clip="a", origin="tracknet_csv", flags=""), info)
    with pytest.raises(MetricsError, match=r"a\.parquet: labels of a 1280x720 video, but .*one of 1920x1080"):
        evaluate_folders(pred, truth)


def test_a_result_is_standard_json(tmp_path):
    result = summarize({"a": score_clip(PRED, TRUTH, HD)})
    write_json(tmp_path / "new" / "m.json", result)
    assert json.loads((tmp_path / "new" / "m.json").read_text()) == result


def test_summary_text_is_aligned_and_shows_undefined_as_a_dash():
    nothing = table([(0, NAN, NAN)] * 4)
    text = summary.format_summary(
        summarize({"all_dark": score_clip(nothing, nothing, HD), "b": score_clip(PRED, TRUTH, HD)})
    )
    head, dark, mixed = text.splitlines()[-3:]
    assert head.split()[0] == "clip"
    assert len(head) == len(dark) == len(mixed)
    assert dark.split()[:4] == ["all_dark", "4", "1.0000", "–"]


def test_what_makes_a_score_doubtful_is_said(folders, capsys):
    pred, truth = folders
    for stem in ("a", "b"):
        write_pred(pred, stem)
        write_tracknet(truth, stem)
    write_pred(pred, "c", PRED.assign(frame=PRED["frame"] + 1000))
    write_tracknet(truth, "c", TRUTH.assign(x_px=[0, 5000, 100, 100, 100], y_px=[0, 100, 100, 100, 100]))
    (truth / "splits.csv").write_text("clip,venue,split\na,x,train\nb,y,val\nc,y,val\n")
    result = evaluate_folders(pred, truth, HD)
    said = capsys.readouterr().err
    assert "1 of 3 clips are of the train split (a)" in said
    assert "c.csv: has none of the frames that are labelled" in said
    told = "c.csv: 2 visible labels without a place, at (0, 0) or outside 1280x720, the first in frame 0"
    assert told in said
    assert result["frames"] == 13


@pytest.mark.parametrize("key", ["width", "fps"])
@pytest.mark.parametrize("value", [0, "1280", float("nan")])
def test_a_summary_of_no_sense_is_named(folders, key, value):
    pred, truth = folders
    write_pred(pred, "a")
    write_tracknet(truth, "a")
    (pred / "a.json").write_text(json.dumps({"width": 1280, "height": 720, "fps": 30, key: value}))
    with pytest.raises(MetricsError, match=rf"a\.json: {key} is {value!r}, not a number above 0"):
        evaluate_folders(pred, truth)
    (pred / "a.json").write_text(json.dumps({"width": 1280, "height": 720, "fps": None}))
    assert evaluate_folders(pred, truth)["clips"] == 1


def test_a_track_of_another_video_is_refused_or_said(folders, tiny_video, capsys):
    pred, truth = folders
    write_pred(pred, "a")
    write_tracknet(truth, "a")
    tiny_video("a.mp4", frames=5, size_hw=(360, 640)).rename(truth / "a.mp4")
    (pred / "a.json").write_text(json.dumps({"width": 1920, "height": 1080}))
    with pytest.raises(
        MetricsError, match=r"labels of a 640x360 video, but .* is the track of one of 1920x1080"
    ):
        evaluate_folders(pred, truth)
    (truth / "a.mp4").unlink()
    (truth / "a.csv").unlink()
    write_parquet(truth, "a", HD)
    (pred / "a.json").write_text(json.dumps({"width": 1280, "height": 720, "fps": 60}))
    evaluate_folders(pred, truth)
    assert "at 60 frames a second" in capsys.readouterr().err


@pytest.mark.parametrize("stray", ["a.partial-123", "._a"])
def test_what_a_killed_run_or_macos_left_is_no_track(folders, capsys, stray):
    pred, truth = folders
    for stem in ("a", stray):
        write_pred(pred, stem)
        write_parquet(truth, stem, HD)
    assert evaluate_folders(pred, truth)["clips"] == 1
    assert stray not in capsys.readouterr().err
