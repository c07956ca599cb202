import math
from dataclasses import replace

import numpy as np
import pytest
from flights import fly

from shuttlelib.frames import ROUNDING_S
from shuttlelib.geometry import Window
from shuttlelib.hypotheses import Hypotheses, Sighting, sightings_in, verdict
from shuttlelib.runtime import Candidates
from shuttlelib.track_params import TrackParams

PARAMS = TrackParams()


def fed(frames, fps=30.0, lag=6, params=PARAMS):
    """Hypotheses after frames of (x, y, logit) sightings at 1280x720."""
    track = Hypotheses(params, 720, fps, lag)
    for sightings in frames:
        track.add(track.ahead([Sighting(*one) for one in sightings]))
    return track


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0, 120.0])
def test_the_next_place_of_a_flight_is_expected(fps):
    places = fly(12, fps)
    track = fed([[(*xy, 3.0)] for xy in places[:-1]], fps)
    assert np.hypot(*(track.expected() - places[-1])) < 2.5


def test_weights_are_probabilities_of_all_that_may_be():
    track = fed([[(200, 300, 2.0), (500, 500, 1.0)], [(210, 300, 2.0), (500, 500, 1.0)], []])
    for column in track._columns:
        assert column.weight.sum() == pytest.approx(1)
        assert len(column.weight) == len(column.xy_px) == len(column.evidence)
    assert len(track._columns[-1].weight) == 1 + PARAMS.hidden_kept  # nowhere, and two that may be hidden


def test_forward_and_backward_give_what_counting_all_histories_gives():
    frames = [[(200, 300, 0.5)], [(206, 300, -0.5), (400, 100, 0.2)], [(212, 301, 0.3)], [(219, 301, 1.0)]]
    track = fed(frames)
    columns = list(track._columns)[1:]
    histories = {(): 1.0}
    for column, before in zip(columns, [1, *(len(c.weight) for c in columns)]):
        histories = {
            (*path, now): weight * column.move[path[-1] if path else 0, now] * column.evidence[now]
            for path, weight in histories.items()
            for now in range(len(column.weight))
            if before
        }
    total = sum(histories.values())
    for place, column in enumerate(columns):
        seen = sum(w for path, w in histories.items() if 1 <= path[place] <= len(column.logit))
        assert track.settled(len(columns) - 1 - place).probability == pytest.approx(seen / total)


@pytest.mark.parametrize("fps", [24.0, 60.0, 240.0])
def test_doubtful_places_side_by_side_do_not_win_by_their_number(fps):
    side_by_side = [(400 + 5 * n, 300, -5.0) for n in range(4)]
    track = fed([side_by_side] * round(fps), fps)
    assert track.settled(3).probability < 0.1


def test_a_flight_wins_against_a_place_that_looks_better_and_does_not_move():
    places = fly(10)
    frames = [[(*xy, 1.0), *([(900, 600, 2.0)] if 3 <= n <= 5 else [])] for n, xy in enumerate(places)]
    track = fed(frames, lag=9)
    for n in range(10):
        assert track.settled(9 - n).xy_px == pytest.approx(places[n])


def test_a_hit_is_followed_at_once():
    before, after = fly(8), fly(8, start=fly(8)[-1], velocity=(-25.0, 5.0))[1:]
    track = fed([[(*xy, 3.0)] for xy in (*before, *after[:2])])
    assert np.hypot(*(track.expected() - after[2])) < 4


def test_a_hidden_flight_is_waited_for_on_its_path_and_not_for_ever():
    places = fly(20)
    track = fed([*([(*xy, 3.0)] for xy in places[:6]), [], []])
    assert np.hypot(*(track.expected() - places[8])) < 10
    assert fed([*([(*xy, 3.0)] for xy in places[:6]), *[[]] * 14]).expected() is None


def test_a_track_that_is_forgotten_is_expected_nowhere():
    track = fed([[(200, 300, 3.0)], [(210, 300, 3.0)]])
    assert track.expected() is not None
    track.forget()
    assert len(track) == 0
    assert track.expected() is None
    track.add(track.ahead([Sighting(900, 100, 1.0)]))
    assert track.settled(0).xy_px.tolist() == [900, 100]


