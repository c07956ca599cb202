"""A shuttle that came to rest: a look at what is new where a flight ended; beside triggers.

A shuttle that lies still differs from lettering and lines in nothing but that it has come, and stage 2, which
knows a shuttle by its motion, denies it. So it is shown the current frame between copies of a backdrop, the
median of some frames of the flight, in which no shuttle is: what has come since looks as if it flew by. What
is then seen in one place for a while has landed there.
"""

import math
from collections import deque

import numpy as np

from shuttlelib.frames import BASE_FPS, ROUNDING_S, Frame
from shuttlelib.geometry import SizeHW, crop_window
from shuttlelib.hypotheses import Sighting, Verdict
from shuttlelib.looks import Look
from shuttlelib.runtime import Backend
from shuttlelib.track_params import TrackParams

BACKDROP_FRAMES, BACKDROP_S = 5, 0.25  # frames of a flight, at least so far apart; an odd number has a median
THUMB = 16  # every so many rows and columns tell whether the camera still shows the same …
UNLIKE = 8.0  # … unless luma changed by more levels on average: players make up to 5


class Landing:
    """Where the flight of one video may have ended, and what was there before; one call of `told` a row.

    Args:
        params: thresholds.
        size_hw: of the frames, px.
        fps: new pictures a second.
    """

    def __init__(self, params: TrackParams, size_hw: SizeHW, fps: float) -> None:
        self._p, self._size_hw, self._fps = params, size_hw, fps
        self._fast_px = params.fly_heights * size_hw[0] * BASE_FPS / fps
        self._near_px = params.still_heights * size_hw[0]
        self._flight: deque[tuple[float, np.ndarray]] = deque(maxlen=BACKDROP_FRAMES)  # time and planes
        self._backdrop: Frame | None = None  # of the flight so far
        self._site: np.ndarray | None = None  # (2,) native px: where a flight was seen last
        self._rising = False
        self._unseen = 0  # frames since something was seen there
        self._last: np.ndarray | None = None  # (2,) native px: what was seen in the frame before
        self._still = max(1, round(params.still_s * fps))  # looks
        self._told: deque[list[Sighting]] = deque(maxlen=self._still)

    def look(self, frame: Frame, network: Backend) -> Look | None:
        """What to show stage 2 of a frame without a track; None where nothing can have landed."""
        since_s = self._unseen / self._fps
        if self._site is None or self._rising or since_s >= self._p.landed_s or network.uses_history:
            return None
        before = self._before(frame)
        if before is None:
            return None
        shown = [before] * network.frames
        shown[-1 - network.ahead] = frame
        return Look(2, [crop_window(self._site, self._size_hw, network.input_hw[0])], [shown], None)

    def stayed(self, sightings: list[Sighting]) -> list[Sighting]:
        """Those that were seen in the same place in every look before, as many as `still_s` has frames."""
        before = list(self._told)
        self._told.append(sightings)
        if len(before) < self._still:
            return []
        return [one for one in sightings if all(self._among(one, others) for others in before)]

    def told(self, frame: Frame, found: Verdict, visible: bool) -> None:
        """Take note of a frame's row."""
        self._unseen += 1
        last, self._last = self._last, found.xy_px if visible else None
        if self._last is None:
            return
        flew = found.flown_s >= self._p.fly_s - ROUNDING_S
        if not flew and (self._site is None or np.abs(self._last - self._site).max() > 2 * self._near_px):
            return
        self._site, self._unseen = self._last, 0
        step = self._last - last if last is not None else np.zeros(2)
        fast = np.hypot(*step) > self._fast_px
        self._rising = fast and step[1] < 0
        if fast and flew and not (self._flight and abs(frame.time_s - self._flight[-1][0]) < BACKDROP_S):
            self._flight.append((frame.time_s, frame.planes))
            self._backdrop = None

    def _among(self, one: Sighting, others: list[Sighting]) -> bool:
        return any(math.dist(one[:2], other[:2]) <= self._near_px for other in others)

    def _before(self, frame: Frame) -> Frame | None:
        """The backdrop; None where there is none yet, or the camera shows something else by now."""
        if len(self._flight) < BACKDROP_FRAMES:
            return None
        if self._backdrop is None:
            planes = _median(*(planes for _, planes in self._flight))
            self._backdrop = Frame(frame.index, frame.time_s, planes)
        then, now = (one.luma[::THUMB, ::THUMB].astype(np.int16) for one in (self._backdrop, frame))
        return self._backdrop if np.abs(now - then).mean() < UNLIKE else None


def _median(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Of five arrays, each element's: ten times as fast as numpy's."""
    low = np.maximum(np.minimum(a, b), np.minimum(c, d))
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    return np.maximum(np.minimum(low, high), np.minimum(e, np.maximum(low, high)))
