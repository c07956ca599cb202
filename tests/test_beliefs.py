"""A network that takes the brightest pixel for the shuttle must be judged right where it is."""

import numpy as np
import pytest
import torch

from shuttlelib import beliefs, labels, recipes
from shuttlelib.blocks import cell_probabilities
from shuttlelib.clips import Clip
from shuttlelib.prediction import Prediction
from shuttlelib.versions import resolve

SIZE_HW = (720, 1280)
DARK = 4  # the frame without a shuttle


class Bright(torch.nn.Module):
    """A stand-in for a deployed network over inputs of its spec."""

    def __init__(self, version, input_hw):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.spec, self.net = resolve(version, input_hw=input_hw), self
        self.histories = []

    def forward(self, frames, history):
        self.histories.append(history)
        grey = frames[:, -1].float().mean(1)
        return Prediction(grey, grey[:, None].repeat(1, 2, 1, 1), (grey.amax((1, 2)) - 150) / 10)

    def probabilities(self, prediction):
        return cell_probabilities(prediction.heatmap)

    def decode(self, prediction, k):
        flat = prediction.heatmap.flatten(1).argmax(1)
        width = prediction.heatmap.shape[2]
        return torch.stack([flat % width, flat // width], -1)[:, None] + 0.5, None


def place(index):
    return 300 + 20 * index, 200 + 10 * index


def draw(index):
    picture = np.full((*SIZE_HW, 3), 40, np.uint8)
    x, y = place(index)
    if index != DARK:
        picture[y - 3 : y + 3, x - 3 : x + 3] = 120
        picture[y - 1 : y + 1, x - 1 : x + 1] = 250
    return picture


@pytest.fixture
def clip(tiny_video):
    path = tiny_video("a.mp4", 8, SIZE_HW, draw=draw)
    xy = np.array([place(n) if n != DARK else (np.nan, np.nan) for n in range(8)], float)
    table = labels.make_table("a", range(8), np.isfinite(xy[:, 0]), *xy.T, origin="synthetic")
    return Clip("a", path, table, labels.ClipInfo(1280, 720, 30.0, 8), "hall", "val")


@pytest.mark.parametrize(("version", "input_hw"), [("stage1_v5", SIZE_HW), ("stage2_v8", (160, 160))])
def test_samples_are_judged_in_the_frame(clip, tmp_path, version, input_hw):
    model = Bright(version, input_hw)
    samples = recipes.samples_of(model.spec, [clip], tmp_path)
    rows = beliefs.judge_samples(model, samples, at_most=99, batch=3)
    assert rows["frame"].tolist() == list(range(8))
    assert rows["right"].all()
    assert rows.loc[DARK, "outcome"] == "TN"
    assert rows["error_px"].max() < 3
    seen = rows[rows["outcome"] == "TP"]
    assert len(seen) >= 3
    np.testing.assert_allclose(seen["true_x_px"], [place(n)[0] for n in seen["frame"]])
    assert rows["confidence"].between(0.5, 1).all()
    assert len(beliefs.judge_samples(model, samples, at_most=3)) == 3


def test_following_looks_where_the_track_was_and_remembers_what_it_said(clip, tmp_path):
    said = clip.table.assign(x_px=clip.table["x_px"] + 6)  # a track that is off by 6 px
    model = Bright("stage2_v8", (160, 160))
    seen = beliefs.follow(model, clip, said, [2, 3, DARK], tmp_path)
    assert seen.images.shape == (3, 160, 160, 3)
    np.testing.assert_allclose(seen.truth[:2], [[94, 90]] * 2, atol=1.1)  # a step of (20, 10) less 6
    np.testing.assert_allclose(seen.said[:2], seen.truth[:2], atol=1.5)
    assert np.isnan(seen.truth[2]).all()
    assert np.isnan(seen.said[2]).all()
    newest = model.histories[0][:2, -1].numpy()
    np.testing.assert_allclose(newest, [[0.5, 0.5, 1]] * 2, atol=0.01)  # where the crop is centred
    whole = beliefs.follow(Bright("stage1_v5", SIZE_HW), clip, said, [3], tmp_path)
    np.testing.assert_allclose(whole.truth, [place(3)])
