"""Who hits the shuttle where and when: rallies, and the pauses between them, on one clock."""

from dataclasses import dataclass, field

import numpy as np

from shuttlelib.synth.flight import NET_TOP_M, STROKES, fly, solve

DT = 1 / 240  # s, step of the stored timeline
AIR, HELD, FLOOR, ABSENT = 0, 1, 2, 3  # what the shuttle is doing


@dataclass(frozen=True)
class Hit:
    """A racket meets the shuttle.

    Attributes:
        time_s: when.
        side: -1 for the near half (y < 0), +1 for the far half.
        point: (3,) where, m.
        kind: key of `flight.STROKES`; "leave" where the player only runs for it.
        hold_s: for a serve, since when the server stood there with the shuttle in the hand.
    """

    time_s: float
    side: int
    point: np.ndarray
    kind: str
    hold_s: float = 0.0


@dataclass
class Timeline:
    """The shuttle sampled every `DT` seconds, and the hits.

    Attributes:
        xyz: (T, 3) head of the shuttle, m.
        axis: (T, 3) unit direction from skirt to head.
        state: (T,) AIR, HELD, FLOOR or ABSENT.
        hits: in order of time.
    """

    xyz: np.ndarray
    axis: np.ndarray
    state: np.ndarray
    hits: list[Hit] = field(default_factory=list)

    def at(self, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Head (N, 3), axis (N, 3) and state (N,) at times (N,), interpolated."""
        place = np.clip(np.asarray(times_s) / DT, 0, len(self.xyz) - 1.001)
        i = place.astype(int)
        w = (place - i)[:, None]
        axis = self.axis[i] * (1 - w) + self.axis[i + 1] * w
        axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-9)
        return self.xyz[i] * (1 - w) + self.xyz[i + 1] * w, axis, self.state[i]


class _Recorder:
    """Appends pieces of shuttle path to the clock."""

    def __init__(self) -> None:
        self.xyz: list[np.ndarray] = []
        self.state: list[np.ndarray] = []
        self.hits: list[Hit] = []
        self.steps = 0

    @property
    def time_s(self) -> float:
        return self.steps * DT

    def add(self, xyz: np.ndarray, state: int) -> None:
        self.xyz.append(xyz)
        self.state.append(np.full(len(xyz), state, np.uint8))
        self.steps += len(xyz)

    def stay(self, point: np.ndarray, seconds: float, state: int) -> None:
        count = max(1, round(seconds / DT))
        self.add(np.repeat(point[None], count, axis=0), state)


def play(rng: np.random.Generator, duration_s: float, doubles: bool = False) -> Timeline:
    """Rallies one after another until `duration_s` is full.

    Args:
        rng: drives everything.
        duration_s: at least this long.
        doubles: more drives and short serves.
    """
    record = _Recorder()
    side = int(rng.choice((-1, 1)))
    while record.time_s < duration_s:
        side = _rally(rng, record, side, doubles)
    xyz, state = np.concatenate(record.xyz), np.concatenate(record.state)
    return Timeline(xyz, _axes(xyz, state, rng), state, record.hits)


def _rally(rng: np.random.Generator, record: _Recorder, side: int, doubles: bool) -> int:
    """One rally from the serve to the pick-up; returns the side that serves next."""
    point = np.array([rng.uniform(0.2, 0.7) * rng.choice((-1, 1)), side * rng.uniform(2.2, 3.2), 0.95])
    began = record.time_s
    record.stay(point, rng.uniform(0.4, 1.8), HELD)
    kind = "serve_short" if rng.random() < (0.9 if doubles else 0.65) else "serve_high"
    for shot in range(60):
        record.hits.append(Hit(record.time_s, side, point, kind, began if shot == 0 else 0.0))
        last = shot >= 2 and rng.random() < 0.1
        path = _shot(rng, point, side, kind, last)
        record.add(path, AIR)
        if last:
            break
        point, side = path[-1], -side
        kind = _choose(rng, point, doubles)
    landing = record.xyz[-1][-1]
    record.hits.append(Hit(record.time_s, -side, landing, "leave"))
    record.stay(landing, rng.uniform(0.7, 3.0), FLOOR)
    record.stay(landing, rng.uniform(0.3, 1.6), ABSENT)
    return int(rng.choice((-1, 1)))


def _choose(rng: np.random.Generator, point: np.ndarray, doubles: bool) -> str:
    """The kind of the next shot from where it is taken."""
    deep, high = abs(point[1]) > 3.6, point[2] > 1.9
    if high and deep:
        odds = {"clear": 0.34, "drop": 0.3, "smash": 0.36}
    elif high:
        odds = {"smash": 0.6, "drop": 0.25, "drive": 0.15}
    elif abs(point[1]) < 2.5:
        odds = {"net": 0.4, "lift": 0.5, "drive": 0.1}
    else:
        odds = {"lift": 0.55, "drive": 0.25, "net": 0.2}
    if doubles and "drive" in odds:
        odds["drive"] *= 2.5
    weights = np.array(list(odds.values()))
    return str(rng.choice(list(odds), p=weights / weights.sum()))


def _shot(rng: np.random.Generator, point: np.ndarray, side: int, kind: str, last: bool) -> np.ndarray:
    """Path (T, 3) of one shot until it is hit again, or to the floor if it is the last."""
    into_net = last and rng.random() < 0.35
    velocity, target = _velocity(rng, point, side, kind)
    if into_net:
        down = np.array([0, 0, rng.uniform(0.05, 0.2)]) * abs(velocity[1])
        velocity = velocity * np.array([0.9, 0.9, 1.0]) - down
    path, speed = (a[:, 0] for a in fly(velocity[None], 3.5, DT, drop_m=point[2]))
    path = path + point
    if last:
        return _land(path, speed, rng)
    reached = np.flatnonzero((path[:, 1] - target[1]) * side <= 0)
    return path[: reached[0] + 1 if len(reached) else None]


def _velocity(
    rng: np.random.Generator, point: np.ndarray, side: int, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """Launch velocity (3,) and target (3,); another kind of shot where the wanted one cannot be done."""
    for attempt in range(24):
        stroke = STROKES[kind if attempt < 8 else ("lift" if point[2] < 1.6 else "clear")]
        depth = rng.uniform(*stroke.depth)
        across = np.clip(rng.choice((-1, 1)) * rng.normal(1.3, 1.0), -2.85, 2.85)
        if kind.startswith("serve"):
            across = -np.sign(point[0]) * rng.uniform(0.1, 2.0)
        target = np.array([across, -side * depth, rng.uniform(*stroke.height)])
        velocity = solve(point, target, stroke, rng.random())
        if velocity is not None:
            return velocity, target
    flat = target[:2] - point[:2]
    return np.array([*(flat * 1.6), 9.0]), target


def _land(path: np.ndarray, speed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a path at the net or the floor and add the drop beside the net, or the bounce and slide."""
    crossing = np.flatnonzero(path[:-1, 1] * path[1:, 1] <= 0)
    if len(crossing) and path[crossing[0], 2] < NET_TOP_M and path[crossing[0], 2] > 0:
        i = int(crossing[0])
        back = speed[i] * np.array([0.02, -0.03, 0.0])
        fall, _ = fly(back[None], 1.2, DT)
        path = np.concatenate([path[:i], fall[1:, 0] + path[i]])
        down = np.flatnonzero(path[:, 2] < 0.02)
        return path[: down[0]] if len(down) else path
    down = np.flatnonzero(path[:, 2] < 0.02)
    end = int(down[0]) if len(down) else len(path) - 1
    count = round(rng.uniform(0.25, 0.5) / DT)
    share = np.linspace(0, 1, count)[:, None]
    slide = speed[end] * np.array([0.06, 0.06, 0.0]) * (1 - (1 - share) ** 2)
    slide[:, 2] = 0.35 * float(np.clip(-speed[end, 2] / 10, 0.1, 1)) * (4 * share * (1 - share))[:, 0]
    roof = path[end] * np.array([1, 1, 0]) + np.array([0, 0, 0.02])
    return np.concatenate([path[:end], roof + slide])


def _axes(xyz: np.ndarray, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Direction (T, 3) of the head: it turns into the flight within about 0.35 m of path.

    The same relaxation makes the flip after a hit (milliseconds after a smash, a tenth of a second
    after a net shot) and the lag over the top of a high clear.
    """
    step = np.diff(xyz, axis=0, append=xyz[-1:])
    length = np.linalg.norm(step, axis=1)
    length[length > 0.6] = 0  # the shuttle was carried to the next serve, it did not fly there
    gain = 1 - np.exp(-length / 0.35)
    lying = rng.normal(size=2)
    lying /= np.linalg.norm(lying)
    axis, out = np.array([0.0, 0.0, -1.0]), np.empty_like(xyz)
    for t in range(len(xyz)):
        if state[t] == HELD:
            axis = np.array([0.0, 0.0, -1.0])
        elif state[t] == FLOOR:
            axis = np.array([lying[0], lying[1], -0.35])
        elif length[t] > 0:
            axis = axis + gain[t] * (step[t] / length[t] - axis) + 0.02 * gain[t]
        norm = float(np.sqrt(axis @ axis))
        axis = axis / max(norm, 1e-6)
        out[t] = axis
    return out
