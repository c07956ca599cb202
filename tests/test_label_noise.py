"""Noise of known size put onto flights of known shape must be found again."""

import numpy as np
import pandas as pd
import pytest

from shuttlelib import labels
from shuttlelib.label_noise import blinks, label_noise_px, third_differences
from shuttlelib.paths import REPO

FULLHD = (1080, 1920)


def flight(sigma, speed=12.0, count=4000, seed=0):
    """A flight in a parabola with white noise of `sigma` px in each axis, as a table."""
    t = np.arange(count)
    xy = np.stack([speed * t, 0.3 * speed * t + 0.01 * t**2], 1)
    xy = xy + np.random.default_rng(seed).normal(0, sigma, xy.shape) if sigma else xy
    return pd.DataFrame({"frame": t, "visible": 1, "x_px": xy[:, 0], "y_px": xy[:, 1]})


def estimate(table, size_hw=FULLHD):
    third, repeats = third_differences(table, size_hw)
    return label_noise_px(third[~repeats]), label_noise_px(third)


@pytest.mark.parametrize("speed", [0.0, 3.0, 12.0, 60.0])
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_known_noise_is_found_at_any_speed(sigma, speed):
    mean_distance = sigma * np.sqrt(np.pi / 2)
    assert estimate(flight(sigma, speed)) == pytest.approx((mean_distance,) * 2, rel=0.08)


def test_a_flight_without_noise_has_none():
    assert estimate(flight(0.0))[0] == pytest.approx(0, abs=1e-6)


def test_the_unit_is_px_at_1920x1080():
    native = flight(1.0)[["x_px", "y_px"]] / 1.5
    table = flight(1.0).assign(x_px=native["x_px"], y_px=native["y_px"])
    assert estimate(table, (720, 1280))[0] == pytest.approx(estimate(flight(1.0))[0])


def test_hits_and_gaps_hardly_move_it():
    table = flight(1.0)
    for hit in range(20, 4000, 25):  # back and forth
        table.loc[hit:, "x_px"] = 2 * table.loc[hit, "x_px"] - table.loc[hit:, "x_px"]
    table.loc[5::31, "visible"] = 0
    table = table.drop(index=range(11, 4000, 47))
    assert estimate(table)[0] == pytest.approx(np.sqrt(np.pi / 2), rel=0.2)


def test_frames_that_are_not_neighbours_say_nothing():
    assert estimate(flight(1.0).iloc[::2]) == (None, None)
    assert estimate(flight(1.0).iloc[:3]) == (None, None)


def test_repeated_pictures_are_no_noise_of_the_labels():
    rng = np.random.default_rng(1)
    t = np.arange(4000) - np.arange(4000) // 6  # 25 fps stored at 30
    xy = 20.0 * t[:, None] * [1, 0.2] + rng.normal(0, 1, (4000, 2))
    table = pd.DataFrame({"frame": range(4000), "visible": 1, "x_px": xy[:, 0], "y_px": xy[:, 1]})
    apart, counted = estimate(table)
    assert apart == pytest.approx(np.sqrt(np.pi / 2), rel=0.08)
    assert counted > 1.5 * apart


def test_a_rendered_rally_comes_out_near_zero():
    table, info = labels.read_table(REPO / "samples" / "rally.parquet")
    assert 0 < estimate(table, info.size_hw)[0] < 0.1


def test_labels_blink_between_visible_frames_only():
    visible = np.array([c == "o" for c in "--oo---oo----o-"])
    assert "".join("b" if b else "." for b in blinks(np.arange(15), visible)) == "....bbb........"
    assert blinks(np.arange(15), visible, longest=4).sum() == 7
    assert not blinks(np.arange(15), np.zeros(15, bool)).any()


def test_a_gap_is_as_long_as_its_frame_numbers_say():
    visible = np.array([True, False, True])
    assert blinks(np.array([0, 2, 4]), visible).tolist() == [False, True, False]
    assert not blinks(np.array([0, 2, 5]), visible).any()
    assert blinks(np.array([4, 2, 0]), visible).tolist() == [False, True, False]
