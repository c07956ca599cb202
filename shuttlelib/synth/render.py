"""Puts a rendered rally together, frame by frame: background, players, net, shuttle, lens, sensor."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from shuttlelib.synth.camera import Camera
from shuttlelib.synth.figure import Outfit, draw_figure, draw_racket
from shuttlelib.synth.players import Player
from shuttlelib.synth.pose import J, pose
from shuttlelib.synth.rally import ABSENT, Timeline
from shuttlelib.synth.shuttle import Patch, ShuttleLook, blend, draw_shuttle
from shuttlelib.synth.stage import Stage

HIDDEN_ALPHA = 0.55  # a head covered more than this by a player counts as invisible


@dataclass(frozen=True)
class Truth:
    """What is true of a rendered frame.

    Attributes:
        visible: the head is inside the frame and no body hides it.
        x_px, y_px: the head (middle of the cork) at mid-exposure, native px; nan when invisible.
    """

    visible: bool
    x_px: float
    y_px: float


NOT_VISIBLE = Truth(False, np.nan, np.nan)


def render_stage(stage: Stage) -> Iterator[tuple[np.ndarray, Truth]]:
    """Frames uint8 (H, W, 3) RGB and truth of a stage."""
    rng = np.random.default_rng([17, *stage.noise[0][0, :8, 0].tolist()])
    shake = np.zeros(2)
    for index in range(stage.frame_count):
        middle = stage.start_s + index / stage.fps
        frame, truth = _draw(stage, middle)
        shake = shake * 0.9 + rng.normal(0, 0.4, 2) * stage.look.shake_px
        if stage.look.shake_px:
            frame, truth = _shaken(frame, truth, shake)
        if stage.overlay is not None:
            x, y, picture = stage.overlay
            frame[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            truth = _behind_overlay(truth, x, y, picture)
        dy, dx = (int(v) for v in rng.integers(0, 64, 2))
        h, w = stage.size_hw
        cv2.add(frame, stage.noise[0][dy : dy + h, dx : dx + w], dst=frame)
        cv2.subtract(frame, stage.noise[1][dy : dy + h, dx : dx + w], dst=frame)
        yield frame, truth


def _draw(stage: Stage, time_s: float) -> tuple[np.ndarray, Truth]:
    """One noiseless frame: what is behind the net, the net, what is before it."""
    frame = stage.bare.copy()
    stage.twinkles.draw(frame, time_s)
    side = -1.0 if stage.camera.position[1] < 0 else 1.0  # the half that the camera is on
    head, _, state = stage.timeline.at(np.array([time_s]))
    patch = None
    if state[0] != ABSENT:
        patch = shuttle_patch(stage.timeline, stage.camera, stage.look.shuttle, time_s, stage.gain_at)
    xy, depth = stage.camera.project(head[0])
    hidden = 0.0
    layers = [(0, 0.0, [stage.net])]  # -1 behind the net or 1 before it, depth, patches
    for player, outfit in zip(stage.players, stage.outfits):
        patches, spot = _player_patches(stage, player, outfit, time_s, frame)
        away = float(stage.camera.to_camera(spot)[2])
        layers.append((1 if spot[1] * side > 0 else -1, away, patches))
        if patches and away < depth:
            hidden = max(hidden, _alpha_at(patches[0], xy))
    if patch is not None:
        layers.append((1 if head[0, 1] * side > 0 else -1, float(depth), [patch]))
    for _, _, patches in sorted(layers, key=lambda layer: (layer[0], -layer[1])):
        for part in patches:
            blend(frame, part)
    return frame, truth_of(stage.camera, patch, head[0], hidden)


def shuttle_patch(
    timeline: Timeline,
    camera: Camera,
    look: ShuttleLook,
    time_s: float,
    gain_at: Callable[[np.ndarray], float],
) -> Patch | None:
    """The shuttle as a frame exposed around a time shows it.

    Args:
        timeline: where it is.
        camera: the view.
        look: how it comes out.
        time_s: mid-exposure, on the timeline's clock.
        gain_at: the light at a court point (3,).

    Returns:
        See `draw_shuttle`.
    """
    exposure = look.exposure_s
    heads, _ = _shown(timeline, time_s + np.linspace(-0.5, 0.5, 5) * exposure)
    xy, _ = camera.project(heads)
    streak = float(np.linalg.norm(np.diff(xy, axis=0), axis=1).sum())
    count = int(np.clip(streak / 1.2, 1, 60))
    heads, axes = _shown(timeline, time_s + ((np.arange(count) + 0.5) / count - 0.5) * exposure)
    patch = draw_shuttle(camera, look, heads, axes)
    if patch is None:
        return None
    gain = min(1.1 * gain_at(heads[len(heads) // 2]), 1.2)
    return Patch(patch.x0, patch.y0, cv2.convertScaleAbs(patch.rgb, alpha=gain), patch.alpha)


def _shown(timeline: Timeline, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heads and axes, (N, 3) each, at those of some times when the shuttle is there.

    From where it was last to where it comes next it never flew.
    """
    heads, axes, states = timeline.at(times_s)
    return heads[states != ABSENT], axes[states != ABSENT]


