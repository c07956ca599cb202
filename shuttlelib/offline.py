"""Tracking that knows the future: what a first pass over the video left, and where a second one looks again.

Before tracker in the flow. The first pass is smart mode; its sightings are kept (numbers, never frames). Then
each gap is known from both ends, and the second pass looks where the flights before and after it say that
the shuttle was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shuttlelib.flight import Flight
from shuttlelib.hypotheses import Sighting
from shuttlelib.rows import Row
from shuttlelib.track_params import TrackParams


@dataclass(frozen=True)
class Memory:
    """What the first pass left.

    Attributes:
        sightings: of each frame, by its number.
        places: (2,) native px to look at again, by the frame's number.
    """

    sightings: Mapping[int, Sequence[Sighting]]
    places: Mapping[int, Sequence[np.ndarray]] = field(default_factory=dict)


def places_between(
    rows: Sequence[Row], params: TrackParams, height_px: int, fps: float
) -> dict[int, list[np.ndarray]]:
    """Where to look again: in each gap, the flights at its ends, each the more the nearer it is.

    Args:
        rows: of the first pass, of frames without a gap.
        params: look_again_s, and the flight.
        height_px: of the frames.
        fps: new pictures a second.

    Returns:
        Native px by frame number. Of a gap longer than `look_again_s` only the last frames are looked at
        again, for what is known from its end alone.
    """
    flight = Flight.of(params.drag_per_height, params.gravity_heights, height_px, fps)
    longest = round(params.look_again_s * fps)
    found: dict[int, list[np.ndarray]] = {}
    seen = [n for n, row in enumerate(rows) if row.visible]
    for start, end in zip([-1, *seen], seen):
        gap = end - start - 1
        back = _flown(rows, end, 1, min(gap, longest), flight)
        ahead = _flown(rows, start, -1, gap, flight) if start >= 0 and gap <= longest else None
        for steps, place in enumerate(back, 1):
            if ahead is not None:
                share = steps / (gap + 1)
                place = (1 - share) * place + share * ahead[gap - steps]
            found[rows[end - steps].frame] = [place]
    return found


def _flown(rows: Sequence[Row], at: int, beside: int, steps: int, flight: Flight) -> list[np.ndarray]:
    """Places of the frames next to row `at`, away from its neighbour at `at + beside`, the nearest first."""
    place = np.array([rows[at].x_px, rows[at].y_px])
    velocity = np.zeros(2)
    if 0 <= at + beside < len(rows) and rows[at + beside].visible:
        velocity = place - (rows[at + beside].x_px, rows[at + beside].y_px)
    # back in time a shuttle gains what drag takes, and gravity has the same sign
    law = flight if beside < 0 else Flight(0.0, flight.gravity_px)
    path = []
    for _ in range(steps):
        place, velocity = law.on(place, velocity)
        path.append(place)
    return path
