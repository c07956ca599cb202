"""Folders, pictures and measures that the notebooks show."""

import json
from dataclasses import replace
from shutil import copyfile, copytree

import numpy as np
import pandas as pd
import pytest
import torch

from shuttlelib import cleanup, clips, evidence, labels, paths, recipes, runtime, train
from shuttlelib.clips import Clip
from shuttlelib.errors import ShuttleError
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


def test_nothing_wrong_and_nothing_there_are_no_error(clip):
    rows = pd.DataFrame(columns=["clip", "frame", "x_px", "y_px", "true_x_px", "true_y_px"])
    assert evidence.close_ups([clip], rows, 32) == ([], [], [])
    assert evidence.speeds([]).shape == (0,)


def test_speeds_are_per_thirtieth_of_a_second_at_1280x720(clip):
    assert evidence.speeds([clip]) == pytest.approx([50 * 2 * 2])  # the only two visible neighbours


def test_a_run_folder_prefers_its_own_data_and_its_cleaned_copy(clip, tmp_path):
    data = tmp_path / "data"
    clips.store(clip, data)

    def cleaned():
        return evidence.folders(tmp_path, "", "quick", 0)[1]

    assert evidence.folders(tmp_path, "", "quick", 0, cleaned=False) == (tmp_path, data)
    assert cleaned() == data  # 01 has not run
    copy = evidence.cleaned_copy(tmp_path, clips.load_dataset(data, raw=True))
    cleanup.clean_dataset(data, copy)
    assert cleaned() == copy
    assert evidence.folders(tmp_path, copy, "quick", 0) == (tmp_path, copy)


def test_a_folder_without_clips_is_named_and_nothing_is_rendered_there(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "REPO", tmp_path)
    with pytest.raises(ShuttleError, match=r"data/mine: no clips \(\*.parquet\) there; make some with"):
        evidence.folders("runs/a", "data/mine", "quick", 0)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("given", [True, False])
def test_rallies_are_rendered_where_the_environment_says(tmp_path, monkeypatch, given):
    monkeypatch.setattr(paths, "DATA", tmp_path / "store")
    rendered = []
    monkeypatch.setattr(evidence, "ensure_data", lambda *asked: rendered.append(asked) or tmp_path / "made")
    folder = tmp_path / "store" / "quick"
    found = evidence.folders(tmp_path / "run", folder if given else "", "quick", 0, cleaned=False)
    assert found == (tmp_path / "run", tmp_path / "made")
    assert rendered == [(folder if given else "", "quick", 0)]


def test_relative_folders_are_the_repositorys_wherever_the_kernel_runs(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "REPO", tmp_path)
    clips.store(clip, tmp_path / "data" / "mine")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    found = evidence.folders("runs/a", "data/mine", "quick", 0)
    assert found == (tmp_path / "runs" / "a", tmp_path / "data" / "mine")


@pytest.mark.parametrize(
    "change",
    [
        lambda clip: replace(clip, split="train"),
        lambda clip: replace(clip, name="b"),
        lambda clip: replace(clip, table=clip.table[1:]),
    ],
    ids=["split", "clip", "label"],
)
def test_a_cleaned_copy_of_other_labels_is_not_taken(clip, tmp_path, change):
    data = tmp_path / "data"
    clips.store(clip, data)
    cleanup.clean_dataset(data, evidence.cleaned_copy(tmp_path, clips.load_dataset(data, raw=True)))
    clips.store(change(clip), data)
    with pytest.raises(ShuttleError, match="run 01_clean_labels again"):
        evidence.folders(tmp_path, "", "quick", 0)


def test_a_cleaned_copy_is_taken_whatever_macos_puts_beside_the_labels(clip, tmp_path):
    clips.store(clip, tmp_path / "data")
    copy = evidence.cleaned_copy(tmp_path, clips.load_dataset(tmp_path / "data", raw=True))
    cleanup.clean_dataset(tmp_path / "data", copy)
    (tmp_path / "data" / "._a.parquet").write_bytes(b"")
    assert evidence.folders(tmp_path, "", "quick", 0) == (tmp_path, copy)


def make_model(folder, name, weights):
    """A model folder that says no more than its name."""
    folder.mkdir(parents=True)
    (folder / "version.json").write_text(json.dumps({"name": name, "stage": 2}))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_the_runs_weights_come_before_the_shipped_ones(tmp_path, monkeypatch):
    assert evidence.trained(tmp_path, 2) == runtime.default_pair()[1]
    own = tmp_path / "own"
    assert evidence.run_models(tmp_path, own) == paths.MODELS
    best = make_model(tmp_path / "04_train_stage2" / "best", "stage2_v9", b"now")
    assert evidence.trained(tmp_path, 2) == best
    monkeypatch.setattr(evidence, "make_pair", lambda stage1, stage2, models: (stage1, stage2, models))
    made = (evidence.trained(tmp_path, 1), best, own)
    assert evidence.run_models(tmp_path, own) == made
    exported = tmp_path / "07_deploy_tensorrt" / "models"
    copytree(made[0], exported / made[0].name)
    make_model(exported / "stage2_v9", "stage2_v9", b"now")
    names = {"stage1": made[0].name, "stage2": "stage2_v9"}
    (exported / "default.json").write_text(json.dumps(names))
    assert evidence.run_models(tmp_path, own) == exported
    (best / "model.safetensors").write_bytes(b"trained on since the export")
    assert evidence.run_models(tmp_path, own) == made


def test_a_pair_has_nothing_of_the_weights_that_lay_there_before(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes.export, "export_onnx", lambda folder: (folder / "model.onnx").touch())
    first, second = runtime.default_pair()
    models = tmp_path / "models"
    for name in (second.name, "other"):
        (models / name).mkdir(parents=True)
        (models / name / "model.fp16.onnx").touch()
    best = tmp_path / "best"
    best.mkdir()
    for name in ("version.json", "model.safetensors"):
        copyfile(second / name, best / name)
    recipes.make_pair(first, best, models)
    made = {path.name for path in (models / second.name).iterdir()}
    assert made == {"version.json", "model.safetensors", "model.onnx"}
    assert (models / "other" / "model.fp16.onnx").is_file()
    assert recipes.make_pair(*runtime.default_pair(models), models) == models  # as they are
    assert made == {path.name for path in (models / second.name).iterdir()}


def test_motion_counts_only_what_stays_well_inside():
    def item(*track, size=(20, 40)):
        history = torch.tensor([[0.5, 0.5, 1.0], *((x, y, float(x > 0)) for x, y in track[:3])])
        xy = torch.tensor(track[3]) * torch.tensor(size[::-1])
        return {"frames": torch.zeros(2, 3, *size), "history": history, "xy": xy}

    inside = [(0.2, 0.3), (0.3, 0.3), (0.4, 0.3), (0.5, 0.7)]
    assert evidence.motion(item(*inside)) == pytest.approx(0.5)
    for gone in ((0.0, 0.0), (0.05, 0.3), (0.3, 0.95)):  # 0, 0: not visible
        assert evidence.motion(item(inside[0], gone, *inside[2:])) == 0
    for now in ((NAN, NAN), (0.95, 0.5)):
        assert evidence.motion(item(*inside[:3], now)) == 0


def test_every_augmentation_step_stands_alone():
    steps = train.augmentation(resolve("stage1_v5")).steps()
    assert "flip" in steps
    for field, name in (("flip", "flip"), ("affine", "affine"), ("colour_share", "colour")):
        assert {key for key, step in steps.items() if getattr(step, field)} == {name}
