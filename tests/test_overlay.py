import math

import numpy as np

from shuttlelib.overlay import Overlay
from shuttlelib.rows import Row


def row(frame, xy_px=None, confidence=0.95, source="detected"):
    if xy_px is None:
        return Row(frame, frame / 30, False, math.nan, math.nan, confidence, "none")
    return Row(frame, frame / 30, True, *xy_px, confidence, source)


def test_the_head_is_ringed_and_the_frame_left_alone():
    grey = np.full((360, 640, 3), 60, np.uint8)
    drawn = Overlay(360).draw(grey, row(0, (300.5, 100.5)))
    assert (grey == 60).all()
    changed = np.argwhere((drawn[:300] != 60).any(-1))
    assert np.abs(changed.mean(0) + 0.5 - (100.5, 300.5)).max() < 0.5
    assert (drawn[100, 300] == 60).all(), "the head itself stays visible inside the ring"
    assert drawn[100, 307, 1] > drawn[100, 307, 0], "a sure row is green"


def test_the_trail_fades_and_ends():
    grey = np.full((360, 640, 3), 60, np.uint8)
    overlay = Overlay(360)
    for frame in range(18):
        drawn = overlay.draw(grey, row(frame, (100.0 + 20 * frame, 100.0)))
    strength = np.abs(drawn[100, 110:410:20].astype(int) - 60).max(-1)
    assert (np.diff(strength.astype(int)) >= 0).all()
    assert strength[0] < strength[-1] / 3
    for frame in range(18, 40):
        drawn = overlay.draw(grey, row(frame))
    assert (drawn[:300] == 60).all()


def test_the_trail_does_not_cross_a_gap_in_time():
    grey = np.full((360, 640, 3), 60, np.uint8)
    overlay = Overlay(360)
    overlay.draw(grey, row(0, (100.0, 100.0)))
    drawn = overlay.draw(grey, row(1800, (300.0, 100.0)))
    assert (drawn[:300, 110:280] == 60).all()


def test_marks_at_the_border_stay_inside():
    grey = np.full((16, 16, 3), 60, np.uint8)
    overlay = Overlay(16)
    for frame, xy_px in enumerate([(0.0, 0.0), (16.0, 16.0), (16.0, 0.0), (0.2, 15.9)]):
        assert overlay.draw(grey, row(frame, xy_px, source="rectified")).shape == (16, 16, 3)
