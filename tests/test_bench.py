import json
import re
import subprocess
import sys

import numpy as np
import pytest
from fakes import cut_short, write_models

from shuttlelib import bench, cli, clips, labels, pair
from shuttlelib.bench_run import Setup, measure, percentiles
from shuttlelib.bench_startup import startup_s
from shuttlelib.charts_bench import bench_chart
from shuttlelib.errors import ShuttleError

ONE = Setup("onnx", "smart", "fp32", 1, 1)


@pytest.fixture
def models(tmp_path):
    return write_models(tmp_path / "models")


def test_a_row_says_where_the_time_goes(tiny_video, models):
    video = tiny_video(frames=12)
    row = measure(ONE, video, 2, models)
    took, stages = row["end_to_end"], row["stages"]
    assert took["frames"] == 12
    assert len(took["fps_runs"]) == 2
    assert took["fps_best"] == max(took["fps_runs"])
    assert took["frame_ms"]["p50"] <= took["frame_ms"]["p95"] <= took["frame_ms"]["p99"]
    assert stages["decode"]["calls"] == 12
    assert stages["preprocess"]["calls"] == stages["stage1"]["calls"] + stages["stage2"]["calls"]
    assert stages["stage1"]["calls"] >= 1  # the first frame is a calibration
    every_ms = sum(span["ms_per_frame"] for span in stages.values())
    assert every_ms <= 1e3 / row["clocked_fps"]  # no time is counted twice
    assert row["versions"] == {"stage1": "bright1", "stage2": "bright2"}
    assert row["accuracy"] is None
    assert (row["device"], row["notes"]) == ("cpu (1 threads)", [])


def test_what_a_person_should_know_of_how_it_went_stands_under_the_table(tiny_video, models, monkeypatch):
    slower = "CUDA graphs do not work here (not permitted): slower without"
    monkeypatch.setattr(pair.Networks, "notes", property(lambda _: [slower]))
    row = measure(Setup("onnx", "smart", "fp32", 2, 2), tiny_video(frames=5), 1, models)
    assert row["notes"] == [slower]
    row |= {"reason": "", "startup_s": {"warm": None, "cold": None}, "device": "cuda (a card, fp16)"}
    old = {name: value for name, value in row.items() if name != "notes"}
    old |= {"device": "cpu (2 threads)"}
    setup = {"backend": "torch", "mode": "smart", "streams": 2, "threads": 2}
    video = {"name": "a.mp4", "width": 96, "height": 64, "frames": 5}
    report = {"video": video, "environment": {"cpu": "a processor", "cores": 2}}
    text = bench.table(report | {"rows": [row | setup, old | setup]}).splitlines()
    assert [line.split()[-1] for line in text[1:4]] == ["device", "cuda", "cpu"]
    assert text[4:] == [f"torch smart fp32: {slower}"]


def test_several_streams_are_tracked_at_once(tiny_video, models):
    row = measure(Setup("onnx", "whole", "fp32", 3, 2), tiny_video(frames=5), 1, models)
    assert row["end_to_end"]["frames"] == 15
    assert row["stages"] == {}


@pytest.mark.parametrize("streams", [1, 2])
def test_a_frame_that_is_read_twice_counts_once(tiny_video, models, streams):
    row = measure(Setup("onnx", "offline", "fp32", streams, 1), tiny_video(frames=12), 1, models)
    assert row["end_to_end"]["frames"] == 12 * streams


def test_what_cannot_be_measured_is_named(tiny_video, models, tmp_path):
    with pytest.raises(ShuttleError, match="a video of one frame has no rate"):
        measure(ONE, tiny_video("one.mp4", 1), 1, models)
    table = labels.make_table("a", range(3), True, 5.0, 5.0, "synthetic")
    video = tiny_video("a.mp4", 3)
    clips.store(clips.Clip("a", video, table, clips.probe(video), "hall", "train"), tmp_path / "data")
    with pytest.raises(ShuttleError, match="data: has no val clip to judge on"):
        bench.bench(video, [ONE], 1, models, tmp_path / "data")


def test_percentiles():
    assert percentiles(np.arange(101.0)) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


@pytest.mark.slow
def test_the_command_compares_and_lists_what_does_not_run(tiny_video, models, tmp_path, capsys):
    out = tmp_path / "bench"
    arguments = ["bench", str(tiny_video(frames=8)), "--backend", "onnx,torch", "--threads", "1"]
    status = cli.run([*arguments, "--repeat", "1", "--models", str(models), "--out", str(out)])
    said = capsys.readouterr().out
    assert status == 0, said
    report = json.loads((out / "bench.json").read_text())
    assert report["schema"] == bench.SCHEMA
    assert report["video"] == {"name": "clip.mp4", "width": 96, "height": 64, "fps": 30.0, "frames": 8}
    onnx, torch = report["rows"]
    assert (onnx["backend"], onnx["reason"]) == ("onnx", "")
    assert 0 < onnx["startup_s"]["warm"] < 60
    assert onnx["peak_rss_mb"] is None or onnx["peak_rss_mb"] > 10
    assert "model.safetensors is missing" in torch["reason"]  # the fakes are graphs only
    assert re.search(r"^ *onnx +smart +fp32 +1 +1 ", said, re.MULTILINE)
    assert re.search(r"^torch smart auto: .*is missing", said, re.MULTILINE)
    assert {path.name for path in out.iterdir()} == {"bench.json", "bench.txt", "bench.png", "bench.svg"}


def test_a_precision_without_its_graph_says_why(tiny_video, models):
    report = bench.bench(tiny_video(), [Setup("onnx", "smart", "int8", 1, 1)], 1, models)
    assert "model.int8.onnx: missing" in report["rows"][0]["reason"]


