"""Make confidence mean what it says: of rows near 0.8, about 80% are right; beside metrics.

The tracker's raw confidence is a network's probability: of being visible, or for rows told as not
visible of not being so. How often such rows are right is another question, answered here on labelled
clips by one logistic curve for each kind of row (Platt scaling).
"""

from collections.abc import Iterable

import numpy as np

from shuttlelib.metrics import ClipScore
from shuttlelib.rows import SURE


def fit(scores: Iterable[ClipScore]) -> dict[str, list[float]]:
    """The curves for `Tracker(calibration=…)` from scored, uncalibrated tracks.

    Returns:
        {"visible": [a, b], "rectified": [a, b], "invisible": [a, b]}: confidence = sigmoid(a * logit(p) + b).
        "rectified" are the visible rows that physics filled in. A kind with fewer than 20 rows keeps the
        identity [1, 0].

    Source: Platt, Probabilistic outputs for support vector machines, 1999; his smoothed targets keep a
        kind that is always right from an infinite slope.
    """
    scores = list(scores)
    p, right, visible, filled = (
        np.concatenate([getattr(score, name) for score in scores])
        for name in ("confidence", "right", "said_visible", "rectified")
    )
    kinds = {"visible": visible & ~filled, "rectified": filled, "invisible": ~visible}
    return {kind: _logistic(p[rows], right[rows]) for kind, rows in kinds.items()}


def _logistic(p: np.ndarray, right: np.ndarray) -> list[float]:
    """Slope and shift of the maximum-likelihood logistic curve over logit(p), by Newton's method."""
    right = np.asarray(right, dtype=float)
    if len(right) < 20:
        return [1.0, 0.0]
    positive, negative = right.sum(), len(right) - right.sum()
    target = np.where(right > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    p = np.clip(p, SURE, 1 - SURE)
    design = np.stack([np.log(p / (1 - p)), np.ones(len(p))], 1)
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        q = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (q - target) + 1e-3 * (weights - [1.0, 0.0])
        hessian = (design * (q * (1 - q))[:, None]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    return [float(value) for value in weights]
