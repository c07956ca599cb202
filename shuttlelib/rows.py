"""The row: what is said of one frame; what tracker, triggers, rectify and every output share."""

from dataclasses import dataclass

import numpy as np

SURE = 5e-5  # no probability is nearer to 0 or 1: a CSV has four decimals


@dataclass
class Row:
    """What the tracker says of one frame.

    Attributes:
        frame: number of the frame.
        time_s: its time.
        visible: whether the shuttle's head is visible.
        x_px, y_px: the head, native px; nan where not visible.
        confidence: calibrated probability that the row is right: visible and placed well, or not visible.
        source: detected (a network saw it in this frame), rectified (no network is believed there; one
            flight through the sightings before and after says where it was) or none (not visible).
    """

    frame: int
    time_s: float
    visible: bool
    x_px: float
    y_px: float
    confidence: float
    source: str


def runs(where: np.ndarray) -> list[tuple[int, int]]:
    """First and end (the first one after) of every unbroken run of True in (N,) bool."""
    edges = np.flatnonzero(np.diff(where.astype(int), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))
