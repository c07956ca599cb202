"""The pictures of a labelling task: the frame at native size, and three small ones of the frames before it.

A small one is the whole past frame with a close-up laid into its corner: of the place where the model saw
the shuttle then, at the scale of a 1280x720 frame, since a shuttle cannot be seen in a frame that small.
"""

from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path

import cv2
import numpy as np

from shuttlelib.apps.labeling.page import PAST
from shuttlelib.files import atomic_write
from shuttlelib.frames import Frame, history_stride
from shuttlelib.geometry import crop_window
from shuttlelib.video import TruncatedVideoError, read_frames

PAST_HEIGHT = 360  # px of the small pictures
_INSET = 0.45  # of their height
_RING = (255, 77, 0)
Place = tuple[float, float]  # native px

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def image_name(frame: int, past: int = 0, lossless: bool = False) -> str:
    """The file of a frame, or of the `past`-th look before it."""
    suffix = "png" if lossless and not past else "jpg"
    return f"{frame:06d}_past{past}.{suffix}" if past else f"{frame:06d}.{suffix}"


def extract(
    video: Path,
    fps: float,
    frames: Collection[int],
    places: Mapping[int, Place],
    folder: Path,
    lossless: bool = False,
) -> list[int]:
    """Write the pictures of the wanted frames.

    Args:
        video: decoded once, in order, up to the last wanted frame.
        fps: decides how far apart looks are: a thirtieth of a second, as for the networks.
        frames: wanted frame numbers.
        places: where the model saw the shuttle, by frame.
        folder: made if missing; pictures that are there are written again.
        lossless: PNG instead of JPEG of quality 95 with full colour resolution (three times the bytes).

    Returns:
        The frames that were found, in order.

    Raises:
        VideoError: the video cannot be read; one that stops early just gives fewer frames.
        WriteError: the disk is full or the like.
    """
    stride, wanted, found = history_stride(fps), set(frames), []
    past: deque[Frame] = deque(maxlen=PAST * stride + 1)
    try:
        for frame in read_frames(video):
            past.append(frame)
            if frame.index in wanted:
                save_image(folder / image_name(frame.index, lossless=lossless), frame.rgb)
                near = places.get(frame.index)
                for n in range(1, PAST + 1):
                    before = past[max(0, len(past) - 1 - n * stride)]
                    picture = past_picture(before, places.get(before.index, near))
                    save_image(folder / image_name(frame.index, n), picture)
                found.append(frame.index)
            if len(found) == len(wanted):
                break
    except TruncatedVideoError:
        pass
    return found


def past_picture(frame: Frame, place: Place | None) -> np.ndarray:
    """A small picture of a frame, uint8 (360, W, 3) RGB, with the close-up where a place is known."""
    height, width = frame.size_hw
    scale = PAST_HEIGHT / height
    small = cv2.resize(frame.rgb, (round(width * scale), PAST_HEIGHT), interpolation=cv2.INTER_AREA)
    side = round(PAST_HEIGHT * _INSET)
    if place is None or small.shape[1] < 2 * side:
        return small
    close_up = frame.window(crop_window(np.array(place), frame.size_hw, side))
    x, y = round(place[0] * scale), round(place[1] * scale)
    cv2.circle(small, (x, y), 9, _RING, 1, cv2.LINE_AA)
    left, top = x > small.shape[1] / 2, y > PAST_HEIGHT / 2  # into the corner far from the shuttle
    x0, y0 = (0 if left else small.shape[1] - side), (0 if top else PAST_HEIGHT - side)
    small[y0 : y0 + side, x0 : x0 + side] = close_up
    cv2.rectangle(small, (x0, y0), (x0 + side - 1, y0 + side - 1), _RING, 1)
    return small


def save_image(path: Path, rgb: np.ndarray) -> None:
    """Write a picture (.jpg or .png), whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    data = cv2.imencode(path.suffix, rgb[:, :, ::-1], _JPEG if path.suffix == ".jpg" else [])[1]
    with atomic_write(path) as temp:
        temp.write_bytes(data.tobytes())
