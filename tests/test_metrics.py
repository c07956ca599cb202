"""Every definition by hand-computed cases."""

import json

import numpy as np
import pytest
from outcomes import HD, NAN, PRED, TRUTH, table

from shuttlelib import metrics
from shuttlelib.metrics import Counts, MetricsError, hit_counts, score_clip, summarize


def as_ints(counts, index=()):
    at = counts.at(index)
    return tuple(int(v) for v in (at.tp, at.fp1, at.fp2, at.fn, at.tn))


def test_each_outcome_is_counted_once():
    score = score_clip(PRED, TRUTH, HD)
    assert as_ints(score.grid512, metrics.AT_4PX) == (1, 1, 1, 1, 1)
    assert as_ints(score.native, metrics.AT_4PX) == (1, 1, 1, 1, 1)
    result = summarize({"a": score})
    expected = {"accuracy": 2 / 5, "precision": 1 / 3, "recall": 1 / 2, "recall_strict": 1 / 3}
    expected |= {"f1": 2 / 5, "f1_strict": 1 / 3, "fp2_share": 1 / 2}
    for name, value in expected.items():
        found = result[name] if name == "fp2_share" else result[name]["grid512_4px"]
        assert found == pytest.approx(value, abs=1e-6), name
    assert result["counts"]["grid512_4px"] == {"tp": 1, "fp1": 1, "fp2": 1, "fn": 1, "tn": 1}


def test_f1_is_the_harmonic_mean_of_the_rounded_out_definitions():
    counts = Counts(*(np.array(v) for v in (60, 7, 11, 13, 9)))
    p, r, strict = counts.precision, counts.recall, counts.recall_strict
    assert counts.f1 == pytest.approx(2 * p * r / (p + r))
    assert counts.f1_strict == pytest.approx(2 * p * strict / (p + strict))


@pytest.mark.parametrize(
    ("dx", "dy", "hit512", "hit_native"),
    [(10, 0, 1, 0), (10.001, 0, 0, 0), (0, 10, 1, 0), (4, 0, 1, 1), (4.001, 0, 1, 0), (-6, -8, 1, 0)],
)
def test_tolerance_is_inclusive_on_both_scales(dx, dy, hit512, hit_native):
    x, y = 0.353 * 1280, 0.717 * 720  # not exact in binary
    score = score_clip(table([(1, x + dx, y + dy)]), table([(1, x, y)]), HD)
    assert score.grid512.tp[metrics.AT_4PX] == hit512
    assert score.native.tp[metrics.AT_4PX] == hit_native


def test_grid512_scales_each_axis_by_its_own_factor():
    square = (1000, 1000)  # 0.512 and 0.288 of a pixel
    truth = table([(1, 500, 500), (1, 500, 500)])
    score = score_clip(table([(1, 508, 500), (1, 500, 513)]), truth, square)
    np.testing.assert_allclose(score.error_grid512, [8 * 0.512, 13 * 0.288])
    np.testing.assert_allclose(score.error_fullhd, [8 * 1.92, 13 * 1.08])
    np.testing.assert_allclose(score.error_native, [8, 13])
    assert score.grid512.tp[metrics.AT_4PX] == 1


def test_hit_counts_takes_any_shape_of_tolerance():
    xy = np.zeros((3, 2))
    seen = np.ones(3, bool)
    off = np.array([[0.0, 1], [2, 0], [NAN, 5]])  # a prediction without a place can be no hit
    assert as_ints(hit_counts(off, seen, xy, seen, 1.5)) == (1, 2, 0, 0, 0)
    assert hit_counts(off, seen, xy, seen, np.array([[0.5, 1], [2, 9]])).tp.tolist() == [[0, 1], [2, 2]]
    assert as_ints(hit_counts(xy[:0], seen[:0], xy[:0], seen[:0], 4)) == (0, 0, 0, 0, 0)


def test_only_labelled_frames_count_and_a_missing_prediction_is_invisible():
    truth = table([(1, 10, 10), (0, NAN, NAN), (1, 10, 10)], first=7)  # 7, 8, 9
    pred = table([(1, 10, 10)] * 3, first=5)  # 5, 6, 7: only 7 is labelled
    score = score_clip(pred, truth, HD)
    assert as_ints(score.grid512, metrics.AT_4PX) == (1, 0, 0, 1, 1)
    result = summarize({"a": score})
    assert (result["frames"], result["missing_predictions"]) == (3, 2)


