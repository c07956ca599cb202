import numpy as np
import pandas as pd
import pytest

from shuttlelib.lineage import claims, measures
from shuttlelib.lineage.claims import HOLDS, NOT_HERE, OPEN, UNMEASURED, Row


def table(error_px, loss=0.1, spread_px=np.nan, clips=6, frames=20, seed=0):
    """Judged samples that are about so far off, in clips that differ a little from each other."""
    rng = np.random.default_rng(seed)
    n = clips * frames
    error = error_px * np.repeat(rng.uniform(0.9, 1.1, clips), frames) * rng.uniform(0.5, 1.5, n)
    return pd.DataFrame(
        {
            "clip": np.repeat([f"c{i}" for i in range(clips)], frames),
            "visible": True,
            "said": True,
            "true_x": rng.uniform(0, 512, n),
            "true_y": rng.uniform(0, 288, n),
            "error_px": error,
            "spread_px": spread_px,
            "loss": loss * rng.uniform(0.9, 1.1, n),
            "right": error <= 4,
        }
    )


def row(error_px=2.0, val_loss=0.1, train_loss=0.1, history=None, noise=None, **facts):
    history = history if history is not None else ([100, 200, 300], [50.0, 20.0, error_px])
    steps = pd.DataFrame({"step": history[0], "median_px": history[1]})
    empty = pd.DataFrame() if noise is None else noise
    values = {"latency_ms": 10.0, "noise_std": 0.02, **facts}
    val = table(error_px, val_loss, facts.pop("spread_px", np.nan))
    return Row(values, table(error_px, train_loss, seed=1), val, empty, steps)


def sweep(clean, noisy):
    return pd.concat([table(2, clean).assign(level=0.0), table(2, noisy).assign(level=0.02)])


def test_pooling_loses_the_place_where_the_pooled_rows_are_farther_off():
    rows = {"stage1_v1": row(30.0), "stage1_v2": row(20.0), "stage1_v4": row(2.0)}
    claim = claims.pooling(rows, 1)
    assert claim.verdict == HOLDS
    assert claim.interval[0] > 5
    assert "stage1_v1, stage1_v2" in claim.numbers
    assert claims.pooling({"stage1_v1": row(2.0), "stage1_v4": row(6.0)}, 1).verdict == NOT_HERE
    assert claims.pooling({"stage1_v1": row(2.0), "stage1_v4": row(2.0)}, 1).verdict == OPEN


def test_nothing_is_said_of_rows_that_were_not_trained_or_have_not_learned():
    claim = claims.pooling({"stage1_v4": row()}, 1)
    assert (claim.verdict, claim.value) == (UNMEASURED, None)
    assert "not trained or not measured: stage1_v1, stage1_v2, stage1_v3" in claim.numbers
    idle = claims.pooling({"stage1_v1": row(400.0), "stage1_v4": row(200.0)}, 1)
    assert idle.verdict == OPEN
    assert "too little was learned to say (stage1_v4" in idle.numbers


def test_overfitting_is_five_times_the_loss():
    assert claims.overfitting({"stage2_v1": row(val_loss=0.9, train_loss=0.1)}).verdict == HOLDS
    assert claims.overfitting({"stage2_v1": row(val_loss=0.2, train_loss=0.1)}).verdict == NOT_HERE


def test_three_places_collapse_when_they_are_nearer_to_each_other_than_to_the_shuttle():
    close, apart = (row(10.0, spread_px=spread) for spread in (1.0, 60.0))
    assert claims.collapse({"stage1_v3": close}).verdict == HOLDS
    assert claims.collapse({"stage1_v3": apart}).verdict == NOT_HERE
    assert claims.collapse({"stage1_v3": row(10.0, spread_px=0.0)}).verdict == HOLDS
    assert claims.collapse({"stage1_v3": row(10.0)}).verdict == UNMEASURED


def test_learning_speed_compares_steps_to_the_same_error():
    steps = [100, 200, 300, 400]
    slow, fast = row(20.0, history=(steps, [90, 60, 40, 20])), row(2.0, history=(steps, [15, 6, 3, 2]))
    claim = claims.learning_speed({"stage1_v2": slow, "stage1_v4": fast})
    assert claim.verdict == HOLDS
    assert claim.value == pytest.approx(4.0)
    assert claim.interval == (3.0, 400.0)
    never = claims.learning_speed({"stage1_v2": fast, "stage1_v4": slow})
    assert (never.verdict, never.value) == (NOT_HERE, None)
    late = row(2.0, history=(steps, [9, 6, 3, 2]))  # at its best at the end, which the other does not reach
    never = claims.learning_speed({"stage1_v2": late, "stage1_v4": slow})
    assert never.verdict == NOT_HERE
    assert "did not within 400 steps" in never.numbers


def test_a_crutch_is_a_loss_that_rises_without_the_noise():
    leaning, steady = row(noise=sweep(0.2, 0.01)), row(noise=sweep(0.01, 0.01))
    assert claims.crutch({"stage2_v4": leaning, "stage2_v5": steady}).verdict == HOLDS
    assert claims.crutch({"stage2_v4": steady, "stage2_v5": leaning}).verdict == OPEN
    better = row(noise=sweep(0.1, 0.2))
    claim = claims.crutch({"stage2_v4": better, "stage2_v5": row(noise=sweep(0.1, 0.5))})
    assert claim.verdict == NOT_HERE, "it does better without the noise, whatever the other does"
    assert "stage2_v5 0." in claim.numbers
    assert claims.crutch({"stage2_v4": row(), "stage2_v5": row()}).verdict == UNMEASURED


def test_accuracy_is_priced_by_the_time_of_a_look():
    rows = {"stage1_v4": row(2.0, latency_ms=40.0), "stage1_v5": row(2.0, latency_ms=10.0)}
    claim = claims.per_millisecond(rows, "stage1_v4", "stage1_v5")
    assert claim.verdict == HOLDS
    assert claim.value == pytest.approx(4.0, rel=0.05)


def test_an_interval_resamples_clips_and_holds_its_value():
    each = table(2.0)
    value, low, high = measures.interval([each], measures.median_error)
    assert low < value < high
    assert (value, low, high) == measures.interval([each], measures.median_error)
    lone = each[each["clip"] == "c0"]
    value, *limits = measures.interval([lone], measures.median_error)
    assert np.isfinite(value)
    assert np.isnan(limits).all(), "one clip says nothing of how clips differ"
    many = table(2.0, clips=40, seed=1)
    assert np.isnan(measures.interval([lone, many], lambda a, b: measures.median_error(a))[1:]).all()
    apart = pd.concat([table(1.0, clips=1), table(9.0, clips=1).assign(clip="other")])
    low, high = measures.interval([apart], measures.median_error)[1:]
    assert low < 2, "both of two clips that differ"
    assert high > 7
    assert np.isnan(measures.interval([each.iloc[:0]], measures.median_error)[1])


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(1.1, 2, HOLDS), (0.2, 0.9, NOT_HERE), (0.9, 1.1, OPEN), (np.nan, 2, OPEN)]
)
def test_the_interval_decides(low, high, verdict):
    assert claims.decide(low, high) == verdict


def test_every_claim_is_judged_or_says_what_is_missing():
    found = claims.judge_all({})
    assert len(found) == 8
    assert {claim.verdict for claim in found} == {UNMEASURED}
