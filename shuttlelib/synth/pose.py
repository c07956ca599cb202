"""From a player's way and hits to the joints of the body at any time: steps, lunges, jumps, swings.

A body is an array of joints (J, 3) in court metres, indexed by the names in `JOINTS`; `figure` draws it.
"""

from itertools import pairwise

import numpy as np

from shuttlelib.synth.players import Player
from shuttlelib.synth.rally import Hit

JOINTS = (
    "pelvis", "chest", "neck", "head",
    "hip_l", "hip_r", "knee_l", "knee_r", "ankle_l", "ankle_r", "toe_l", "toe_r",
    "shoulder_l", "shoulder_r", "elbow_l", "elbow_r", "hand_l", "hand_r",
    "racket_tip", "racket_throat",
)  # fmt: skip
J = {name: i for i, name in enumerate(JOINTS)}
RACKET_M = 0.66  # hand to tip; the middle of the string bed lies at 0.53
SWEET_M = 0.53
UP = np.array([0.0, 0.0, 1.0])


def pose(player: Player, time_s: float) -> np.ndarray:
    """Joints (J, 3) of a player at a time, m."""
    xy, velocity, stride = player.moment(time_s)
    hit, tau = _nearest(player.hits, time_s)
    near = _window(tau) if hit is not None and hit.kind != "leave" else 0.0
    low = hit is not None and hit.point[2] < 1.5 and not hit.kind.startswith("serve")
    speed = float(np.hypot(*velocity))
    facing = np.array([0.25 * velocity[0] / max(speed, 1.0), -float(player.side), 0.0])
    if hit is not None and near > 0:
        facing[:2] += near * 0.5 * (hit.point[:2] - xy) * np.array([1, 0.3])
    facing /= np.linalg.norm(facing)
    right = np.array([facing[1], -facing[0], 0.0])
    h = player.height_m
    jump = max(0.0, float(hit.point[2]) - 2.5) if hit is not None and near > 0 else 0.0
    crouch = 0.03 + 0.05 * min(speed / 3, 1) + (0.14 * near if low else 0.0)
    joints = np.zeros((len(JOINTS), 3))
    lift = 0.9 * jump * max(0.0, 1 - (tau / 0.28) ** 2)
    pelvis = np.array([xy[0], xy[1], h * (0.53 - crouch) + lift])
    lean = 0.22 + (0.35 * near if low else -0.25 * near) + 0.05 * speed / 4
    aim = facing if not low or hit is None else _flat(hit.point - pelvis)
    spine = UP * np.cos(lean) + aim * np.sin(lean)
    _trunk(joints, pelvis, spine, facing, right, h)
    reach = _flat(hit.point - pelvis) if low and hit is not None else facing
    _legs(joints, player, velocity, stride, right, reach, near if low else 0.0, lift)
    _arms(joints, player, hit, tau, facing, right)
    return joints


def _nearest(hits: list[Hit], time_s: float) -> tuple[Hit | None, float]:
    """The hit that the body is busy with, and the time since it (negative before), s."""
    best, tau = None, 9.0
    for hit in hits:
        gap = time_s - hit.time_s
        busy = hit.kind.startswith("serve") and hit.hold_s < time_s < hit.time_s
        if (busy or -0.55 < gap < 0.5) and (best is None or abs(gap) < abs(tau)):
            best, tau = hit, gap
    return best, tau


def _window(tau: float) -> float:
    return float(np.clip(1 - abs(tau) / 0.42, 0, 1)) ** 0.7


def _flat(v: np.ndarray) -> np.ndarray:
    flat = np.array([v[0], v[1], 0.0])
    return flat / max(float(np.linalg.norm(flat)), 1e-6)


def _trunk(
    joints: np.ndarray, pelvis: np.ndarray, spine: np.ndarray, facing: np.ndarray, right: np.ndarray, h: float
) -> None:
    joints[J["pelvis"]] = pelvis
    joints[J["chest"]] = pelvis + spine * 0.2 * h
    neck = joints[J["neck"]] = pelvis + spine * 0.3 * h
    joints[J["head"]] = neck + (spine * 0.5 + UP * 0.5) * 0.1 * h + facing * 0.02 * h
    for name, sign in (("l", -1), ("r", 1)):
        joints[J[f"hip_{name}"]] = pelvis + right * sign * 0.055 * h - UP * 0.01 * h
        joints[J[f"shoulder_{name}"]] = neck + right * sign * 0.105 * h - spine * 0.025 * h


def _legs(
    joints: np.ndarray,
    player: Player,
    velocity: np.ndarray,
    stride: float,
    right: np.ndarray,
    reach: np.ndarray,
    lunge: float,
    lift: float,
) -> None:
    """Feet step with the distance run, spread wide when standing, one far forward in a lunge."""
    h, speed = player.height_m, float(np.hypot(*velocity))
    ahead = _flat(np.array([*velocity, 0.0])) if speed > 0.05 else reach
    swing = min(speed / 3.2, 1.0) * (1 - 0.7 * lunge)
    stagger = 0.2 * (1 - swing) * np.sin(1.3 * stride + 9 * h)  # no two stances alike
    front = np.array([-right[1], right[0], 0.0])
    for name, sign in (("l", -1), ("r", 1)):
        phase = 2 * np.pi * stride / 1.5 + (np.pi if sign > 0 else 0.0)
        spread = 0.13 + 0.07 * (1 - swing)
        foot = joints[J["pelvis"]] * np.array([1, 1, 0]) + right * sign * spread * h / 1.75
        foot = foot + ahead * 0.36 * swing * np.sin(phase) + sign * stagger * front
        if lunge > 0:
            foot = foot + reach * lunge * (0.5 if sign == player.handed else -0.38)
        foot = foot + UP * (0.05 * h + 0.16 * swing * max(0.0, np.cos(phase)) + lift)
        hip = joints[J[f"hip_{name}"]]
        forward = _flat(front + right * sign * 0.2)
        knee, foot = _bend(hip, foot, 0.25 * h, 0.245 * h, forward)
        joints[J[f"knee_{name}"]], joints[J[f"ankle_{name}"]] = knee, foot
        point = _flat(forward * 0.7 + 0.5 * (reach if lunge > 0.3 else forward))
        joints[J[f"toe_{name}"]] = foot + point * 0.105 * h - UP * 0.03 * h


