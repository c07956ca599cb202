import json

import pytest

from shuttlelib import timebox

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


def test_what_was_fixed_once_stays(tmp_path):
    path = tmp_path / "plan.json"
    assert timebox.once(path, lambda: {"steps": 5}) == {"steps": 5}
    assert timebox.once(path, lambda: {"steps": 9}) == {"steps": 5}
    assert json.loads(path.read_text()) == {"steps": 5}
