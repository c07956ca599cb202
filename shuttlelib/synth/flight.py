"""Shuttle flight with quadratic drag, and the solver that finds the stroke for a wanted shot.

Source: drag proportional to the square of speed with one terminal speed, as fitted to measured
flights by Chen, Pan and Chen, "A study of shuttlecock's trajectory in badminton" (2009); spin and the
wobble after a hit do not change the path here.
"""

from dataclasses import dataclass

import numpy as np

GRAVITY = 9.81  # m/s^2
TERMINAL_SPEED = 6.7  # m/s
NET_TOP_M = 1.55
SEARCH_DT = 1 / 45  # s, coarse: fourth order is still exact to a centimetre


@dataclass(frozen=True)
class Stroke:
    """What a kind of shot looks like: ranges of launch speed (m/s), launch angle (degrees above the
    horizon), and of the place where it is taken or lands: distance past the net and height (m)."""

    speed: tuple[float, float]
    angle: tuple[float, float]
    depth: tuple[float, float]
    height: tuple[float, float]
    solve_angle: bool = False


STROKES = {
    "serve_short": Stroke((3, 14), (12, 32), (2.1, 2.9), (0.9, 1.4)),
    "serve_high": Stroke((12, 45), (48, 66), (5.0, 6.2), (2.1, 2.8)),
    "clear": Stroke((12, 60), (18, 50), (4.6, 6.3), (2.1, 2.85)),
    "lift": Stroke((10, 50), (42, 68), (4.4, 6.3), (2.1, 2.8)),
    "drop": Stroke((5, 32), (-9, 14), (0.9, 2.4), (0.4, 1.2)),
    "smash": Stroke((55, 88), (-35, 4), (2.0, 5.2), (0.35, 1.2), solve_angle=True),
    "drive": Stroke((20, 46), (-4, 30), (2.4, 5.0), (0.9, 1.7), solve_angle=True),
    "net": Stroke((2, 10), (22, 72), (0.4, 1.3), (0.5, 1.1)),
}


def fly(
    velocity: np.ndarray, duration_s: float, dt: float, drop_m: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Integrate flights from the origin with fourth-order Runge-Kutta.

    Args:
        velocity: (N, D) start velocities, m/s; the last axis is up (D is 2 or 3).
        duration_s: how long to integrate at most.
        dt: step, s.
        drop_m: stop early once every flight is this far under its start.

    Returns:
        Positions and velocities, each (T + 1, N, D), in m and m/s, at times 0, dt, ...
    """
    up = np.zeros(velocity.shape[-1])
    up[-1] = GRAVITY
    drag = GRAVITY / TERMINAL_SPEED**2

    def accelerate(v: np.ndarray) -> np.ndarray:
        return -drag * np.sqrt(np.einsum("...d,...d", v, v))[..., None] * v - up

    p, v = np.zeros_like(velocity, dtype=float), np.array(velocity, float)
    places, speeds = [p], [v]
    for _ in range(max(1, round(duration_s / dt))):
        a1 = accelerate(v)
        a2 = accelerate(v + 0.5 * dt * a1)
        a3 = accelerate(v + 0.5 * dt * a2)
        a4 = accelerate(v + dt * a3)
        p = p + dt * v + dt * dt / 6 * (a1 + a2 + a3)
        v = v + dt / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
        places.append(p)
        speeds.append(v)
        if p[..., -1].max() < -drop_m:
            break
    return np.stack(places), np.stack(speeds)


def _heights_at(v: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Height (N, K) of flights (N, 2) as they pass K horizontal distances; -inf where they never do."""
    path, _ = fly(v, 2.6, SEARCH_DT, drop_m=3.0)
    out = np.full((len(v), len(distances)), -np.inf)
    for n in range(len(v)):
        x, z = path[:, n, 0], path[:, n, 1]
        inside = distances <= x[-1]
        out[n, inside] = np.interp(distances[inside], x, z)
    return out


def solve(start: np.ndarray, target: np.ndarray, stroke: Stroke, free: float) -> np.ndarray | None:
    """Launch velocity of a stroke that passes through a target, clear of the net.

    Args:
        start, target: (3,) court coordinates, m, on opposite sides of the net.
        stroke: the kind of shot.
        free: in [0, 1], where in its range the launch angle lies (the speed, if `solve_angle`);
            the other is solved for.

    Returns:
        (3,) velocity in m/s, or None where the kind of shot cannot do it.
    """
    flat = target[:2] - start[:2]
    reach = float(np.hypot(*flat))
    to_net = reach * abs(start[1]) / max(abs(start[1]) + abs(target[1]), 1e-6)
    distances = np.array([reach, to_net])
    low, high = (0.0, 1.0)
    for count in (28, 10):
        grid = np.linspace(low, high, count)
        v = _launch(stroke, free, grid)
        heights = _heights_at(v, distances) + start[2]
        miss = heights[:, 0] - target[2]
        crossing = np.flatnonzero((miss[:-1] < 0) & (miss[1:] >= 0))
        if not len(crossing):
            return None
        i = int(crossing[0])
        low, high = grid[i], grid[i + 1]
    if heights[i : i + 2, 1].min() < NET_TOP_M + 0.04:
        return None
    share = miss[i] / (miss[i] - miss[i + 1]) if np.isfinite(miss[i]) else 1.0
    best = _launch(stroke, free, np.array([low + share * (high - low)]))[0]
    return np.array([*(best[0] * flat / reach), best[1]])


def _launch(stroke: Stroke, free: float, share: np.ndarray) -> np.ndarray:
    """Candidate launches (N, 2) horizontal and up, one for each share in [0, 1] of the solved range."""
    fixed = np.full_like(share, free)
    a, s = (share, fixed) if stroke.solve_angle else (fixed, share)
    angle = np.deg2rad(stroke.angle[0] + a * (stroke.angle[1] - stroke.angle[0]))
    speed = stroke.speed[0] * (stroke.speed[1] / stroke.speed[0]) ** s
    return np.stack([speed * np.cos(angle), speed * np.sin(angle)], axis=-1)
