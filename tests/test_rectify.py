import math

import numpy as np
import pytest
from flights import fly

from shuttlelib.flight import Flight
from shuttlelib.frames import Frame
from shuttlelib.rectify import SEEN, Filler, one_flight
from shuttlelib.rows import Row
from shuttlelib.track_params import TrackParams

PARAMS = TrackParams()
BLACK = np.zeros((24, 16), np.uint8)


def filled(places, gaps, fps=30.0, params=PARAMS):
    """The rows that come out for a track at `places` that is not visible in the frames `gaps`."""
    out = []
    filler = Filler(params, (720, 1280), fps, lambda frame, row: out.append((frame, row)), lambda p: p)
    for n, (x, y) in enumerate(places):
        seen = n not in gaps
        row = Row(
            n, n / fps, seen, *((x, y) if seen else (math.nan,) * 2), 0.9, "detected" if seen else "none"
        )
        filler(Frame(n, n / fps, BLACK), row)
    filler.close()
    assert [(frame.index, row.frame) for frame, row in out] == [(n, n) for n in range(len(places))]
    return [row for _, row in out]


@pytest.mark.parametrize(("fps", "gap"), [(30.0, 1), (30.0, 6), (25.0, 5), (60.0, 12), (119.88, 23)])
@pytest.mark.parametrize("drag", [2.0, 8.0])  # perspective changes it: the law's is 4
def test_a_gap_within_a_flight_is_filled_near_the_truth(fps, gap, drag):
    places = fly(gap + 10, fps, drag=drag / 720, velocity=(22.0, -15.0))
    noisy = places + np.random.default_rng(0).normal(0, 0.5, places.shape)
    rows = filled(noisy, gaps := range(5, 5 + gap), fps)
    for n in gaps:
        assert (rows[n].visible, rows[n].source) == (True, "rectified")
        assert 0.5 <= rows[n].confidence <= 0.8
        assert math.hypot(rows[n].x_px - places[n, 0], rows[n].y_px - places[n, 1]) < 3
    assert {row.source for n, row in enumerate(rows) if n not in gaps} == {"detected"}


def test_a_shuttle_above_the_picture_is_not_filled_in():
    places = fly(14, start=(100.0, 12.0), velocity=(8.0, -5.0))
    over = [n for n, (_, y) in enumerate(places) if y < 0]
    assert 3 <= len(over) <= 6
    rows = filled(places, over)
    assert not any(rows[n].visible for n in over)
    rows = filled(places + np.array([0.0, 30.0]), over)  # the same flight lower down
    assert all(rows[n].visible for n in over)


def test_a_gap_across_a_hit_is_not_filled():
    there = fly(8)
    back = fly(8, start=there[-1], velocity=(-24.0, -5.0))[1:]
    rows = filled([*there, *back], range(6, 9))
    assert not any(row.visible for row in rows[6:9])


@pytest.mark.parametrize(("rectify_s", "sources"), [(0.2, {"rectified"}), (0.1, {"none"})])
def test_a_gap_longer_than_the_limit_is_not_filled(rectify_s, sources):
    rows = filled(fly(15), range(5, 10), params=TrackParams(rectify_s=rectify_s))
    assert {row.source for row in rows[5:10]} == sources


@pytest.mark.parametrize("gaps", [[0], [2], [13, 14], [4, 7]], ids=["start", "early", "end", "short"])
def test_both_ends_must_support_a_flight(gaps):
    rows = filled(fly(15), gaps)
    assert not any(rows[n].visible for n in gaps)


def test_rows_wait_no_longer_than_the_gap_and_its_far_end():
    waiting = []
    out = []
    filler = Filler(PARAMS, (720, 1280), 30.0, lambda _, row: out.append(row), lambda p: p)
    for n, (x, y) in enumerate(fly(60)):
        seen = n % 30 < 10
        filler(Frame(n, n / 30, BLACK), Row(n, n / 30, seen, x, y, 0.9, "detected"))
        waiting.append(n + 1 - len(out))
    assert max(waiting) <= 6 + SEEN
    assert waiting[5] == 0


def test_one_flight_finds_places_and_how_well_it_fits():
    places = fly(12, velocity=(30.0, -20.0))
    law = Flight.of(4.0, 0.001, 720, 30.0)
    known = np.array([0, 1, 2, 9, 10, 11])
    path, rms_px = one_flight(known, places[known], law)
    assert rms_px < 0.5
    assert np.abs(path - places).max() < 1.5
    bent = places[known].copy()
    bent[3:] += np.array([[0, 0], [40, -40], [80, -80]])
    assert one_flight(known, bent, law)[1] > 4.32  # the limit at 720 px
