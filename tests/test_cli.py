import io
import json
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import commands
from fakes import cut_short, write_models

from shuttlelib import cli, cli_track, sources, streams, tracking
from shuttlelib.live import played
from shuttlelib.video import read_frames

SIZE_HW = (90, 160)


@pytest.fixture
def models(tmp_path):
    return write_models(tmp_path / "models", (45, 80), (160, 160))


@pytest.fixture
def shuttle(capsys):
    """Run a command line: exit status, standard output, lines on standard error."""

    def run(*arguments):
        status = cli.run([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return status, streams.out, streams.err.splitlines()

    return run


def court(index):
    rgb = np.random.default_rng(index).integers(20, 40, (*SIZE_HW, 3), dtype=np.uint8)
    rgb[40:48, 20 + 4 * index : 28 + 4 * index] = 250
    return rgb


@pytest.fixture
def clip(tiny_video):
    return tiny_video("rally.mp4", frames=8, size_hw=SIZE_HW, draw=court)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_track_writes_its_files_and_a_last_line(shuttle, clip, models, tmp_path):
    out = tmp_path / "out"
    status, text, errors = shuttle(
        "track", clip, "--out", out, "--models", models, "--device", "cpu", "--threads", 1, "--overlay"
    )
    assert (status, errors) == (0, [])
    assert files_in(out) == ["rally.csv", "rally.json", "rally.mp4"]
    pattern = r"frames 8, seconds [\d.]+, fps [\d.]+, visible share 1.000, backend \w+, device "
    pattern += r"cpu \(1 threads(, bf16)?\)"
    assert re.fullmatch(pattern, text.splitlines()[-1])
    status, _, errors = shuttle("track", clip, "--out", out, "--models", models, "--threads", 1)
    left = f"{out / 'rally.mp4'}: shows an earlier track and stays as it is; --overlay draws the new one"
    assert (status, errors) == (0, [f"note: {left}"])


def test_several_videos_go_on_past_a_bad_one(shuttle, clip, models, tmp_path):
    (tmp_path / "bad.mp4").touch()
    out = tmp_path / "out"
    status, text, errors = shuttle("track", tmp_path / "bad.mp4", clip, "--out", out, "--models", models)
    assert status == 1
    assert len(errors) == 1
    assert "bad.mp4: the file is empty" in errors[0]
    assert files_in(out) == ["rally.csv", "rally.json"]
    assert text.startswith("frames 8,")


def test_a_truncated_video_warns_and_exits_1(shuttle, tiny_video, models, tmp_path):
    cut = cut_short(tiny_video("cut.mp4", frames=30, size_hw=SIZE_HW, draw=court), 0.5)
    status, text, errors = shuttle("track", cut, "--out", tmp_path / "out", "--models", models)
    assert status == 1
    assert len(errors) == 1
    assert errors[0].startswith(f"warning: {cut}: the video stops in the middle")
    assert files_in(tmp_path / "out") == ["cut.csv", "cut.json"]
    assert text.startswith("frames ")


def test_rows_go_to_standard_output_and_nothing_else(shuttle, clip, models, tmp_path):
    out = tmp_path / "out"
    status, text, errors = shuttle("track", clip, "--out", out, "--models", models, "--jsonl")
    assert status == 0
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["video"], row["frame"], row["visible"]) for row in rows] == [
        ("rally.mp4", index, 1) for index in range(8)
    ]
    assert errors[-1].startswith("frames 8,")


def test_a_folder_is_tracked_video_by_video(shuttle, tiny_video, models, tmp_path):
    (tmp_path / "match").mkdir()
    for name in ("match/b.mp4", "match/a.mp4"):
        tiny_video(name, frames=3, size_hw=SIZE_HW, draw=court)
    (tmp_path / "match" / "notes.txt").touch()
    out = tmp_path / "out"
    status, text, _ = shuttle("track", tmp_path / "match", "--out", out, "--models", models)
    assert (status, files_in(out)) == (0, ["a.csv", "a.json", "b.csv", "b.json"])
    assert text.startswith("frames 6,")


