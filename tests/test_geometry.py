import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shuttlelib import geometry

sizes = st.tuples(st.integers(16, 2200), st.integers(16, 4000))
fractions = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(sizes, fractions, st.sampled_from([(288, 512), (300, 300)]))
def test_letterbox_round_trips_and_shows_every_point(size_hw, xy_norm, out_hw):
    window = geometry.full_window(size_hw, out_hw)
    xy = geometry.norm_to_px(np.array(xy_norm), size_hw)
    seen = geometry.frame_to_window(xy, window)
    assert np.allclose(geometry.window_to_frame(seen, window), xy, atol=1e-6)
    assert (seen >= -1e-6).all()
    assert (seen <= np.array([out_hw[1], out_hw[0]]) + 1e-6).all()
    assert window.w / window.out_w == pytest.approx(window.h / window.out_h)  # never squashed


@given(sizes, fractions, st.floats(0.5, 2))
def test_crop_round_trips_and_holds_its_centre(size_hw, xy_norm, zoom):
    center = geometry.norm_to_px(np.array(xy_norm), size_hw)
    window = geometry.crop_window(center, size_hw, 160, zoom)
    seen = geometry.frame_to_window(center, window)
    assert np.abs(seen - 80).max() <= 1.01 * 160 / window.w
    assert np.allclose(geometry.window_to_frame(seen, window), center, atol=1e-6)


def test_crop_is_native_at_720p_and_scaled_at_1080p():
    assert geometry.crop_window(np.array([640, 360]), (720, 1280), 160).w == 160
    assert geometry.crop_window(np.array([960, 540]), (1080, 1920), 160).w == 240


def test_torch_and_numpy_agree_and_nan_stays():
    window = geometry.crop_window(np.array([100.0, 50.0]), (720, 1280), 160)
    points = np.array([[90.0, 40.0], [np.nan, np.nan]], dtype=np.float32)
    a = geometry.frame_to_window(points, window)
    b = geometry.frame_to_window(torch.from_numpy(points), window)
    assert np.allclose(a, b.numpy(), equal_nan=True)
    assert np.isnan(a[1]).all()


def test_grid_of_the_papers_is_ten_px_at_720p():
    moved = geometry.rescale(np.array([[10.0, 0.0]]), (720, 1280), geometry.GRID512_HW)
    assert moved[0, 0] == pytest.approx(4.0)


def test_cells_and_px_invert():
    xy = np.array([13.0, 7.5])
    assert np.allclose(geometry.cell_to_px(geometry.px_to_cell(xy, 4), 4), xy)
