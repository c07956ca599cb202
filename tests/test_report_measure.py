"""Looking closely at a pair: what is kept, which frames are shown, and that real footage is not."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from fakes import write_models

from shuttlelib import labels
from shuttlelib.clips import Clip
from shuttlelib.report import measure

SIZE_HW = (360, 640)


@pytest.fixture
def clip(tiny_video):
    """A white square that crosses a grey ground; its labels are rendered ones, some frames without it."""
    xy = np.stack([40 + 9.0 * np.arange(50), np.full(50, 180.0)], 1)

    def draw(index):
        picture = np.full((*SIZE_HW, 3), 60, np.uint8)
        x, y = xy[index].astype(int)
        picture[y - 3 : y + 3, x - 3 : x + 3] = 250
        return picture

    path = tiny_video("a.mp4", 50, SIZE_HW, draw=draw)
    seen = np.arange(50) % 10 != 9
    table = labels.make_table(
        "a", range(50), seen, *np.where(seen[:, None], xy, np.nan).T, origin="synthetic"
    )
    return Clip("a", path, table, labels.ClipInfo(640, 360, 30.0, 50), "hall", "val")


def test_a_set_is_looked_at_closely_and_twice_the_same(clip, tmp_path):
    models = write_models(tmp_path / "models")
    found, pictures = measure.evaluate(models, {"rendered <b>": [clip]})
    part = found["sets"]["rendered <b>"]
    assert set(found["pair"]) == {"bright1", "bright2"}
    assert part["summary"]["frames"] == 50
    assert "speed_fps" not in part["summary"]
    assert sum(row["frames"] for row in part["speed"]) <= 45
    assert {row["cause"] for row in part["causes"]} >= {"static", "none of these"}
    assert {entry["file"] for entry in part["gallery"]} == set(pictures)
    assert all(name.startswith("rendered-b-") for name in pictures)
    assert measure.evaluate(models, {"rendered <b>": [clip]}) == (found, pictures)


def test_sets_named_in_other_letters_keep_their_pictures_apart(clip, tmp_path):
    found, pictures = measure.evaluate(write_models(tmp_path / "models"), {"练习": [clip], "比赛": [clip]})
    galleries = [part["gallery"] for part in found["sets"].values()]
    assert len(pictures) == sum(map(len, galleries)) > 0


def test_real_footage_is_shown_only_in_private(clip, tmp_path):
    real = replace(clip, table=clip.table.assign(origin="tracknet_csv"))
    models = write_models(tmp_path / "models")
    found, pictures = measure.evaluate(models, {"mine": [real]})
    assert (found["sets"]["mine"]["gallery"], pictures) == ([], {})
    onto = replace(clip, table=clip.table.assign(origin="onto"))  # a rendered shuttle before real people
    assert onto.rendered
    assert measure.evaluate(models, {"mine": [onto]})[1] == {}
    found, pictures = measure.evaluate(models, {"mine": [real]}, private=True)
    assert len(found["sets"]["mine"]["gallery"]) == len(pictures) > 0


def rows(**columns):
    table = pd.DataFrame(columns)
    return table.assign(clip="a", frame=range(len(table)), right=table["outcome"].isin(["TP", "TN"]))


def test_the_worst_are_wrong_and_sure_and_half_a_second_apart():
    table = rows(
        outcome=["TP", "FP1", "FP1", "FN", "FP2"],
        error_px=[1, 90, 95, np.nan, np.nan],
        confidence=[0.99, 0.9, 0.8, 0.5, 0.95],
        stretch=["s0", "s1", "s1", "s2", "s3"],
    )
    assert measure.worst(table)["frame"].tolist() == [4, 1, 3]


def test_the_typical_are_hits_near_the_median():
    table = rows(
        outcome=["TP"] * 5 + ["FN"], error_px=[1, 2, 3, 4, 9, np.nan], confidence=0.9, stretch=list("abcdef")
    )
    assert measure.typical(table)["frame"].tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize("points", [[[5, 5], [635, 355]], [[630, 350], [np.nan] * 2], [[np.nan] * 2] * 2])
def test_a_picture_holds_its_points_and_stays_in_the_frame(points):
    points = np.array(points, float)
    window = measure.around(points, SIZE_HW)
    assert window.w / window.h == pytest.approx(16 / 9)
    assert window.x0 >= 0 <= window.y0
    assert window.x0 + window.w <= SIZE_HW[1] + 1e-6
    assert window.y0 + window.h <= SIZE_HW[0] + 1e-6
    there = points[np.isfinite(points).all(1)]
    assert (there >= (window.x0, window.y0)).all()
    assert (there <= (window.x0 + window.w, window.y0 + window.h)).all()


def test_marks_are_drawn_where_the_points_are(clip):
    said, label = np.array([100.0, 180.0]), np.array([310.0, 180.0])
    shown = cv2.imdecode(np.frombuffer(measure.picture(clip, 30, np.stack([said, label])), np.uint8), 1)
    assert shown.shape == (*measure.PICTURE_HW, 3)
    window = measure.around(np.stack([said, label]), SIZE_HW)
    x = (said[0] - window.x0) * measure.PICTURE_HW[1] / window.w + 14  # its radius
    y = (said[1] - window.y0) * measure.PICTURE_HW[0] / window.h
    blue, _, red = shown[int(y), int(x)].astype(int)
    assert red > blue + 80  # orange