def test_frames_match_by_number_not_by_row():
    truth = table([(1, 10, 10), (1, 200, 200)])
    score = score_clip(truth.iloc[::-1], truth, HD)
    assert as_ints(score.native, 0) == (2, 0, 0, 0, 0)


def test_undefined_is_null_and_zero_is_zero():
    nothing = table([(0, NAN, NAN)] * 4)
    result = summarize({"a": score_clip(nothing, nothing, HD)})
    assert result["accuracy"]["native_4px"] == 1.0
    for name in ("precision", "recall", "recall_strict", "f1", "f1_strict"):
        assert result[name] == {"grid512_4px": None, "native_4px": None}
    assert result["error_px"]["native"] == {"mean": None, "median": None, "p95": None}
    assert result["hit_error_px"] == {"grid512": None, "1920x1080": None}
    assert result["curve"]["native"]["f1"] == [None] * 20
    assert result["calibration"]["expected_calibration_error"] is None
    assert result["interval95"]["accuracy"] == {"grid512_4px": None, "native_4px": None}
    json.dumps(result, allow_nan=False)
    far = summarize({"a": score_clip(table([(1, 900, 9)]), table([(1, 9, 9)]), HD)})
    assert (far["recall"]["grid512_4px"], far["f1"]["grid512_4px"]) == (None, 0.0)  # FP1 only
    assert summarize({"a": score_clip(nothing, nothing.iloc[:0], HD)})["accuracy"]["grid512_4px"] is None


def test_errors_are_over_visible_predicted_frames():
    truth = table([(1, 0, 0)] * 4 + [(0, NAN, NAN)])
    pred = table([(1, 3, 4), (1, 0, 1), (1, 60, 80), (0, NAN, NAN), (1, 1, 1)])
    result = summarize({"a": score_clip(pred, truth, HD)})
    native = {"mean": 106 / 3, "median": 5, "p95": np.percentile([1, 5, 100], 95)}
    assert result["error_px"]["native"] == pytest.approx(native, abs=1e-6)
    assert result["error_px"]["1920x1080"]["median"] == pytest.approx(7.5)
    assert result["hit_error_px"] == pytest.approx({"grid512": 1.2, "1920x1080": 4.5})


def test_curve_runs_from_1_to_20_px_on_each_scale():
    truth = table([(1, 0, 0), (1, 0, 0)])
    curve = summarize({"a": score_clip(table([(1, 5, 0), (1, 25, 0)]), truth, HD)})["curve"]
    assert curve["tolerance_px"] == list(range(1, 21))
    assert curve["native"]["accuracy"] == [0.0] * 4 + [0.5] * 16
    assert curve["grid512"]["accuracy"] == [0.0] + [0.5] * 8 + [1.0] * 11
    assert curve["native"]["f1"][3:5] == [0.0, pytest.approx(2 / 3, abs=1e-6)]


def test_calibration_compares_confidence_with_being_right():
    calibration = summarize({"a": score_clip(PRED, TRUTH, HD)})["calibration"]
    gaps = [1 - 0.9, 0.8, 0.7, 0.6, 0.0]  # right: the first and the last
    # 0.9 and 1.0 share the last bin: mean confidence 0.95, share right 1
    assert calibration["expected_calibration_error"] == pytest.approx((0.05 * 2 + sum(gaps[1:4])) / 5)
    assert calibration["bins"][9] == {"low": 0.9, "high": 1.0, "frames": 2, "confidence": 0.95, "right": 1.0}
    assert calibration["bins"][0]["right"] is None
    missing = summarize({"a": score_clip(PRED.iloc[:2], TRUTH, HD)})["calibration"]
    assert missing["frames"] == 2  # a frame without a row claims nothing