def test_what_is_told_of_two_videos_of_one_name_in_a_folder_can_be_done(shuttle, clip, models, tmp_path):
    folder, models = tmp_path / "both", ("--models", models)
    folder.mkdir()
    clip, other = clip.rename(folder / "a.mp4"), folder / "a.mov"
    other.write_bytes(clip.read_bytes())
    status, _, (error,) = shuttle("track", folder, "--out", tmp_path / "out", *models)
    assert (status, files_in(tmp_path / "out")) == (2, [])
    fix = "rename one, or track each alone, with an --out of its own"
    assert error == f"error: {other} and {clip} would both write a.csv; {fix}"
    for video in (clip, other):
        out = tmp_path / video.suffix
        assert shuttle("track", video, "--out", out, *models)[::2] == (0, [])
        assert files_in(out) == ["a.csv", "a.json"]
    other.rename(folder / "b.mov")
    assert shuttle("track", folder, "--out", tmp_path / "out", *models)[::2] == (0, [])
    assert files_in(tmp_path / "out") == ["a.csv", "a.json", "b.csv", "b.json"]


@pytest.mark.slow
def test_another_program_follows_a_stream_until_it_is_stopped(models, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from shuttlelib.cli import main; main()", "track", "-", "--live"]
    command += [
        "--raw",
        "160x90@30:rgb24",
        "--out",
        out,
        "--models",
        models,
        "--jsonl",
        "--latency-ms",
        "60000",
    ]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(list(map(str, command)), **pipes) as process:
        for index in range(30):
            process.stdin.write(court(index).tobytes())
        process.stdin.flush()
        rows = [json.loads(process.stdout.readline()) for _ in range(20)]
        assert [row["frame"] for row in rows] == list(range(20))
        (growing,) = out.glob("*.partial-*.csv")
        assert len(growing.read_text().splitlines()) > 20
        process.send_signal(signal.SIGINT)
        rows += map(json.loads, process.stdout.read().splitlines())
        errors = process.stderr.read().decode()
    assert (process.returncode, len(errors.splitlines())) == (0, 1), errors
    (csv_file,), (summary,) = out.glob("*.csv"), out.glob("*.json")
    assert re.fullmatch(r"stdin-\d{8}-\d{6}\.csv", csv_file.name)
    assert len(csv_file.read_text().splitlines()) == 1 + len(rows) > 20
    facts = json.loads(summary.read_text())
    assert (facts["interrupted"], facts["live"]["dropped"], facts["video"]) == (True, 0, "standard input")


def test_a_name_is_for_one_video_and_what_does_not_end_is_tracked_alone(shuttle, clip, models, tmp_path):
    out = ("--out", tmp_path / "out", "--models", models)
    assert shuttle("track", clip, *out, "--name", "first")[0] == 0
    assert files_in(tmp_path / "out") == ["first.csv", "first.json"]
    for arguments, words in (
        (("track", clip, clip.with_name("b.mp4"), "--name", "x"), "--name x: give one video"),
        (("track", clip, "--name", "../x"), "--name ../x: give one video"),
        (("track", clip, "--name", ".."), "--name ..: give one video"),
        (("track", "0", clip), "camera 0: does not end by itself"),
        (("track", "ftp://me:secret@host/x"), "ftp://host/x: ftp is not supported"),
    ):
        status, _, errors = shuttle(*arguments, *out)
        assert (status, len(errors)) == (2, 1), arguments
        assert words in errors[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "the file is empty"), (b"some text\n" * 50, "not a video"), (None, "no such file")],
)
def test_bad_videos_get_one_line_and_exit_1(shuttle, models, tmp_path, content, words):
    if content is not None:
        (tmp_path / "bad.mp4").write_bytes(content)
    status, text, errors = shuttle(
        "track", tmp_path / "bad.mp4", "--out", tmp_path / "out", "--models", models
    )
    assert (status, text, len(errors)) == (1, "", 1)
    assert words in errors[0]
    assert files_in(tmp_path / "out") == []


