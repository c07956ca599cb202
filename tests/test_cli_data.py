import pandas as pd
import pytest
from typer.testing import CliRunner

from shuttlelib import clips
from shuttlelib.cli_data import data_app
from shuttlelib.errors import UsageError
from shuttlelib.labels import LabelError

COMMANDS = ("import", "synth", "onto", "stats", "split", "clean")


def run(*words):
    """The output of a command; errors come through as they are, for `shuttle` turns them into a status."""
    result = CliRunner().invoke(data_app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def source(tmp_path, tiny_video):
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a", "b", "c"):
        tiny_video(f"source/{name}.mp4", frames=3)
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text(
            "Frame,Ball,x,y\n0,1,0.5,0.5\n0,1,0.5,0.5\n1,0,-1,-1\n2,1,0.2,0.2\n"
        )
    (folder / "splits.csv").write_text("clip,venue,split\na,Odense,train\nb,Tokyo,train\nc,Tokyo,train\n")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command):
    assert f"Example: shuttle data {command} " in run(command, "--help")


def test_the_road_from_a_folder_to_clean_divided_clips(source, tmp_path):
    data, clean = tmp_path / "data", tmp_path / "clean"
    output = run("import", source, "--out", data)
    assert f"2 clips with 8 labelled frames in {data}" in output
    assert "1 video without labels left out: c" in output
    assert "duplicate: 2 rows in 2 clips dropped" in run("clean", data, "--out", clean)
    assert "val: 1 clip, 3 frames" in run("split", clean, "--val-share", "0.5")
    table = tmp_path / "stats.csv"
    output = run("stats", clean, "--csv", table)
    assert clips.data_hash(clips.load_dataset(clean)) in output
    assert "1 clip, 1 venue, 3 labelled frames, 67% visible" in output
    assert pd.read_csv(table)["labelled"].tolist() == [3, 3]


def test_rendered_rallies_are_a_data_folder(tmp_path):
    run("synth", "--out", tmp_path, "--clips", 2, "--size", "160x96", "--frames", 3, "--view", "side")
    dataset = clips.load_dataset(tmp_path)
    assert [clip.split for clip in dataset] == ["train", "val"]
    assert {clip.info.size_hw for clip in dataset} == {(96, 160)}


def test_a_set_that_does_not_go_with_the_splits_there_names_both_options(tmp_path):
    common = ("synth", "--out", tmp_path, "--size", "160x96", "--frames", 2, "--seed", 3)
    run(*common, "--clips", 5)
    with pytest.raises(
        UsageError, match=r"--seed 3: .* put all clips of a venue in one split; or give another"
    ):
        run(*common, "--clips", 2)


def test_rendered_shuttles_go_onto_train_clips(tmp_path):
    run("synth", "--out", tmp_path / "a", "--clips", 2, "--size", "160x96", "--frames", 8)
    output = run("onto", tmp_path / "a", "--out", tmp_path / "b", "--clips", 1, "--seed", 5)
    assert f"1 clip with rendered shuttles in {tmp_path / 'b'}" in output
    assert [clip.split for clip in clips.load_dataset(tmp_path / "b")] == ["train"]


def test_a_format_can_be_insisted_on(source, tmp_path):
    with pytest.raises(LabelError, match="row 1, column 'Visibility' is missing"):
        run("import", source, "--out", tmp_path / "data", "--format", "tracknet")


def test_exported_clips_without_a_video_are_named(source, tmp_path):
    text = "annotation_id,annotator,clip,frame,id,image,kp,visibility\n"
    text += "1,1,c,0,1,a.jpg,,invisible\n2,1,elsewhere,0,2,b.jpg,,invisible\n"
    (source / "export.csv").write_text(text)
    output = run("import", source, "--out", tmp_path / "data")
    assert "3 clips with 9 labelled frames" in output
    assert "1 exported clip without a video left out: elsewhere" in output


@pytest.mark.parametrize("size", ["720", "1280x", "axb", "0x96", "8x8", "161x96"])
def test_a_wrong_size_is_a_usage_error(size, tmp_path):
    with pytest.raises(UsageError, match="--size"):
        run("synth", "--out", tmp_path, "--size", size)


def test_a_wrong_share_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="--val-share is 2"):
        run("split", tmp_path, "--val-share", "2")
