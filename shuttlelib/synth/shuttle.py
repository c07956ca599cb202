"""Draws the shuttle: cork and skirt in true metres, blurred over the exposure; the label's definition.

The label of a rendered frame is the middle of the cork (the head) at mid-exposure: the middle of a streak for
a fast shuttle. People mark another point, see docs/metrics.md.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from shuttlelib.synth.camera import Camera

CORK_RADIUS_M, LENGTH_M, SKIRT_RADIUS_M = 0.013, 0.085, 0.033
SS = 4  # supersampling of the patch


@dataclass(frozen=True)
class ShuttleLook:
    """How a clip's camera sees shuttles.

    Attributes:
        exposure_s: shutter time.
        size: factor on the true size; broadcast sharpening and bloom make shuttles look larger.
        blur_px: sigma of the lens, px.
        cork, skirt: RGB.
        opacity: of the skirt's feathers at their densest.
    """

    exposure_s: float
    size: float
    blur_px: float
    cork: tuple[int, int, int]
    skirt: tuple[int, int, int]
    opacity: float


@dataclass(frozen=True)
class Patch:
    """A picture to lay over the frame: premultiplied RGB and its alpha, both uint8 (h, w, 3)."""

    x0: int
    y0: int
    rgb: np.ndarray
    alpha: np.ndarray


def draw_shuttle(camera: Camera, look: ShuttleLook, heads: np.ndarray, axes: np.ndarray) -> Patch | None:
    """The shuttle as one exposure sees it.

    Args:
        camera: the view.
        look: the clip's shuttle look.
        heads: (N, 3) the cork's middle over the exposure, m.
        axes: (N, 3) unit directions from skirt to cork.

    Returns:
        The patch, or None where it is behind the camera or far outside the frame.
    """
    xy, depth = camera.project(heads)
    if depth.min() < 0.5:
        return None
    tail, _ = camera.project(heads - axes * (LENGTH_M - CORK_RADIUS_M) * look.size)
    scale = camera.px_per_m(heads[len(heads) // 2]) * look.size
    margin = LENGTH_M * scale + 3 * look.blur_px + 3
    low = np.floor(np.minimum(xy.min(0), tail.min(0)) - margin).astype(int)
    high = np.ceil(np.maximum(xy.max(0), tail.max(0)) + margin).astype(int)
    size = high - low
    if camera.misses(low, high) or size.max() > 1500:
        return None
    view = heads[len(heads) // 2] - camera.position
    slant = np.abs(axes @ (view / np.linalg.norm(view)))
    light = _expose((xy - low) * SS, (tail - low) * SS, slant, scale * SS, look, size * SS)
    light = cv2.resize(light, tuple(int(s) for s in size), interpolation=cv2.INTER_AREA)
    light = cv2.GaussianBlur(light, (0, 0), max(look.blur_px, 0.3))
    alpha, cork = light[..., 0:1], light[..., 1:2]
    rgb = (alpha - cork).clip(0) * np.array(look.skirt, np.float32) + cork * np.array(look.cork, np.float32)
    wide = np.repeat(alpha * 255, 3, axis=2)
    return Patch(int(low[0]), int(low[1]), (rgb + 0.5).astype(np.uint8), (wide + 0.5).astype(np.uint8))


def _expose(
    head: np.ndarray, tail: np.ndarray, slant: np.ndarray, scale: float, look: ShuttleLook, size: np.ndarray
) -> np.ndarray:
    """Mean over the exposure of (alpha, cork share), float32 (H, W, 2), supersampled px.

    Copies are drawn closer together than the shuttle is wide, so a streak is smooth.
    """
    total = np.zeros((int(size[1]), int(size[0]), 2), np.float32)
    canvas = np.zeros((int(size[1]), int(size[0]), 3), np.uint8)
    for k in range(len(head)):
        canvas[:] = 0
        _silhouette(canvas, head[k], tail[k], float(slant[k]), scale, look.opacity)
        total += canvas[..., :2]
    return total / (255.0 * len(head))


def _silhouette(
    canvas: np.ndarray, head: np.ndarray, tail: np.ndarray, slant: float, scale: float, opacity: float
) -> None:
    """One sharp shuttle: skirt (a cone, open at the end: a ring when seen along the axis), then cork."""
    line = head - tail
    length = float(np.hypot(*line))
    along = line / length if length > 1e-6 else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    wide, narrow = SKIRT_RADIUS_M * scale, CORK_RADIUS_M * scale
    dense = int(255 * opacity)
    hull = np.stack(
        [tail + across * wide, tail - across * wide, head - across * narrow, head + across * narrow]
    )
    cv2.fillConvexPoly(canvas, fixed(hull), (int(dense * 0.9), 0, 0), cv2.LINE_AA, 4)
    rim = (int(wide * 16), max(int(wide * slant * 16), 1))
    turn = float(np.degrees(np.arctan2(across[1], across[0])))
    place = fixed(tail).tolist()
    inside = (int(dense * (0.75 if slant > 0.6 else 0.95)), 0, 0)
    cv2.ellipse(canvas, place, rim, turn, 0, 360, inside, -1, cv2.LINE_AA, 4)
    if slant > 0.5:
        thick = max(1, int(wide * 0.35))
        cv2.ellipse(canvas, place, rim, turn, 0, 360, (dense, 0, 0), thick, cv2.LINE_AA, 4)
    cv2.circle(canvas, fixed(head).tolist(), int(narrow * 16), (255, 255, 0), -1, cv2.LINE_AA, 4)


def fixed(points: np.ndarray) -> np.ndarray:
    """Continuous coordinates to OpenCV's fixed point (4 bits), whose origin is a pixel's centre."""
    return np.round((points - 0.5) * 16).astype(np.int32)


def blend(frame: np.ndarray, patch: Patch) -> None:
    """Lay a patch over a frame (H, W, 3) in place; what lies outside is cut off."""
    h, w = patch.alpha.shape[:2]
    x0, y0 = max(patch.x0, 0), max(patch.y0, 0)
    x1, y1 = min(patch.x0 + w, frame.shape[1]), min(patch.y0 + h, frame.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    inside = np.s_[y0 - patch.y0 : y1 - patch.y0, x0 - patch.x0 : x1 - patch.x0]
    roi = frame[y0:y1, x0:x1]
    cv2.multiply(roi, 255 - patch.alpha[inside], dst=roi, scale=1 / 255)
    cv2.add(roi, patch.rgb[inside], dst=roi)
