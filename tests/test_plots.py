"""What a figure shows is read back from its artists; how it looks is for eyes."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from shuttlelib import charts, failure_charts, failures, plots

NAN = np.nan
IMAGE = np.zeros((36, 64, 3), np.uint8)


@pytest.fixture(autouse=True)
def _agg_and_nothing_left_behind():
    mpl.use("Agg")
    yield
    assert plt.get_fignums() == []


def marks(axis, marker="o"):
    """Drawn points of a marker, (N, 2)."""
    lines = [line.get_xydata() for line in axis.get_lines() if line.get_marker() == marker]
    return np.concatenate(lines) if lines else np.empty((0, 2))


def named(axis):
    return {line.get_label(): np.asarray(line.get_ydata(), float) for line in axis.get_lines()}


def test_contact_sheet_places_images_and_says_what_is_not_visible():
    points = [np.array([3.0, 4]), np.array([NAN, NAN]), np.array([1.0, 2])]
    figure = plots.contact_sheet([IMAGE] * 3, ["a", "b", "c"], points, columns=2)
    axes = figure.axes
    assert [axis.get_title(loc="left") for axis in axes] == ["a", "b (not visible)", "c", ""]
    assert [len(marks(axis)) for axis in axes] == [1, 0, 1, 0]
    assert axes[0].get_gridspec().get_geometry() == (2, 2)
    assert not axes[3].axison
    figure.canvas.draw()


def test_row_sheet_names_its_groups_and_shows_as_many_as_fit():
    here, gone = np.array([3.0, 4]), np.array([NAN, NAN])
    pictures = [(IMAGE, f"a{n}", here, gone) for n in range(3)]
    figure = plots.row_sheet({"fast": pictures, "dark": pictures[:1]}, columns=2)
    first, second = figure.subfigs
    assert [part.get_suptitle() for part in (first, second)] == ["fast", "dark"]
    assert [axis.get_title(loc="left") for axis in first.axes] == ["a0", "a1"]
    assert [len(marks(axis)) for axis in first.axes] == [1, 1]
    assert [len(marks(axis, "x")) for axis in first.axes] == [0, 0]
    assert not second.axes[1].axison
    plots.row_sheet({}).canvas.draw()
    figure.canvas.draw()


def test_contact_sheet_without_points_claims_nothing_and_counts_its_titles():
    assert plots.contact_sheet([IMAGE], ["a"]).axes[0].get_title(loc="left") == "a"
    assert len(plots.contact_sheet([], []).axes) == 1
    with pytest.raises(ValueError, match="1 titles for 2 images"):
        plots.contact_sheet([IMAGE] * 2, ["a"])
    with pytest.raises(ValueError, match="1 points for 2 images"):
        plots.contact_sheet([IMAGE] * 2, ["a", "b"], [np.zeros(2)])


def test_filmstrip_numbers_its_frames_in_one_row():
    figure = plots.filmstrip([IMAGE] * 4, [np.ones(2)] * 4, first_frame=17)
    assert [axis.get_title(loc="left") for axis in figure.axes] == [f"frame {n}" for n in (17, 18, 19, 20)]
    assert figure.axes[0].get_gridspec().get_geometry() == (1, 4)


def test_heatmap_covers_the_image_and_fades_where_it_is_zero():
    heatmap = np.zeros((9, 16))
    heatmap[4, 8] = 0.4
    figure = plots.heatmap_overlay(IMAGE, heatmap, np.array([34.0, 18]), np.array([33.0, 17]), "t")
    axis = figure.axes[0]
    layer = axis.get_images()[1]
    assert tuple(layer.get_extent()) == (0, 64, 36, 0)
    assert layer.get_clim() == (0, 0.4)
    assert layer.get_alpha()[0, 0] == 0
    assert layer.get_alpha()[4, 8] == pytest.approx(0.85)
    np.testing.assert_array_equal(marks(axis), [[34, 18]])
    np.testing.assert_array_equal(marks(axis, "x"), [[33, 17]])
    assert layer.colorbar.ax.get_ylabel() == "probability"
    plots.heatmap_overlay(IMAGE, heatmap * 0).canvas.draw()  # an empty heatmap is no error


def test_augmentation_pairs_put_after_below_before():
    shift = [np.array([1.0, 2]), np.array([NAN, NAN])]
    figure = plots.augmentation_pairs(
        [IMAGE] * 2, [IMAGE + 9] * 2, shift, [p + 5 for p in shift], ["flip", "noise"]
    )
    assert [axis.get_title(loc="left") for axis in figure.axes[:2]] == ["flip", "noise (not visible)"]
    assert [figure.axes[i].get_ylabel() for i in (0, 2)] == ["before", "after"]
    np.testing.assert_array_equal(marks(figure.axes[2]), [[6, 7]])
    assert figure.axes[2].get_images()[0].get_array().max() == 9


def track(visible):
    count = len(visible)
    return pd.DataFrame(
        {"frame": range(count), "visible": visible, "x_px": np.arange(count) * 2.0, "y_px": 5.0}
    )


def test_trajectory_breaks_where_the_shuttle_is_not_visible():
    figure = charts.trajectory(track([1, 1, 0, 0, 1, 0]), truth=track([1] * 6), fps=2.0, title="clip")
    top, bottom = figure.axes
    lines = named(top)
    np.testing.assert_array_equal(lines["predicted"], [0, 2, NAN, NAN, 8, NAN])
    np.testing.assert_array_equal(lines["label"], [0, 2, 4, 6, 8, 10])
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in top.patches]
    assert spans == [(0.75, 1.75), (2.25, 2.75)]  # frames 2-3 and 5, half a frame to either side
    assert (top.get_ylabel(), bottom.get_ylabel(), bottom.get_xlabel()) == ("x (px)", "y (px)", "time (s)")
    assert bottom.yaxis_inverted()
    assert not top.yaxis_inverted()
    assert charts.trajectory(track([0, 0])).axes[1].get_xlabel() == "frame"


def test_trajectory_says_whose_gaps_are_grey():
    table = track([1, 0])
    titles = [charts.trajectory(table, *rest).axes[0].get_title(loc="left") for rest in ((), (table,))]
    assert titles == ["(grey: not visible)", "(grey: not predicted)"]
    top = charts.trajectory(table, table, title="clip", name="in the copy").axes[0]
    assert top.get_title(loc="left") == "clip  (grey: not in the copy)"
    assert set(named(top)) == {"label", "in the copy"}


def curve(values):
    half = {"accuracy": values}
    return {"tolerance_px": list(range(1, 21)), "grid512": half, "native": half}


def test_error_curve_draws_each_name_and_labels_it_directly():
    rising = list(np.linspace(0, 1, 20))
    figure = charts.error_curve({"fast": curve(rising), "smart": curve([1.0] * 20)})
    (axis,) = figure.axes
    np.testing.assert_allclose(named(axis)["fast"], rising)
    places = {text.get_text(): text.xy[1] for text in axis.texts}
    assert places["smart"] > places["fast"] + 0.05  # both end at 1.0: kept apart, the better above
    assert places["smart"] <= axis.get_ylim()[1]
    assert axis.get_xlabel() == "tolerance (px, on the 512x288 grid)"
    assert axis.get_legend() is None


def test_error_curve_with_many_names_gets_a_legend_and_null_is_a_gap():
    figure = charts.error_curve({name: curve([None] * 20) for name in "abcde"}, "native")
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list("abcde")
    assert np.isnan(named(axis)["a"]).all()
    assert "native" in axis.get_xlabel()
    figure.canvas.draw()


def test_training_curves_pair_training_with_validation():
    history = pd.DataFrame(
        {
            "step": [1, 2],
            "seconds": [9, 9],
            "train_loss": [3, 2],
            "loss": [4, 3],
            "val_f1": [0, 1],
            "error_px": [5, 4],
        }
    )
    figure = charts.training_curves(history)
    by_label = {axis.get_ylabel(): axis for axis in figure.axes}
    assert list(by_label) == ["loss", "f1", "error (px)"]
    assert {k: list(v) for k, v in named(by_label["loss"]).items()} == {
        "training": [3, 2],
        "validation": [4, 3],
    }
    assert list(named(by_label["f1"])) == ["validation"]
    assert by_label["loss"].get_xlabel() == "step"
    marked = charts.training_curves(history, kept=2).axes
    assert [axis.get_lines()[-1].get_xdata() for axis in marked] == [[2, 2]] * 3
    assert "kept" in [text.get_text() for text in marked[0].texts]
    assert [text.get_text() for text in by_label["f1"].texts] == ["validation"]  # where nothing is said
    with pytest.raises(ValueError, match="no column 'step' or 'epoch', only loss"):
        charts.training_curves(history[["loss"]])


def test_calibration_leaves_out_empty_bins_but_shows_their_count():
    empty = {"low": 0.0, "high": 0.5, "frames": 0, "confidence": None, "right": None}
    full = {"low": 0.5, "high": 1.0, "frames": 8, "confidence": 0.8, "right": 0.75}
    figure = charts.calibration([empty, full])
    top, low = figure.axes
    np.testing.assert_array_equal(top.collections[0].get_offsets(), [[0.8, 0.75]])
    assert [bar.get_height() for bar in low.patches] == [0, 8]
    assert low.get_xlabel() == "confidence"
    charts.calibration([empty]).canvas.draw()


def test_calibration_of_several_kinds_is_told_apart_by_more_than_colour():
    full = {"low": 0.5, "high": 1.0, "frames": 8, "confidence": 0.8, "right": 0.75}
    figure = charts.calibration({"visible": [full], "not visible": [full]})
    top, low = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["visible", "not visible"]
    shapes = {dots.get_paths()[0].vertices.shape for dots in top.collections}
    assert len(shapes) == 2
    assert [bar.get_x() for bar in low.patches] == pytest.approx([0.5, 0.735])
    figure.canvas.draw()


def test_calibration_marks_of_all_curves_are_of_one_measure_and_whole():
    few, many = ({"low": 0, "high": 1, "frames": n, "confidence": 1.0, "right": 1.0} for n in (1, 60))
    top = charts.calibration({"few": [few], "many": [many]}).axes[0]
    sizes = [float(dots.get_sizes()[0]) for dots in top.collections]
    assert sizes[0] < sizes[1] / 4
    assert min(top.get_xlim()[1], top.get_ylim()[1]) > 1


def cause_rows():
    outcome = ["TP", "FN", "FP1", "TP"]
    rows = {"outcome": outcome, "right": [True, False, False, True], "stretch": list("abcd")}
    return pd.DataFrame({**rows, "speed": [1.0, 1, 3, 3], "error_px": [2.0, NAN, 40, 4]})


def test_cause_bars_show_the_rate_there_and_elsewhere():
    found = pd.DataFrame(
        {"blur": [True, True, True, False], "small": [False] * 4, "none of these": [False] * 3 + [True]}
    )
    costs = failures.by_cause(cause_rows(), found)
    figure = failure_charts.cause_bars(costs)
    (axis,) = figure.axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["blur (2 of 3)", "small (0 of 0)", "none of these (0 of 1)"]
    assert axis.patches[0].get_width() == pytest.approx(2 / 3)
    np.testing.assert_allclose(marks(axis, "D")[0], [0, 0])
    figure.canvas.draw()


def test_error_over_a_measure_has_a_line_a_name_in_both_panels():
    table = failures.binned(cause_rows(), "speed", np.array([0, 2, 4]))
    figure = failure_charts.error_over({"stage 1": table, "tracker": table[1:]}, "speed", "px")
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["0–2", "2–4"]
    assert left.get_yscale() == "log"
    np.testing.assert_allclose(np.asarray(right.containers[0].lines[0].get_ydata(), float), [0.5, 0.5])
    assert len(right.containers[1].lines[0].get_ydata()) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["stage 1", "tracker"]
    assert left.containers[0].lines[0].get_marker() != left.containers[1].lines[0].get_marker()
    figure.canvas.draw()


def test_bare_prediction_sheets_leave_the_head_in_view():
    figure = plots.prediction_sheet([IMAGE], ["a"], [np.array([3.0, 4])], [np.array([5.0, 6])], bare=True)
    assert marks(figure.axes[0], "s").tolist() == [[5, 6]]
    assert len(marks(figure.axes[0], "x")) == 0


def test_version_bars_mark_the_best_in_each_direction():
    table = pd.DataFrame({"accuracy": [0.5, 0.8, NAN], "latency_ms": [9, 12, 5000]}, index=["v4", "v5", "v6"])
    figure = charts.version_bars(table)
    best = [
        [mpl.colors.to_hex(bar.get_facecolor()).upper() == plots.BLUE for bar in a.patches]
        for a in figure.axes
    ]
    assert best == [[False, True, False], [True, False, False]]
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["accuracy", "latency (ms)"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["higher is better", "lower is better"]
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["0.5", "0.8", "–"]
    assert figure.axes[1].texts[2].get_text().strip() == "5,000"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["v4", "v5", "v6"]


def test_triggers_stand_at_their_times_with_their_counts():
    figure = charts.triggers_over_time({"jump": np.array([30, 60]), "still_lost": np.array([])}, 90, fps=30.0)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["jump (2)", "still lost (0)"]
    assert list(axis.collections[0].get_positions()) == [1.0, 2.0]
    assert (axis.get_xlim(), axis.get_xlabel()) == ((0, 3), "time (s)")
    figure.canvas.draw()


def test_speed_histogram_shares_sum_to_one_without_nan():
    figure = charts.speed_histogram({"real": np.array([1.0, 2, NAN, 40]), "empty": np.array([NAN])})
    (axis,) = figure.axes
    shares = [patch.get_data().values.sum() for patch in axis.patches if patch.get_label()]
    assert shares[0] == pytest.approx(1)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["real (3)", "empty (0)"]
    assert axis.get_xlabel() == "speed (px in 1/30 s, at 1280x720)"
    figure.canvas.draw()
