from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shuttlelib import importers, labels
from shuttlelib.labels import ClipInfo, LabelError

HD = (720, 1280)


@pytest.fixture
def write(tmp_path):
    def writer(text, name="00001.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return writer


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("Frame,Visibility,X,Y\n0,1,640,360\n1,0,0,0\n2,1,12.5,-3\n", "tracknet_csv"),
        ("Frame,X,Y,Visibility\n0,640,360,1\n1,0,0,0\n2,12.5,-3,1\n", "racketvision_csv"),
        (
            "Frame,Ball,x,y\n0,1,0.5,0.5\n1,0,-1.000,-1.000\n2,1,0.009765625,-0.004166666666666667\n",
            "normalized_csv",
        ),
        (
            "frame,time_s,visible,x_px,y_px,confidence,source\n0,0.0,1,640,360,0.9,detected\n"
            "1,0.03,0,,,0.8,none\n2,0.07,1,12.5,-3,0.9,held\n",
            "prelabel",
        ),
    ],
)
def test_every_csv_gives_the_same_table(write, text, origin):
    table = importers.read_labels(write(text), HD)
    expected = labels.make_table(
        "00001", [0, 1, 2], [1, 0, 1], [640, np.nan, 12.5], [360, np.nan, -3], origin
    )
    pd.testing.assert_frame_equal(table, expected)


def test_racketvision_leaves_unlabelled_frames_out_and_drops_the_suffix(write):
    table = importers.read_labels(write("Frame,X,Y,Visibility\n22,1060,336,1\n55,0,0,0\n", "007_ball.csv"))
    assert table["frame"].tolist() == [22, 55]
    assert table["clip"].tolist() == ["007", "007"]


def test_duplicates_order_and_points_outside_are_left_to_cleanup(write):
    text = "Frame,Visibility,X,Y\n5,1,9999,-20\n3,1,0,0\n3,1,0,0\n4,1,,\n"
    table = importers.read_labels(write(text))
    assert table["frame"].tolist() == [5, 3, 3, 4]
    assert table["x_px"].tolist()[:3] == [9999, 0, 0]
    assert table["visible"].all()
    assert np.isnan(table["x_px"].iloc[3])


def test_the_top_edge_of_the_picture_is_a_place(write):
    table = importers.read_labels(write("Frame,Ball,x,y\n291,1,0.570,0.000\n"), HD)
    assert table.loc[0, ["visible", "x_px", "y_px"]].tolist() == [True, pytest.approx(729.6), 0.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Frame,Ball,x,y\n0,1,0.5,0.5\n1,1,half,0.5\n", "row 3, column 'x' is 'half': write a number"),
        ("Frame,Ball,x,y\n\n0,7,0.5,0.5\n", "row 3, column 'Ball' is '7': write 0"),
        ("Frame,Ball,x,y\n0,,0.5,0.5\n", "row 2, column 'Ball' is ''"),
        ("Frame,Ball,x,y\n-1,1,0.5,0.5\n", "row 2, column 'Frame' is '-1': write a whole number"),
        ("Frame,Ball,x,y\n1.5,1,0.5,0.5\n", "row 2, column 'Frame' is '1.5'"),
        ("Frame,Ball,x,y\n0,1,0.5,inf\n", "row 2, column 'y' is 'inf': write a number of at most"),
        ("Frame,Ball,x,y\n0,1,0.5\n", "row 2 has 3 values where the header has 4, from column 'y'"),
        ("Frame,Ball,x,y\n0,1,0.5,0.5,9\n", "row 2 has 5 values"),
        ("Frame,Ball,x\n0,1,0.5\n", "row 1, column 'y' is missing"),
        ("Frame,Visibility,X\n0,1,5\n", "row 1, column 'Y' is missing"),
        ("Frame;Ball;x;y\n0;1;0,5;0,5\n", "separated by ';', not by ','; save it with commas"),
        ("Frame\tBall\tx\ty\n0\t1\t0.5\t0.5\n", "separated by tabs, not by ','"),
        ("", "the file is empty"),
        (b"\xff\xfe\x00", "not a text file in UTF-8 .byte 0.; save it as UTF-8"),
        ('Frame,Ball,x,y\n0,1,"0.5,0.5\n', "row 2 has 3 values"),
    ],
)
def test_a_wrong_file_is_named_with_row_and_column(write, text, words):
    path = write(text)
    with pytest.raises(LabelError, match=words) as caught:
        importers.read_labels(path, HD)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_fractions_need_the_size_of_the_frame(write):
    with pytest.raises(LabelError, match="give size_hw"):
        importers.read_labels(write("Frame,Ball,x,y\n0,1,0.5,0.5\n"))


