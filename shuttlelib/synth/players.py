"""Who plays and where: from the hits of a rally to each player's way over the court."""

from dataclasses import dataclass

import numpy as np

from shuttlelib.synth.rally import Hit

GRID_DT = 1 / 60


@dataclass
class Player:
    """A player's way through a clip.

    Attributes:
        side: -1 near half, +1 far half.
        height_m: body height.
        handed: +1 right-handed, -1 left-handed.
        hits: own hits in order of time.
        xy: (T, 2) pelvis on the floor every `GRID_DT` s, m.
        velocity: (T, 2) m/s.
        stride: (T,) running sum of distance, m; drives the legs.
    """

    side: int
    height_m: float
    handed: int
    hits: list[Hit]
    xy: np.ndarray
    velocity: np.ndarray
    stride: np.ndarray

    def moment(self, time_s: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Pelvis on the floor (2,), velocity (2,) and stride at a time."""
        place = min(max(time_s / GRID_DT, 0.0), len(self.xy) - 1.001)
        i = int(place)
        w = place - i
        mix = [a[i] * (1 - w) + a[i + 1] * w for a in (self.xy, self.velocity, self.stride)]
        return mix[0], mix[1], float(mix[2])


def cast(rng: np.random.Generator, hits: list[Hit], duration_s: float, doubles: bool) -> list[Player]:
    """Players for the hits of a clip: one on each side, two in doubles."""
    players = []
    for side in (-1, 1):
        own = [h for h in hits if h.side == side]
        others = [h.time_s for h in hits if h.side != side and h.kind != "leave"]
        homes = [(0.0, 3.6)] if not doubles else [(0.2, 2.3), (-0.2, 4.9)]
        shares: list[list[Hit]] = [[] for _ in homes]
        for hit in own:
            gaps = [np.hypot(hit.point[0] - x, abs(hit.point[1]) - y) for x, y in homes]
            shares[int(np.argmin(gaps))].append(hit)
        for home, mine in zip(homes, shares):
            place = np.array([home[0] + rng.normal(0, 0.3), side * (home[1] + rng.normal(0, 0.3))])
            height, handed = rng.uniform(1.62, 1.9), -1 if rng.random() < 0.12 else 1
            xy = _walk(rng, mine, others, place, handed, side, duration_s)
            velocity = np.gradient(xy, GRID_DT, axis=0)
            stride = np.cumsum(np.linalg.norm(velocity, axis=1)) * GRID_DT
            players.append(Player(side, height, handed, mine, xy, velocity, stride))
    return players


def _stand(hit: Hit, home: np.ndarray, handed: int, side: int) -> np.ndarray:
    """Where the pelvis is at a hit (2,): beside and behind the shuttle, farther off for low ones."""
    point = hit.point[:2]
    if hit.kind.startswith("serve"):
        return point + np.array([-0.32 * handed * side, 0.3 * side])
    if hit.kind == "leave":
        return home + 0.55 * (point - home) if abs(point[1]) > 0.4 and point[1] * side > 0 else home
    if hit.point[2] > 1.75:
        return point + np.array([0.28 * handed * side, 0.22 * side])
    away = home - point
    away = away / max(float(np.linalg.norm(away)), 0.3)
    return point + away * 0.9


def _walk(
    rng: np.random.Generator,
    hits: list[Hit],
    others: list[float],
    home: np.ndarray,
    handed: int,
    side: int,
    duration_s: float,
) -> np.ndarray:
    """Pelvis path (T, 2): to each own hit in time, back towards home while the other side plays."""
    times, places = [0.0], [home]
    for hit in hits:
        stand = _stand(hit, home, handed, side)
        ready = [t for t in others if times[-1] + 0.25 < t < hit.time_s - 0.2]
        for t in ready[-1:]:
            back = places[-1] + rng.uniform(0.6, 0.95) * (home - places[-1])
            back = back + rng.normal(0, 0.15, 2)
            times += [t, t + rng.uniform(0.1, 0.22)]
            places += [back, back + rng.normal(0, 0.04, 2)]
        if hit.kind.startswith("serve"):
            settle = max(hit.hold_s + 0.3, times[-1] + 0.1)
            if settle < hit.time_s:
                times.append(settle)
                places.append(stand)
        times += [hit.time_s, hit.time_s + 0.1]
        places += [stand, stand]
    times += [times[-1] + 1.3, max(times[-1], duration_s) + 5]
    places += [home + rng.normal(0, 0.5, 2)] * 2
    grid = np.arange(0, duration_s + 2 * GRID_DT, GRID_DT)
    keys, path = np.array(times), np.array(places)
    i = np.clip(np.searchsorted(keys, grid, side="right") - 1, 0, len(keys) - 2)
    w = np.clip((grid - keys[i]) / np.maximum(keys[i + 1] - keys[i], 1e-3), 0, 1)
    w = (w * w * (3 - 2 * w))[:, None]
    xy = path[i] * (1 - w) + path[i + 1] * w
    kernel = np.hanning(9) / np.hanning(9).sum()
    padded = np.pad(xy, ((4, 4), (0, 0)), mode="edge")
    return np.stack([np.convolve(padded[:, k], kernel, mode="valid") for k in (0, 1)], axis=1)
