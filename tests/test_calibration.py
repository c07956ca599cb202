from dataclasses import replace

import numpy as np
import pytest
from outcomes import HD, table

from shuttlelib import calibration, metrics


def tracked(seed, slope, shift, rows=3000):
    """A clip whose visible rows are right with probability sigmoid(slope * logit(p) + shift)."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.5, 0.999, rows)
    truth_p = 1 / (1 + np.exp(-(slope * np.log(p / (1 - p)) + shift)))
    right = rng.random(rows) < truth_p
    pred = table([(1, 100.0, 100.0, value) for value in p])
    truth = table([(1, 100.0 if good else 400.0, 100.0) for good in right])
    return metrics.score_clip(pred, truth, HD)


def test_the_curve_that_made_the_rows_is_found():
    a, b = calibration.fit([tracked(0, 0.6, -0.4), tracked(1, 0.6, -0.4)])["visible"]
    assert a == pytest.approx(0.6, abs=0.08)
    assert b == pytest.approx(-0.4, abs=0.12)


def test_few_rows_keep_the_identity():
    kinds = ("visible", "rectified", "invisible")
    assert calibration.fit([tracked(0, 1, 0, rows=10)]) == {kind: [1.0, 0.0] for kind in kinds}


def test_rows_that_physics_filled_in_get_a_curve_of_their_own():
    seen, filled = tracked(0, 1.0, 0.0), tracked(1, 0.6, -0.4)
    filled = replace(filled, rectified=np.ones(len(filled.right), bool))
    curves = calibration.fit([seen, filled])
    assert curves["visible"][0] == pytest.approx(1.0, abs=0.12)
    assert curves["rectified"][0] == pytest.approx(0.6, abs=0.12)


def test_rows_that_are_always_right_get_a_finite_curve():
    a, b = calibration.fit([tracked(0, 0.0, 30.0, rows=500)])["visible"]
    confidence = 1 / (1 + np.exp(-(a * np.log(0.9 / 0.1) + b)))
    assert 0.98 < confidence < 1
