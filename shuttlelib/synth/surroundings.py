"""What surrounds the court: stands with a crowd or walls, officials on chairs, small white things."""

import cv2
import numpy as np

from shuttlelib.synth.camera import Camera
from shuttlelib.synth.figure import HAIRS, RGB, SKINS, Outfit, draw_figure
from shuttlelib.synth.pose import JOINTS, J
from shuttlelib.synth.scene import Canvas, Venue, upright
from shuttlelib.synth.shuttle import blend


def draw_stands(canvas: Canvas, venue: Venue, rng: np.random.Generator) -> None:
    """The floor far out; tiers with a crowd, out of focus, in an arena; walls with windows in a hall."""
    far = np.array(venue.surround) * (0.35 + 0.65 * venue.light)
    if not venue.arena:
        far = 0.4 * far + 0.6 * rng.uniform(70, 150)
    canvas.floor(-45, -45, 45, 60, far)
    camera = canvas.camera.position[:2]
    for normal, away in (
        (np.array([0.0, 1.0]), 15.0),
        (np.array([-1.0, 0.0]), 12.0),
        (np.array([1.0, 0.0]), 12.0),
        (np.array([0.0, -1.0]), 15.0),
    ):
        if float(camera @ normal) > away - 3:
            continue
        if venue.arena:
            _crowd(canvas, venue, rng, normal, away)
        else:
            _wall(canvas, venue, rng, normal, away + 8)
    if venue.arena:
        soft = float(rng.uniform(0.3, 1.6)) * canvas.camera.size_hw[0] / 720
        blurred = cv2.GaussianBlur(canvas.finish(), (0, 0), max(soft, 0.3))
        canvas.image[:] = cv2.resize(blurred, canvas.image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _wall(canvas: Canvas, venue: Venue, rng: np.random.Generator, normal: np.ndarray, away: float) -> None:
    """A wall with a dark base under a bright ceiling, windows and lamps."""
    canvas.polygon(upright(normal, away, (-40, 40), (0, 9)), venue.wall)
    canvas.polygon(upright(normal, away, (-40, 40), (0, 2.2)), 0.75 * np.array(venue.wall))
    canvas.polygon(upright(normal, away, (-40, 40), (9, 40)), (205, 208, 210))
    for s in np.arange(-24, 24, 6.0):
        if rng.random() < 0.8:
            canvas.polygon(upright(normal, away, (s, s + 3.5), (5, 7.5)), rng.integers(200, 255, 3))
        if rng.random() < 0.7:
            canvas.polygon(upright(normal, away, (s + 1, s + 4.5), (11, 11.8)), (255, 255, 250))


def _crowd(canvas: Canvas, venue: Venue, rng: np.random.Generator, normal: np.ndarray, away: float) -> None:
    """Seated people as heads and shoulders on rising rows; bright far ones are a few pixels wide."""
    along = np.array([normal[1], -normal[0]])
    dark = 0.08 + 1.1 * venue.light
    tint = rng.uniform(0.3, 1.0, 3) if rng.random() < 0.5 else np.ones(3)
    canvas.polygon(upright(normal, away + 30, (-60, 60), (0, 30)), np.array([20, 20, 26]) * tint)
    share = rng.uniform(0.25, 0.9)
    for row in range(16, -1, -1):
        depth, height = away + row * 0.9, 0.9 + row * 0.5
        tone = (22 + 10 * (row % 2)) * tint * (0.5 + dark)
        canvas.polygon(upright(normal, depth, (-26, 26), (height - 0.9, height)), tone)
        seats = np.arange(-24, 24, 0.62)
        seats = seats[rng.random(len(seats)) < share]
        spots = normal * depth + seats[:, None] * along + rng.normal(0, 0.08, (len(seats), 2))
        places = np.column_stack([spots, np.full(len(seats), height + 0.45)])
        _people(canvas, rng, places, tint, dark)


def _people(
    canvas: Canvas, rng: np.random.Generator, places: np.ndarray, tint: np.ndarray, dark: float
) -> None:
    xy, depth = canvas.camera.project(places)
    xy = xy * canvas.ss
    h, w = canvas.image.shape[:2]
    inside = (depth > 1) & (xy[:, 0] > -50) & (xy[:, 0] < w + 50) & (xy[:, 1] > -50) & (xy[:, 1] < h + 50)
    for (x, y), z in zip(xy[inside], depth[inside]):
        m = canvas.camera.focal_px * canvas.ss / z
        light = dark * rng.uniform(0.25, 1.0)
        shirt = rng.integers(20, 235, 3) * tint * light
        if rng.random() < 0.3:
            shirt = np.full(3, float(rng.choice((14, 20, 30, 225)))) * light
        shirt = shirt * 0.55 + shirt.mean() * 0.45
        body, shoulders = (int(x), int(y + 0.1 * m)), (max(1, int(0.23 * m)), max(1, int(0.32 * m)))
        cv2.ellipse(canvas.image, body, shoulders, 0, 0, 360, shirt.tolist(), -1)
        face = np.array(SKINS[int(rng.integers(5))]) * tint * light
        head, radius = (int(x), int(y - 0.3 * m)), max(1, int(0.12 * m))
        cv2.circle(canvas.image, head, radius, face.tolist(), -1, cv2.LINE_AA)
        hair = np.array(HAIRS[int(rng.integers(5))]) * light
        crown, cap = (int(x), int(y - 0.36 * m)), (radius, max(1, int(0.08 * m)))
        cv2.ellipse(canvas.image, crown, cap, 0, 180, 360, hair.tolist(), -1)


def seated(place: np.ndarray, facing: np.ndarray, seat_m: float) -> np.ndarray:
    """Joints (J, 3) of somebody on a chair."""
    right, up = np.array([facing[1], -facing[0], 0.0]), np.array([0, 0, 1.0])
    joints = np.zeros((len(JOINTS), 3))
    pelvis = np.array([*place, seat_m])
    joints[J["pelvis"]], joints[J["chest"]] = pelvis, pelvis + up * 0.34
    joints[J["neck"]], joints[J["head"]] = pelvis + up * 0.53, pelvis + up * 0.7 + facing * 0.05
    for name, s in (("l", -1), ("r", 1)):
        joints[J[f"hip_{name}"]] = pelvis + right * s * 0.1
        joints[J[f"knee_{name}"]] = knee = pelvis + right * s * 0.13 + facing * 0.42
        joints[J[f"ankle_{name}"]] = knee - up * 0.4
        joints[J[f"toe_{name}"]] = knee - up * 0.44 + facing * 0.18
        joints[J[f"shoulder_{name}"]] = pelvis + up * 0.5 + right * s * 0.19
        joints[J[f"elbow_{name}"]] = pelvis + up * 0.26 + right * s * 0.24 + facing * 0.06
        joints[J[f"hand_{name}"]] = pelvis + up * 0.1 + right * s * 0.12 + facing * 0.32
    joints[J["racket_tip"]] = joints[J["racket_throat"]] = joints[J["hand_r"]]
    return joints


def draw_furniture(canvas: Canvas, venue: Venue, rng: np.random.Generator) -> list[tuple[np.ndarray, Outfit]]:
    """Posts, umpire's chair, boxes, towels; returns the officials (joints, clothes) to draw on top."""
    people: list[tuple[np.ndarray, Outfit]] = []
    folds = np.full((2, 2), 128, np.uint8)
    uniform: RGB = venue.boards[1] if rng.random() < 0.5 else (30, 32, 40)

    def official(place: tuple[float, float], facing: tuple[float, float], seat_m: float) -> None:
        if seat_m < 1:
            _box(canvas, place[0], place[1], 0.24, 0.24, 0, seat_m - 0.12, (50, 50, 56))
        skin, hair = SKINS[int(rng.integers(5))], HAIRS[int(rng.integers(4))]
        suit = Outfit(
            skin=skin,
            hair=hair,
            shirt=uniform,
            shorts=(26, 26, 34),
            shoes=(30, 30, 30),
            socks=(30, 30, 30),
            racket=(0, 0, 0),
            accent=uniform,
            folds=folds,
            trousers=True,
        )
        people.append((seated(np.array(place), np.array([*facing, 0.0]), seat_m), suit))

    side = float(rng.choice((-1, 1)))
    color = venue.boards[0]
    for s in (-1, 1):
        _box(canvas, s * 3.1, 0, 0.04, 0.04, 0, 1.55, (60, 60, 66))
        _box(canvas, s * 3.4, 0, 0.3, 0.12, 0, 0.28, (40, 70, 150))
    _box(canvas, side * 4.7, 0.0, 0.35, 0.35, 0, 1.5, color)
    official((side * 4.7, 0), (-side, 0), 1.6)
    if venue.arena:
        _box(canvas, -side * 5.0, 0, 0.25, 0.6, 0, 0.75, color)
        official((-side * 5.6, 0), (side, 0), 0.5)
        for x in (-2.5, 0.0, 2.5):
            official((x, rng.uniform(8.4, 9.0)), (0, -1), 0.45)
        for s in (-1, 1):
            official((s * 6.2, rng.uniform(5, 7)), (-s, 0), 0.45)
    for _ in range(int(rng.integers(2, 9))):  # towels, bottles, shuttle tubes, spare shuttles on the floor
        x, y = rng.choice((-1, 1)) * rng.uniform(4.6, 6.8), rng.uniform(-6, 8)
        size, white = rng.uniform(0.03, 0.16, 3), int(rng.integers(200, 256))
        _box(canvas, x, y, size[0], size[1], 0, size[2] * 1.5, (white, white - 6, white - 12))
    return people


def _box(
    canvas: Canvas, x: float, y: float, half_x: float, half_y: float, z0: float, z1: float, rgb: RGB
) -> None:
    """An upright box: the two sides that face the camera, and its top."""
    eye = canvas.camera.position
    sx, sy = np.sign(eye[0] - x) or 1.0, np.sign(eye[1] - y) or 1.0
    fx, fy = x + sx * half_x, y + sy * half_y
    left = np.array([[fx, y - half_y, z0], [fx, y + half_y, z0], [fx, y + half_y, z1], [fx, y - half_y, z1]])
    front = np.array([[x - half_x, fy, z0], [x + half_x, fy, z0], [x + half_x, fy, z1], [x - half_x, fy, z1]])
    canvas.polygon(left, 0.7 * np.array(rgb))
    canvas.polygon(front, 0.88 * np.array(rgb))
    canvas.floor(x - half_x, y - half_y, x + half_x, y + half_y, rgb, z1)


def draw_people(
    frame: np.ndarray, camera: Camera, people: list[tuple[np.ndarray, Outfit]], gain: float
) -> None:
    """Officials onto the finished background, the farthest first."""
    depths = [float(camera.to_camera(j[0])[2]) for j, _ in people]
    for i in np.argsort(depths)[::-1]:
        patch = draw_figure(camera, people[int(i)][0], people[int(i)][1], gain)
        if patch is not None:
            blend(frame, patch)
