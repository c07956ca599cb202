import json
import time

import pytest

from shuttlelib import clips, synth, timebox, train, versions

TIMING = {"step_s": 0.1, "validation_s": 2.0, "setup_s": 3.0}


def test_a_schedule_fills_its_box_and_does_not_overrun_it():
    plan = timebox.schedule(600, TIMING, validations=20)
    validations = -(-plan["steps"] // plan["val_every"])
    needed = 3 + plan["steps"] * 0.1 + validations * 2.0
    assert 0.85 * 600 < needed <= 600
    assert plan["checkpoint_every"] == 600  # once a minute


def test_in_a_short_box_validation_takes_a_fifth_at_most():
    plan = timebox.schedule(30, TIMING, validations=20)
    assert -(-plan["steps"] // plan["val_every"]) <= 2
    assert plan["checkpoint_every"] <= plan["steps"]


@pytest.mark.parametrize("seconds", [0.01, 1.0, 4.0])
def test_there_is_always_a_step(seconds):
    plan = timebox.schedule(seconds, TIMING)
    assert plan["steps"] >= 1
    assert 1 <= plan["val_every"] <= plan["steps"]


def test_a_trial_times_steps_without_validations_and_leaves_nothing(tmp_path, monkeypatch):
    synth.make_dataset(tmp_path / "data", 2, 1, (90, 160), frame_count=8, val_share=0.5)
    dataset = clips.load_dataset(tmp_path / "data")
    spec = versions.resolve(
        "stage1_v5", backbone="mobilenetv4_conv_small_050", pretrained=False, input_hw=(64, 96)
    )
    judged = train.judge

    def judge(*args):
        time.sleep(3.0)
        return judged(*args)

    monkeypatch.setattr(train, "judge", judge)
    found = timebox.trial(spec, dataset, tmp_path / "trial", tmp_path / "cache", batch=2, val_samples=2)
    assert found["validation_s"] > 3.0 > found["step_s"] > 0
    assert found["setup_s"] > 0
    assert not (tmp_path / "trial").exists()


@pytest.mark.parametrize(("charged", "left"), [(True, 480.0), (False, 600.0)])
def test_finding_out_how_many_steps_fit_is_a_part_of_the_box_where_it_is_charged(
    tmp_path, monkeypatch, charged, left
):
    now = [0.0]

    def found():
        now[0] += 20.0
        return "scratch"

    def trial(*_, **__):
        now[0] += 100.0
        return TIMING

    monkeypatch.setattr(timebox, "trial", trial)
    monkeypatch.setattr(timebox.time, "perf_counter", lambda: now[0])

    def planned(name, seconds):
        folder = tmp_path / name
        return timebox.planned(folder, lambda _: None, found, [], tmp_path, seconds, charged=charged)

    assert planned("a", 600.0) == ("scratch", timebox.schedule(left, TIMING))
    assert planned("a", 60.0) == planned("a", 600.0)  # it is decided once
    assert planned("b", 60.0)[1] == timebox.schedule(1.0 if charged else 60.0, TIMING)


def test_what_was_fixed_once_stays(tmp_path):
    path = tmp_path / "plan.json"
    assert timebox.once(path, lambda: {"steps": 5}) == {"steps": 5}
    assert timebox.once(path, lambda: {"steps": 9}) == {"steps": 5}
    assert json.loads(path.read_text()) == {"steps": 5}


def test_a_trial_without_validation_samples_says_so(tmp_path):
    synth.make_dataset(tmp_path / "data", 1, 1, (90, 160), frame_count=4, val_share=0.0)
    spec = versions.resolve("stage1_v5", pretrained=False, input_hw=(64, 96))
    dataset = clips.load_dataset(tmp_path / "data")
    with pytest.raises(
        train.TrainError, match=r"trial: \d+ training and 0 validation samples; both need some"
    ):
        timebox.trial(spec, dataset, tmp_path / "trial", tmp_path / "cache", batch=2)
