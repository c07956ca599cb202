"""A shuttle that came to rest, before networks that see only what moves."""

import numpy as np
import pytest
from fakes import BrightBackend
from test_tracker import SIZE_HW, dots, step

from shuttlelib.hypotheses import Sighting
from shuttlelib.landing import BACKDROP_FRAMES, Landing, _median
from shuttlelib.track_params import TrackParams
from shuttlelib.tracker import Tracker

# 60 frames of flight, whose backdrop takes 1.25 s; the last steps lead down to where it lies
FALLING = [(100 + 4 * i, 60 + 2 * i) for i in range(60)]
AT_REST = FALLING[-1]
LINE = {(300, 340): 200}  # as bright as a shuttle, and always there


class MovingBackend(BrightBackend):
    """Finds what is brightest in the current frame alone, not in those around it."""

    def run(self, frames, history=None):
        current = frames.shape[1] - 1 - self.ahead
        others = np.delete(frames, current, 1).max(1)
        alone = frames.copy()
        alone[:, current] = np.where(frames[:, current] > others.astype(int) + 8, frames[:, current], 0)
        return super().run(alone, history)


def make(mode="smart", fps=30.0, history=False, **thresholds):
    params = TrackParams(**{"noise_calibrations": 0, **thresholds})
    networks = MovingBackend((180, 320), 60), MovingBackend((160, 160), 100, uses_history=history)
    return Tracker(*networks, SIZE_HW, fps, mode, params)


def follow(tracker, path, around=None, fps=30.0):
    lights = [{**(around or LINE), **({} if xy is None else {xy: 235})} for xy in path]
    return [step(tracker, dots(index, light, fps=fps)) for index, light in enumerate(lights)]


def seen(rows):
    return [row.visible for row in rows]


@pytest.mark.parametrize("mode", ["smart", "fast", "calibration", "offline"])
def test_a_shuttle_that_came_to_rest_stays_seen_until_it_is_taken_away(mode):
    path = FALLING + [AT_REST] * 40 + [None] * 40
    rows, without = (follow(make(mode, landed_s=s), path) for s in (1.0, 0.0))
    assert all(seen(rows[20:60]))
    assert seen(rows)[:60] == seen(without)[:60]
    assert not any(seen(without[62:]))
    assert all(seen(rows[65:100]))  # it must lie for a tenth of a second first
    places = np.array([(row.x_px, row.y_px) for row in rows[65:100]])
    assert np.abs(places - AT_REST).max() <= 3
    assert not any(seen(rows[100:]))


def test_looks_for_it_are_counted_and_end_after_a_second():
    tracker = make()
    rows = follow(tracker, FALLING + [None] * 60)
    assert not any(seen(rows[60:]))
    assert 28 <= tracker.counts["landed"] <= 31
    assert follow(other := make(landed_s=0.0), FALLING + [None] * 60)
    assert "landed" not in other.counts


def test_rates_change_nothing():
    path = [xy for a in FALLING for xy in (a, (a[0] + 2, a[1] + 1))]
    rows = follow(make(fps=60.0), path + [path[-1]] * 40, fps=60.0)
    assert all(seen(rows[130:]))


def test_what_comes_and_moves_has_not_landed():
    moving = [(AT_REST[0] + 7 * (i % 2), AT_REST[1]) for i in range(30)]
    landing = Landing(TrackParams(), SIZE_HW, 30.0)
    told = [landing.stayed([Sighting(x, y, 3.0)]) for x, y in moving]
    assert not any(told)
    still = [landing.stayed([Sighting(*AT_REST, 3.0)]) for _ in range(5)]
    assert [len(s) for s in still] == [0, 0, 0, 1, 1]


def test_a_shuttle_that_rose_out_of_the_picture_has_not_landed():
    rising = [(100 + 4 * i, 300 - 4 * i) for i in range(70)]
    tracker = make()
    rows = follow(tracker, rising + [rising[-1]] * 20)
    assert tracker.counts["landed"] == 0
    assert not any(seen(rows[72:]))


def test_after_a_cut_nothing_is_new():
    tracker = make()
    follow(tracker, FALLING)
    other = {(x, y): 200 for x in range(10, 640, 8) for y in range(10, 360, 8)}
    rows = [step(tracker, dots(60 + n, {**other, AT_REST: 235})) for n in range(20)]
    assert tracker.counts["landed"] == 0
    assert not any(seen(rows[1:]))


def test_a_flight_that_was_short_has_no_backdrop():
    tracker = make()
    rows = follow(tracker, FALLING[30:] + [AT_REST] * 20)
    assert tracker.counts["landed"] == 0
    assert not any(seen(rows[32:]))


def test_networks_that_are_told_the_track_are_not_asked():
    tracker = make(history=True)
    follow(tracker, FALLING + [AT_REST] * 20)
    assert tracker.counts["landed"] == 0


def test_the_backdrop_is_the_median_of_its_frames():
    frames = np.random.default_rng(0).integers(0, 256, (BACKDROP_FRAMES, 30, 40), np.uint8)
    assert np.array_equal(_median(*frames), np.median(frames, 0))


def test_nothing_changes_where_nothing_lands():
    path = [(100 + 6 * i, 200 - 2 * i) for i in range(60)]
    rows, without = (follow(make(landed_s=s), path) for s in (1.0, 0.0))
    assert [(r.x_px, r.y_px, r.confidence) for r in rows] == [(r.x_px, r.y_px, r.confidence) for r in without]
