"""Which samples training draws, and how often; between samples and train."""

import numpy as np
import pandas as pd

from shuttlelib import geometry
from shuttlelib.draws import Draws
from shuttlelib.errors import UsageError
from shuttlelib.frames import history_stride
from shuttlelib.label_noise import BLINK_FRAMES, blinks
from shuttlelib.labels import ClipInfo
from shuttlelib.samples import Samples

ORDER = 1  # stream of the draws that say which sample comes next
# Frames that training draws more often than others, or never; counted at 30 a second (`history_stride`).
HIDDEN = 2.0  # weight of a frame without a shuttle
# Weight of a visible one that stays within REST_PX (of 1280x720) in those of the REST_FRAMES either way that
# show it, if as many as REST_FRAMES do. On the val split the first shipped pair failed on half of the frames
# of a resting shuttle (held before the serve, lying after the rally), and on one in ten of the others.
RESTING, REST_PX, REST_FRAMES = 3.0, 12.0, 4


class WeightedDraws:
    """Weighted draws with replacement, each a function of (seed, draw number).

    Args:
        weights: (N,) relative frequency of each sample.
        seed: of the draws.
    """

    def __init__(self, weights: np.ndarray, seed: int):
        self.cumulative, self.seed = np.cumsum(weights, dtype=np.float64), seed

    def items(self, draws: np.ndarray) -> list[tuple[int, int]]:
        """(sample, draw) of these draw numbers."""
        u = Draws(self.seed, draws, ORDER).uniform() * self.cumulative[-1]
        return list(zip(np.searchsorted(self.cumulative, u, side="right").tolist(), draws.tolist()))


def mixing_weights(samples: Samples, rendered_share: float) -> np.ndarray:
    """(N,) weights that give rendered rallies their share; where only one kind is present it gets all.

    Within a kind, frames without a shuttle and frames of a resting one count more (see above), and
    real labels that blink (`label_noise.blinks`) count nothing.

    Raises:
        UsageError: `rendered_share` is no share.
    """
    if not 0 <= rendered_share <= 1:
        raise UsageError(f"rendered_share {rendered_share:g}: give a share from 0 to 1")
    drawn = [cache.clip.rendered for cache in samples.caches]
    rendered = np.array([drawn[c] for c, _ in samples.index], bool)
    marks = [_marks(points, cache.clip.info) for cache, points in zip(samples.caches, samples.points)]
    hidden, resting, blinking = np.array([marks[c][:, f] for c, f in samples.index], bool).reshape(-1, 3).T
    weights = np.where(hidden, HIDDEN, np.where(resting, RESTING, 1.0))
    weights[blinking & ~rendered] = 0.0
    if 0 < rendered.sum() < len(rendered):
        weights[rendered] *= rendered_share / weights[rendered].sum()
        weights[~rendered] *= (1 - rendered_share) / weights[~rendered].sum()
    return weights


def _marks(points: np.ndarray, info: ClipInfo) -> np.ndarray:
    """(3, frames) bool of a clip's points: without a shuttle; resting; labelled invisible for a blink."""
    seen, stride = points[:, 2] > 0, history_stride(info.fps)
    xy = np.where(seen[:, None], points[:, :2] * geometry.canonical_scale(info.even_hw), np.nan)
    rest = REST_FRAMES * stride
    around = pd.DataFrame(xy).rolling(2 * rest + 1, center=True, min_periods=rest)
    span = np.hypot(*(around.max() - around.min()).to_numpy().T)
    resting = seen & (span <= REST_PX)
    return np.stack([~seen, resting, blinks(np.arange(len(seen)), seen, BLINK_FRAMES * stride)])
