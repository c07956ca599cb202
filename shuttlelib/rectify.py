"""Fill short gaps by physics: one flight must explain what was seen before and after; for offline tracking.

A hit ends a flight, so a gap across one is left alone, as is a longer one than a shuttle can be trusted over.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from shuttlelib.flight import Flight
from shuttlelib.frames import Frame
from shuttlelib.geometry import SizeHW
from shuttlelib.rows import Row
from shuttlelib.track_params import TrackParams

SEEN = 3  # rows in a row that must be seen on each side of a gap
_ROUNDS = 6  # of Gauss-Newton, which starts near
_STEP = 1e-3  # of its slopes, px and px a frame


class Filler:
    """Passes rows on, a little later, with the gaps filled that physics can fill.

    Args:
        params: rectify_s, rectify_rms_heights, and the flight.
        size_hw: of the frames, px.
        fps: new pictures a second.
        emit: gets each frame and its row, in order.
        confidence: turns the raw probability that a filled row is right into what the row says.
    """

    def __init__(
        self,
        params: TrackParams,
        size_hw: SizeHW,
        fps: float,
        emit: Callable[[Frame, Row], None],
        confidence: Callable[[float], float],
    ) -> None:
        self._emit, self._confidence = emit, confidence
        self._size_hw, height_px = size_hw, size_hw[0]
        self._flight = Flight.of(params.drag_per_height, params.gravity_heights, height_px, fps)
        self._longest = int(params.rectify_s * fps + 1e-6)
        self._rms_px = params.rectify_rms_heights * height_px
        self._waiting: deque[tuple[Frame, Row]] = deque()
        self._before: deque[Row] = deque(maxlen=SEEN)  # the last rows that were passed on

    def __call__(self, frame: Frame, row: Row) -> None:
        """Take the next row; it comes out once it is known whether it lies in a gap that can be filled."""
        self._waiting.append((frame, row))
        self._go_on()

    def close(self) -> None:
        """Pass on what is left."""
        while self._waiting:
            self._pass_on()

    def _go_on(self) -> None:
        while self._waiting:
            rows = [row for _, row in self._waiting]
            gap = next((n for n, row in enumerate(rows) if row.visible), len(rows))
            after = rows[gap : gap + SEEN]
            ends_seen = len(self._before) == SEEN and all(row.visible for row in [*self._before, *after])
            if not (0 < gap <= self._longest and ends_seen):
                self._pass_on()
                continue
            if len(after) < SEEN:
                return  # wait for what comes after
            self._fill(list(self._before), rows[:gap], after)
            for _ in range(gap):
                self._pass_on()

    def _pass_on(self) -> None:
        frame, row = self._waiting.popleft()
        self._before.append(row)
        self._emit(frame, row)

    def _fill(self, before: Sequence[Row], gap: Sequence[Row], after: Sequence[Row]) -> None:
        known = [*before, *after]
        frames = np.array([*range(len(before)), *range(len(before) + len(gap), len(known) + len(gap))])
        places = np.array([(row.x_px, row.y_px) for row in known])
        path, rms_px = one_flight(frames, places, self._flight)
        filled = path[len(before) : len(before) + len(gap)]
        inside = np.all((filled >= 0) & (filled <= self._size_hw[::-1]))
        if rms_px > self._rms_px or not inside:  # above the picture it cannot be seen
            return
        sure = 0.8 - 0.3 * rms_px / self._rms_px  # of 21 that an earlier tracker filled 16 were right
        for row, place in zip(gap, filled.tolist()):
            row.visible, row.source = True, "rectified"
            row.x_px, row.y_px = place
            row.confidence = self._confidence(sure)


def one_flight(frames: np.ndarray, xy_px: np.ndarray, law: Flight) -> tuple[np.ndarray, float]:
    """The flight that comes nearest to some places, by Gauss-Newton.

    Args:
        frames: (N,) whole numbers from 0, ascending: when the shuttle was there.
        xy_px: (N, 2) where.
        law: its drag is where the search starts, since perspective changes what a camera sees of it.

    Returns:
        Places (frames[-1] + 1, 2) of every frame, and the root of the mean square distance (px) of the N.
    """
    velocity = (xy_px[1] - xy_px[0]) / (frames[1] - frames[0])
    unknown = np.array([*xy_px[0], *velocity, 1.0])  # the last one: drag, as a multiple of the law's

    def flown(values: np.ndarray) -> np.ndarray:
        path = [values[:2]]
        speed, flight = values[2:4], Flight(law.drag_per_px * max(values[4], 0.0), law.gravity_px)
        for _ in range(int(frames[-1])):
            place, speed = flight.on(path[-1], speed)
            path.append(place)
        return np.array(path)

    for _ in range(_ROUNDS):
        now = flown(unknown)[frames]
        off = (xy_px - now).ravel()
        slopes = [(flown(unknown + step)[frames] - now).ravel() / _STEP for step in _STEP * np.eye(5)]
        # drag is only known where the flight is long and fast: it is held near the law's by a weak spring
        design = np.vstack([np.array(slopes).T, [0, 0, 0, 0, 1.0]])
        unknown = unknown + np.linalg.lstsq(design, np.append(off, 1.0 - unknown[4]), rcond=None)[0]
    path = flown(unknown)
    return path, float(np.sqrt(((path[frames] - xy_px) ** 2).sum(1).mean()))
