import numpy as np
import pytest
import torch

from shuttlelib import geometry
from shuttlelib.cut import Cut
from shuttlelib.frames import Frame
from shuttlelib.geometry import Window


def scene(size_hw, count=3):
    """Frames with a bright spot that moves, of colours that RGB can hold."""
    rng = np.random.default_rng(0)
    frames = []
    for index in range(count):
        height, width = size_hw
        rows, columns = np.mgrid[:height, :width]
        light = 100 + 25 * np.sin(rows / 17) + 25 * np.cos(columns / 23) + rng.normal(0, 3, size_hw)
        spot = 80 * np.exp(-((columns - 70 - 9 * index) ** 2 + (rows - 60) ** 2) / 30)
        planes = np.empty((height * 3 // 2, width), np.uint8)
        planes[:height] = np.clip(light + spot, 16, 235)
        tint = 128 + 20 * np.sin(columns[: height // 2, : width // 2] / 19)
        planes[height:] = np.stack([tint, 270 - tint]).reshape(-1, width)
        frames.append(Frame(index, index / 30, planes))
    return frames


def cut(frames, windows, whole=False):
    """(B, T, h, w, 3) of all frames, through torch."""
    planes = torch.from_numpy(np.stack([frame.planes for frame in frames]))
    slots = torch.arange(len(frames)).expand(len(windows), -1)
    places = torch.tensor([[w.x0, w.y0, w.w, w.h] for w in windows], dtype=torch.float32)
    return Cut(windows, whole)(planes, slots, places).numpy()


def on_host(frames, windows):
    return np.stack([[frame.window(window) for frame in frames] for window in windows])


@pytest.mark.parametrize("size_hw", [(360, 640), (720, 1280), (1080, 1920)])
def test_pixels_are_the_hosts_within_rounding(size_hw):
    frames = scene(size_hw)
    whole = [geometry.full_window(size_hw, (144, 256))]
    assert np.abs(cut(frames, whole, True) - on_host(frames, whole)).max() <= 2
    crops = [geometry.crop_window(np.array(xy), size_hw, 96) for xy in ((90, 84), (300, 200))]
    gap = np.abs(cut(frames, crops) - on_host(frames, crops))
    assert gap[:, :, 2:-2, 2:-2].max() <= 3  # upscaling mixes the host's outermost pixels with black


def test_scale_1_copies_and_outside_is_black():
    frames = scene((720, 1280), 2)
    crops = [geometry.crop_window(np.array(xy), (720, 1280), 96) for xy in ((300, 200), (10, 715))]
    assert np.abs(cut(frames, crops) - on_host(frames, crops)).max() <= 1
    assert not cut(frames, [Window(-96, 0, 96, 96, 96, 96)]).any()


def test_an_odd_scale_and_a_letterbox_are_close():
    frames = scene((700, 1002), 2)
    for windows, whole in (
        ([geometry.full_window((700, 1002), (144, 256))], True),
        ([geometry.crop_window(np.array((400, 300)), (700, 1002), 96)], False),
    ):
        assert np.abs(cut(frames, windows, whole) - on_host(frames, windows)).mean() < 2.5


def test_each_input_sees_its_own_frames():
    frames = scene((90, 160), 4)
    window = Window(40, 30, 64, 48, 48, 64)
    planes = torch.from_numpy(np.stack([frame.planes for frame in frames]))
    slots = torch.tensor([[0, 1], [3, 3]])
    places = torch.tensor([[40.0, 30, 64, 48]] * 2)
    ours = Cut([window], False)(planes, slots, places)
    theirs = on_host(frames, [window])[0][slots.numpy()]
    assert np.abs(ours.numpy() - theirs).max() <= 1