def test_a_folder_that_cannot_be_written_gets_one_line(shuttle, clip, models, tmp_path):
    (tmp_path / "file").touch()
    status, _, errors = shuttle("track", clip, "--out", tmp_path / "file", "--models", models)
    assert (status, len(errors)) == (1, 1)
    assert "cannot be written" in errors[0]


def test_wrong_usage_exits_2_with_one_line(shuttle, clip, models, tmp_path):
    out = ("--out", tmp_path / "out")
    for arguments, words in (
        (("track", clip), "--out"),
        (("track", "", *out), "the name is empty"),
        (("track", clip, *out, "--mode", "quick"), "--mode quick"),
        (("track", clip, *out, "--backend", "jax"), "--backend jax"),
        (("track", clip, *out, "--device", "tpu"), "--device tpu"),
        (("track", clip, *out, "--threads", "0"), "--threads"),
        (("data", "synth", *out, "--seed", "-1"), "'--seed': Input should be greater"),
        (
            ("train", "--version", "stage1_v5", "--data", tmp_path, *out, "--seed", 2**32),
            "'--seed': Input should be less",
        ),
        (("track", clip, *out, "--raw", "nonsense"), "--raw: goes with standard input (-) alone"),
        (("track", clip, clip, *out, "--models", models), "would both write"),
        (("trakc",), "trakc"),
        (("evaluate", "--pred", tmp_path / "none", "--labels", tmp_path), "does not exist"),
        (("data", "import", tmp_path / "none", *out), "does not exist"),
        (("train", "--version", "stage2_v8", "--data", tmp_path / "none", *out), "does not exist"),
        (
            ("train", "--version", "stage2_v8", "--data", tmp_path, *out, "--set", "frames=2"),
            "--set frames=2: ",
        ),
        (
            ("train", "--lineage", "--data", tmp_path, *out, "--set", "lr=1"),
            "--set: goes with --version",
        ),
        (("train", "--lineage", "--data", tmp_path, *out, "--init", tmp_path), "--init: goes with --version"),
        (
            ("train", "--version", "stage2_v8", "--data", tmp_path, *out, "--minutes", "3"),
            "--minutes: goes with --lineage",
        ),
        (("data", "synth", *out, "--size", "161x96"), "--size 161x96: give an even"),
        (("data", "synth", *out, "--size", "160x96", "--view", "up"), "--view up: choose one"),
        (("evaluate", "--pred", tmp_path, "--labels", tmp_path, "--size", "720p"), "WIDTHxHEIGHT"),
    ):
        status, _, errors = shuttle(*arguments)
        assert (status, len(errors)) == (2, 1), arguments
        assert words in errors[0]
    assert files_in(tmp_path / "out") == []


def test_options_of_a_training_are_checked_before_anything_is_decoded(shuttle, models, tmp_path, monkeypatch):
    from shuttlelib import recipes

    monkeypatch.setattr(recipes, "load_data", lambda _: [])
    monkeypatch.setattr(recipes, "open_samples", lambda *_: pytest.fail("decoded"))
    stage1, stage2 = sorted(path for path in models.iterdir() if path.is_dir())
    one, two = ("--version", "stage1_v5"), ("--version", "stage2_v8")
    for arguments, words in (
        ((*two, "--precision", "x"), "--precision x: choose one of auto, bf16, fp16, no"),
        (("--lineage", "--steps", "1", "--precision", "x"), "--precision x: choose one of"),
        ((*two, "--measure-data", "--data-path", "x"), "--data-path x: choose one of auto, cpu, device"),
        ((*two, "--batch", "4", "--accumulate", "3"), "--accumulate 3: does not divide a batch of 4"),
        (("--lineage", "--steps", "1", "--accumulate", "3"), "--accumulate 3: does not divide a batch of 16"),
        (
            (*two, "--measure-data", "--batch", "4", "--accumulate", "3"),
            "--accumulate 3: does not divide a batch of 4",
        ),
        (
            ("--lineage", "--steps", "1", "--stage1", stage2),
            f"--stage1 {stage2}: holds {stage2.name}; give a model folder of a stage",
        ),
        ((*one, "--stage1", stage1), f"--stage1 {stage1}: goes with a stage-2 version alone"),
        (
            (*two, "--stage1", stage2),
            f"--stage1 {stage2}: holds {stage2.name}; give a model folder of a stage",
        ),
    ):
        status, _, errors = shuttle("train", "--data", tmp_path, "--out", tmp_path / "out", *arguments)
        assert (status, len(errors)) == (2, 1), (arguments, errors)
        assert words in errors[0]


