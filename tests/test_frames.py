import numpy as np
import pytest

from shuttlelib import geometry
from shuttlelib.frames import Frame, windows_of
from shuttlelib.geometry import Window
from shuttlelib.video import read_frames


def planes_of(rng, height, width):
    return rng.integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)


@pytest.fixture
def frame():
    return Frame(0, 0.0, planes_of(np.random.default_rng(0), 120, 200))


def test_a_crop_at_scale_1_copies_the_pixels_of_rgb(frame):
    assert frame.size_hw == (120, 200)
    assert frame.rgb.shape == (120, 200, 3)
    for x0, y0 in ((0, 0), (40, 22), (168, 88), (7, 5)):
        window = Window(x0, y0, 32, 32, 32, 32)
        assert np.array_equal(frame.window(window), frame.rgb[y0 : y0 + 32, x0 : x0 + 32])


def test_outside_the_frame_is_black(frame):
    pixels = frame.window(Window(-10, 100, 40, 40, 40, 40))
    assert np.array_equal(pixels[:20, 10:], frame.rgb[100:, :30])
    assert not pixels[:, :10].any()
    assert not pixels[20:].any()
    assert not frame.window(Window(500, 500, 32, 32, 16, 16)).any()


def test_stored_planes_give_the_pixels_of_the_decoded_frame(tiny_video):
    rng = np.random.default_rng(1)
    path = tiny_video(size_hw=(90, 162), draw=lambda _: rng.integers(0, 256, (90, 162, 3), dtype=np.uint8))
    decoded = next(iter(read_frames(path)))
    stored = Frame(0, 0.0, decoded.planes.copy())
    stored.planes.flags.writeable = False  # as a memory-mapped cache gives them
    for window in (
        geometry.full_window((90, 162), (36, 64)),
        geometry.full_window((90, 162), (30, 30)),
        geometry.full_window((90, 162), (180, 324)),
        Window(10, 20, 40, 40, 40, 40),
        Window(11.3, 19.7, 31.1, 31.1, 48, 48),
        Window(100.5, 60.5, 80.4, 80.4, 24, 24),
    ):
        assert np.array_equal(decoded.window(window), stored.window(window)), window


@pytest.mark.parametrize("size_hw", [(720, 1280), (1080, 1920), (700, 1002), (480, 854), (1280, 720)])
def test_a_point_lies_where_geometry_says(size_hw):
    xy_px = np.array([size_hw[1] * 0.61 + 0.3, size_hw[0] * 0.37 + 0.4])
    ys, xs = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    sigma = size_hw[0] / 60
    spot = 255 * np.exp(-((xs - xy_px[0]) ** 2 + (ys - xy_px[1]) ** 2) / (2 * sigma**2))
    planes = np.full((size_hw[0] * 3 // 2, size_hw[1]), 128, np.uint8)
    planes[: size_hw[0]] = np.round(16 + 219 / 255 * spot)
    frame = Frame(0, 0.0, planes)
    for window in (
        geometry.full_window(size_hw, (288, 512)),
        geometry.full_window(size_hw, (300, 300)),
        geometry.crop_window(xy_px + np.array([9, -5]), size_hw, 160),
        geometry.crop_window(xy_px, size_hw, 160, zoom=1.3),
        geometry.crop_window(xy_px, size_hw, 160, zoom=0.8),
    ):
        weight = frame.window(window)[..., 1].astype(np.float64)
        weight[weight < 20] = 0
        rows, columns = np.mgrid[: window.out_h, : window.out_w] + 0.5
        center = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        assert center == pytest.approx(geometry.frame_to_window(xy_px, window), abs=0.06)


@pytest.mark.parametrize("size_hw", [(720, 1280), (1080, 1920), (700, 1002), (288, 512)])
def test_frames_cut_together_are_those_cut_alone(size_hw):
    rng = np.random.default_rng(2)
    frames = [Frame(n, 0.0, planes_of(rng, *size_hw)) for n in range(4)]
    places = rng.uniform(-0.05, 1.05, (8, 2)) * size_hw[::-1]
    crops = [geometry.crop_window(place, size_hw, 160, zoom) for place in places for zoom in (1.0, 1.3, 0.8)]
    for window in (geometry.full_window(size_hw, (288, 512)), *crops):
        alone = [frame.window(window) for frame in frames]
        assert np.array_equal(windows_of(frames, window), alone), window
        out = np.full((4, window.out_h, window.out_w, 3), 77, np.uint8)
        assert windows_of(frames, window, out) is out
        assert np.array_equal(out, alone), window


def test_a_shrunk_frame_averages_areas(frame):
    planes = np.full((180, 200), 128, np.uint8)
    planes[:120] = np.tile(np.array([[16, 235], [235, 16]], np.uint8), (60, 100))
    checkers = Frame(0, 0.0, planes).window(geometry.full_window((120, 200), (60, 100)))
    assert np.abs(checkers.astype(int) - 128).max() <= 3


def test_whole_frame_windows_are_kept(frame):
    window = geometry.full_window((120, 200), (36, 64))
    assert frame.window(window) is frame.window(window)