def _bend(
    root: np.ndarray, end: np.ndarray, upper: float, lower: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middle joint and reachable end of a two-bone limb that bends towards `pole`."""
    line = end - root
    length = float(np.sqrt(line @ line))
    line = line / max(length, 1e-6)
    reach = min(length, 0.995 * (upper + lower))
    along = float(
        np.clip((reach * reach + upper * upper - lower * lower) / (2 * max(reach, 1e-6)), -upper, upper)
    )
    side = pole - line * float(pole @ line)
    side = side / max(float(np.sqrt(side @ side)), 1e-6)
    return root + line * along + side * np.sqrt(max(upper * upper - along * along, 0.0)), root + line * reach


def _arms(
    joints: np.ndarray, player: Player, hit: Hit | None, tau: float, facing: np.ndarray, right: np.ndarray
) -> None:
    """Hands and racket: ready, swung through the hit, back to ready."""
    h, pelvis = player.height_m, joints[J["pelvis"]]
    out = right * player.handed
    racket, other = ("r", "l") if player.handed > 0 else ("l", "r")
    shoulder = joints[J[f"shoulder_{racket}"]]
    hand = pelvis + facing * 0.36 + out * 0.2 + UP * 0.14 * h
    aim = _unit(facing * 0.6 + UP * 0.7 - out * 0.25)
    free = joints[J[f"shoulder_{other}"]] + facing * 0.22 - out * 0.22 - UP * 0.2 * h
    if hit is not None and hit.kind != "leave":
        hand, aim, free = _swing(hit, tau, shoulder, (hand, aim, free), facing, out)
    elbow, hand = _bend(shoulder, hand, 0.172 * h, 0.165 * h, -UP * 0.8 - facing * 0.2 + out * 0.5)
    joints[J[f"elbow_{racket}"]], joints[J[f"hand_{racket}"]] = elbow, hand
    joints[J["racket_throat"]], joints[J["racket_tip"]] = hand + aim * 0.4, hand + aim * RACKET_M
    root = joints[J[f"shoulder_{other}"]]
    elbow, free = _bend(root, free, 0.172 * h, 0.165 * h, -UP * 0.8 - facing * 0.3 - out * 0.5)
    joints[J[f"elbow_{other}"]], joints[J[f"hand_{other}"]] = elbow, free


def _swing(
    hit: Hit,
    tau: float,
    shoulder: np.ndarray,
    ready: tuple[np.ndarray, np.ndarray, np.ndarray],
    facing: np.ndarray,
    out: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Racket hand, racket direction and other hand around a hit, by key poses in time."""
    over = hit.point[2] > 1.6
    to = hit.point - shoulder
    at_aim = _unit(_unit(to) + (UP * 0.6 if over else -UP * 0.25))
    at_hand = hit.point - at_aim * SWEET_M
    if over:
        back = (shoulder - facing * 0.22 + out * 0.18 + UP * 0.15, _unit(-facing * 0.5 - UP * 0.8))
        after = (shoulder + facing * 0.5 - out * 0.15 - UP * 0.3, _unit(facing * 0.6 - UP * 0.7 - out * 0.3))
        raised = shoulder - out * 0.45 + facing * 0.3 + UP * 0.4
    else:
        back = (shoulder + out * 0.35 - facing * 0.1 - UP * 0.35, _unit(-facing * 0.4 + out * 0.6 - UP * 0.5))
        after = (shoulder + facing * 0.45 - out * 0.1 + UP * 0.05, _unit(facing * 0.5 + UP * 0.8 - out * 0.2))
        raised = shoulder - out * 0.75 - facing * 0.15 - UP * 0.15
    serving = hit.kind.startswith("serve")
    keys = [(-0.5, ready[:2]), (-0.17, back), (0.0, (at_hand, at_aim)), (0.12, after), (0.45, ready[:2])]
    hand, aim = _between(keys, tau)
    near = _window(tau)
    free = ready[2] * (1 - near) + raised * near
    if serving and tau < 0:
        free = hit.point + UP * 0.05
    return hand, _unit(aim), free


def _between(
    keys: list[tuple[float, tuple[np.ndarray, np.ndarray]]], tau: float
) -> tuple[np.ndarray, np.ndarray]:
    if tau <= keys[0][0]:
        return keys[0][1]
    for (t0, a), (t1, b) in pairwise(keys):
        if tau <= t1:
            w = (tau - t0) / (t1 - t0)
            w = w * w if t1 == 0.0 else w * w * (3 - 2 * w)
            return a[0] * (1 - w) + b[0] * w, a[1] * (1 - w) + b[1] * w
    return keys[-1][1]


def _unit(v: np.ndarray) -> np.ndarray:
    return v / max(float(np.sqrt(v @ v)), 1e-6)
