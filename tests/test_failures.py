"""Each cause on a clip made to have it; tables by hand-computed cases."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shuttlelib import failures, labels
from shuttlelib.clips import Clip

SIZE_HW = (360, 640)  # a canonical px is half a native one
NAN = np.nan


@pytest.fixture
def clip_of(tiny_video):
    """A clip whose shuttle, a white square of 5 px, is at the points given; None where it is not visible."""

    def make(points, ground=60, head=250):
        def draw(index):
            picture = np.broadcast_to(np.asarray(ground, np.uint8), SIZE_HW)[..., None].repeat(3, 2)
            if points[index] is not None:
                x, y = (round(v - 2.5) for v in points[index])
                picture[max(0, y) : y + 5, max(0, x) : x + 5] = head
            return picture

        path = tiny_video("a.mp4", len(points), SIZE_HW, draw=draw)
        xy = np.array([(NAN, NAN) if point is None else point for point in points], float)
        seen = np.isfinite(xy[:, 0])
        table = labels.make_table("a", range(len(points)), seen, *xy.T, origin="synthetic")
        return Clip("a", path, table, labels.ClipInfo(640, 360, 30.0, len(points)), "hall", "val")

    return make


def line(step, count=20, start=(60.0, 120.0)):
    return [(start[0] + step * i, start[1]) for i in range(count)]


def found(clip):
    return failures.causes(failures.circumstances(clip))


def frames_with(table, cause):
    return np.flatnonzero(table[cause]).tolist()


def test_a_clear_flight_has_no_cause_and_its_measures_are_right(clip_of):
    clip = clip_of(line(6.0))
    table = failures.circumstances(clip)
    assert table["step_px"].tolist() == pytest.approx([12.0] * 20)
    assert table["size_px"].iloc[6:14].to_numpy() == pytest.approx(5, abs=1)
    assert (table["contrast_luma"].iloc[6:14] > 150).all()
    assert table["edge_px"].iloc[0] == pytest.approx(120)
    assert (table["white_share"] == 0).all()
    assert table["stretch"].nunique() == 2
    assert failures.causes(table)[failures.NONE].iloc[6:14].all()


def test_fast_is_blur_and_resting_is_static(clip_of):
    fast, rest = found(clip_of(line(12.0))), found(clip_of(line(0.0)))
    assert frames_with(fast, "blur") == list(range(20))
    assert not fast["static"].any()
    assert frames_with(rest, "static") == list(range(20))
    assert not rest["blur"].any()


def test_a_gap_in_the_open_is_occlusion_and_one_at_the_edge_is_not(clip_of):
    hidden = line(6.0)
    hidden[9:11] = [None, None]
    table = failures.circumstances(clip_of(hidden))
    assert set(table["gap"].iloc[9:11]) == {"hidden"}
    assert frames_with(failures.causes(table), "occlusion") == list(range(7, 13))
    up = [(300.0, 60.0 - 8 * i) for i in range(7)] + [None] * 6 + [(300.0, 12.0 + 8 * i) for i in range(7)]
    above = found(clip_of(up))
    assert not above["occlusion"].any()
    assert frames_with(above, "out of frame") == list(range(6, 14))  # and the heads at 12 px, 24 canonical


def test_an_unlabelled_frame_is_neither_measured_nor_hidden(clip_of):
    clip = clip_of(line(6.0))
    clip = replace(clip, table=clip.table.drop(index=[9, 10]))
    table = failures.circumstances(clip)
    assert table["frame"].tolist() == [*range(9), *range(11, 20)]
    assert set(table["gap"]) == {""}


def test_what_lies_behind_the_head(clip_of):
    checks = np.indices(SIZE_HW).sum(0) // 4 % 2 * 120
    assert found(clip_of(line(6.0), ground=220, head=90))["white background"].all()
    busy = found(clip_of(line(6.0), ground=checks))
    assert busy["clutter"].all()
    assert not busy["white background"].any()
    faint = found(clip_of(line(6.0), ground=60, head=75))
    assert faint["faint"].all()
    assert not faint[["clutter", "white background"]].any(axis=None)


def test_small_is_measured_across_the_streak():
    now, other = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    now[31:33, 20:44] = 200  # a streak of 24 by 2 px
    *_, width = failures.surroundings(now, [other], np.array([32.0, 32.0]))
    assert width == pytest.approx(2, abs=0.1)
    now[:, 32] = 200  # a player moves through the whole crop
    assert np.isnan(failures.surroundings(now, [other], np.array([32.0, 32.0]))[3])


def test_a_head_in_the_corner_is_measured_without_complaint(clip_of):
    assert len(found(clip_of([(0.0, 0.0), (640.0, 360.0), (1.0, 359.0), None]))) == 4


def judged(outcomes, **columns):
    right = [outcome in ("TP", "TN") for outcome in outcomes]
    stretch = [f"a/{n // 2}" for n in range(len(outcomes))]
    return pd.DataFrame({"outcome": outcomes, "right": right, "stretch": stretch, **columns})


def test_what_a_cause_costs():
    rows = judged(["TP", "FN", "FP1", "TP", "TP", "FP2", "TP", "TP"])
    table = pd.DataFrame(
        {"blur": [1, 1, 1, 1, 0, 0, 0, 0], "small": [0] * 8, failures.NONE: [0, 0, 0, 0, 1, 1, 1, 1]}
    )
    costs = failures.by_cause(rows, table.astype(bool))
    assert costs.index.tolist() == ["blur", "small", failures.NONE]
    blur = costs.loc["blur"]
    assert (blur["frames"], blur["wrong"], blur["error_rate"], blur["elsewhere"]) == (4, 2, 0.5, 0.25)
    assert blur["extra"] == pytest.approx(1)
    assert blur[["missed", "misplaced", "false_alarm"]].tolist() == [0.25, 0.25, 0]
    assert (blur["low"], blur["high"]) == pytest.approx(failures.wilson(0.5, 2))
    assert np.isnan(costs.loc["small", "error_rate"])


def test_wilson_limits():
    assert failures.wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert failures.wilson(NAN, 0) == (0.0, 1.0)


def test_bins_hold_visible_frames_once_and_leave_out_the_unmeasured():
    rows = judged(
        ["TP", "TP", "FP1", "FN", "FP2", "TP"],
        speed=[0.0, 1, 5, 5, 5, NAN],
        error_px=[1.0, 3, 50, NAN, NAN, 1],
    )
    table = failures.binned(rows, "speed", np.array([0, 2, 4, 6]))
    assert table[["low_edge", "high_edge", "frames"]].to_numpy().tolist() == [[0, 2, 2], [4, 6, 2]]
    assert table["median_px"].tolist() == [2, 50]
    assert table["missed"].tolist() == [0, 1]
    assert (table["missed_low"] <= table["missed"]).all()
    assert (table["missed_high"] >= table["missed"]).all()


def test_the_limits_of_a_median_count_the_half_seconds_that_have_a_place():
    errors = np.random.default_rng(0).uniform(1, 5, 40)
    rows = judged(["TP"] * 40 + ["FN"] * 360, error_px=[*errors, *[NAN] * 360], speed=[1.0] * 400)
    rows["stretch"] = range(400)
    few = failures.binned(rows, "speed", np.array([0, 2])).iloc[0]
    alone = failures.binned(rows[:40], "speed", np.array([0, 2])).iloc[0]
    assert few["frames"] == 400
    names = ["median_px", "median_low", "median_high"]
    assert few[names].tolist() == alone[names].tolist()
    five = failures.binned(rows[:5], "speed", np.array([0, 2])).iloc[0]
    assert five[names].isna().tolist() == [False, True, True]


def test_examples_show_a_half_second_twice_at_most_and_in_order():
    rows = judged(["FN"] * 12, clip=["a"] * 6 + ["b"] * 6, frame=range(12))
    rows["stretch"] = ["a/0"] * 6 + ["b/0"] * 6
    shown = failures.examples(rows, pd.DataFrame({"blur": [True] * 12, "faint": [True] * 12}), each=6)
    for _, part in shown.groupby("cause"):
        assert part["clip"].tolist()[:4] == ["a", "a", "b", "b"]
        assert part["clip"].isna().tolist() == [False] * 4 + [True] * 2
        assert part["frame"].dropna().is_monotonic_increasing
    assert not shown["frame"].dropna().duplicated().any()  # others can stand for the second


def test_examples_are_wrong_frames_of_many_stretches_filled_up_with_blanks():
    rows = judged(["FN"] * 6 + ["TP"] * 2, clip="a", frame=range(8))
    table = pd.DataFrame(
        {"blur": [True] * 8, "small": [False] * 6 + [True] * 2, "faint": [True, *[False] * 7]}
    )
    shown = failures.examples(rows, table, each=3)
    assert shown["cause"].tolist() == ["blur"] * 3 + ["faint"] * 3
    assert shown["stretch"].iloc[:3].nunique() == 3
    assert shown["frame"].iloc[3] == 0
    assert shown["clip"].isna().tolist() == [False] * 4 + [True] * 2
    assert failures.examples(rows[rows["right"]], table[6:], each=3).empty
