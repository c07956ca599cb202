"""White lettering, which misleads detectors: advertising boards around the court, words on the floor."""

import cv2
import numpy as np

from shuttlelib.synth.figure import RGB
from shuttlelib.synth.scene import Canvas, Venue, upright

SYLLABLES = (
    "NOR", "VEL", "KA", "TO", "RI", "MEX", "LUN", "AR", "DO", "SEN", "FI", "ZA", "BREM", "QUI", "HAL", "ON",
)  # fmt: skip
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX)


def word(rng: np.random.Generator, parts: int) -> str:
    """An invented name."""
    return "".join(SYLLABLES[int(i)] for i in rng.integers(len(SYLLABLES), size=parts))


def lettering(rng: np.random.Generator, text: str, rgb: RGB, background: RGB | None) -> np.ndarray:
    """A word with a simple emblem, uint8 (h, w, 3), or (h, w, 4) without a background."""
    font, height = FONTS[int(rng.integers(len(FONTS)))], 96
    scale, thick = height / 42, int(rng.integers(4, 14))
    (wide, high), _ = cv2.getTextSize(text, font, scale, thick)
    picture = np.zeros((height * 2, wide + height * 3, 4), np.uint8)
    if background is not None:
        picture[:] = (*background, 255)
    ink = (*rgb, 255)
    cv2.putText(picture, text, (int(height * 1.9), height + high // 2), font, scale, ink, thick, cv2.LINE_AA)
    middle, r = (int(height * 0.95), height), int(height * 0.5)
    shape = int(rng.integers(4))
    if shape == 0:
        cv2.circle(picture, middle, r, ink, -1, cv2.LINE_AA)
    elif shape == 1:
        cv2.circle(picture, middle, r, ink, r // 3, cv2.LINE_AA)
    elif shape == 2:
        points = np.array([[0, -r], [r, 0], [0, r], [-r, 0]]) + middle
        cv2.fillConvexPoly(picture, points, ink, cv2.LINE_AA)
    else:
        for k in range(3):
            left = (middle[0] - r, middle[1] + (k - 1) * r // 2)
            right = (middle[0] + r, middle[1] - r + k * r // 2)
            cv2.line(picture, left, right, ink, r // 4, cv2.LINE_AA)
    return picture if background is None else np.ascontiguousarray(picture[..., :3])


def draw_floor_words(canvas: Canvas, venue: Venue, rng: np.random.Generator) -> None:
    """White words on the mat (behind the baselines, in the middle) and on the surround."""
    if not venue.arena and rng.random() < 0.6:
        return
    spots = [(-7.15, 0.5, 3.0, 0.0), (7.15, 0.4, 3.0, 0.0)]
    spots += [(-0.9 * rng.choice((-1, 1)), 0.75, 2.6, 0.0)] if rng.random() < 0.6 else []
    spots += [(rng.uniform(-6, -3), 0.6, 2.4, s * rng.uniform(5.4, 6.4)) for s in (-1, 1)]
    for y, high, wide, x in spots:
        picture = lettering(rng, word(rng, int(rng.integers(2, 4))), (240, 242, 240), None)
        x0, x1 = x - wide / 2, x + wide / 2
        quad = np.array(
            [[x0, y + high / 2, 0], [x1, y + high / 2, 0], [x1, y - high / 2, 0], [x0, y - high / 2, 0]]
        )
        if y > 6:
            quad = quad[[2, 3, 0, 1]]
        canvas.texture(quad, picture)


def draw_boards(canvas: Canvas, venue: Venue, rng: np.random.Generator) -> None:
    """Advertising boards around the court, except those between the camera and the court."""
    rows = [
        (np.array([0.0, 1.0]), rng.uniform(9.0, 10.5), 0.0),
        (np.array([0.0, 1.0]), rng.uniform(11, 12.5), rng.uniform(0.3, 0.8)),
    ]
    rows += [(np.array([s, 0.0]), rng.uniform(7.0, 8.5), 0.0) for s in (-1.0, 1.0)]
    rows += [(np.array([0.0, -1.0]), 10.0, 0.0)]
    rows.sort(key=lambda r: -float(np.hypot(*(canvas.camera.position[:2] - r[0] * r[1]))))
    for normal, away, base in rows:
        if float(canvas.camera.position[:2] @ normal) > away - 2:
            continue
        length, high = rng.uniform(2.0, 3.4), rng.uniform(0.8, 1.05)
        span = 7.5 if normal[1] else 8.5
        for start in np.arange(-span, span - length / 2, length):
            background = venue.boards[int(rng.integers(len(venue.boards)))]
            ink: RGB = (245, 245, 245) if min(background) < 200 else venue.boards[0]
            if min(background) >= 200 and min(ink) >= 200:
                ink = (30, 60, 150)
            shade = 0.55 + 0.45 * rng.random() if venue.arena else 0.9
            picture = lettering(rng, word(rng, int(rng.integers(2, 4))), ink, background)
            board = upright(normal, away, (start, start + length), (base, base + high))
            canvas.texture(board, (picture * shade).astype(np.uint8))
