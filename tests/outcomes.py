"""One frame of each outcome, and a way to write such tables; shared by the tests of the evaluator."""

import numpy as np
import pandas as pd

HD = (720, 1280)
NAN = np.nan


def table(rows, first=0):
    """Rows (visible, x, y[, confidence]) as a table of consecutive frames."""
    columns = ["visible", "x_px", "y_px", "confidence"][: len(rows[0])]
    data = pd.DataFrame(rows, columns=columns).astype({"x_px": float, "y_px": float})
    return data.assign(frame=range(first, first + len(rows)))


# One frame of each outcome at 1280x720: TP, FP1, FP2, FN, TN.
TRUTH = table([(1, 100, 100), (1, 100, 100), (0, NAN, NAN), (1, 100, 100), (0, NAN, NAN)])
PRED = table([(1, 103, 100, 0.9), (1, 100, 140, 0.8), (1, 5, 5, 0.7), (0, NAN, NAN, 0.6), (0, NAN, NAN, 1.0)])