def test_a_round_in_which_nothing_is_hard_shows_no_table(shuttle, tmp_path, monkeypatch):
    from shuttlelib import networks, recipes, versions

    model = SimpleNamespace(net=SimpleNamespace(spec=versions.resolve("stage2_v8")))
    monkeypatch.setattr(networks, "load", lambda _: model)
    both = [SimpleNamespace(split=name) for name in ("train", "val")]
    monkeypatch.setattr(recipes, "load_data", lambda _: both)
    monkeypatch.setattr(recipes, "open_samples", lambda *_: None)
    monkeypatch.setattr(recipes, "mine_round", lambda *_: {"hard": 0, "suspects": 0})
    status, said, _ = shuttle("mine", "--model", tmp_path, "--data", tmp_path, "--out", tmp_path / "out")
    assert status == 0
    assert said.startswith('{\n "hard": 0,\n "suspects": 0\n}\n')


@pytest.mark.parametrize("what", [("--version", "stage2_v8"), ("--lineage", "--steps", "1")])
def test_a_stage_1_that_is_no_model_is_refused_before_anything_is_read(shuttle, tmp_path, monkeypatch, what):
    from shuttlelib import recipes

    monkeypatch.setattr(recipes, "load_data", lambda _: pytest.fail("read"))
    given = ("train", "--data", tmp_path, "--out", tmp_path / "out", "--stage1", tmp_path)
    status, _, errors = shuttle(*given, *what)
    assert (status, len(errors)) == (1, 1)
    assert f"{tmp_path / 'version.json'}: no such model" in errors[0]


def test_data_without_val_clips_is_named_with_its_option(shuttle, tmp_path, monkeypatch):
    from shuttlelib import clips

    monkeypatch.setattr(clips, "load_dataset", lambda _: [])
    given = ("publish", "--stage1", tmp_path, "--stage2", tmp_path, "--out", tmp_path, "--trained-on", "x")
    status, _, errors = shuttle(*given, "--data", tmp_path)
    assert status == 2
    assert errors == [f"error: --data {tmp_path}: has no val clip; `shuttle data split` makes a val split"]


@pytest.mark.parametrize("how", [("--out", "~/tracks"), ("--out=~/tracks",)])
def test_home_is_spelled_out_where_a_shell_left_it(shuttle, clip, models, tmp_path, monkeypatch, how):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert shuttle("track", f"~/{clip.name}", "--models", models, *how)[0] == 0
    assert files_in(tmp_path / "tracks") == ["rally.csv", "rally.json"]
    kept = ["a~/b", "~name/x", "--password", "~/secret", "--password=~/secret"]
    assert cli._at_home([*kept, "side=~/a"]) == [*kept, f"side={tmp_path}/a"]


def test_missing_models_are_named(shuttle, clip, tmp_path):
    (tmp_path / "none").mkdir()
    status, _, errors = shuttle("track", clip, "--out", tmp_path / "out", "--models", tmp_path / "none")
    assert (status, len(errors)) == (1, 1)
    assert "no default.json" in errors[0]