def _player_patches(
    stage: Stage, player: Player, outfit: Outfit, time_s: float, frame: np.ndarray
) -> tuple[list[Patch], np.ndarray]:
    """Body and racket of a player, and where it stands (3,); the shadow is drawn at once."""
    joints = pose(player, time_s)
    spot = joints[J["pelvis"]]
    gain = stage.gain_at(spot)
    _shadow(stage, joints, frame)
    moved, exposure = [joints], stage.look.shuttle.exposure_s
    if any(abs(hit.time_s - time_s) < 0.3 for hit in player.hits):  # a swing blurs the racket
        moved = [pose(player, time_s - 0.4 * exposure), joints, pose(player, time_s + 0.4 * exposure)]
    ends = np.array([[m[J[f"hand_{'r' if player.handed > 0 else 'l'}"]], m[J["racket_tip"]]] for m in moved])
    body = draw_figure(stage.camera, joints, outfit, gain)
    racket = draw_racket(
        stage.camera, ends[:, 0], ends[:, 1], np.array([0.3, player.side, 0.2]), outfit.racket, gain
    )
    return [p for p in (body, racket) if p is not None], spot


def _shadow(stage: Stage, joints: np.ndarray, frame: np.ndarray) -> None:
    """Soft shadows of the body and of each foot."""
    for spots, radius, dark in (
        (joints[[J["pelvis"]]], 0.5, 0.28),
        (joints[[J["toe_l"], J["toe_r"]]], 0.16, 0.3),
    ):
        for spot in spots * np.array([1, 1, 0]):
            around = spot + np.array([[-radius, 0, 0], [radius, 0, 0], [0, -radius, 0], [0, radius, 0]])
            xy, depth = stage.camera.project(around)
            if depth.min() < 0.5:
                continue
            low, high = np.floor(xy.min(0)).astype(int), np.ceil(xy.max(0)).astype(int)
            x0, y0 = np.maximum(low, 0)
            x1, y1 = min(high[0], frame.shape[1]), min(high[1], frame.shape[0])
            if x1 <= x0 or y1 <= y0 or (high - low).max() > 900:
                continue
            blob = cv2.resize(_BLOB, tuple(int(s) for s in high - low), interpolation=cv2.INTER_LINEAR)
            blob = blob[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]]
            keep = cv2.convertScaleAbs(blob, alpha=-dark, beta=255)
            cv2.multiply(frame[y0:y1, x0:x1], cv2.merge([keep] * 3), dst=frame[y0:y1, x0:x1], scale=1 / 255)


def _make_blob() -> np.ndarray:
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    return (255 * np.clip(1 - (x * x + y * y), 0, 1)).astype(np.uint8)


_BLOB = _make_blob()


def _alpha_at(patch: Patch, xy: np.ndarray) -> float:
    """How much a patch covers a point (2,), 0 to 1."""
    x, y = int(np.floor(xy[0])) - patch.x0, int(np.floor(xy[1])) - patch.y0
    if 0 <= x < patch.alpha.shape[1] and 0 <= y < patch.alpha.shape[0]:
        return float(patch.alpha[y, x, 0]) / 255
    return 0.0


def truth_of(camera: Camera, patch: Patch | None, head: np.ndarray, hidden: float = 0.0) -> Truth:
    """What is true of a frame with this shuttle; `hidden` is how much of the head a body covers, 0 to 1."""
    if patch is None:
        return NOT_VISIBLE
    (x, y), depth = camera.project(head)
    h, w = camera.size_hw
    visible = bool(depth > 0.5 and 0 <= x < w and 0 <= y < h and hidden < HIDDEN_ALPHA)
    return Truth(True, float(x), float(y)) if visible else NOT_VISIBLE


def _shaken(frame: np.ndarray, truth: Truth, shake: np.ndarray) -> tuple[np.ndarray, Truth]:
    """Move the whole picture by a sub-pixel amount, and the truth with it."""
    matrix = np.array([[1, 0, shake[0]], [0, 1, shake[1]]], np.float32)
    h, w = frame.shape[:2]
    frame = cv2.warpAffine(frame, matrix, (w, h), borderMode=cv2.BORDER_REPLICATE)
    x, y = truth.x_px + float(shake[0]), truth.y_px + float(shake[1])
    visible = truth.visible and 0 <= x < w and 0 <= y < h
    return frame, Truth(True, x, y) if visible else NOT_VISIBLE


def _behind_overlay(truth: Truth, x: int, y: int, picture: np.ndarray) -> Truth:
    h, w = picture.shape[:2]
    if truth.visible and x <= truth.x_px < x + w and y <= truth.y_px < y + h:
        return NOT_VISIBLE
    return truth
