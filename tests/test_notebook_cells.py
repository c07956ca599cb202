"""Notebooks on data and parameters that a quick run does not have."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest
from notebook_cells import run_cells
from report_parts import lineage

from shuttlelib import charts_lineage, clips, evidence, labels, networks, recipes, runs, splits, synth
from shuttlelib.clips import Clip
from shuttlelib.versions import resolve

FRAMES = np.arange(60)


@pytest.fixture
def raw(tmp_path, tiny_video):
    """A data folder as people leave it: rows twice, two annotators, every third frame, points outside."""
    flight = labels.make_table("a", FRAMES, True, 20 + 1.1 * FRAMES, 50 - 0.3 * FRAMES, "label_studio")
    first, second = (flight.assign(flags=f"annotator={who}") for who in "ab")
    second.loc[7, "x_px"] += 30
    tables = {
        "clean": flight,
        "doubled": pd.concat([flight, flight[10:20]]),
        "sparse": flight[::3],
        "two": pd.concat([first, second[:30]]),
        "unset": flight.assign(x_px=flight["x_px"].where(flight["frame"] % 20 != 5, 2000.0)),
    }
    for name, table in tables.items():
        path = tiny_video(f"{name}.mp4", len(FRAMES))
        place = ("hall", "val") if name == "clean" else ("gym", "train")
        clips.store(Clip(name, path, table.assign(clip=name), clips.probe(path), *place), tmp_path / "raw")
    return tmp_path / "raw"


def test_faults_are_planted_and_found_in_labels_that_needed_cleaning(raw, tmp_path):
    done = run_cells("01", data_dir=str(raw), run_dir=str(tmp_path / "run"))
    planted = done["planted"].groupby("clip").size()
    assert set(planted.index) == {"clean", "doubled", "two", "unset"}
    assert planted.min() >= 4
    (skipped,) = done["run"].skipped
    assert skipped["cell"] == "faults in sparse"
    measured = json.loads((tmp_path / "run" / "01_clean_labels" / "metrics.json").read_text())
    assert measured["main"]["planted_found"] == planted.sum()


def test_cleaning_again_follows_the_clips_splits_and_venues_of_now(raw, tmp_path):
    def cleaned():
        done = run_cells("01", (1, 2, 4, 8), data_dir=str(raw), run_dir=str(tmp_path / "run"))
        (found,) = {done["copy"], evidence.folders(tmp_path / "run", raw, "quick", 0)[1]}
        return {clip.name: (clip.venue, clip.split) for clip in clips.load_dataset(found)}

    places = splits.read(raw)
    assert cleaned() == places
    splits.write(raw, dict.fromkeys(places, ("hall", "train")) | {"two": ("gym", "val")})
    assert cleaned() == splits.read(raw) != places
    for path in raw.glob("two.*"):
        path.unlink()
    assert set(cleaned()) == set(places) - {"two"}
    splits.write(raw, dict.fromkeys(places, ("court", "train")))
    assert set(cleaned().values()) == {("court", "train")}


def test_a_first_clip_that_never_shows_the_shuttle_is_counted_and_not_pictured(raw, tmp_path):
    table, info = labels.read_table(raw / "clean.parquet")
    labels.write_table(raw / "clean.parquet", table[:0], info)
    done = run_cells("00", data_dir=str(raw), run_dir=str(tmp_path / "run"))
    assert done["dataset"][0].name == "clean"
    assert done["table"].loc["clean", "longest_hidden_frames"] == len(FRAMES)
    assert done["main"]["visible_share"] == 1.0


def test_where_no_clip_has_room_for_a_fault_the_notebook_goes_on(raw, tmp_path):
    table, info = labels.read_table(raw / "sparse.parquet")
    for path in [*raw.glob("*.parquet")]:
        labels.write_table(path, table.assign(clip=path.stem), info)
    done = run_cells("01", data_dir=str(raw), run_dir=str(tmp_path / "run"))
    assert done["audit"].empty
    assert done["planted"].empty


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    return synth.make_dataset(
        tmp_path_factory.mktemp("rendered"), 4, 3, (180, 320), frame_count=30, val_share=0.4
    )


def test_another_seed_in_the_same_run_renders_onto_the_same_clips(rendered, tmp_path):
    for seed in (0, 1):
        parameters = {"data_dir": str(rendered), "run_dir": str(tmp_path / "run"), "seed": seed}
        done = run_cells("02", (1, 2, 4, 15, 25, 27), **parameters)
        assert [clip.name for clip, _ in done["pairs"]] == [clip.name for clip in done["train_clips"]]
    assert done["names"] == ["frame -2", "frame -1", "frame 0", "frame 1", "frame 2"]


def test_a_finished_lineage_is_shown_with_its_own_budget_and_hardware(rendered, tmp_path, monkeypatch):
    told = lineage()
    told["facts"] |= {"seed": 5, "data_hash": "d474", "environment": {}}  # a run has facts of these names
    told["rows"] = {name: row | {"data_hash": "d474"} for name, row in told["rows"].items()}
    (tmp_path / "lineage.json").write_text(json.dumps(told))
    named = []
    for chart in ("accuracy_over_time", "accuracy_against_latency"):
        monkeypatch.setattr(charts_lineage, chart, lambda *args: named.append(args[-1]))
    parameters = {"data_dir": str(rendered), "run_dir": str(tmp_path / "run"), "lineage": str(tmp_path)}
    done = run_cells("09", **parameters)
    written = json.loads((done["run"].dir / "metrics.json").read_text())
    assert written["budget"] == "2 steps"
    assert (written["run"]["seed"], written["run"]["told"]["seed"]) == (0, 5)
    assert named == ["a CPU", "a CPU"]


def test_training_and_looks_are_said_to_run_where_they_did(rendered, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "hardware", lambda: "a card")
    named = []
    for chart in ("accuracy_over_time", "accuracy_against_latency"):
        monkeypatch.setattr(charts_lineage, chart, lambda *args: named.append(args[-1]))
    parameters = {"data_dir": str(rendered), "run_dir": str(tmp_path / "run"), "rows": "stage2_v8"}
    run_cells("09", (1, 2, 4, 11, 13, 20, 21), **parameters, steps=2, threads=1)
    assert named == ["a card", f"{runs.environment()['cpu']}, 1 threads"]


def test_the_samples_shown_are_those_trained_on(rendered, tmp_path):
    shown = run_cells("04", (1, 2, 4, 6), data_dir=str(rendered), run_dir=str(tmp_path / "run"))
    assert np.isfinite(shown["splits"].train.false_places).any()  # where stage 1 saw what is not there


@pytest.mark.parametrize(("name", "last"), [("03", ()), ("04", ()), ("05", (6, 8, 16))])
def test_commands_to_copy_hold_paths_with_blanks(rendered, tmp_path, monkeypatch, capsys, name, last):
    def mined(start, splits, run_dir, *args):
        row = pd.DataFrame({"index": [0], "kind": "", "p_visible": 1.0, "error_px": 1.0})
        for table in ("scores", "hard", "suspects"):
            row.to_parquet(run_dir / f"{table}.parquet")

    monkeypatch.setattr(recipes, "mine_round", mined)
    done = run_cells(name, (1, 2, 4, *last), data_dir=str(rendered), run_dir=str(tmp_path / "my run"))
    said = capsys.readouterr().out.splitlines()
    lines = [line for line in said if "tensorboard" in line or "--work" in line]
    assert len(lines) == (2 if name == "05" else 1)
    folders = {str(done["run"].dir), str(done["run"].dir / "doubts")}
    assert all(folders & set(shlex.split(line)) for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["stage1_v3", "unet_3in3"])
def test_networks_without_a_map_of_one_place_are_drawn_but_not_measured(rendered, tmp_path, version):
    run_dir = tmp_path / "run"
    small = {"backbone": "mobilenetv4_conv_small_050"} if version == "stage1_v3" else {"neck_channels": 4}
    net = networks.build(resolve(version, input_hw=(72, 128), hidden=(8,), **small))
    networks.save(net, run_dir / "03_train_stage1" / "best")
    cells = (1, 2, 4, 6, 8, 10, 12, 14, 17, 18, 31)
    done = run_cells("06", cells, data_dir=str(rendered), run_dir=str(run_dir))
    assert set(done["probability"].index) == {"stage 1", "stage 2", "stage 2, this run"}
    assert done["probability"]["on_head"].between(0, 1).all()
    assert "nowhere" not in done["captions"]["stage 1, this run"]
    (skipped,) = done["run"].skipped
    assert version in skipped["reason"]


@pytest.fixture
def dark(tmp_path, tiny_video):
    """A data folder whose only val clip is of three frames and never shows the shuttle."""
    for name, frames in {"train": 12, "val": 3}.items():
        table = labels.make_table(name, range(frames), name == "train", 20.0, 30.0, "label_studio")
        clip = Clip(
            name, tiny_video(f"{name}.mp4", frames), table, labels.ClipInfo(96, 64, 30.0, frames), name, name
        )
        clips.store(clip, tmp_path / "dark")
    return tmp_path / "dark"


@pytest.mark.slow
def test_a_brief_clip_without_a_shuttle_is_taken_apart_and_counted(dark, tmp_path):
    done = run_cells("06", data_dir=str(dark), run_dir=str(tmp_path / "run"))
    assert done["strip"] == [0, 1]
    assert done["causes"]["extra"].isna().all()


@pytest.mark.slow
def test_a_brief_clip_is_shown_in_as_many_stills_as_it_has_frames(dark, tmp_path):
    done = run_cells("08", data_dir=str(dark), run_dir=str(tmp_path / "run"))
    assert done["wanted"] == [0, 1, 2]
    assert len(done["stills"]) == 3
