import math

import numpy as np
import pytest
from flights import fly

from shuttlelib.offline import places_between
from shuttlelib.rows import Row
from shuttlelib.track_params import TrackParams


def rows(places, gaps, first=100):
    """Rows of frames from `first` at places, not visible where the index is in `gaps`."""
    return [
        Row(first + n, n / 30, n not in gaps, *((math.nan,) * 2 if n in gaps else xy), 1.0, "detected")
        for n, xy in enumerate(places)
    ]


def test_a_gap_is_looked_at_where_the_flights_at_its_ends_meet():
    places = fly(16)
    found = places_between(rows(places, range(5, 10)), TrackParams(), 720, 30.0)
    assert sorted(found) == [105, 106, 107, 108, 109]
    for frame, (place,) in found.items():
        assert np.hypot(*(place - places[frame - 100])) < 12


def test_before_the_first_sighting_only_its_own_flight_says_where_it_was():
    places = fly(30)
    found = places_between(rows(places, range(20)), TrackParams(look_again_s=0.1), 720, 30.0)
    assert sorted(found) == [117, 118, 119]
    assert np.hypot(*(found[119][0] - places[19])) < 3


def test_after_the_last_sighting_and_without_one_nothing_is_known():
    assert places_between(rows(fly(9), range(4, 9)), TrackParams(), 720, 30.0) == {}
    assert places_between(rows(fly(9), range(9)), TrackParams(), 720, 30.0) == {}


@pytest.mark.parametrize("look_again_s", [0.1, 0.5])
def test_a_long_gap_is_looked_at_again_near_its_end_only(look_again_s):
    found = places_between(rows(fly(40), range(5, 35)), TrackParams(look_again_s=look_again_s), 720, 30.0)
    assert len(found) == round(30 * look_again_s)
    assert max(found) == 134