def test_outcomes_are_those_that_are_counted():
    rows = metrics.outcomes(PRED, TRUTH, HD)
    assert rows["outcome"].tolist() == ["TP", "FP1", "FP2", "FN", "TN"]
    assert rows["right"].tolist() == [True, False, False, False, True]
    assert rows["error_px"].dropna().tolist() == pytest.approx([4.5, 60])
    assert rows["x_px"].notna().tolist() == [True, True, True, False, False]
    assert rows["true_x_px"].notna().tolist() == [True, True, False, True, False]
    assert rows["confidence"].tolist() == PRED["confidence"].tolist()
    with pytest.raises(MetricsError, match="twice"):
        metrics.outcomes(PRED.assign(frame=0), TRUTH, HD)


def test_the_noise_of_the_labels_is_pooled_over_clips():
    x = 10.0 * np.arange(40) + np.random.default_rng(0).normal(0, 1, 40)
    noisy, still = (table([(1, v, 9.0) for v in values]) for values in (x, 10.0 * np.arange(90)))
    scores = {"a": score_clip(noisy, noisy, HD), "b": score_clip(still, still, HD)}
    result = summarize(scores)
    floor = {name: part["label_noise_px"]["1920x1080"] for name, part in result["per_clip"].items()}
    assert floor["a"] > 0.5
    assert floor["b"] == result["label_noise_px"]["1920x1080"] == 0  # most windows are exact
    assert summarize({"a": score_clip(PRED, TRUTH, HD)})["label_noise_px"]["1920x1080"] is None


def test_false_alarms_where_labels_blink_are_told_apart():
    alarm = PRED.assign(visible=1, x_px=5.0, y_px=5.0)  # in both frames without a shuttle; one is the last
    scores = {"a": score_clip(alarm, TRUTH, HD), "b": score_clip(TRUTH, TRUTH, HD)}
    result = summarize(scores)
    assert result["counts"]["grid512_4px"]["fp2"] == 2
    assert result["blinks"] == {"frames": 2, "fp2": 1}
    assert result["per_clip"]["b"]["blinks"] == {"frames": 1, "fp2": 0}


def test_venues_and_clips_pool_frames():
    one, two = score_clip(PRED, TRUTH, HD), score_clip(TRUTH, TRUTH, HD)
    result = summarize({"b": two, "a": one, "c": two}, {"a": "x", "b": "x", "elsewhere": "z"})
    assert list(result["per_clip"]) == ["a", "b", "c"]
    assert list(result["per_venue"]) == ["x"]
    assert result["accuracy"]["native_4px"] == pytest.approx(12 / 15)
    assert result["per_venue"]["x"]["accuracy"]["native_4px"] == pytest.approx(7 / 10)
    assert result["per_venue"]["x"]["clips"] == 2
    assert set(result["per_clip"]["a"]) == set(result) - {"per_clip", "per_venue", "per_fps"}
    with pytest.raises(MetricsError, match="no clip"):
        summarize({})


def test_interval_is_deterministic_and_ignores_the_order_of_clips():
    good, bad = score_clip(TRUTH, TRUTH, HD), score_clip(PRED, TRUTH, HD)
    scores = {"a": good, "b": bad, "c": bad, "d": good}
    first = summarize(scores)["interval95"]
    assert first == summarize(dict(reversed(scores.items())))["interval95"]
    # each resample has 0..4 good clips of accuracy 1 among clips of 0.4
    assert first["accuracy"]["grid512_4px"] == [0.4, 1.0]
    low, high = first["f1"]["native_4px"]
    assert 0.4 <= low < high <= 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visible": 2}, "frame 0 has a 'visible' that is neither"),
        ({"x_px": NAN}, "frame 0 is visible without x_px"),
        ({"frame": 0}, "frame 0 is there twice"),
        ({"confidence": 1.2}, "frame 0 has a confidence outside"),
        ({"y_px": "top"}, "column 'y_px' must hold numbers, found 'top'"),
        ({"confidence": "high"}, "column 'confidence' must hold numbers, found 'high'"),
        ({"visible": [True, None, False, True, True]}, "column 'visible' must hold numbers, found True"),
        ({"frame": [0, 1, 2.5, 3, 4]}, "frame 2.5 is no whole number from 0"),
        ({"frame": [0, 1, NAN, 3, 4]}, "frame nan is no whole number from 0"),
    ],
)
def test_malformed_rows_are_named(change, message):
    with pytest.raises(MetricsError, match=message):
        score_clip(PRED.assign(**change), TRUTH, HD)


# Folders