def test_the_peaks_of_a_crop_share_its_visibility():
    xy = np.array([[[80, 80], [20, 20], [150, 9]]], np.float32)
    result = Candidates(xy, np.array([[0.6, 0.3, 0.001]], np.float32), np.array([0.9], np.float32))
    ((first, second),) = sightings_in(result, [Window(100, 50, 160, 160, 160, 160)], (720, 1280), PARAMS)
    assert first[:2] == (180, 130)
    assert second[:2] == (120, 70)
    shares = [1 / (1 + math.exp(-one.logit)) for one in (first, second)]
    assert shares == pytest.approx([0.9 * 0.6 / 0.901, 0.9 * 0.3 / 0.901], abs=1e-4)
    nothing = result._replace(visible=np.zeros(1, np.float32))
    assert len(sightings_in(nothing, [Window(100, 50, 160, 160, 160, 160)], (720, 1280), PARAMS)[0]) == 1


@pytest.mark.parametrize("fps", [30.0, 120.0])
def test_evidence_against_a_place_that_rests_counts_more(fps):
    def believed(step_px, logit, **params):
        chosen = replace(PARAMS, **params)
        track = Hypotheses(chosen, 720, fps, lag=4)
        for n in range(8):
            track.add(track.ahead([Sighting(400 + n * step_px * 30 / fps, 300, 2.0 if n < 5 else logit)]))
        return verdict(track._columns[-1]).probability

    resting, moving = believed(1, -1.0), believed(30, -1.0)
    assert resting < moving
    assert resting < believed(1, -1.0, rest_doubt=1.0)
    assert believed(30, -1.0, rest_doubt=3.0) == moving
    assert believed(1, 1.0, rest_doubt=3.0) == believed(1, 1.0, rest_doubt=1.0)  # what speaks for it as ever


@pytest.mark.parametrize(("fps", "least_s"), [(12.0, 0.7), (30.0, 0.8), (240.0, 0.9)])
def test_a_flight_is_told_from_noise_and_from_creeping_at_any_rate(fps, least_s):
    rng = np.random.default_rng(4)

    def flown_s(places):
        return verdict(fed([[(*xy, 3.0)] for xy in places], fps)._columns[-1]).flown_s

    count = round(fps)
    assert least_s <= flown_s(fly(count, fps)) <= 1
    assert flown_s(rng.normal((400, 300), 0.5, (count, 2))) < PARAMS.fly_s  # px, of a place that rests
    creeping = [(200 + 0.7 * PARAMS.fly_heights * 720 * n * 30 / fps, 300) for n in range(count)]
    assert flown_s(creeping) == 0


@pytest.mark.parametrize("fps", [25.0, 30.0, 50.0, 60.0, 100.0, 120.0, 240.0])
def test_a_flight_is_long_enough_after_as_many_frames_as_it_says(fps):
    path = np.column_stack([200 + 12 * 30 / fps * np.arange(40), np.full(40, 300.0)])
    column = fed([[(*xy, 3.0)] for xy in path[: 2 + math.ceil(PARAMS.fly_s * fps)]], fps)._columns[-1]
    flown_s = verdict(column).flown_s
    assert flown_s == pytest.approx(math.ceil(PARAMS.fly_s * fps) / fps)
    assert flown_s >= PARAMS.fly_s - ROUNDING_S


@pytest.mark.parametrize("fps", [30.0, 120.0])
def test_a_flight_that_came_to_rest_is_believed_where_the_networks_doubt_it(fps):
    def told(path, doubted=-2.0, **params):
        track = Hypotheses(replace(PARAMS, **params), 720, fps, lag=4)
        frames = [Sighting(*xy, 3.0) for xy in path]
        frames += [Sighting(*path[-1], logit) for logit in (1.0, 1.0, 1.0, *[doubted] * round(fps / 2))]
        for sighting in frames:
            track.add(track.ahead([sighting]))
        return verdict(track._columns[-1]).probability >= PARAMS.visible_threshold

    landing = fly(round(fps / 2), fps)
    rested = np.tile(landing[-1:], (len(landing), 1))  # was never seen to fly
    jumped = landing.copy()  # a flight here, something at rest there
    jumped[-1] += 0, 300
    assert told(landing)
    assert not told(landing, -9.0)  # nothing is there any more
    assert not told(rested)
    assert not told(jumped)
    assert not told(landing, landed_doubt=PARAMS.rest_doubt)
    assert not told(landing, fly_s=1.0)  # too short a flight
    assert not told(landing, fly_heights=0.2)  # too slow a one
