"""How a row is trained, changed from a command line; beside `versions`."""

import math
from collections.abc import Iterable

from shuttlelib.errors import UsageError

# How a row is trained, not what it is: these may differ in one training, and its card still tells the truth
TRAINING_FIELDS = (
    "lr",
    "weight_decay",
    "noise_std",
    "rendered_share",
    "crop_scale",
    "roll_deg",
    "perspective",
    "poor",
)
SHARE_FIELDS = ("rendered_share", "poor")  # of the samples


def training_overrides(assignments: Iterable[str]) -> dict[str, float]:
    """Overrides for `resolve` from texts like `lr=0.001`, as a command line gives them.

    Raises:
        UsageError: not one of `TRAINING_FIELDS`, or not a number from 0 (of a share: from 0 to 1).
    """
    values: dict[str, float] = {}
    for text in assignments:
        name, _, value = text.partition("=")
        if name not in TRAINING_FIELDS:
            raise UsageError(f"--set {text}: give NAME=VALUE, with a name of {', '.join(TRAINING_FIELDS)}")
        try:
            values[name] = float(value)
        except ValueError:
            values[name] = math.nan
        most = 1.0 if name in SHARE_FIELDS else math.inf
        if not 0 <= values[name] <= most or math.isinf(values[name]):
            allowed = "from 0 to 1" if most == 1 else "from 0"
            raise UsageError(f"--set {text}: {value!r} is not a number {allowed}")
    return values