def test_a_missing_file_and_an_unknown_format_are_named(tmp_path, write):
    with pytest.raises(LabelError, match="no such label file"):
        importers.read_labels(tmp_path / "nothing.csv")
    with pytest.raises(LabelError, match="format 'coco' is unknown; choose one of auto, "):
        importers.read_labels(write("Frame,Ball,x,y\n"), HD, fmt="coco")
    with pytest.raises(LabelError, match="row 1, column 'Visibility' is missing"):
        importers.read_labels(write("Frame,Ball,x,y\n"), HD, fmt="tracknet")


def test_headers_may_carry_a_mark_spaces_and_more_columns(write):
    text = "\ufeffFrame, Visibility ,X,Y,Note\r\n0,1, 5 ,6,seen\r\n"
    table = importers.read_labels(write(text), clip="mine")
    assert table.loc[0, ["clip", "frame", "x_px", "y_px"]].tolist() == ["mine", 0, 5, 6]


def test_a_canonical_table_comes_back_as_it_is(tmp_path):
    table = labels.make_table("00001", [0, 1], [True, False], 5.0, 6.0, "synthetic", ["flicker", ""])
    labels.write_table(tmp_path / "00001.parquet", table, ClipInfo(64, 48, 30.0, 2))
    pd.testing.assert_frame_equal(importers.read_labels(tmp_path / "00001.parquet"), table)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.floats(0, 1)), max_size=30))
def test_fractions_come_back_to_the_digits_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    lines = [f"{i},{int(v)},{x if v else -1:.6f},{y if v else -1:.6f}" for i, (v, x, y) in enumerate(rows)]
    path.write_text("\n".join(["Frame,Ball,x,y", *lines]))
    table = importers.read_labels(path, HD)
    assert table["visible"].tolist() == [v for v, _, _ in rows]
    for got, (visible, x, y) in zip(table[["x_px", "y_px"]].to_numpy(), rows):
        expected = (x * 1280, y * 720) if visible else (np.nan, np.nan)
        np.testing.assert_allclose(got, expected, atol=0.001)


@given(
    st.text(max_size=60),
    st.sampled_from(["", "Frame,Ball,x,y\n0,1,", "annotation_id,kp,visibility\n1,", "[{"]),
)
@example('"', "Frame,Ball,x,y\n")
@example("\0", "Frame,Ball,x,y\n0,1,")
def test_any_text_is_read_or_refused_with_a_label_error(tmp_path_factory, text, start):
    path = tmp_path_factory.mktemp("any") / "a.csv"
    path.write_bytes((start + text).encode("utf-8", "surrogatepass"))
    with suppress(LabelError):
        labels.validate(importers.read_labels(path, HD), path)


def test_the_real_rallies_read_as_their_readme_says(rallies_dir):
    tables = [importers.read_labels(path, HD) for path in sorted(rallies_dir.glob("0*.csv"))]
    whole = pd.concat(tables)
    if len(tables) == 33:
        assert (len(whole), whole["visible"].sum()) == (8018, 6852)
    leaving = whole[(whole["clip"] == "00030") & (whole["frame"] == 291)]
    assert leaving[["visible", "y_px"]].to_numpy().tolist() == [[True, 0.0]]