def test_what_nobody_foresaw_is_one_line_too(shuttle, clip, models, tmp_path, monkeypatch):
    def explode(*_, **__):
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(tracking, "tracking_source", explode)
    status, _, errors = shuttle("track", clip, "--out", tmp_path / "out", "--models", models)
    assert (status, len(errors)) == (1, 1)
    assert errors[0].startswith("error: internal, ZeroDivisionError: two lines")


def test_the_end_of_a_damaged_file_is_no_ctrl_d(shuttle, clip, models, tmp_path, monkeypatch):
    def explode(*_, **__):
        raise EOFError("no data left in file")

    monkeypatch.setattr(tracking, "tracking_source", explode)
    status, _, errors = shuttle("track", clip, "--out", tmp_path / "out", "--models", models)
    assert (status, errors[:-1]) == (1, [""])  # the parser's own, of a Ctrl-D
    assert errors[-1].startswith("error: internal, EOFError: no data left in file")


def as_a_process(arguments, stdout):
    """Run a command line to its very end: exit status and lines on standard error."""
    command = [sys.executable, "-c", "from shuttlelib.cli import main; main()", *map(str, arguments)]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=buffered)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.skipif(os.name == "nt", reason="closes standard error as a POSIX shell does")
def test_closed_standard_error_lets_nothing_into_the_rows(clip, models, tmp_path):
    main = (sys.executable, "-c", "from shuttlelib.cli import main; main()")
    track = ("track", clip, "--out", tmp_path / "out", "--models", models, "--device", "cpu", "--jsonl")
    for arguments, status, lines in ((track, 0, 8), (("trakc",), 2, 0)):
        shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", *main, *map(str, arguments)]
        done = subprocess.run(shell, stdout=subprocess.PIPE, text=True)
        assert (done.returncode, len(done.stdout.splitlines())) == (status, lines), arguments


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="writes to a device that is always full")
def test_standard_output_that_is_full_is_one_line_and_exit_1(clip, models, tmp_path):
    refused = ["error: standard output: cannot be written: the disk is full: "]
    refused[0] += "free some space or choose another folder"
    track = ("track", clip, "--out", tmp_path / "out", "--models", models, "--device", "cpu")
    with open("/dev/full", "w") as full:
        for arguments in (("versions",), ("versions", "--json"), ("--help",), track, (*track, "--jsonl")):
            assert as_a_process(arguments, full) == (1, refused), arguments
        status, errors = as_a_process(("trakc",), full)
    assert (status, len(errors)) == (2, 1)


@pytest.mark.parametrize("arguments", [("versions",), ("versions", "--json")])
def test_a_reader_that_has_left_is_exit_1_and_nothing_said(arguments):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as left:
        assert as_a_process(arguments, left) == (1, [])


def test_a_file_that_may_not_be_read_is_named(shuttle, clip, models, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "weights.onnx")

    monkeypatch.setattr(tracking, "tracking_source", refuse)
    status, _, errors = shuttle("track", clip, "--out", tmp_path / "out", "--models", models)
    assert (status, errors) == (1, ["error: weights.onnx: Permission denied; check its permissions"])


