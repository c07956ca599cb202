"""Which frames are worth a person's time: some spread over the clip, some where the model is least sure."""

from collections.abc import Collection
from itertools import pairwise

import numpy as np
import pandas as pd

WHY_SPREAD, WHY_UNSURE = "spread over time", "model unsure"
_LEAST_GAP_S = 0.1  # nearer frames show nearly the same


def pick_frames(
    frame_count: int,
    fps: float,
    wanted: int,
    confidence: pd.Series | None = None,
    taken: Collection[int] = (),
    unsure_share: float = 0.5,
    seed: int = 0,
) -> pd.Series:
    """Choose frames to label.

    The spread half is drawn one from each of equally long stretches, so it also measures the model fairly;
    the other half goes to the least confident frames, none within 0.1 s of another chosen or taken one.

    Args:
        frame_count, fps: of the clip.
        wanted: how many frames; fewer come back where the clip is short.
        confidence: by frame, the tracker's probability that its row is right; None spreads all.
        taken: frames that are labelled or out for labelling.
        unsure_share: share of the second half.
        seed: of the draw within stretches.

    Returns:
        Why each frame was chosen, by frame number in order.
    """
    gap = max(1, round(_LEAST_GAP_S * fps))
    closed = np.zeros(frame_count, dtype=bool)

    def close(frame: int, reach: int) -> None:
        closed[max(0, frame - reach) : frame + reach + 1] = True

    for frame in taken:
        close(int(frame), 0)
    unsure = 0 if confidence is None else round(wanted * unsure_share)
    chosen: dict[int, str] = {}
    rng = np.random.default_rng([7, seed])
    edges = np.linspace(0, frame_count, wanted - unsure + 1).round().astype(int)
    for start, end in pairwise(edges):
        free = start + np.flatnonzero(~closed[start:end])
        if len(free):
            frame = int(rng.choice(free))
            chosen[frame] = WHY_SPREAD
    for frame in (*chosen, *map(int, taken)):
        close(frame, gap - 1)
    order = () if confidence is None else confidence.sort_values(kind="stable").index
    for frame in map(int, order):
        if len(chosen) >= wanted:
            break
        if frame < frame_count and not closed[frame]:
            chosen[frame] = WHY_UNSURE
            close(frame, gap - 1)
    return pd.Series(chosen, dtype=object).sort_index()
