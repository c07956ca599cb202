"""What stands still: floor, mat, lines, net, boards, stands, furniture; rendered once a clip."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from shuttlelib.synth.camera import COURT_LENGTH_M, COURT_WIDTH_M, NEAR_PLANE_M, Camera
from shuttlelib.synth.figure import RGB
from shuttlelib.synth.flight import NET_TOP_M
from shuttlelib.synth.shuttle import Patch, fixed

LINE_M = 0.04
EDGE_STEP_M = 0.5  # between the points of an edge that is drawn
NET_MIDDLE_M, NET_DEPTH_M = 1.524, 0.76


@dataclass(frozen=True)
class Venue:
    """A hall's colours (RGB) and kind; everything that two clips of one venue share besides the camera.

    Attributes:
        name: as it stands in splits.csv.
        seed: drives boards, crowd and furniture.
        arena: dark stands with a crowd; else a bright training hall with walls.
        light: 0 is dark around the court, 1 as bright as the court.
        mat, surround, boards, wall, lines: RGB.
        net_alpha: how much of what is behind it the net's mesh covers.
    """

    name: str
    seed: int
    arena: bool
    light: float
    mat: RGB
    surround: RGB
    boards: tuple[RGB, ...]
    wall: RGB
    lines: RGB
    net_alpha: float


def make_venue(number: int) -> Venue:
    """The venue of a number: the same number is the same hall."""
    rng = np.random.default_rng([7151, number])
    mats: list[RGB] = [
        (62, 160, 98), (40, 150, 110), (70, 175, 90), (46, 120, 84), (84, 150, 120), (58, 170, 140),
        (40, 90, 160), (60, 120, 190), (176, 60, 52), (196, 156, 108), (110, 130, 80),
    ]  # fmt: skip
    floors: list[RGB] = [
        (40, 84, 170), (30, 60, 150), (150, 24, 28), (200, 30, 30), (44, 44, 50), (90, 92, 98),
        (186, 142, 96), (60, 110, 150), (120, 120, 124), (50, 120, 90), (216, 90, 40),
    ]  # fmt: skip
    boards: list[RGB] = [
        (200, 24, 40), (20, 60, 160), (24, 130, 80), (240, 240, 240), (30, 30, 34), (150, 30, 90),
        (30, 140, 190), (236, 180, 40), (90, 40, 140), (10, 90, 100),
    ]  # fmt: skip
    arena = bool(rng.random() < 0.75)
    order = rng.permutation(len(boards))[:4]
    mat = mats[int(rng.choice(len(mats), p=np.array([3, 3, 3, 3, 2, 2, 1, 1, 1, 1, 1]) / 21))]
    wall, tint = rng.integers(120, 220, 3), rng.integers(-14, 15, 3)
    return Venue(
        name=f"rendered hall {number}",
        seed=number,
        arena=arena,
        light=float(rng.uniform(0.08, 0.4) if arena else rng.uniform(0.6, 1)),
        mat=_rgb(np.array(mat) + tint),
        surround=floors[int(rng.integers(len(floors)))],
        boards=tuple(boards[i] for i in order),
        wall=(16, 16, 20) if arena else _rgb(wall),
        lines=(238, 240, 236) if rng.random() < 0.85 else (240, 220, 90),
        net_alpha=float(rng.choice((0.06, 0.12, 0.2, 0.3))),
    )


def _rgb(values: np.ndarray) -> RGB:
    red, green, blue = (int(v) for v in np.clip(values, 0, 255))
    return red, green, blue


class Canvas:
    """A supersampled picture on which court polygons are drawn in perspective."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        h, w = camera.size_hw
        self.ss = 2 if h * w < 3_000_000 else 1
        self.image = np.zeros((h * self.ss, w * self.ss, 3), np.uint8)

    def outline(self, points: np.ndarray) -> np.ndarray | None:
        """Supersampled image coordinates (N, 2) of a polygon (K, 3): edges subdivided for the lens's
        curves and clipped in front of the camera; None if nothing is left."""
        ends = np.roll(points, -1, axis=0)
        pieces = []
        for a, b in zip(points, ends):
            count = int(np.clip(np.linalg.norm(b - a) / EDGE_STEP_M, 1, 60))
            share = np.linspace(0, 1, count, endpoint=False)[:, None]
            pieces.append(a + (b - a) * share)
        local = self.camera.to_camera(np.concatenate(pieces))
        kept: list[np.ndarray] = []
        for a, b in zip(local, np.roll(local, -1, axis=0)):
            if a[2] >= NEAR_PLANE_M:
                kept.append(a)
            if (a[2] >= NEAR_PLANE_M) != (b[2] >= NEAR_PLANE_M):
                kept.append(a + (b - a) * (NEAR_PLANE_M - a[2]) / (b[2] - a[2]))
        if len(kept) < 3:
            return None
        return np.clip(self.camera.project_camera(np.array(kept)) * self.ss, -8000, 16000)

    def polygon(self, points: np.ndarray, rgb: Iterable[float]) -> None:
        """Fill a polygon (K, 3) of court coordinates; colours are rounded down."""
        xy = self.outline(points)
        if xy is not None:
            cv2.fillPoly(self.image, [fixed(xy)], tuple(int(c) for c in rgb), cv2.LINE_AA, 4)

    def floor(self, x0: float, y0: float, x1: float, y1: float, rgb: Iterable[float], z: float = 0.0) -> None:
        """Fill a rectangle on the floor."""
        self.polygon(np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]]), rgb)

    def texture(self, corners: np.ndarray, picture: np.ndarray) -> None:
        """Lay a picture over a quadrilateral (4, 3), its corners from the top left clockwise.

        Args:
            corners: court coordinates, m.
            picture: uint8 (h, w, 3), or (h, w, 4) with alpha.
        """
        local = self.camera.to_camera(corners)
        if local[:, 2].min() < NEAR_PLANE_M:
            return
        xy = self.camera.project_camera(local) * self.ss
        edges = np.linalg.norm(xy - np.roll(xy, 1, axis=0), axis=1)  # left, top, right, bottom
        picture = _shrink(picture, max(edges[1], edges[3]), max(edges[0], edges[2]))
        low, high = np.floor(xy.min(0)).astype(int), np.ceil(xy.max(0)).astype(int)
        low, high = np.maximum(low, 0), np.minimum(high, [self.image.shape[1], self.image.shape[0]])
        if (high - low).min() < 2:
            return
        h, w = picture.shape[:2]
        source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
        matrix = cv2.getPerspectiveTransform(source, (xy - low).astype(np.float32))
        if picture.shape[2] == 3:
            picture = np.dstack([picture, np.full((h, w), 255, np.uint8)])
        warped = cv2.warpPerspective(picture, matrix, tuple(int(s) for s in high - low), flags=cv2.INTER_AREA)
        roi = self.image[low[1] : high[1], low[0] : high[0]]
        alpha = cv2.merge([warped[..., 3]] * 3)
        cv2.multiply(roi, 255 - alpha, dst=roi, scale=1 / 255)
        cv2.add(roi, cv2.multiply(np.ascontiguousarray(warped[..., :3]), alpha, scale=1 / 255), dst=roi)

    def finish(self) -> np.ndarray:
        """The picture at the frame's size."""
        h, w = self.camera.size_hw
        return cv2.resize(self.image, (w, h), interpolation=cv2.INTER_AREA)


