"""Small bright things that are not the shuttle in play: lights and clappers in the stands, spare
shuttles, score graphics."""

from dataclasses import dataclass

import cv2
import numpy as np

from shuttlelib.synth.boards import FONTS, word
from shuttlelib.synth.camera import Camera
from shuttlelib.synth.shuttle import ShuttleLook, blend, draw_shuttle


def overlay(rng: np.random.Generator, camera: Camera) -> tuple[int, int, np.ndarray] | None:
    """A score box: place (x, y) and opaque picture; None for a clip without graphics."""
    scale = min(camera.size_hw[0] / 720, camera.size_hw[1] / 1280)
    if rng.random() < 0.2 or scale < 0.2:
        return None
    wide, high = int(rng.uniform(200, 280)), int(rng.uniform(40, 64))
    box = np.full((high, wide, 3), int(rng.choice((225, 30, 60))), np.uint8)
    ink = (20, 20, 24) if box[0, 0, 0] > 128 else (240, 240, 240)
    row = high // 2
    for k in range(2):
        flag = rng.integers(0, 255, 3).tolist()
        cv2.rectangle(box, (6, k * row + 4), (26, k * row + row - 5), flag, -1)
        cv2.putText(box, word(rng, 3), (36, k * row + row - 7), FONTS[1], row / 42, ink, 1, cv2.LINE_AA)
        cv2.rectangle(box, (wide - 34, k * row + 2), (wide - 4, k * row + row - 3), (40, 40, 46), -1)
        score, spot = str(rng.integers(0, 22)), (wide - 30, k * row + row - 7)
        cv2.putText(box, score, spot, FONTS[1], row / 42, (245,) * 3, 1, cv2.LINE_AA)
    size = (max(2, int(wide * scale)), max(2, int(high * scale)))
    picture = cv2.resize(box, size, interpolation=cv2.INTER_AREA)
    x = int(camera.size_hw[1] * rng.uniform(0.04, 0.2))
    y = int(camera.size_hw[0] * (rng.uniform(0.03, 0.08) if rng.random() < 0.85 else 0.86))
    h, w = camera.size_hw
    return x, y, np.ascontiguousarray(picture[: h - y, : w - x])


@dataclass(frozen=True)
class Twinkles:
    """Small bright things that move or flash in the stands: clappers, screens, camera flashes.

    Attributes:
        xy: (N, 2) px.
        radius: (N,) px.
        rate, phase: (N,) rad/s and rad of the waving.
        reach: (N,) how far they wave, px; 0 for flashes.
    """

    xy: np.ndarray
    radius: np.ndarray
    rate: np.ndarray
    phase: np.ndarray
    reach: np.ndarray

    def draw(self, frame: np.ndarray, time_s: float) -> None:
        """Add those that are lit at a time to the frame in place."""
        swing = np.sin(self.rate * time_s + self.phase)
        for (x, y), radius, reach, s in zip(self.xy, self.radius, self.reach, swing):
            if reach > 0 or s > 0.97:
                center = (round((x + reach * s) * 16), round((y - abs(reach * s) * 0.5) * 16))
                cv2.circle(frame, center, max(8, round(radius * 16)), (232, 234, 228), -1, cv2.LINE_AA, 4)


def random_twinkles(rng: np.random.Generator, camera: Camera, arena: bool) -> Twinkles:
    """Some, or none, behind the far boards."""
    count = int(rng.choice((0, 2, 6, 16))) if arena else 0
    spots = np.column_stack([rng.uniform(-20, 20, count), rng.uniform(15, 28, count), np.zeros(count)])
    spots[:, 2] = 1.3 + 0.55 * (spots[:, 1] - 15)
    if camera.position[1] > 0:
        spots[:, 1] *= -1
    xy, depth = camera.project(spots)
    xy, depth = xy[depth > 3], depth[depth > 3]
    flash = rng.random(len(xy)) < 0.4
    radius = camera.focal_px / np.maximum(depth, 3) * rng.uniform(0.03, 0.09, len(xy))
    reach = np.where(flash, 0.0, camera.focal_px / np.maximum(depth, 3) * rng.uniform(0.05, 0.4, len(xy)))
    return Twinkles(xy, radius, rng.uniform(3, 14, len(xy)), rng.uniform(0, 7, len(xy)), reach)


def draw_spares(frame: np.ndarray, camera: Camera, look: ShuttleLook, rng: np.random.Generator) -> None:
    """Spare shuttles beside the court in some halls: shuttles, but never the one in play."""
    for _ in range(int(rng.choice((0, 0, 0, 1, 3)))):
        head = np.array([[rng.choice((-1, 1)) * rng.uniform(3.8, 6.5), rng.uniform(-7, 7), 0.03]])
        turn = rng.uniform(0, 7)
        patch = draw_shuttle(camera, look, head, np.array([[np.cos(turn), np.sin(turn), -0.3]]) / 1.044)
        if patch is not None:
            blend(frame, patch)
