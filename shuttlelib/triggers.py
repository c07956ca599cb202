"""When to ask stage 1: the signs of a sick track, each with a name and counted; beside hypotheses.

A trigger fires on what the current frame showed and on the rows before it; its thresholds are in
`TrackParams`, and `docs/modes.md` says when each fires.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from shuttlelib.frames import BASE_FPS, ROUNDING_S, history_stride
from shuttlelib.rows import Row
from shuttlelib.track_params import TrackParams

SEEN = ("jump", "turn", "check")  # of a shuttle that is plainly seen
NOISE = ("lost", "jump", "turn")  # of a track that was seen until now: many of them mean noise


class Triggers:
    """The triggers of smart mode for one video; call `fired` once a look, `told` once a row.

    Args:
        params: thresholds.
        height_px: of the frames.
        fps: new pictures a second.
    """

    def __init__(self, params: TrackParams, height_px: int, fps: float) -> None:
        self._p, self._height_px, self._fps = params, height_px, fps
        self._stride = history_stride(fps)
        self._per_base = fps / BASE_FPS / self._stride  # steps of one stride to thirtieths of a second
        self._again = max(1, round(params.ask_again_s * fps))
        self._unseen = self._weak = 0  # frames in a row

    def fired(
        self,
        xy_px: np.ndarray,
        visible: bool,
        logit: float,
        flown_s: float,
        rows: Sequence[Row],
        since: int,
    ) -> str:
        """The name of the trigger that fires, or "".

        Args:
            xy_px: (2,) where the shuttle seems to be.
            visible: whether it is believed.
            logit: log-odds of that place alone, without the track.
            flown_s: how long its flight was seen to be fast, s.
            rows: those before this frame, the last one newest.
            since: frames since the last calibration.
        """
        self._weak = self._weak + 1 if visible and logit < self._p.weak_logit else 0
        if not visible:
            if self._unseen == 0:
                return "lost"
            return "unseen" if (self._unseen + 1) % self._again == 0 else ""
        if self._weak:
            return "weak" if self._weak % self._again == 1 % self._again else ""
        check_s = self._p.check_s
        if flown_s < self._p.fly_s - ROUNDING_S:
            check_s = min(check_s, self._p.ask_again_s)
        due = check_s > 0 and since + 1 >= round(check_s * self._fps)
        return self._moved(xy_px, rows) or ("check" if due else "")

    def told(self, visible: bool) -> None:
        """Take note of a row, as it was told."""
        self._unseen = 0 if visible else self._unseen + 1

    def _moved(self, xy_px: np.ndarray, rows: Sequence[Row]) -> str:
        points = [xy_px]
        for back in (1, 2):
            row = rows[-self._stride * back] if len(rows) >= self._stride * back else None
            if row is None or not row.visible:
                break
            points.append(np.array([row.x_px, row.y_px]))
        steps = [(new - old) / self._height_px * self._per_base for new, old in pairwise(points)]
        if steps and np.hypot(*steps[0]) > self._p.jump_heights:
            return "jump"
        least = self._p.turn_min_step_heights
        return "turn" if len(steps) == 2 and _turn_deg(steps[1], steps[0], least) > self._p.turn_deg else ""


def _turn_deg(before: np.ndarray, after: np.ndarray, least: float) -> float:
    """Angle between two steps (2,), degrees; 0 where one is shorter than `least`."""
    lengths = float(np.hypot(*before)), float(np.hypot(*after))
    if min(lengths) < max(least, 1e-9):
        return 0.0
    cosine = float(before @ after) / (lengths[0] * lengths[1])
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