def test_a_start_without_a_row_is_the_reason_of_its_configuration_alone(tiny_video, models, monkeypatch):
    video, int8 = tiny_video(frames=4), Setup("onnx", "smart", "int8", 1, 1)
    with pytest.raises(ShuttleError, match=r"clip\.mp4: error: .*model\.int8\.onnx: missing") as caught:
        startup_s(int8, video, models)
    assert "\n" not in str(caught.value)

    def refuse(*_):
        raise caught.value

    monkeypatch.setattr(bench, "startup_s", refuse)
    several = Setup("onnx", "smart", "fp32", 2, 1)
    report = bench.bench(video, [several, ONE], 1, models)
    assert [row["reason"] for row in report["rows"]] == ["", str(caught.value)]


def test_a_bench_that_is_stopped_keeps_the_rows_before(tiny_video, models, tmp_path, monkeypatch):
    measured, out = bench._row, tmp_path / "out"

    def stopped(setup, *rest):
        if setup.threads == 2:
            raise KeyboardInterrupt
        return measured(setup, *rest)

    monkeypatch.setattr(bench, "_row", stopped)
    several = Setup("onnx", "smart", "fp32", 2, 1)
    with pytest.raises(KeyboardInterrupt):
        bench.bench(
            tiny_video(frames=4), [several, Setup("onnx", "smart", "fp32", 1, 2)], 1, models, out_dir=out
        )
    report = json.loads((out / "bench.json").read_text())
    assert [(row["streams"], row["reason"]) for row in report["rows"]] == [(2, "")]
    assert bench.table(report)
    assert [path.name for path in out.iterdir()] == ["bench.json"]


def test_frames_are_those_read_where_the_container_does_not_say(tiny_video, models, tmp_path):
    video, out = tiny_video("clip.mkv", frames=5), tmp_path / "out"
    failing = Setup("onnx", "smart", "int8", 1, 1)
    report = bench.bench(video, [failing, Setup("onnx", "whole", "fp32", 2, 2)], 1, models, out_dir=out)
    assert report["rows"][1]["end_to_end"]["frames"] == 10
    assert report["video"]["frames"] == 5
    assert "clip.mkv 96x64, 5 frames; " in bench.headline(report)
    assert json.loads((out / "bench.json").read_text()) == report


def test_a_configuration_that_takes_too_long_is_given_up_and_says_so(tiny_video, models):
    report = bench.bench(tiny_video(), [ONE], 1, models, limit_s=0.01)
    assert [row["reason"] for row in report["rows"]] == ["took longer than 0.01 s; give it more by --limit"]


@pytest.mark.slow
def test_the_start_on_a_damaged_video_is_measured_too(tiny_video, models):
    cut = cut_short(tiny_video(frames=30, size_hw=(90, 160)), 0.5)
    assert 0 < startup_s(ONE, cut, models, repeat=1)["warm"] < 60


@pytest.mark.parametrize("option", [("--backend", "abacus"), ("--streams", "0"), ("--threads", "two")])
def test_wrong_options_name_the_fix(option, capsys):
    assert cli.run(["bench", *option]) == 2
    assert option[0] in capsys.readouterr().err


def test_a_bench_of_which_nothing_ran_has_failed(tiny_video, models, tmp_path, capsys, monkeypatch):
    reasons = iter(["no GPU", "no GPU", ""])
    monkeypatch.setattr(bench, "_row", lambda *_: {"reason": next(reasons)})
    monkeypatch.setattr(bench, "table", lambda _: "")
    monkeypatch.setattr(bench, "write", lambda *_: [])
    command = ["bench", str(tiny_video()), "--out", str(tmp_path / "out")]
    assert cli.run([*command, "--backend", "tensorrt", "--streams", "1,2"]) == 1
    assert capsys.readouterr().err == "error: nothing could be measured: no GPU\n"
    assert cli.run([*command, "--backend", "onnx"]) == 0


def test_a_chart_leaves_out_what_did_not_run():
    span = {"ms_per_frame": 2.0}
    ran = {"backend": "onnx", "precision": "fp32", "mode": "smart", "threads": 2, "streams": 1, "reason": ""}
    ran |= {"end_to_end": {"fps": 100.0, "fps_best": 110.0, "fps_runs": [90.0, 100.0, 110.0]}}
    ran |= {"stages": {"decode": span, "preprocess": {}, "stage2": span}, "accuracy": {"accuracy": 0.8}}
    figure = bench_chart([{**ran, "reason": "no GPU"}, ran], "here")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["onnx fp32, smart, 2 threads"]
    texts = [text.get_text().strip() for text in figure.axes[0].texts + figure.axes[1].texts]
    assert texts == ["100, accuracy 0.800", "4.0"]
    figure = bench_chart([{**ran, "streams": 2, "stages": {}}])  # of several at once no stages are told
    assert figure.axes[0].get_yticklabels()[0].get_text() == "onnx fp32, smart, 2 threads, 2 at once"
    assert not figure.legends


def test_tracking_starts_without_torch_and_pandas(tiny_video, models, tmp_path):
    code = (
        "import sys; from shuttlelib import cli;"
        "status = cli.run(sys.argv[1:]);"
        "heavy = {'torch', 'pandas', 'matplotlib', 'onnx'} & set(sys.modules);"
        "sys.exit(status or f'imported {heavy}' if heavy else status)"
    )
    arguments = ["track", str(tiny_video()), "--backend", "onnx", "--models", str(models)]
    command = [sys.executable, "-c", code, *arguments, "--out", str(tmp_path / "tracks")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
