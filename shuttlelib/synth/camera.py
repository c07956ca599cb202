"""Pinhole camera with lens distortion over a badminton court in metres; the geometry of rendered rallies.

Court coordinates: the origin is under the middle of the net, x runs along the net, y towards the far
baseline, z up. A camera at negative y therefore sees the broadcast view.
"""

from dataclasses import dataclass

import numpy as np

COURT_LENGTH_M, COURT_WIDTH_M = 13.4, 6.1
NEAR_PLANE_M = 0.3

# view: ranges of azimuth (degrees, 0 is behind the near baseline), distance to the court's middle (m),
# elevation (degrees), share of the frame's width and of its height that the court may fill, row of its
# lowest corner (share of height), and field-of-view distortion (radians, 0 is a straight lens).
VIEWS: dict[str, tuple[tuple[float, float], ...]] = {
    "broadcast": ((-3, 3), (20, 44), (15, 26), (0.46, 0.60), (0.40, 0.62), (0.88, 0.98), (0.0, 0.08)),
    "side": ((70, 110), (13, 26), (12, 32), (0.72, 0.95), (0.5, 0.8), (0.78, 0.97), (0.0, 0.25)),
    "corner": ((22, 60), (14, 28), (14, 34), (0.62, 0.92), (0.5, 0.8), (0.80, 1.0), (0.0, 0.25)),
    "wide": ((0, 55), (9.5, 12.5), (15, 27), (0.85, 1.15), (0.6, 0.95), (0.90, 1.2), (0.7, 1.25)),
}


@dataclass(frozen=True)
class Camera:
    """A camera; see `project`.

    Attributes:
        size_hw: frame size, px.
        position: (3,) court coordinates, m.
        rotation: (3, 3) rows are the camera's right, down and forward directions.
        focal_px: focal length, px.
        fov_rad: distortion of the field-of-view model; 0 is a pinhole.
    """

    size_hw: tuple[int, int]
    position: np.ndarray
    rotation: np.ndarray
    focal_px: float
    fov_rad: float = 0.0

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Court points (..., 3) in camera axes: right, down, forward (depth), m."""
        return (np.asarray(points, float) - self.position) @ self.rotation.T

    def project_camera(self, points: np.ndarray) -> np.ndarray:
        """Camera-axes points (..., 3) to continuous image coordinates (..., 2), px.

        Source: field-of-view distortion of Devernay and Faugeras, "Straight lines have to be straight"
        (2001); it stays monotonic at any angle, which polynomial distortion does not.
        """
        uv = points[..., :2] / np.maximum(points[..., 2:], 1e-3)
        if self.fov_rad > 0:
            r = np.maximum(np.linalg.norm(uv, axis=-1, keepdims=True), 1e-9)
            bend = 2 * r * np.tan(self.fov_rad / 2)
            uv = uv * np.arctan(bend) / bend
        return uv * self.focal_px + np.array([self.size_hw[1] / 2, self.size_hw[0] / 2])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Court points (..., 3) to image coordinates (..., 2) px and depth (...) m.

        The centre of the top-left pixel is (0.5, 0.5). Points with a depth under `NEAR_PLANE_M` lie
        behind the camera: their coordinates mean nothing.
        """
        local = self.to_camera(points)
        return self.project_camera(local), local[..., 2]

    def misses(self, low: np.ndarray, high: np.ndarray) -> bool:
        """Whether a rectangle between two corners (2,) px lies outside the frame."""
        return bool((high < 0).any() or (low > self.size_hw[::-1]).any())

    def px_per_m(self, point: np.ndarray) -> float:
        """Size on the image of one metre held upright to the camera at a court point (3,)."""
        ends = self.to_camera(point) + np.array([[-0.1, 0, 0], [0.1, 0, 0], [0, -0.1, 0], [0, 0.1, 0]])
        xy = self.project_camera(ends)
        return float((np.linalg.norm(xy[1] - xy[0]) + np.linalg.norm(xy[3] - xy[2])) / 0.4)


def court_corners() -> np.ndarray:
    """(4, 3) outer corners of the court, m."""
    x, y = COURT_WIDTH_M / 2, COURT_LENGTH_M / 2
    return np.array([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]])


def look(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) rotation of a camera looking along yaw (0 is +y, right positive) and down by pitch, rad."""
    forward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * right + s * down, c * down - s * right, forward])


def random_camera(rng: np.random.Generator, view: str, size_hw: tuple[int, int]) -> Camera:
    """A camera of a view (a key of `VIEWS`), aimed and zoomed so that the court sits well in the frame.

    Args:
        rng: drives azimuth, distance, height, zoom, framing, lens and a slight roll.
        view: key of `VIEWS`.
        size_hw: frame size, px; other aspect ratios keep the court inside the largest 16:9 part.
    """
    ranges = VIEWS[view]
    azimuth, distance, elevation, fill_w, fill_h, bottom, fov = (rng.uniform(*r) for r in ranges)
    if view != "broadcast" and rng.random() < 0.5:
        azimuth = -azimuth
    azimuth, elevation = np.deg2rad(azimuth), np.deg2rad(elevation)
    ground = distance * np.cos(elevation)
    position = np.array(
        [ground * np.sin(azimuth), -ground * np.cos(azimuth), max(2.2, distance * np.sin(elevation))]
    )
    roll = np.deg2rad(rng.normal(0, 0.25 if view == "broadcast" else 1.0))
    center = (rng.normal(0.5, 0.015), bottom)
    return _frame_court(size_hw, position, -azimuth, roll, fov, (fill_w, fill_h), center)


def _frame_court(
    size_hw: tuple[int, int],
    position: np.ndarray,
    yaw: float,
    roll: float,
    fov: float,
    fill: tuple[float, float],
    place: tuple[float, float],
) -> Camera:
    """Turn and zoom until the court's bounding box fills and sits as asked (fixed-point iteration)."""
    height, width = size_hw
    ref_w = min(width, height * 16 / 9)
    ref_h = ref_w * 9 / 16
    want_x, want_y = width / 2 + (place[0] - 0.5) * ref_w, height / 2 + (place[1] - 0.5) * ref_h
    pitch, focal = float(np.arctan2(position[2], np.hypot(*position[:2]))), ref_w
    for _ in range(40):
        camera = Camera(size_hw, position, look(yaw, pitch, roll), focal, fov)
        local = camera.to_camera(court_corners())
        local[:, 2] = np.maximum(local[:, 2], NEAR_PLANE_M)
        xy = camera.project_camera(local)
        low, high = xy.min(axis=0), xy.max(axis=0)
        zoom = min(fill[0] * ref_w / (high[0] - low[0]), fill[1] * ref_h / (high[1] - low[1]))
        focal *= float(np.clip(zoom, 0.7, 1.4)) ** 0.8
        yaw += 0.7 * ((low[0] + high[0]) / 2 - want_x) / focal
        pitch += 0.7 * (high[1] - want_y) / focal
    return Camera(size_hw, position, look(yaw, pitch, roll), focal, fov)
