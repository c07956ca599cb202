import numpy as np
import pytest
from flights import fly

from shuttlelib.flight import Flight


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0, 120.0])
def test_a_step_a_frame_follows_a_fine_simulation(fps):
    count = round(0.3 * fps) + 1
    places = fly(count, fps, velocity=(24.0, -16.0))
    law = Flight.of(4.0, 0.001, 720, fps)
    xy, velocity = places[1], places[1] - places[0]
    for place in places[2:]:
        xy, velocity = law.on(xy, velocity)
        assert np.hypot(*(xy - place)) < 4
    assert np.hypot(*(velocity - (places[-1] - places[-2]))) < 0.15 * np.hypot(*velocity)


def test_drag_slows_and_gravity_pulls_down_whatever_the_resolution():
    small, large = (Flight.of(4.0, 0.001, height, 30.0) for height in (360, 720))
    (a, va), (b, vb) = (law.on(np.zeros(2), np.array([10.0, 0.0]) * k) for law, k in ((small, 1), (large, 2)))
    assert (2 * a).tolist() == pytest.approx(b.tolist())
    assert va[0] < 10
    assert va[1] > 0
    assert vb[1] == pytest.approx(2 * va[1])
