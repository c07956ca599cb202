"""Draws a body from its joints: limbs with thickness and shading, clothes, hair, racket, shadow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from shuttlelib.synth.camera import NEAR_PLANE_M, Camera
from shuttlelib.synth.pose import J
from shuttlelib.synth.shuttle import Patch, fixed

RGB = tuple[int, int, int]
SKINS = ((236, 200, 170), (222, 178, 142), (198, 150, 112), (150, 104, 74), (104, 70, 50))
_ARC = np.stack([np.cos(np.linspace(0.5, 1.5, 6) * np.pi), np.sin(np.linspace(0.5, 1.5, 6) * np.pi)], axis=1)
_RING = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
HAIRS = ((22, 20, 20), (30, 24, 22), (52, 36, 26), (120, 86, 48), (200, 180, 150))


@dataclass(frozen=True)
class Outfit:
    """Colours (RGB) and build of a body; `folds` are the light and dark of its clothes, uint8 (h, w)."""

    skin: RGB
    hair: RGB
    shirt: RGB
    shorts: RGB
    shoes: RGB
    socks: RGB
    racket: RGB
    accent: RGB
    folds: np.ndarray
    build: float = 1.0
    long_hair: bool = False
    skirt: bool = False
    trousers: bool = False


def random_outfit(rng: np.random.Generator, shirt: RGB | None = None) -> Outfit:
    """Clothes of a player; white ones and white shoes are frequent, because they mislead detectors."""
    vivid: list[RGB] = [
        (235, 235, 235), (200, 30, 36), (30, 50, 130), (20, 20, 24), (240, 200, 40), (60, 150, 210),
        (240, 110, 40), (120, 30, 90), (40, 130, 80), (230, 120, 170), (130, 210, 190),
    ]  # fmt: skip
    shorts: list[RGB] = [(20, 20, 24), (235, 235, 235), (30, 40, 90), (180, 24, 32), (70, 70, 78)]
    folds = cv2.GaussianBlur(rng.normal(0, 1, (96, 96)).astype(np.float32), (0, 0), 2.2)

    def pick(options: Sequence[RGB]) -> RGB:
        return options[int(rng.integers(len(options)))]

    return Outfit(
        skin=pick(SKINS),
        hair=pick(HAIRS[:4]),
        shirt=shirt or pick(vivid),
        shorts=pick(shorts),
        shoes=(240, 240, 240) if rng.random() < 0.6 else pick(vivid),
        socks=(240, 240, 240) if rng.random() < 0.75 else (25, 25, 28),
        racket=pick(vivid),
        build=rng.uniform(0.92, 1.12),
        long_hair=rng.random() < 0.3,
        skirt=rng.random() < 0.2,
        accent=pick(vivid),
        folds=np.clip(128 + folds / folds.std() * 16, 0, 255).astype(np.uint8),
    )


def draw_figure(camera: Camera, joints: np.ndarray, outfit: Outfit, gain: float) -> Patch | None:
    """A body as the camera sees it; None where it is too near, behind the camera or outside the frame.

    Args:
        camera: the view.
        joints: (J, 3), m.
        outfit: colours.
        gain: factor on all colours (the light at that place).
    """
    xy, depth = camera.project(joints)
    if depth.min() < 2 * NEAR_PLANE_M:
        return None
    scale = camera.px_per_m(joints[J["chest"]])
    low = np.floor(xy.min(0) - 0.16 * scale - 2).astype(int)
    high = np.ceil(xy.max(0) + 0.16 * scale + 2).astype(int)
    if camera.misses(low, high) or (high - low).max() > 2 * max(camera.size_hw):
        return None
    ss = 3 if scale < 50 else 2 if scale < 160 else 1
    size = (high - low) * ss
    canvas = np.zeros((int(size[1]), int(size[0]), 4), np.uint8)
    _paint(canvas, (xy - low) * ss, depth, scale * ss, outfit, gain)
    _shade(canvas, outfit, scale * ss)
    small = cv2.resize(canvas, tuple(int(s) for s in high - low), interpolation=cv2.INTER_AREA)
    alpha = cv2.merge([small[..., 3]] * 3)
    return Patch(int(low[0]), int(low[1]), cv2.cvtColor(small, cv2.COLOR_RGBA2RGB), alpha)


def _shade(canvas: np.ndarray, outfit: Outfit, scale: float) -> None:
    """Soften the steps between flat colours and lay folds over them, inside the silhouette only."""
    alpha = canvas[..., 3].copy()
    kernel = max(1, int(scale * 0.022)) | 1
    if kernel > 1:
        cv2.GaussianBlur(canvas, (kernel, kernel), 0, dst=canvas)
    folds = cv2.resize(outfit.folds, (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_LINEAR)
    folds = cv2.merge([folds, folds, folds, np.full_like(folds, 128)])
    cv2.multiply(canvas, folds, dst=canvas, scale=1 / 128)
    canvas[..., 3] = cv2.max(canvas[..., 3], cv2.min(alpha, canvas[..., 3]))


def _limb(a: np.ndarray, b: np.ndarray, ra: float, rb: float) -> np.ndarray:
    """Outline (12, 2) of a tapered capsule."""
    x, y = float(b[0] - a[0]), float(b[1] - a[1])
    length = max((x * x + y * y) ** 0.5, 1e-6)
    arc = _ARC @ np.array([[x, y], [-y, x]]) / length
    out = np.empty((2 * len(arc), 2))
    out[: len(arc)], out[len(arc) :] = a + arc * ra, b - arc * rb
    return out


def _fill(canvas: np.ndarray, outline: np.ndarray, rgb: RGB, gain: float) -> None:
    color = (*(min(255, int(c * gain)) for c in rgb), 255)
    cv2.fillConvexPoly(canvas, fixed(outline), color, cv2.LINE_AA, 4)


def _paint(
    canvas: np.ndarray, xy: np.ndarray, depth: np.ndarray, scale: float, outfit: Outfit, gain: float
) -> None:
    """Parts from the farthest to the nearest."""
    p = {name: xy[i] for name, i in J.items()}
    d = {name: float(depth[i]) for name, i in J.items()}
    parts: list[tuple[float, Callable]] = []
    for side in "lr":
        parts.append((d[f"knee_{side}"], partial(_leg, side=side)))
    for side in "lr":
        forward = 0.12 if d[f"hand_{side}"] < d["chest"] else -0.12
        parts.append((d[f"elbow_{side}"] - forward, partial(_arm, side=side)))
    parts.append((d["chest"] - 0.02, _body))
    parts.append((d["head"] - 0.1, partial(_head, facing=d["head"] <= d["neck"] - 0.015)))
    for _, draw in sorted(parts, key=lambda part: -part[0]):
        draw(canvas, p, scale, outfit, gain)


def _lit(
    canvas: np.ndarray, a: np.ndarray, b: np.ndarray, ra: float, rb: float, rgb: RGB, gain: float
) -> None:
    """A limb with a dark side and a lit side (light from above left)."""
    _fill(canvas, _limb(a, b, ra, rb), rgb, gain * 0.72)
    shift = np.array([-0.28, -0.2])
    _fill(canvas, _limb(a + shift * ra, b + shift * rb, ra * 0.66, rb * 0.66), rgb, gain * 1.05)


def _leg(canvas: np.ndarray, p: dict, scale: float, outfit: Outfit, gain: float, side: str) -> None:
    m = scale * outfit.build
    hip, knee, ankle, toe = (p[f"{n}_{side}"] for n in ("hip", "knee", "ankle", "toe"))
    cloth = outfit.shorts if outfit.trousers else outfit.skin
    _lit(canvas, knee, ankle, 0.052 * m, 0.036 * m, cloth, gain * 0.97)
    _lit(canvas, hip, knee, 0.085 * m, 0.056 * m, cloth, gain)
    if not outfit.trousers:
        sock = knee + (ankle - knee) * 0.72
        _lit(canvas, sock, ankle, 0.046 * m, 0.04 * m, outfit.socks, gain * 0.9)
    end = hip + (knee - hip) * (0.35 if outfit.skirt else 0.66)
    _lit(canvas, hip, end, 0.095 * m, (0.12 if outfit.skirt else 0.09) * m, outfit.shorts, gain)
    _lit(canvas, ankle + (ankle - knee) * 0.05, toe, 0.044 * m, 0.034 * m, outfit.shoes, gain)


def _body(canvas: np.ndarray, p: dict, scale: float, outfit: Outfit, gain: float) -> None:
    m = scale * outfit.build
    spots = [(p["hip_l"], 0.088), (p["hip_r"], 0.088), (p["shoulder_l"], 0.062), (p["shoulder_r"], 0.062)]
    spots += [(p["chest"], 0.13)]
    for shrink, shift, tone in ((1.0, 0.0, 0.74), (0.72, -0.035, 0.95), (0.4, -0.05, 1.1)):
        rings = [c + np.array([shift, shift * 0.6]) * m + _RING * r * m * shrink for c, r in spots]
        middle = p["chest"]
        points = np.concatenate(rings)
        points = middle + (points - middle) * (0.5 + 0.5 * shrink)
        hull = cv2.convexHull(points.astype(np.float32))[:, 0]
        _fill(canvas, hull, outfit.shirt, gain * tone)
    waist = np.concatenate([p["hip_l"] + _RING * 0.092 * m, p["hip_r"] + _RING * 0.092 * m])
    waist = waist + (p["pelvis"] - p["chest"]) * 0.22
    _fill(canvas, cv2.convexHull(waist.astype(np.float32))[:, 0], outfit.shorts, gain * 0.85)
    stripe = p["neck"] + (p["chest"] - p["neck"]) * 0.55
    half = (p["shoulder_r"] - p["shoulder_l"]) * 0.22
    _fill(canvas, _limb(stripe - half, stripe + half, 0.016 * m, 0.016 * m), outfit.accent, gain * 0.95)


def _head(canvas: np.ndarray, p: dict, scale: float, outfit: Outfit, gain: float, facing: bool) -> None:
    """The head; `facing`: its face looks at the camera."""
    m, head, neck = scale, p["head"], p["neck"]
    up = (head - neck) / max(float(np.hypot(*(head - neck))), 1e-6)
    _fill(canvas, _limb(neck, head, 0.05 * m, 0.045 * m), outfit.skin, gain * 0.8)
    _lit(canvas, head - up * 0.035 * m, head + up * 0.03 * m, 0.068 * m, 0.078 * m, outfit.skin, gain)
    cap = head + up * (0.055 if facing else 0.02) * m
    low = cap - up * (0.0 if facing else 0.03) * m
    _lit(canvas, low, cap + up * 0.02 * m, 0.08 * m, 0.074 * m, outfit.hair, gain)
    if outfit.long_hair and not facing:
        _lit(canvas, head, neck + (neck - head) * 0.3, 0.045 * m, 0.02 * m, outfit.hair, gain)


def _arm(canvas: np.ndarray, p: dict, scale: float, outfit: Outfit, gain: float, side: str) -> None:
    m = scale * outfit.build
    shoulder, elbow, hand = (p[f"{n}_{side}"] for n in ("shoulder", "elbow", "hand"))
    _lit(canvas, elbow, hand, 0.04 * m, 0.028 * m, outfit.skin, gain)
    _fill(canvas, hand + _RING * 0.038 * m, outfit.skin, gain * 0.92)
    _lit(canvas, shoulder, elbow, 0.052 * m, 0.042 * m, outfit.skin, gain)
    sleeve = shoulder + (elbow - shoulder) * 0.62
    _lit(canvas, shoulder, sleeve, 0.064 * m, 0.062 * m, outfit.shirt, gain * 0.97)


def draw_racket(
    camera: Camera, hand: np.ndarray, tip: np.ndarray, facing: np.ndarray, rgb: RGB, gain: float
) -> Patch | None:
    """A racket from the hand (3,) to the tip (3,): shaft, oval frame, strings one can see through.

    Args:
        camera: the view.
        hand, tip: court coordinates, m; several rows (N, 3) are averaged as motion blur.
        facing: (3,) direction that the string bed faces.
        rgb: colour of the frame.
        gain: factor on all colours.
    """
    hands, tips = np.atleast_2d(hand), np.atleast_2d(tip)
    turn = np.linspace(0, 2 * np.pi, 17)[:-1]
    curves = []
    for a, b in zip(hands, tips):
        along = (b - a) / max(float(np.linalg.norm(b - a)), 1e-6)
        across = np.cross(along, facing)
        across /= max(float(np.linalg.norm(across)), 1e-6)
        middle = a + along * 0.53
        oval = middle + np.outer(np.cos(turn), along) * 0.135 + np.outer(np.sin(turn), across) * 0.105
        curves.append(np.concatenate([oval, [a, a + along * 0.14, a + along * 0.4]]))
    xy, depth = camera.project(np.array(curves))
    low, high = np.floor(xy.min((0, 1)) - 3).astype(int), np.ceil(xy.max((0, 1)) + 3).astype(int)
    if depth.min() < 0.5 or camera.misses(low, high) or (high - low).max() > max(camera.size_hw):
        return None
    scale, ss = camera.px_per_m(hands[0]), 2
    total = np.zeros((int(high[1] - low[1]) * ss, int(high[0] - low[0]) * ss, 4), np.float32)
    canvas = np.zeros(total.shape, np.uint8)
    color = (*(min(255, int(c * gain)) for c in rgb), 255)
    strings = (*(int(min(255, 200 * gain) * 0.22) for _ in range(3)), 56)
    for curve in xy:
        points = fixed((curve - low) * ss)
        canvas[:] = 0
        cv2.fillPoly(canvas, [points[:16]], strings, cv2.LINE_AA, 4)
        thick = max(1, round(0.014 * scale * ss))
        cv2.polylines(canvas, [points[:16]], True, color, thick, cv2.LINE_AA, 4)
        cv2.polylines(canvas, [points[[16, 18]]], False, (40, 40, 44, 255), thick, cv2.LINE_AA, 4)
        grip = max(1, round(0.03 * scale * ss))
        cv2.polylines(canvas, [points[[16, 17]]], False, color, grip, cv2.LINE_AA, 4)
        cv2.accumulate(canvas, total)
    small = cv2.resize(total / len(xy), tuple(int(s) for s in high - low), interpolation=cv2.INTER_AREA)
    small = small.astype(np.uint8)
    return Patch(int(low[0]), int(low[1]), small[..., :3].copy(), cv2.merge([small[..., 3]] * 3))
