"""How far labels themselves stray, from nothing but the labels: the floor under any error; used by metrics.

Source: the method is that of the real rallies' README (third differences, about 2.8 px at 1920x1080). It
    counted repeated pictures as noise; leaving them out makes the floor lower, and both are reported.
"""

import numpy as np
import pandas as pd

from shuttlelib.geometry import FULLHD_HW, SizeHW, rescale

REPEAT_SHARE = 0.3  # a step so much shorter than its neighbours is a repeated picture
# Real labels that say "invisible" for at most so many frames between visible ones. Of 176 such frames of the
# train rallies stage 2 saw the shuttle in 83; by eye it is plainly there in 33 of those, perhaps in 37.
BLINK_FRAMES = 3


def third_differences(truth: pd.DataFrame, size_hw: SizeHW) -> tuple[np.ndarray, np.ndarray]:
    """What a label track cannot do by flying: the third difference of every four frames in a row.

    A constant acceleration has none, so in flight they are noise of the labels; a hit in the four frames is
    no noise, but rare enough for a median.

    Args:
        truth: columns frame, visible, x_px, y_px.

    Returns:
        (W,) lengths, px at 1920x1080; (W,) whether one of the three steps is a repeated picture: footage
        stored at another rate than it was filmed repeats pictures, and the track rests there and leaps after.
    """
    seen = truth[truth["visible"].eq(1)].sort_values("frame")
    xy = rescale(seen[["x_px", "y_px"]].to_numpy(np.float64), size_hw, FULLHD_HW)
    if len(xy) < 4:
        return np.empty(0), np.empty(0, bool)
    frame = seen["frame"].to_numpy()
    in_a_row = frame[3:] - frame[:-3] == 3
    steps = np.lib.stride_tricks.sliding_window_view(np.hypot(*np.diff(xy, axis=0).T), 3)
    repeats = steps.min(1) < REPEAT_SHARE * np.median(steps, 1)
    return np.hypot(*np.diff(xy, n=3, axis=0).T)[in_a_row], repeats[in_a_row]


def blinks(frame: np.ndarray, visible: np.ndarray, longest: int = BLINK_FRAMES) -> np.ndarray:
    """(N,) which labels say "invisible" for at most `longest` frames between visible ones.

    Args:
        frame: (N,) numbers, in any order. visible: (N,) bool.
    """
    seen = np.sort(frame[visible])
    if not len(seen):
        return np.zeros(len(frame), bool)
    place = np.searchsorted(seen, frame)
    inside = (place > 0) & (place < len(seen))
    gap = seen[np.minimum(place, len(seen) - 1)] - seen[np.maximum(place - 1, 0)] - 1
    return ~visible & inside & (gap <= longest)


def label_noise_px(third_px: np.ndarray) -> float | None:
    """Mean distance of labels from where the shuttle was, of their third differences; None without any.

    The third difference of white noise of standard deviation s in each axis has standard deviation
    sqrt(1 + 9 + 9 + 1) s = sqrt(20) s; its length has the median sqrt(2 ln 2) of that, and a label's distance
    the mean sqrt(pi / 2) s. Noise that is alike in neighbouring frames (labels carried on by a tool) is
    underestimated. On exact labels it is small but not 0: drag and perspective bend a flight.
    """
    if not len(third_px):
        return None
    return round(float(np.median(third_px) / np.sqrt(20 * 2 * np.log(2)) * np.sqrt(np.pi / 2)), 6)
