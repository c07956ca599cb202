"""How a shuttle flies, in image space: slowed by drag, pulled down by gravity; before hypotheses in the flow.

Quadratic air resistance takes from the speed v a share that grows with v: dv/dt = -drag * v². A camera sees
this roughly so: perspective bends it a little, and a hit ends it.
"""

from dataclasses import dataclass

import numpy as np

from shuttlelib.frames import BASE_FPS


@dataclass(frozen=True)
class Flight:
    """The law of flight at one resolution and frame rate.

    Args:
        drag_per_px: share of the speed lost in each px flown.
        gravity_px: fall gained a frame, px a frame.
    """

    drag_per_px: float
    gravity_px: float

    @classmethod
    def of(cls, drag_per_height: float, gravity_heights: float, height_px: int, fps: float) -> "Flight":
        """From the frame's height and thirtieths of a second, in which both are the same for any video."""
        return cls(drag_per_height / height_px, gravity_heights * height_px * (BASE_FPS / fps) ** 2)

    def on(self, xy_px: np.ndarray, velocity_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places and velocities (..., 2) one frame later, px and px a frame."""
        speed = np.sqrt((velocity_px * velocity_px).sum(-1, keepdims=True))
        velocity = velocity_px / (1 + self.drag_per_px * speed)
        velocity[..., 1] += self.gravity_px
        return xy_px + velocity, velocity