def test_the_overlays_of_a_folder_are_tracked_no_second_time(shuttle, clip, models, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    kept = clip.rename(folder / clip.name)
    command = ("track", folder, "--out", folder, "--models", models, "--live", "--overlay")
    assert shuttle(*command)[0] == 0
    before = files_in(folder)
    assert f"{kept.stem}-live.mp4" in map(str, before)
    assert shuttle(*command)[0] == 0
    assert files_in(folder) == before
    kept.unlink()
    status, _, errors = shuttle(*command)
    assert (status, len(errors)) == (2, 1)
    assert "overlays of tracks alone" in errors[0]


def test_a_name_that_is_too_long_is_named(shuttle, clip, tmp_path):
    name = "x" * 300
    fix = "File name too long; give a shorter name"
    video, out = tmp_path / f"{name}.mp4", tmp_path / name
    assert shuttle("track", video, "--out", tmp_path)[::2] == (1, [f"error: {video}: {fix}"])
    assert shuttle("track", clip, "--out", out)[::2] == (1, [f"error: {out / clip.stem}.csv: {fix}"])


def test_ctrl_c_is_quiet(shuttle, clip, models, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tracking.Tracker, "asking", interrupt)
    status, _, errors = shuttle("track", clip, "--out", tmp_path / "out", "--models", models)
    assert (status, errors) == (1, ["interrupted"])
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_help_has_an_example(shuttle, command):
    status, text, errors = shuttle(*command, "--help")
    assert (status, errors) == (0, [])
    assert f"Example: shuttle {' '.join(command)}" in " ".join(text.split())


def test_files_that_are_no_track_are_refused_before_any_video(shuttle, clip, models, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "labels.csv").write_text("Frame,Visibility,X,Y\n")
    status, _, errors = shuttle("track", clip, tmp_path / "labels.mp4", "--out", out, "--models", models)
    assert (status, len(errors)) == (2, 1)
    assert "labels.csv: is no track" in errors[0]
    assert files_in(out) == ["labels.csv"]


@pytest.mark.parametrize("also", [("-",), ("--live",)])
def test_what_cannot_be_read_twice_is_refused_before_any_video(
    shuttle, clip, models, tmp_path, monkeypatch, also
):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO()))
    out = tmp_path / "out"
    given = ("--out", out, "--models", models, "--mode", "offline")
    status, _, errors = shuttle("track", clip, *also, *given)
    assert (status, len(errors), files_in(out)) == (2, 1, [])
    assert "can only be read once; use --mode smart, or record it first" in errors[0]


def test_a_note_is_printed_and_exit_0(shuttle, clip, models, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sources, "read_frames", lambda path, notes, _: notes.append("turned") or read_frames(path)
    )
    status, _, errors = shuttle("track", clip, "--out", tmp_path / "out", "--models", models)
    assert (status, errors) == (0, [f"note: {clip}: turned"])


def test_versions_are_listed_with_what_changed_and_compared(shuttle):
    status, out, _ = shuttle("versions")
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("stage2_v5"))
    assert status == 0
    assert lines[at].split() == ["stage2_v5", "stage2_v4", "2", "efficientnet_b0"]
    assert lines[at + 1].strip() == "changed: noise uniform"
    _, out, _ = shuttle("versions", "diff", "stage2_v4", "stage2_v5")
    assert [line.split() for line in out.splitlines()] == [
        ["field", "stage2_v4", "stage2_v5"],
        ["noise", "constant", "uniform"],
    ]
    assert "differ in no field" in shuttle("versions", "diff", "unet_3in3", "unet_3in3")[1]
    rows = {row["name"]: row for row in json.loads(shuttle("versions", "--json")[1])}
    assert rows["unet_8in8"]["changed"] == {"frames": [3, 8]}
    changed = json.loads(shuttle("versions", "diff", "stage2_v6", "stage2_v7", "--json")[1])
    assert json.loads(shuttle("versions", "--json", "diff", "stage2_v6", "stage2_v7")[1]) == changed
    assert changed["tau"] == [1.0, 0.7]


def test_an_interrupted_training_says_how_to_go_on(shuttle, tmp_path, monkeypatch):
    from shuttlelib import recipes

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "train_version", interrupt)
    arguments = ("train", "--version", "stage2_v8", "--data", tmp_path, "--out", tmp_path / "run")
    status, text, errors = shuttle(*arguments)
    assert (status, text, errors) == (1, "", ["interrupted; give the same command again to resume"])


def test_evaluate_reads_what_track_wrote(shuttle, clip, models, tmp_path):
    out, labels = tmp_path / "out", tmp_path / "labels"
    assert shuttle("track", clip, "--out", out, "--models", models, "--threads", 1)[0] == 0
    labels.mkdir()
    lines = ["Frame,Visibility,X,Y"] + [f"{index},1,{24 + 4 * index},44" for index in range(8)]
    (labels / "rally.csv").write_text("\n".join(lines) + "\n")
    status, text, errors = shuttle(
        "evaluate", "--pred", out, "--labels", labels, "--json", tmp_path / "m.json"
    )
    assert (status, errors) == (0, [])
    assert "accuracy" in text
    assert json.loads((tmp_path / "m.json").read_text())


