import numpy as np
import pytest
import torch

from shuttlelib import degradation
from shuttlelib.draws import Draws

H, W, FRAMES = 44, 60, 5
NOWHERE = torch.zeros(1, 2, dtype=torch.int64)


def scene(seed=0, contrast=90):
    """Resting texture float (1, FRAMES, 3, H, W) over which a small bright dot moves 3 px a frame."""
    rng = np.random.default_rng(seed)
    frames = np.tile(rng.integers(90, 130, (1, 1, 1, H, W)), (1, FRAMES, 3, 1, 1)).astype(np.float32)
    for t in range(FRAMES):
        frames[0, t, :, 20:23, 20 + 3 * t : 23 + 3 * t] += contrast
    return torch.from_numpy(frames)


def compressed(frames, step, corner=NOWHERE):
    return degradation.compress(frames, torch.tensor([step], dtype=torch.float32), corner)


def test_a_fine_step_changes_next_to_nothing_and_a_coarse_one_much():
    frames = scene()
    fine, coarse = ((compressed(frames, step) - frames).abs().mean() for step in (0.5, 60.0))
    assert fine < 0.5
    assert coarse > 4


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (7, 7)])
def test_blocks_begin_at_their_corner(corner):
    frames = scene()
    x, y = corner
    coarse = compressed(frames, 1000.0, torch.tensor([corner]))[0, 0, 0]
    for row in range(y, H - 8, 8):
        for column in range(x, W - 8, 8):
            block = coarse[row : row + 8, column : column + 8]
            assert block.max() - block.min() <= 1, "at such a step a block is one level"


def test_what_rests_gets_better_and_faint_motion_is_lost():
    slowly = torch.arange(FRAMES).view(1, FRAMES, 1, 1, 1) * 0.2  # a coder does not send so little
    drifting = scene(contrast=0) + slowly
    coded = compressed(drifting, 40.0)
    assert torch.equal(coded[:, 0], coded[:, 1])
    faint, strong = (compressed(scene(contrast=contrast), 60.0) for contrast in (12, 120))
    shown = [
        float(c[0, 4, 0, 20:23, 32:35].mean() - c[0, 0, 0, 20:23, 32:35].mean()) for c in (faint, strong)
    ]
    assert abs(shown[0]) < 6
    assert shown[1] > 40


def test_defocus_spreads_a_dot_keeps_its_sum_and_leaves_a_sharp_sample():
    frames = torch.zeros(2, FRAMES, 3, H, W)
    frames[..., 22, 30] = 200.0
    blurred = degradation.defocus(frames, torch.tensor([1.5, 0.0]))
    assert torch.equal(blurred[1], frames[1])
    assert blurred[0, 0, 0, 22, 30] < 30
    assert blurred[0, 0, 0].sum() == pytest.approx(200, abs=20)
    assert torch.equal(blurred[0, 0, 0], blurred[0, 0, 0].flip(0, 1).roll((1, 1), (0, 1)))


def test_a_share_of_the_samples_is_degraded_each_in_some_way():
    poor = degradation.draw(Draws(3, np.arange(4000)), 0.4)
    kinds = np.stack([poor.sigma_px > 0, poor.gain != 1, poor.noise > 0, poor.step > 0])
    assert kinds.any(0).mean() == pytest.approx(0.4, abs=0.03)
    assert (kinds.mean(1) > 0.15).all()
    assert ((poor.offset != 0) <= (poor.gain != 1)).all()
    assert (poor.corner.min(), poor.corner.max()) == (0, degradation.BLOCK - 1)
    assert not any(part.any() for part in degradation.draw(Draws(3, np.arange(99)), 0.0)[:1])


def test_pictures_and_tensors_are_changed_alike():
    frames = scene().round()
    step, corner = np.array([30.0]), np.array([[2, 6]])
    images = frames[0].permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()
    one = degradation.on_pictures(images, degradation.compress, step, corner)
    other = degradation.compress(frames, torch.from_numpy(step), torch.from_numpy(corner))
    assert np.array_equal(one, other[0].permute(0, 2, 3, 1).to(torch.uint8).numpy())
