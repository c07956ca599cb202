"""Simulated flights, integrated far more finely than the frames that the code under test steps by."""

import numpy as np


def fly(count, fps=30.0, start=(200.0, 300.0), velocity=(18.0, -12.0), drag=4.0 / 720, gravity=0.72):
    """(count, 2) places, px; velocity and gravity in px and thirtieths of a second, drag per px."""
    fine = 200
    step = 30 / fps / fine
    xy, v = np.array(start, float), np.array(velocity, float)
    places = []
    for _ in range(count):
        places.append(xy.copy())
        for _ in range(fine):
            v = v + step * (np.array([0, gravity]) - drag * np.hypot(*v) * v)
            xy = xy + step * v
    return np.array(places)
