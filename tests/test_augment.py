from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuttlelib import augment
from shuttlelib.augment import Augmentation

H, W = 64, 96
FULL = Augmentation(0.04, scale=(0.7, 1.4), roll_deg=8.0, perspective=0.1)
ALONE = FULL.steps()


def blob(x, y, frames=4):
    """Black frames with a bright Gaussian at (x, y), continuous coordinates."""
    ys, xs = np.mgrid[:H, :W] + 0.5
    image = 250 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 2.0**2))
    return torch.from_numpy(np.tile(image.astype(np.uint8), (frames, 3, 1, 1)))


def centroid(frame):
    weight = frame.double().mean(0)
    ys, xs = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    return torch.stack([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()


@pytest.mark.parametrize(
    "step",
    [
        ALONE["flip"],
        replace(ALONE["affine"], roll_deg=0.0, perspective=0.0),
        replace(ALONE["affine"], scale=(1.0, 1.0), perspective=0.0),
        replace(ALONE["affine"], scale=(1.0, 1.0), roll_deg=0.0),
    ],
    ids=["flip", "zoom", "roll", "perspective"],
)
@settings(max_examples=20, deadline=None)
@given(x=st.floats(30, 66), y=st.floats(24, 40), seed=st.integers(0, 1000))
def test_points_move_with_the_pixels(step, x, y, seed):
    torch.manual_seed(seed)
    frames, points = step(blob(x, y), torch.tensor([[x, y]]))
    assert torch.dist(points[0], centroid(frames[3])) < 0.15


def test_flip_twice_is_the_identity():
    flip = ALONE["flip"]
    frames, points = blob(20.25, 30.5), torch.tensor([[20.25, 30.5], [torch.nan, torch.nan]])
    again = flip(*flip(frames, points))
    assert torch.equal(again[0], frames)
    assert torch.allclose(again[1], points, equal_nan=True)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_invisible_stays_invisible_and_nothing_else_does(seed):
    torch.manual_seed(seed)
    points = torch.tensor([[torch.nan, torch.nan], [10.0, 20.0], [torch.nan, torch.nan]])
    _, moved = FULL(blob(10, 20), points)
    assert torch.isnan(moved).all(1).tolist() == [True, False, True]


def test_colour_is_shared_by_the_four_frames_and_changes_with_the_draw():
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (1, 3, H, W), dtype=torch.uint8).expand(4, -1, -1, -1)
    first, second = (ALONE["colour"](frames, torch.zeros(1, 2))[0] for _ in range(2))
    assert all(torch.equal(first[0], frame) for frame in first[1:])
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], frames[0])


def test_a_turned_hue_leaves_grey_grey_and_colours_change():
    torch.manual_seed(1)
    turning = replace(ALONE["colour"], colour=0.0, hue=1.0)
    grey = torch.full((4, 3, H, W), 200, dtype=torch.uint8)
    red = grey.clone()
    red[:, 1:] = 40
    changed = torch.stack([turning(red, torch.zeros(1, 2))[0][0, :, 0, 0] for _ in range(30)]).double()
    assert (turning(grey, torch.zeros(1, 2))[0].int() - 200).abs().max() <= 1
    assert changed.std(0).min() > 20
    assert (changed.mean(1) - 280 / 3).abs().max() < 25  # as bright as before, but for clipping


def noise_levels(kind, seed=0):
    torch.manual_seed(seed)
    grey = torch.full((4, 3, H, W), 128, dtype=torch.uint8)
    noisy, _ = replace(ALONE["noise"], noise=kind)(grey, torch.zeros(1, 2))
    return noisy, (noisy.double() - 128).std(dim=(1, 2, 3)) / 255


def test_uniform_noise_draws_a_level_for_every_frame_and_no_frame_inherits_it():
    levels = torch.stack([noise_levels("uniform", seed)[1] for seed in range(200)])
    assert 0 <= levels.min() < 0.005
    assert 0.035 < levels.max() < 0.045
    assert (levels.mean(0) - 0.02).abs().max() < 0.003  # the same for every place: none shrinks
    assert (torch.corrcoef(levels.T) - torch.eye(4)).abs().max() < 0.25


def test_constant_noise_has_one_level_and_differs_between_frames():
    noisy, levels = noise_levels("constant")
    assert (levels - 0.04).abs().max() < 0.002
    assert not torch.equal(noisy[0], noisy[1])


def test_past_jitter_leaves_the_head_alone():
    torch.manual_seed(0)
    points = torch.full((31, 2), 40.0)
    frames, moved = replace(ALONE["jitter"], jitter_norm=0.01)(blob(40, 40), points)
    assert torch.equal(frames, blob(40, 40))
    assert torch.equal(moved[0], points[0])
    assert 0.5 < (moved[1:] - points[1:]).std() / (0.01 * W) < 1.5


def test_past_points_that_are_targets_stay_where_they_are():
    frames, xy = blob(40, 30), torch.rand(31, 2) * 60
    assert torch.allclose(Augmentation(flip=0.0, jitter_norm=0.0)(frames, xy)[1], xy)
    assert "jitter" not in Augmentation(jitter_norm=0.0).steps()


def test_the_same_draw_repeats():
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(FULL(blob(40, 30), torch.tensor([[40.0, 30.0]])))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_draws_depend_on_seed_stream_and_number_and_on_nothing_else():
    def row(seed, number, stream=0, among=()):
        draws = augment.Draws(seed, np.array([number, *among]), stream)
        draws.uniform(size=(3,))
        return draws.normal((2,))[0].tolist()

    assert row(1, 5) == row(1, 5, among=(9, 4))
    assert len({tuple(row(s, n, k)) for s in range(5) for n in range(50) for k in (0, 1)}) == 500


def test_draws_are_as_random_as_they_claim():
    draws = augment.Draws(3, np.arange(20_000))
    u, z = draws.uniform(-1, 3, (2,)), draws.normal((2,))
    assert np.abs(np.histogram(u, 40, (-1, 3))[0] / 1000 - 1).max() < 0.15
    assert np.abs(np.corrcoef(np.column_stack([u[:-1], u[1:], z[:-1]]).T) - np.eye(6)).max() < 0.03
    assert np.abs([z.mean(), z.std() - 1, (z**4).mean() / 3 - 1]).max() < 0.05
    assert set(np.unique(draws.below(7))) == set(range(7))
