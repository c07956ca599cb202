"""A place made better by the flight it belongs to; after the tracker has settled a row, before it is told.

A network looks at each frame anew, so its places scatter about the flight. And what it learned from are
places that people set, who mark the shuttle behind its head (`docs/metrics.md`): its own lie behind too.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from shuttlelib.frames import BASE_FPS
from shuttlelib.geometry import SizeHW
from shuttlelib.rows import Row
from shuttlelib.track_params import TrackParams

_LEAST = 4  # places that say more than the parabola through three of them


def refined(rows: Sequence[Row], at: int, params: TrackParams, size_hw: SizeHW, fps: float) -> Row:
    """Row `at` of some rows in order, its place on the parabola of those around it and moved ahead in flight.

    Args:
        rows: one a picture; none of them changes.
        params: smooth_s, smooth_heights, lead_heights, rest_heights.
        size_hw: of the frames, px.
        fps: new pictures a second.
    """
    row, reach, height_px = rows[at], round(params.smooth_s * fps), size_hw[0]
    if not row.visible:
        return row
    near = [n for n in range(max(0, at - reach), min(len(rows), at + reach + 1)) if rows[n].visible]
    (x, y), velocity = _on_parabola(rows, near, at, params.smooth_heights * height_px) or _as_seen(rows, at)
    slow_px = params.rest_heights * height_px * BASE_FPS / fps
    share = params.lead_heights * height_px / max(math.hypot(*velocity), slow_px, 1e-9)
    x_px = min(max(x + share * velocity[0], 0.0), float(size_hw[1]))
    y_px = min(max(y + share * velocity[1], 0.0), float(size_hw[0]))
    return replace(row, x_px=x_px, y_px=y_px)


def _on_parabola(
    rows: Sequence[Row], near: list[int], at: int, farthest_px: float
) -> tuple[list[float], list[float]] | None:
    """Place and velocity at `at`, px and px a picture; None where a hit, or no flight, is near."""
    if len(near) < _LEAST:
        return None
    places = np.array([(rows[n].x_px, rows[n].y_px) for n in near])
    powers, solve = _powers(tuple(n - at for n in near))
    path = solve @ places
    if max(math.hypot(*off) for off in (powers @ path - places).tolist()) > farthest_px:
        return None
    place, velocity, _ = path.tolist()
    return place, velocity


def _as_seen(rows: Sequence[Row], at: int) -> tuple[list[float], list[float]]:
    """Place and velocity at `at` from the step to it, or else from it; none where it was seen alone."""
    here = rows[at]
    for n in (at - 1, at + 1):
        if 0 <= n < len(rows) and rows[n].visible:
            step = [(here.x_px - rows[n].x_px) * (at - n), (here.y_px - rows[n].y_px) * (at - n)]
            return [here.x_px, here.y_px], step
    return [here.x_px, here.y_px], [0.0, 0.0]


@lru_cache(maxsize=1024)
def _powers(times: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) powers of times, and (3, N) what makes of places then the coefficients of their parabola."""
    powers = np.vander(times, 3, increasing=True).astype(float)
    return powers, np.linalg.pinv(powers)
