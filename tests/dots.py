"""A cached clip without a file, for tests of samples: a bright dot over a smooth still picture."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd

from shuttlelib import geometry
from shuttlelib.cache import FrameCache


def moving_dot(size_hw, whole_hw, frames=40, fps=30.0, seed=0, name="clip"):
    """A clip without a file: a smooth still picture, and a bright dot that crosses it and blinks."""
    rng, (h, w) = np.random.default_rng(seed), size_hw
    still = cv2.resize(rng.uniform(30, 120, (6, 10, 3)), (w, h), interpolation=cv2.INTER_CUBIC)
    xy = np.stack([np.linspace(0.004, 0.97, frames) * w, (0.5 + 0.4 * np.sin(np.arange(frames) / 5)) * h], 1)
    x, y = np.arange(w) + 0.5, np.arange(h) + 0.5
    pictures = []
    visible = np.arange(frames) % 9 != 4
    for (px, py), seen in zip(xy, visible):
        glow_x, glow_y = (np.exp(-((a - c) ** 2) / (2 * (h / 180) ** 2)) for a, c in ((x, px), (y, py)))
        dot = np.outer(glow_y, glow_x)[..., None]
        picture = (still + (250 - still) * dot * seen).clip(0, 255).astype(np.uint8)
        planes = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        whole = None if whole_hw is None else geometry.full_window(size_hw, whole_hw)
        view = SimpleNamespace(
            frames=[planes], whole_hw=None, clip=SimpleNamespace(info=SimpleNamespace(fps=fps))
        )
        pictures.append(planes if whole is None else FrameCache.window(view, 0, whole))
    table = pd.DataFrame({"frame": range(frames), "visible": visible, "x_px": xy[:, 0], "y_px": xy[:, 1]})
    table.loc[~visible, ["x_px", "y_px"]] = np.nan
    made = FrameCache.__new__(FrameCache)
    info = SimpleNamespace(even_hw=size_hw, fps=fps, frame_count=frames)
    made.clip = SimpleNamespace(name=name, info=info, table=table)
    made.whole_hw, made.frames, made.new = whole_hw, np.stack(pictures), np.arange(frames)
    return made