def upright(
    normal: np.ndarray, away: float, across: tuple[float, float], height: tuple[float, float]
) -> np.ndarray:
    """Corners (4, 3) of a rectangle that stands around the court and faces it, from the top left clockwise.

    Args:
        normal: (2,) unit direction to it, seen from the court's middle.
        away: how far, m.
        across: its left and right end, m.
        height: its lower and upper edge, m.
    """
    along = np.array([normal[1], -normal[0]])
    left, right = (normal * away + along * end for end in across)
    low, high = height
    return np.array([[*left, high], [*right, high], [*right, low], [*left, low]])


def _shrink(picture: np.ndarray, wide: float, high: float) -> np.ndarray:
    """A picture no larger than it will appear, so that warping it does not alias."""
    h, w = picture.shape[:2]
    size = (int(np.clip(wide, 2, w)), int(np.clip(high, 2, h)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _wear(rng: np.random.Generator, planks: bool) -> np.ndarray:
    """Scuffs, shine and unevenness of a floor as a picture with alpha, uint8 (1024, 512, 4)."""
    tone = np.zeros((1024, 512), np.float32)
    for cells, weight in ((4, 0.05), (16, 0.02), (64, 0.012), (256, 0.012)):
        coarse = rng.normal(0, weight, (2 * cells, cells)).astype(np.float32)
        tone += cv2.resize(coarse, (512, 1024), interpolation=cv2.INTER_CUBIC)
    if planks:
        tone += np.repeat(rng.normal(0, 0.05, (1, 64)), 8, axis=1).astype(np.float32)
    for _ in range(int(rng.integers(20, 120))):
        a = rng.integers((0, 0), (512, 1024))
        b = a + rng.integers(-30, 31, 2)
        mark = float(rng.choice((-0.08, 0.1)))
        cv2.line(tone, tuple(map(int, a)), tuple(map(int, b)), mark, 1, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 5))):  # lamps mirrored in the mat
        shine = np.zeros((128, 64), np.float32)
        middle = tuple(int(v) for v in rng.integers((8, 12), (56, 116)))
        cv2.ellipse(shine, middle, (int(rng.integers(2, 10)), int(rng.integers(8, 25))), 0, 0, 360, 1.0, -1)
        shine = cv2.resize(cv2.GaussianBlur(shine, (0, 0), 4), (512, 1024), interpolation=cv2.INTER_CUBIC)
        tone += shine * float(rng.uniform(0.03, 0.16))
    white = np.where(tone > 0, 255, 0).astype(np.uint8)
    return cv2.merge([white, white, white, np.clip(np.abs(tone) * 255, 0, 200).astype(np.uint8)])


