"""Folders, pictures and measures that the notebooks show."""

import numpy as np
import pandas as pd
import pytest
from fakes import write_models

from shuttlelib import evidence, labels, paths, runtime
from shuttlelib.clips import Clip
from shuttlelib.versions import resolve

SIZE_HW = (360, 640)
NAN = np.nan
POINTS = [(100.0, 80.0), (130.0, 120.0), None, (400.0, 300.0)]


def draw(index):
    picture = np.full((*SIZE_HW, 3), 40, np.uint8)
    if POINTS[index] is not None:
        x, y = map(int, POINTS[index])
        picture[y - 4 : y + 4, x - 4 : x + 4] = 250
    return picture


@pytest.fixture
def clip(tiny_video):
    path = tiny_video("a.mp4", len(POINTS), SIZE_HW, draw=draw)
    xy = np.array([point or (NAN, NAN) for point in POINTS])
    table = labels.make_table("a", range(4), np.isfinite(xy[:, 0]), *xy.T, origin="synthetic")
    return Clip("a", path, table, labels.ClipInfo(640, 360, 60.0, 4), "hall", "val")


def brightest(image):
    """Centre of the bright pixels (x, y)."""
    y, x = np.nonzero(image.mean(-1) > 150)
    return np.array([x.mean(), y.mean()]) + 0.5


def test_views_put_the_mark_on_the_shuttle_whole_and_close_up(clip):
    for crop_px in (0, 120):
        images, points = evidence.views(clip, [3, 0, 2], crop_px)
        assert images[0].shape == ((crop_px, crop_px, 3) if crop_px else (360, 640, 3))
        for image, point in zip(images[:2], points[:2]):
            np.testing.assert_allclose(brightest(image), point, atol=0.7)
        assert np.isnan(points[2]).all()  # not visible: the crop stays at the place before


def test_close_ups_show_label_and_prediction_and_leave_blanks(clip):
    rows = pd.DataFrame({"clip": ["a", None, "a"], "frame": [3, NAN, 2]})
    said = {"x_px": [410.0, NAN, 50.0], "y_px": [300.0, NAN, 60.0]}
    rows = rows.assign(**said, true_x_px=[400.0, NAN, NAN], true_y_px=[300.0, NAN, NAN])
    images, said_xy, true_xy = evidence.close_ups([clip], rows, 96)
    np.testing.assert_allclose(brightest(images[0]), true_xy[0], atol=0.7)
    np.testing.assert_allclose(said_xy[0] - true_xy[0], [20, 0])  # the crop is at the canonical scale
    assert (images[1] == 255).all()
    assert np.isnan(said_xy[1]).all()
    np.testing.assert_allclose(said_xy[2], [48, 48], atol=2)  # a false alarm is shown where it was raised
    assert np.isnan(true_xy[2]).all()


def test_speeds_are_per_thirtieth_of_a_second_at_1280x720(clip):
    assert evidence.speeds([clip]) == pytest.approx([50 * 2 * 2])  # the only two visible neighbours


def test_a_run_folder_prefers_its_own_data_and_its_cleaned_copy(tmp_path):
    data = tmp_path / "data"
    for folder in (data, tmp_path / "01_clean_labels" / "data"):
        folder.mkdir(parents=True)
        (folder / "a.parquet").touch()
    assert evidence.folders(tmp_path, "", "quick", 0, cleaned=False) == (tmp_path, data)
    assert evidence.folders(tmp_path, "", "quick", 0)[1].parent.name == "01_clean_labels"
    (data / "b.parquet").touch()  # the copy is of other clips
    assert evidence.folders(tmp_path, "", "quick", 0)[1] == data


def test_the_runs_weights_come_before_the_shipped_ones(tmp_path):
    assert evidence.trained(tmp_path, 2) == runtime.default_pair()[1]
    assert evidence.run_models(tmp_path, tmp_path / "own") == paths.MODELS
    best = tmp_path / "04_train_stage2" / "best"
    best.mkdir(parents=True)
    (best / "version.json").touch()
    assert evidence.trained(tmp_path, 2) == best
    exported = write_models(tmp_path / "07_deploy_tensorrt" / "models")
    assert evidence.run_models(tmp_path, tmp_path / "own") == exported


def test_every_augmentation_step_stands_alone():
    steps = evidence.augmentation_steps(resolve("stage1_v5"))
    assert "Flip" in steps
    for field, name in (("flip", "Flip"), ("affine", "RandomAffine"), ("colour_share", "SharedColour")):
        assert {key for key, step in steps.items() if getattr(step, field)} == {name}
