import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuttlelib import labels
from shuttlelib.labels import ClipInfo, LabelError

INFO = ClipInfo(1280, 720, 30000 / 1001, 4, "ab" * 32)


def table(**changes):
    columns = {
        "frame": [0, 1, 2],
        "visible": [True, False, True],
        "x_px": [10.5, np.nan, 12.25],
        "y_px": [20.0, np.nan, 0.0],
        "flags": ["", "", "at_border"],
    }
    return labels.make_table("00001", origin="synthetic", **{**columns, **changes})


def test_an_invisible_row_has_no_coordinates():
    made = table(x_px=[1.0, 2.0, 3.0], y_px=[1.0, 2.0, 3.0])
    assert made[["x_px", "y_px"]].isna().all(axis=1).tolist() == [False, True, False]
    assert tuple(made.columns) == labels.COLUMNS


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.booleans(), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
        max_size=20,
    )
)
def test_parquet_gives_back_exactly_what_was_written(tmp_path_factory, rows):
    frame, visible, x, y = zip(*rows) if rows else ([], [], [], [])
    path = tmp_path_factory.mktemp("labels") / "00001.parquet"
    made = labels.make_table("00001", frame, visible, x, y, "synthetic")
    labels.write_table(path, made, INFO)
    back, info = labels.read_table(path)
    pd.testing.assert_frame_equal(back, made)
    assert info == INFO


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("frame", [0, -1, 2], "row 2, column 'frame' is -1"),
        ("frame", [0, 1.5, 2], "row 2, column 'frame' is 1.5"),
        ("frame", ["0", "1", "2"], "'frame' holds"),
        ("visible", [1, 7, 0], "row 2, column 'visible' is 7"),
        ("x_px", [1.0, 2.0, 3.0], "row 2, column 'x_px' is 2.0: an invisible row"),
        ("y_px", [1.0, np.nan, np.inf], "row 3, column 'y_px' is inf"),
        ("clip", [1, 1, 1], "row 1, column 'clip' is 1: write text"),
        ("flags", ["", None, ""], "row 2, column 'flags'"),
    ],
)
def test_a_bad_value_is_named(column, value, words):
    with pytest.raises(LabelError, match=words):
        labels.validate(table().assign(**{column: value}), "labels.parquet")


def test_a_missing_column_is_named():
    with pytest.raises(LabelError, match=r"labels.parquet: column 'origin' is missing"):
        labels.validate(table().drop(columns="origin"), "labels.parquet")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frame": [0, 0, 2]}, "row 2, column 'frame' is 0: repeated"),
        ({"frame": [0, 2, 1]}, "row 3, column 'frame' is 1: .*out of order"),
        ({"frame": [0, 1, 4]}, "the video has 4 frames"),
        ({"x_px": [np.nan, np.nan, 1.0]}, "row 1, column 'x_px' is nan: a visible row"),
    ],
)
def test_training_refuses_labels_that_are_not_clean(changes, words):
    with pytest.raises(LabelError, match=words):
        labels.require_clean(table(**changes), "labels.parquet", 4)


def test_flags_are_added_once_and_found():
    made = table()
    for _ in range(2):
        labels.add_flag(made, made.index[1:], "flicker")
    assert made["flags"].tolist() == ["", "flicker", "at_border;flicker"]
    assert labels.has_flag(made, "at_border", "other").tolist() == [False, False, True]


def test_unusable_rows_stay_out_of_training():
    made = table(flags=["zero_point", "flicker", "at_border;out_of_frame"])
    assert labels.usable(made)["frame"].tolist() == [1]


def test_unreadable_files_are_named(tmp_path):
    path = tmp_path / "00001.parquet"
    with pytest.raises(LabelError, match="no such label file"):
        labels.read_table(path)
    path.write_text("frame,visible")
    with pytest.raises(LabelError, match="not a readable Parquet file"):
        labels.read_table(path)
    table().to_parquet(path)
    with pytest.raises(LabelError, match="no clip information"):
        labels.read_table(path)


def test_a_table_that_is_not_canonical_is_not_written(tmp_path):
    with pytest.raises(LabelError):
        labels.write_table(tmp_path / "a.parquet", table().drop(columns="clip"), INFO)
    assert list(tmp_path.iterdir()) == []
