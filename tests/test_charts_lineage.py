import pandas as pd
import pytest

from shuttlelib import charts_lineage, plots


def row(stage=1, parent="", **values):
    return {
        "stage": stage,
        "parent": parent,
        "notes": "an idea",
        "accuracy": 0.5,
        "latency_ms": 5.0,
        **values,
    }


ROWS = {
    "a": row(),
    "b": row(parent="a", accuracy=0.7, accuracy_interval=[0.6, 0.8]),
    "c": row(parent="b", accuracy=None, error="out of memory"),
    "d": row(stage=2, accuracy=0.9, latency_ms=2.0),
    "u": row(baseline=True, accuracy=0.6, latency_ms=50.0),
}


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_the_tree_shows_what_each_row_bought_and_which_failed():
    shown = texts(charts_lineage.family_tree(ROWS))
    assert {"a", "b", "c", "d", "u"} <= set(shown)
    assert "0.700 (+0.200)" in shown
    assert "failed" in shown


@pytest.mark.parametrize(
    ("value", "says", "color"),
    [
        (0.6, "(+0.100)", plots.GREEN),
        (0.4, "(-0.100)", plots.VERMILION),
        (0.5, "(+0.000)", plots.GREY),
        (0.4999, "(+0.000)", plots.GREY),
    ],
)
def test_a_change_that_reads_as_zero_is_neither_better_nor_worse(value, says, color):
    figure = charts_lineage.family_tree({"a": row(), "b": row(parent="a", accuracy=value)})
    (text,) = [text for text in figure.axes[0].texts if says in text.get_text()]
    assert text.get_color() == color


def test_a_gain_is_told_within_a_kind_alone():
    assert charts_lineage.gain(row(accuracy=0.7), row()) == 0.2
    assert charts_lineage.gain(row(stage=2, accuracy=0.7), row()) is None
    assert charts_lineage.gain(row(accuracy=None), row()) is None
    assert charts_lineage.gain(row(), {}) is None


def test_bars_have_intervals_and_say_what_is_missing():
    figure = charts_lineage.bars(ROWS, "accuracy")
    axis = figure.axes[0]
    assert len(axis.patches) == 4
    assert [list(line.get_xdata()) for line in axis.lines] == [[0.6, 0.8]]
    assert " failed" in texts(figure)


def test_time_is_in_minutes_when_it_is_long_and_the_hardware_is_named():
    history = pd.DataFrame({"seconds": [60.0, 600.0], "accuracy": [0.2, 0.8]})
    axis = charts_lineage.accuracy_over_time({"a": history}, "a card").axes[0]
    assert axis.get_xlabel() == "minutes of training on a card"
    assert axis.lines[0].get_xdata().tolist() == [1.0, 10.0]
    short = charts_lineage.accuracy_over_time({"a": history / 10}).axes[0]
    assert short.get_xlabel() == "seconds of training"


def test_rows_that_nothing_of_their_kind_beats_are_ringed():
    better = {**ROWS, "e": row(accuracy=0.95, latency_ms=1.0)}
    axis = charts_lineage.accuracy_against_latency(better).axes[0]
    ringed = {tuple(line.get_xydata()[0]) for line in axis.lines if line.get_markersize() == 13}
    assert ringed == {(1.0, 0.95), (2.0, 0.9), (50.0, 0.6)}


def test_rows_that_were_timed_on_other_hardware_are_no_rivals():
    rows = {
        "a": row(measured_on="slow"),
        "b": row(accuracy=0.9, latency_ms=1.0, measured_on="fast"),
        "c": row(accuracy=0.4, latency_ms=6.0, measured_on="slow"),
    }
    axis = charts_lineage.accuracy_against_latency(rows).axes[0]
    ringed = {tuple(line.get_xydata()[0]) for line in axis.lines if line.get_markersize() == 13}
    assert ringed == {(5.0, 0.5), (1.0, 0.9)}
    assert "kind and hardware" in axis.get_title() + axis.get_title("left")


def test_a_name_does_not_lie_on_the_point_of_another_row():
    rows = {"a": row(), "b": row(latency_ms=6.0), "c": row(latency_ms=7.0), "d": row(latency_ms=50.0)}
    axis = charts_lineage.accuracy_against_latency(rows).axes[0]
    sides = {text.get_text(): (text.get_ha(), text.xy[1] > 0.5) for text in axis.texts}
    assert (sides["a"], sides["d"]) == (("right", False), ("left", False))
    assert sides["b"][1]  # points on both sides of it


def test_ticks_of_latency_keep_apart():
    rows = {str(ms): row(latency_ms=ms) for ms in (12.0, 350.0)}
    figure = charts_lineage.accuracy_against_latency(rows)
    figure.canvas.draw()
    axis = figure.axes[0].xaxis
    low, high = axis.get_view_interval()
    both = (axis.get_ticklabels(minor=minor) for minor in (False, True))
    places = (axis.get_ticklocs(minor=minor) for minor in (False, True))
    named = [pair for kind in zip(both, places) for pair in zip(*kind) if low <= pair[1] <= high]
    assert [label.get_text() for label, _ in named if label.get_text()] == [
        "10",
        "20",
        "50",
        "100",
        "200",
        "500",
    ]


def test_nothing_to_show_is_an_empty_figure():
    for draw in (charts_lineage.family_tree, charts_lineage.accuracy_against_latency):
        assert draw({}).axes


def test_noise_is_shown_against_the_loss_without():
    sweep = pd.DataFrame({"level": [0.0, 0.0, 0.02], "loss": [0.1, 0.3, 0.4]})
    line = charts_lineage.loss_against_noise({"a": sweep}).axes[0].lines[0]
    assert line.get_ydata().tolist() == [1.0, 2.0]
