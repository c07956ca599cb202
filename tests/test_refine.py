import math
from copy import deepcopy

import numpy as np
import pytest
from flights import fly

from shuttlelib.refine import refined
from shuttlelib.rows import Row
from shuttlelib.track_params import TrackParams

HD = (720, 1280)
AS_THEY_ARE = TrackParams(smooth_s=0, lead_heights=0)
SMOOTH = TrackParams(lead_heights=0)


def told(places, params, fps=30.0, hidden=(), size_hw=HD):
    """(N, 2) what is told of rows at `places`; nan where they are not visible."""
    rows = [
        Row(n, n / fps, n not in hidden, *((math.nan,) * 2 if n in hidden else (x, y)), 0.9, "detected")
        for n, (x, y) in enumerate(np.asarray(places).tolist())
    ]
    before = deepcopy(rows)
    found = [refined(rows, n, params, size_hw, fps) for n in range(len(rows))]
    assert str(rows) == str(before)
    assert [row.frame for row in found] == list(range(len(rows)))
    return np.array([(row.x_px, row.y_px) for row in found])


def off(places, truth):
    return np.hypot(*(places - truth).T)


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0, 119.88])
def test_places_that_scatter_about_a_flight_come_nearer_to_it(fps):
    truth = fly(round(0.6 * fps), fps)
    noisy = truth + np.random.default_rng(0).normal(0, 0.5, truth.shape)
    assert np.mean(off(told(noisy, SMOOTH, fps), truth)) < 0.9 * np.mean(off(noisy, truth))
    assert np.max(off(told(truth, SMOOTH, fps), truth)) < 0.35  # a flight is nearly a parabola


@pytest.mark.parametrize("fps", [30.0, 60.0, 119.88])
def test_places_behind_the_head_are_moved_on_along_the_flight(fps):
    truth = fly(round(0.5 * fps), fps, velocity=(15.0, -3.0))
    step = np.gradient(truth, axis=0)
    behind = truth - 0.0007 * HD[0] * step / np.hypot(*step.T)[:, None]
    assert np.median(off(behind, truth)) > 0.45
    assert np.max(off(told(behind, TrackParams(), fps), truth)) < 0.25


def test_a_shuttle_that_rests_is_not_moved_by_what_scatters():
    noisy = np.random.default_rng(1).normal((400.0, 500.0), 0.2, (120, 2))
    found = told(noisy, TrackParams(), 119.88)
    assert np.mean(off(found, (400.0, 500.0))) < 0.6 * np.mean(off(noisy, (400.0, 500.0)))


def test_no_place_is_drawn_over_the_corner_of_a_hit():
    there = fly(10, velocity=(20.0, 6.0))
    back = fly(10, start=there[-1], velocity=(-25.0, -8.0))[1:]
    path = np.concatenate([there, back])
    corner = slice(8, 11)  # whose neighbours lie on both sides of it
    np.testing.assert_array_equal(told(path, SMOOTH)[corner], path[corner])


def test_the_way_to_a_place_is_ahead_where_no_parabola_fits():
    path = np.array([(100, 100), (140, 100), (180, 160), (180, 100)])
    moved = told(path, TrackParams(lead_heights=0.01)) - path
    np.testing.assert_allclose(moved[1], (7.2, 0), atol=1e-6)
    np.testing.assert_allclose(moved[3], (0, -7.2), atol=1e-6)
    np.testing.assert_allclose(moved[0], (7.2, 0), atol=1e-6)  # where it goes is all that is known


def test_rows_that_are_not_visible_say_nothing_and_are_not_filled():
    path = fly(9)
    found = told(path, TrackParams(), hidden=(3, 4))
    assert np.isnan(found[3:5]).all()
    assert np.isfinite(np.delete(found, (3, 4), 0)).all()
    alone = told(path, TrackParams(), hidden=(0, 1, 2, 3, 5, 6, 7, 8))
    np.testing.assert_array_equal(alone[4], path[4])


def test_nothing_is_told_outside_the_picture():
    path = np.stack([np.linspace(1230, 1279.9, 6), np.linspace(50, 0.1, 6)], 1)
    found = told(path, TrackParams(lead_heights=0.01))
    assert found[-1].tolist() == [1280, 0]


def test_with_nothing_asked_for_places_stay_as_they_are():
    noisy = fly(12) + np.random.default_rng(2).normal(0, 1, (12, 2))
    np.testing.assert_array_equal(told(noisy, AS_THEY_ARE), noisy)


def test_a_larger_picture_is_told_the_same():
    noisy = fly(12) + np.random.default_rng(3).normal(0, 0.5, (12, 2))
    found = told(noisy, TrackParams())
    np.testing.assert_allclose(told(1.5 * noisy, TrackParams(), size_hw=(1080, 1920)), 1.5 * found, atol=1e-9)
