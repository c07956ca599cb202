import numpy as np
import pytest

from shuttlelib import mixing
from shuttlelib.labels import ClipInfo


class Clip:
    def __init__(self, origin, info):
        self.rendered, self.info = origin == "synthetic", info


class Cache:
    def __init__(self, origin, info):
        self.clip = Clip(origin, info)


class Labelled:
    """Stands for samples: all frames of clips given as (frames, 2) points, nan where invisible."""

    def __init__(self, clips, size=(1280, 720), fps=30.0):
        self.caches = [Cache(origin, ClipInfo(*size, fps, len(xy), "")) for origin, xy in clips]
        seen = [np.isfinite(xy[:, 0]) for _, xy in clips]
        self.points = [np.column_stack([np.nan_to_num(xy), s, s]) for s, (_, xy) in zip(seen, clips)]
        self.index = [(c, f) for c, points in enumerate(self.points) for f in range(len(points))]


FLYING = np.column_stack([np.arange(100, 700, 20.0), np.full(30, 300.0)])


def without(*frames):
    xy = FLYING.copy()
    xy[list(frames)] = np.nan
    return xy


def test_draws_resume_where_they_stopped_and_follow_the_weights():
    weights = np.array([1.0, 0.0, 3.0])
    whole = mixing.WeightedDraws(weights, 1).items(np.arange(400))
    assert mixing.WeightedDraws(weights, 1).items(np.arange(150, 400)) == whole[150:]
    share = np.mean([index == 2 for index, _ in whole])
    assert {index for index, _ in whole} == {0, 2}
    assert share == pytest.approx(0.75, abs=0.07)


def test_no_samples_have_no_weights():
    assert mixing.mixing_weights(Labelled([]), 0.3).shape == (0,)


def test_rendered_samples_get_their_share():
    assert np.allclose(mixing.mixing_weights(Labelled([("synthetic", FLYING)]), 0.3), 1.0)  # one kind only
    both = mixing.mixing_weights(
        Labelled([("synthetic", FLYING), ("tracknet_csv", without(0, 1, 2, 3))]), 0.3
    )
    assert both[:30].sum() == pytest.approx(0.3)
    assert both[30:].sum() == pytest.approx(0.7)


def test_frames_without_a_shuttle_count_more():
    weights = mixing.mixing_weights(Labelled([("tracknet_csv", without(10, 11, 12, 13))]), 0.3)
    assert (weights[10:14] == 2.0).all()
    assert (np.delete(weights, range(10, 14)) == 1.0).all()


def test_a_resting_shuttle_counts_more():
    xy = np.concatenate([FLYING, np.tile(FLYING[-1:], (12, 1)) + np.arange(12)[:, None] % 3])
    weights = mixing.mixing_weights(Labelled([("tracknet_csv", xy)]), 0.3)
    assert (weights[34:] == 3.0).all()
    assert (weights[:26] == 1.0).all()


def test_resting_and_blinking_do_not_depend_on_resolution_and_frame_rate():
    xy = np.concatenate([without(5, 6, 7), np.tile(FLYING[-1:], (12, 1)) + np.arange(12)[:, None] % 3])
    usual = mixing.mixing_weights(Labelled([("tracknet_csv", xy)]), 0.3)
    twice = np.repeat(xy, 2, axis=0) * 1.5
    again = mixing.mixing_weights(Labelled([("tracknet_csv", twice)], (1920, 1080), 60.0), 0.3)
    assert set(usual) == {0.0, 1.0, 3.0}
    assert (again[::2] == usual).mean() > 0.95  # but for a frame where the rest begins


@pytest.mark.parametrize(("origin", "weight"), [("tracknet_csv", 0.0), ("synthetic", 2.0)])
def test_labels_that_blink_are_left_out_where_a_person_made_them(origin, weight):
    weights = mixing.mixing_weights(Labelled([(origin, without(5, 6, 7))]), 0.3)
    assert (weights[5:8] == weight).all()


def test_a_shuttle_that_is_gone_at_an_end_does_not_blink():
    weights = mixing.mixing_weights(Labelled([("tracknet_csv", without(0, 29))]), 0.3)
    assert (weights[[0, 29]] == 2.0).all()
