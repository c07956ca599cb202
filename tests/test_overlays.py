from dataclasses import replace

import numpy as np
import pytest
import torch
from dots import moving_dot

from shuttlelib import augment, versions
from shuttlelib.samples import Samples

SIZE = (144, 256)
SPECS = {
    1: versions.resolve("stage1_v5", input_hw=SIZE),
    2: versions.resolve("stage2_v8", input_hw=(96, 96)),
    3: versions.resolve("stage2_v8", input_hw=(96, 96), frames=5, ahead=2),
}
QUIET = augment.Augmentation(0.0, colour_share=0.0, jitter_norm=0.0)
OPTIONS = {
    "roll": (1, {"roll_deg": 8.0, "affine": 1.0}),
    "perspective": (1, {"perspective": 0.1, "affine": 1.0}),
    "mix": (1, {"mix": 1.0}),
    "paste 1": (1, {"paste": 1.0}),
    "paste 2": (2, {"paste": 1.0}),
    "still 3": (3, {"still": 1.0}),
    "paste 3": (3, {"paste": 1.0}),
}


@pytest.fixture(scope="module")
def shown():
    wholes = [moving_dot(SIZE, SIZE, seed=n, name=f"clip{n}") for n in (0, 1)]
    crops = [moving_dot(SIZE, None, seed=n, name=f"clip{n}") for n in (0, 1)]
    return {1: Samples(wholes, SPECS[1]), **{n: Samples(crops, SPECS[n]) for n in (2, 3)}}


def under(image, xy):
    """Brightness (0..255) of an image (3, H, W) at a point, the best of its 3x3 surroundings."""
    x, y = int(xy[0]), int(xy[1])
    around = image.float().mean(0)[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
    return float(around.max())


@pytest.mark.parametrize("name", OPTIONS)
def test_the_dot_lies_under_its_label_and_is_nowhere_else(shown, name):
    stage, options = OPTIONS[name]
    samples = shown[stage]
    samples.augmentation = replace(QUIET, **options)
    bright = 135 if name == "mix" else 160
    size, past_frames = np.array(SPECS[stage].input_hw[::-1]), SPECS[stage].current
    placed = hidden = 0
    for draw in range(60):
        item = samples[((draw * 11) % len(samples), draw)]
        past = [
            np.where(row[2] > 0, row[:2] * size, np.nan) for row in item["history"][-past_frames:].numpy()
        ]
        for image, xy in zip(item["frames"], [*past, item["xy"].numpy()]):
            if np.isfinite(xy).all() and (xy > 2).all() and (xy < size - 2).all():
                placed += 1
                assert under(image, xy) > bright, f"draw {draw}: {xy}"
        if not torch.isfinite(item["xy"]).all() and name != "mix":
            hidden += 1
            assert item["frames"][past_frames, :, 3:-3, 3:-3].float().mean(0).max() < 160, f"draw {draw}"
    samples.augmentation = None
    assert placed > 30
    assert hidden > 3 or name == "mix"


@pytest.mark.parametrize("name", OPTIONS)
def test_options_repeat_with_the_draw_and_are_off_by_default(shown, name):
    stage, options = OPTIONS[name]
    samples = shown[stage]
    plain, several = [], []
    for augmentation, found in ((QUIET, plain), (replace(QUIET, **options), several)):
        samples.augmentation = augmentation
        for _ in range(2):
            found.append(samples[(17, 5)]["frames"])
    samples.augmentation = None
    assert torch.equal(several[0], several[1])
    assert torch.equal(plain[0], plain[1])
    assert QUIET.mix == QUIET.still == QUIET.paste == QUIET.roll_deg == 0


def test_pasted_shuttles_widen_the_positions_and_leave_true_negatives(shown):
    samples = shown[1]
    samples.augmentation = replace(QUIET, flip=0.0, paste=1.0)
    plan = samples.plan([(15, draw) for draw in range(200)])
    samples.augmentation = None
    gone = np.isnan(plan.xy).any(1)
    assert 0.15 < gone.mean() < 0.75
    assert (np.ptp(plan.xy[~gone], 0) > (150, 80)).all()  # of one labelled position
    known = plan.history[gone, -3:, 2]
    assert not known.any()  # the pictures before do not show it either
    assert plan.history[gone, :-3, 2].any()


def test_where_time_stands_all_pictures_are_the_current_one(shown):
    samples = shown[3]
    samples.augmentation = replace(QUIET, flip=0.0, still=1.0)
    item = samples[(20, 3)]
    samples.augmentation = None
    assert all(torch.equal(picture, item["frames"][2]) for picture in item["frames"])
    assert torch.allclose(item["history"][-1, :2] * 96, item["xy"])  # it rested there before, too
