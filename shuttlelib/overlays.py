"""What is laid over a sample: another clip, or its own shuttle at another place; before samples.

Both widen what the data shows. A clip that shines through brings foreign lines, boards and lights behind
the same shuttle. The shuttle of a still camera is the difference between a frame and a near one in which
it is elsewhere: taken away, that leaves a true negative; put back at another place, a position that the
data never had. Like all augmentation it is drawn for a whole batch, and done by whoever has the pixels.
"""

from typing import NamedTuple

import numpy as np

from shuttlelib.draws import Draws

NEAREST, FARTHEST = 5, 15  # looks away, where the picture without the shuttle is taken from
RADIUS_PX, SOFT = 12.0, 0.35  # canonical px around a resting shuttle; share of the radius that fades out
ERASED = 0.35  # share of the pasted samples in which the shuttle is taken away for good


class Mix(NamedTuple):
    """Another sample under this one.

    Attributes:
        clip: (B,); -1 for none. looks: (B, T) its frames. window: (B, 4) its window: x0, y0, w, h native px.
        weight: (B,) share of the sample itself.
    """

    clip: np.ndarray
    looks: np.ndarray
    window: np.ndarray
    weight: np.ndarray


class Paste(NamedTuple):
    """The shuttle taken away from a spot of each frame, and put elsewhere.

    Attributes:
        donors: (B, T) frame of the same clip that shows the spot without a shuttle; -1 leaves the frame.
        spot: (B, T, 2) centre, radius: (B,); input px before any other change.
        step: (B, 2) whole input px from a spot to the new place; nan takes the shuttle away for good.
    """

    donors: np.ndarray
    spot: np.ndarray
    radius: np.ndarray
    step: np.ndarray


def plan_paste(
    draws: Draws,
    share: float,
    spot: np.ndarray,
    now: int,
    spot_at: np.ndarray,
    times: np.ndarray,
    px_per_canonical: np.ndarray,
    room: np.ndarray,
) -> Paste:
    """Choose what to take away and where to put it.

    Args:
        share: how often.
        spot: (B, T, 2) the shuttle in each look, input px, nan where invisible; now: the current look.
        spot_at: (B, 2 * n, 2) the shuttle at `times`, input px, nan where invisible.
        times: (B, 2 * n) frames that may lend their background; -1 where the clip has none.
        px_per_canonical: (B,) input px a canonical px.
        room: (B, 4) x0, y0, x1, y1, input px: where there is picture.
    """
    seen = np.isfinite(spot).all(2)
    pace = np.nan_to_num(np.hypot(*np.diff(spot, axis=1).transpose(2, 0, 1))).max(1, initial=0.0)
    radius = RADIUS_PX * px_per_canonical + 0.6 * pace  # a fast shuttle is a streak
    gap = np.hypot(*(spot_at[:, None] - spot[:, :, None]).transpose(3, 0, 1, 2))  # (B, T, 2n)
    clear = (gap > 2.5 * radius[:, None, None]) & (times >= 0)[:, None]
    pick = (clear * draws.uniform(0.01, 1.0, (1, clear.shape[2]))).argmax(2)
    found = np.take_along_axis(clear, pick[..., None], 2)[..., 0]
    within = ((spot >= room[:, None, :2]) & (spot < room[:, None, 2:])).all(2)
    chosen = draws.chance(share) & seen[:, now] & (found & within | ~seen).all(1)
    active = chosen[:, None] & seen
    donors = np.where(active, np.take_along_axis(times, pick, 1), -1)
    target = draws.uniform(room[:, :2], room[:, 2:], (2,))
    step = np.round(target - spot[:, now])
    moved = np.where(seen[..., None], spot, spot[:, now : now + 1]) + step[:, None]
    low, high = moved.min(1), moved.max(1)
    fits = (low >= room[:, :2]).all(1) & (high < room[:, 2:]).all(1)
    keep = fits & ~draws.chance(ERASED)
    step = np.where(keep[:, None], step, np.nan)
    return Paste(donors, np.nan_to_num(spot), radius, step)


def paste(image: np.ndarray, donor: np.ndarray, spot: np.ndarray, radius: float, step: np.ndarray) -> None:
    """Take the shuttle from a spot (2,) of an image (H, W, 3) uint8 and put it a step (2,) away, in place.

    What moves is the difference to the donor's picture, so the new place keeps its own background.
    """
    h, w = image.shape[:2]
    x0, y0 = np.maximum(np.floor(spot - radius), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(spot + radius), (w, h)).astype(int)
    if x0 >= x1 or y0 >= y1:
        return
    y, x = np.mgrid[y0:y1, x0:x1] + 0.5
    mask = np.clip((radius - np.hypot(x - spot[0], y - spot[1])) / (SOFT * radius), 0, 1)[..., None]
    here = np.s_[y0:y1, x0:x1]
    gone = mask * (image[here].astype(np.float64) - donor[here])
    image[here] = (image[here] - gone).round().clip(0, 255)
    if not np.isfinite(step).all():
        return
    dx, dy = step.astype(int)
    top, left = max(0, -(y0 + dy)), max(0, -(x0 + dx))
    bottom, right = min(y1 - y0, h - y0 - dy), min(x1 - x0, w - x0 - dx)
    if top < bottom and left < right:
        there = np.s_[y0 + dy + top : y0 + dy + bottom, x0 + dx + left : x0 + dx + right]
        image[there] = (image[there] + gone[top:bottom, left:right]).round().clip(0, 255)