def court_lines() -> list[tuple[float, float, float, float]]:
    """Rectangles (x0, y0, x1, y1) of the painted lines, m.

    Source: Badminton World Federation, Laws of Badminton, diagram A: 13.4 x 6.1 m to the outside of
    40 mm lines, short service line 1.98 m from the net, long service line for doubles 0.76 m inside.
    """
    x, y, w = COURT_WIDTH_M / 2, COURT_LENGTH_M / 2, LINE_M
    rects = []
    for sign in (-1, 1):
        for near, far in ((y - w, y), (y - 0.76 - w, y - 0.76), (1.98, 1.98 + w)):
            low, high = sorted((sign * near, sign * far))
            rects.append((-x, low, x, high))
        for near in (x - w, x - 0.46 - w):
            low, high = sorted((sign * near, sign * (near + w)))
            rects.append((low, -y, high, y))
        low, high = sorted((sign * 1.98, sign * y))
        rects.append((-w / 2, low, w / 2, high))
    return rects


def draw_court(canvas: Canvas, venue: Venue, rng: np.random.Generator) -> None:
    """Inner floor, mat, neighbouring mats and lines."""
    canvas.floor(-9.5, -12, 9.5, 12, venue.surround)
    edge_x, edge_y = rng.uniform(3.7, 4.4), rng.uniform(7.4, 8.4)
    others = () if venue.arena else (-1, 1)
    for shift in (0.0, *(o * rng.uniform(9.2, 10.5) for o in others)):
        dim = 1.0 if shift == 0 else 0.8
        mat = tuple(int(c * dim) for c in venue.mat)
        canvas.floor(shift - edge_x, -edge_y, shift + edge_x, edge_y, tuple(int(c * 0.8) for c in mat))
        canvas.floor(shift - edge_x + 0.05, -edge_y + 0.05, shift + edge_x - 0.05, edge_y - 0.05, mat)
        if shift == 0:
            quad = np.array(
                [[-edge_x, edge_y, 0], [edge_x, edge_y, 0], [edge_x, -edge_y, 0], [-edge_x, -edge_y, 0]]
            )
            canvas.texture(quad * np.array([2.1, 1.25, 1]), _wear(rng, False))
            canvas.texture(quad, _wear(rng, venue.mat[0] > venue.mat[1]))
        for x0, y0, x1, y1 in court_lines():
            canvas.floor(shift + x0, y0, shift + x1, y1, dim * np.array(venue.lines))


def net_patch(camera: Camera, venue: Venue) -> Patch:
    """The net as a patch to lay over the frame: mesh, tape, posts' tops; cut to where it is."""
    half, bottom = COURT_WIDTH_M / 2, NET_TOP_M - NET_DEPTH_M
    mesh, tape = Canvas(camera), Canvas(camera)
    share = np.linspace(-1, 1, 21)
    top = np.stack([share * half, 0 * share, NET_MIDDLE_M + (NET_TOP_M - NET_MIDDLE_M) * share**2], axis=1)
    low = np.stack([share * half, 0 * share, np.full(21, bottom)], axis=1)
    mesh.polygon(np.concatenate([top, low[::-1]]), (int(255 * venue.net_alpha),) * 3)
    tape.polygon(np.concatenate([top, (top - np.array([0, 0, 0.045]))[::-1]]), (245,) * 3)
    for sign in (-1, 1):
        edge = np.array(
            [[half, 0, bottom], [half - 0.03, 0, bottom], [half - 0.03, 0, NET_TOP_M], [half, 0, NET_TOP_M]]
        )
        tape.polygon(edge * np.array([sign, 1, 1]), (200,) * 3)
    weave, white = mesh.finish(), tape.finish()
    x0, y0, w, h = cv2.boundingRect(cv2.max(weave[..., 0], white[..., 0]))
    if not w:
        return Patch(0, 0, np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 3), np.uint8))
    weave, white = (a[y0 : y0 + h, x0 : x0 + w].astype(np.float32) for a in (weave, white))
    weave *= np.random.default_rng(venue.seed).normal(1, 0.25, (h, w, 1)).clip(0, 2)  # cords, unevenly seen
    rgb = weave / 255 * np.array([40, 34, 30], np.float32) * (1 - white / 255) + white * 0.95
    return Patch(
        x0, y0, rgb.clip(0, 255).astype(np.uint8), np.maximum(weave, white).clip(0, 255).astype(np.uint8)
    )
