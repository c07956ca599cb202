"""Everything of one clip that does not change from frame to frame: venue, camera, rally, background."""

from dataclasses import dataclass

import cv2
import numpy as np

from shuttlelib.synth.boards import draw_boards, draw_floor_words
from shuttlelib.synth.camera import VIEWS, Camera, random_camera
from shuttlelib.synth.distractors import draw_spares, overlay, random_twinkles
from shuttlelib.synth.figure import Outfit, random_outfit
from shuttlelib.synth.players import Player, cast
from shuttlelib.synth.rally import Timeline, play
from shuttlelib.synth.scene import Canvas, Venue, draw_court, make_venue, net_patch
from shuttlelib.synth.shuttle import Patch, ShuttleLook
from shuttlelib.synth.surroundings import draw_furniture, draw_people, draw_stands

VENUES = 40  # venues that a seed draws from when none is given


@dataclass(frozen=True)
class Look:
    """The clip's camera as a device.

    Attributes:
        shuttle: exposure, and how shuttles come out.
        noise: sensor noise, standard deviation in grey levels.
        blur_px, sharpen: of the lens, and of the processing after it.
        vignette: darkening towards the corners.
        shake_px: unsteadiness of the camera; 0 on a tripod.
        gain: brightness.
    """

    shuttle: ShuttleLook
    noise: float
    blur_px: float
    sharpen: float
    vignette: float
    shake_px: float
    gain: float


def random_look(rng: np.random.Generator, fps: float, scale: float) -> Look:
    """A device; `scale` is the frame's size relative to 1280x720, so that blur keeps its share of it."""
    longest = 0.9 / max(fps, 25.0)
    exposure = float(np.exp(rng.uniform(np.log(min(1 / 500, longest)), np.log(longest))))
    white = int(rng.integers(222, 256))
    red, green, blue = (int(np.clip(white + t, 0, 255)) for t in rng.integers(-12, 6, 3))
    shuttle = ShuttleLook(
        exposure_s=min(exposure, 0.95 / fps),
        size=float(rng.uniform(0.95, 1.5)),
        blur_px=float(rng.uniform(0.45, 1.2) * max(scale, 0.5)),
        cork=(255, 252, 244),
        skirt=(red, green, blue),
        opacity=float(rng.uniform(0.55, 0.98)),
    )
    return Look(
        shuttle,
        noise=float(rng.choice((0.6, 1.5, 3.0, 6.0), p=(0.35, 0.35, 0.2, 0.1))),
        blur_px=float(rng.uniform(0, 0.8) * scale),
        sharpen=float(rng.uniform(0, 1.1)),
        vignette=float(rng.uniform(0, 0.35)),
        shake_px=float(rng.uniform(0.2, 1.5) * scale) if rng.random() < 0.15 else 0.0,
        gain=float(rng.uniform(0.75, 1.12)),
    )


class Stage:
    """A clip before its first frame; the arguments are those of `render_rally`.

    Attributes:
        bare: background without net, players and shuttle, uint8 (H, W, 3).
        net: patch to lay over what is behind it.
        timeline, players, outfits: the rally.
        start_s: the rally's time at frame 0.
        noise: positive and negative noise tiles.
    """

    def __init__(
        self, seed: int, size_hw: tuple[int, int], fps: float, frame_count: int, view: str, venue: int | None
    ) -> None:
        rng = np.random.default_rng([9203, seed])
        if view == "mixed":
            view = str(rng.choice(list(VIEWS), p=(0.55, 0.15, 0.15, 0.15)))
        self.fps, self.frame_count, self.size_hw = fps, frame_count, size_hw
        self.venue: Venue = make_venue(int(rng.integers(VENUES)) if venue is None else venue)
        self.camera: Camera = random_camera(rng, view, size_hw)
        self.look = random_look(rng, fps, min(size_hw[0] / 720, size_hw[1] / 1280))
        doubles = bool(rng.random() < 0.2)
        self.start_s = float(rng.uniform(0, 6)) if rng.random() < 0.6 else float(rng.uniform(0, 0.8))
        end_s = self.start_s + frame_count / fps + 0.5
        self.timeline: Timeline = play(rng, end_s, doubles)
        self.players: list[Player] = cast(rng, self.timeline.hits, end_s, doubles)
        self.outfits = self._dress(rng)
        self.bare, self.net = self._background()
        self.overlay = overlay(rng, self.camera)
        self.twinkles = random_twinkles(rng, self.camera, self.venue.arena)
        self.noise = _noise_tiles(rng, size_hw, self.look.noise)

    def _dress(self, rng: np.random.Generator) -> list[Outfit]:
        shirts = {side: random_outfit(rng).shirt for side in (-1, 1)}
        return [random_outfit(rng, shirts[p.side]) for p in self.players]

    def _background(self) -> tuple[np.ndarray, Patch]:
        scene = np.random.default_rng([311, self.venue.seed])
        canvas = Canvas(self.camera)
        canvas.image[:] = self.venue.wall
        draw_stands(canvas, self.venue, scene)
        draw_court(canvas, self.venue, scene)
        draw_floor_words(canvas, self.venue, scene)
        draw_boards(canvas, self.venue, scene)
        people = draw_furniture(canvas, self.venue, scene)
        image = canvas.finish()
        draw_people(image, self.camera, people, 0.55 + 0.45 * self.venue.light)
        draw_spares(image, self.camera, self.look.shuttle, scene)
        return self._develop(image, scene), net_patch(self.camera, self.venue)

    def _develop(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Uneven light, vignette, lens blur, sharpening."""
        h, w = self.size_hw
        light = cv2.resize(
            rng.normal(1, 0.05, (4, 6)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC
        )
        self.gain_map = light * self.look.gain * self._vignette()
        out = image.astype(np.float32) * self.gain_map[..., None]
        if self.look.blur_px > 0.2:
            out = cv2.GaussianBlur(out, (0, 0), self.look.blur_px)
        if self.look.sharpen > 0.1:
            out = out + self.look.sharpen * (out - cv2.GaussianBlur(out, (0, 0), 1.2))
        return np.clip(out, 0, 255).astype(np.uint8)

    def _vignette(self) -> np.ndarray:
        h, w = self.size_hw
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        return 1 - self.look.vignette * (((x - w / 2) / w) ** 2 + ((y - h / 2) / h) ** 2)

    def gain_at(self, point: np.ndarray) -> float:
        """The light at a court point (3,)."""
        x, y = self.camera.project(point)[0]
        h, w = self.size_hw
        return float(self.gain_map[int(np.clip(y, 0, h - 1)), int(np.clip(x, 0, w - 1))])


def _noise_tiles(
    rng: np.random.Generator, size_hw: tuple[int, int], sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Positive and negative part of one noise field, a little larger than the frame: a frame takes a
    random window of it, which costs two saturated additions instead of a million random numbers."""
    h, w = size_hw[0] + 64, size_hw[1] + 64
    gray = rng.normal(0, sigma * 0.85, (h, w, 1)).astype(np.float32)
    noise = gray + rng.normal(0, sigma * 0.5, (h, w, 3)).astype(np.float32)
    more, less = (np.clip(np.round(part), 0, 255).astype(np.uint8) for part in (noise, -noise))
    return more, less
