"""Draw a track over its frames: the head marked, a fading trail behind it; used by tracking.

Colours say how far to trust a row: red over yellow to green with rising confidence, blue where the place
was not seen but filled in.
"""

import math
from collections import deque
from itertools import pairwise

import cv2
import numpy as np

from shuttlelib.rows import Row

_TRAIL_S = 0.6
_FILLED_RGB = (90, 150, 255)  # rectified


class Overlay:
    """Draws one video's rows in order.

    Args:
        height_px: of the frames; sizes of the marks follow it.
    """

    def __init__(self, height_px: int) -> None:
        self._unit = max(1.0, height_px / 360)
        self._trail: deque[Row] = deque()

    def draw(self, rgb: np.ndarray, row: Row) -> np.ndarray:
        """A marked copy of the frame, uint8 (H, W, 3)."""
        image = rgb.copy()
        while self._trail and row.time_s - self._trail[0].time_s >= _TRAIL_S:
            self._trail.popleft()
        self._trail.append(row)
        rows = list(self._trail)
        for age, (old, new) in enumerate(pairwise(rows)):
            if old.visible and new.visible:
                self._segment(image, old, new, (age + 1) / len(rows))
        if row.visible:
            radius, width = round(7 * self._unit * 16), max(1, round(self._unit))
            cv2.circle(image, _fixed(row), radius, _color(row), width, cv2.LINE_AA, shift=4)
        seen = f"{row.source} {row.confidence:.2f}"
        self._text(image, f"{row.frame}  {row.time_s:.2f} s  {seen}")
        return image

    def _segment(self, image: np.ndarray, old: Row, new: Row, strength: float) -> None:
        """One piece of the trail, blended into its own corner of the image only."""
        pad = math.ceil(2 * self._unit) + 1
        low = np.floor(np.minimum((old.x_px, old.y_px), (new.x_px, new.y_px))).astype(int) - pad
        high = np.ceil(np.maximum((old.x_px, old.y_px), (new.x_px, new.y_px))).astype(int) + pad
        x0, y0 = np.maximum(low, 0)
        patch = image[y0 : max(high[1], 0), x0 : max(high[0], 0)]
        if not patch.size:
            return
        drawn = patch.copy()
        width = max(1, round(1.5 * self._unit))
        ends = (_fixed(old, (x0, y0)), _fixed(new, (x0, y0)))
        cv2.line(drawn, *ends, _color(new), width, cv2.LINE_AA, shift=4)
        patch[:] = cv2.addWeighted(drawn, strength, patch, 1 - strength, 0)

    def _text(self, image: np.ndarray, text: str) -> None:
        x, y = round(4 * self._unit), image.shape[0] - round(6 * self._unit)
        thick = rim = max(1, round(self._unit / 2))
        font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.35 * self._unit
        # white with a dark rim reads anywhere; bolder letters for the rim would be wider ones
        for dx, dy in ((-rim, 0), (rim, 0), (0, -rim), (0, rim)):
            cv2.putText(image, text, (x + dx, y + dy), font, scale, (0, 0, 0), thick, cv2.LINE_AA)
        cv2.putText(image, text, (x, y), font, scale, (255, 255, 255), thick, cv2.LINE_AA)


def _color(row: Row) -> tuple[int, int, int]:
    if row.source != "detected":
        return _FILLED_RGB
    red, green = min(1.0, 2 - 2 * row.confidence), min(1.0, 2 * row.confidence)
    return round(255 * red), round(255 * green), 40


def _fixed(row: Row, origin: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """OpenCV's pixel-centre coordinates in sixteenths of a pixel."""
    return round((row.x_px - origin[0] - 0.5) * 16), round((row.y_px - origin[1] - 0.5) * 16)