def test_several_videos_at_once_get_the_rows_they_get_alone(shuttle, tiny_video, models, tmp_path):
    clips = [tiny_video(f"{n}.mp4", 5 + n, SIZE_HW, draw=court) for n in range(3)]
    given = ("--models", models, "--backend", "onnx")
    assert shuttle("track", *clips, "--out", tmp_path / "alone", *given)[0] == 0
    status, text, errors = shuttle(
        "track", *clips, "--out", tmp_path / "out", *given, "--streams", 2, "--decoder", "auto"
    )
    assert (status, errors) == (0, [])
    assert text.splitlines()[-1].startswith("frames 18, ")
    for clip in clips:
        ours, alone = (tmp_path / folder / f"{clip.stem}.csv" for folder in ("out", "alone"))
        assert ours.read_text() == alone.read_text()


@pytest.fixture
def stop_at(monkeypatch):
    """Has Ctrl-C pressed when so many rows of a video are out; its handler must be the one of before then."""
    kinds, update = (signal.SIGINT, signal.SIGTERM), cli_track.Bar.update
    before = [signal.getsignal(kind) for kind in kinds]

    def arrange(name, rows, kind=signal.SIGINT):
        def press(bar, frames, info):
            update(bar, frames, info)
            if (bar._name, frames) == (name, rows):
                signal.raise_signal(kind)

        monkeypatch.setattr(cli_track.Bar, "update", press)

    yield arrange
    assert [signal.getsignal(kind) for kind in kinds] == before


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_file_that_is_stopped_leaves_nothing(shuttle, tiny_video, models, tmp_path, stop_at, kind):
    clip = tiny_video("a.mp4", 60, SIZE_HW, draw=court)
    stop_at("a.mp4", 20, kind)
    status, _, errors = shuttle("track", clip, "--out", tmp_path / "out", "--models", models, "--overlay")
    assert (status, errors) == (1, ["interrupted"])
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize(("name", "rows", "kept"), [("a.mp4", 2, "ab"), ("b.mp4", 45, "abc")])
def test_who_stops_several_streams_keeps_those_that_began(
    shuttle, tiny_video, models, tmp_path, stop_at, name, rows, kept
):
    clips = [tiny_video(f"{n}.mp4", count, SIZE_HW, draw=court) for n, count in zip("abc", (6, 60, 4))]
    out = tmp_path / "out"
    stop_at(name, rows)
    live = ("--live", "--latency-ms", 60_000, "--streams", 2)
    status, text, errors = shuttle("track", *clips, "--out", out, "--models", models, *live)
    assert (status, errors) == (1, ["interrupted"])
    assert files_in(out) == [f"{n}-live.{kind}" for n in kept for kind in ("csv", "json")]
    facts = json.loads((out / "b-live.json").read_text())
    assert facts["interrupted"]
    assert 0 < facts["frames"] < 60
    assert text.startswith("frames ")


def test_who_stops_a_stream_beside_a_file_keeps_the_stream_alone(
    shuttle, tiny_video, models, tmp_path, stop_at, monkeypatch
):
    clips, find = [tiny_video(f"{n}.mp4", 40, SIZE_HW, draw=court) for n in "ab"], streams.find

    def found(video, settings):
        (source,) = find(video, settings)
        return [played(source, 60) if source.stem == "a" else source]

    monkeypatch.setattr(streams, "find", found)
    stop_at("a.mp4", 3)
    given = ("--models", models, "--streams", 2)
    status, _, errors = shuttle("track", *clips, "--out", tmp_path / "out", *given)
    assert (status, errors) == (1, ["interrupted"])
    assert files_in(tmp_path / "out") == ["a-live.csv", "a-live.json"]
