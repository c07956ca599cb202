import math
import re

import numpy as np
import pytest

from shuttlelib.paths import REPO
from shuttlelib.rows import Row
from shuttlelib.track_params import TrackParams
from shuttlelib.triggers import NOISE, SEEN, Triggers

HEIGHT_PX = 720


def rows(places):
    """Rows at places (x, y); None is not visible."""
    return [
        Row(n, n / 30, xy is not None, *(xy or (math.nan, math.nan)), 1.0, "detected" if xy else "none")
        for n, xy in enumerate(places)
    ]


def fired(places, now, visible=True, logit=3.0, flown_s=9.0, since=99, check_s=0.0, **params):
    """What fires after rows at `places`."""
    triggers = Triggers(TrackParams(check_s=check_s, **params), HEIGHT_PX, 30.0)
    past = rows(places)
    for row in past:
        triggers.told(row.visible)
    return triggers.fired(np.array(now, float), visible, logit, flown_s, past, since)


STEADY = [(100 + 10 * n, 300) for n in range(5)]


@pytest.mark.parametrize(
    ("wanted", "arguments"),
    [
        ("", {"places": STEADY, "now": (150, 300)}),
        ("lost", {"places": STEADY, "now": (150, 300), "visible": False}),
        ("", {"places": [*STEADY, None], "now": (150, 300), "visible": False}),
        ("unseen", {"places": [*STEADY, None, None], "now": (150, 300), "visible": False}),
        ("", {"places": [*STEADY, None, None], "now": (0, 0), "visible": False, "ask_again_s": 0.2}),
        ("weak", {"places": STEADY, "now": (150, 300), "logit": -0.5}),
        ("", {"places": STEADY, "now": (150, 300), "logit": -0.5, "weak_logit": -1.0}),
        ("jump", {"places": STEADY, "now": (220, 300)}),
        ("", {"places": STEADY, "now": (220, 300), "jump_heights": 0.2}),
        ("turn", {"places": STEADY, "now": (125, 300)}),
        ("", {"places": STEADY, "now": (125, 300), "turn_deg": 180.0}),
        ("", {"places": STEADY, "now": (125, 300), "turn_min_step_heights": 0.03}),
        ("check", {"places": STEADY, "now": (150, 300), "since": 14, "check_s": 0.5}),
        ("", {"places": STEADY, "now": (150, 300), "since": 13, "check_s": 0.5}),
        ("check", {"places": STEADY, "now": (150, 300), "since": 2, "check_s": 0.5, "flown_s": 0.05}),
        ("", {"places": STEADY, "now": (150, 300), "since": 1, "check_s": 0.5, "flown_s": 0.05}),
        ("", {"places": STEADY, "now": (150, 300), "since": 2, "check_s": 0.5, "flown_s": 0.1}),
        ("", {"places": STEADY, "now": (150, 300), "flown_s": 0.0}),
    ],
)
def test_each_trigger_fires_by_its_threshold(wanted, arguments):
    assert fired(**arguments) == wanted


def test_every_trigger_is_told_and_by_which_threshold_it_fires():
    told = (REPO / "docs" / "modes.md").read_text("utf-8")
    thresholds = {
        "interval": "fast_interval_s",
        "unseen": "ask_again_s",
        "weak": "weak_logit",
        "jump": "jump_heights",
        "turn": "turn_deg",
        "check": "check_s",
    }
    for name in {*NOISE, *SEEN, *thresholds, "start", "always"}:
        assert f"`{name}`" in told
    for name, threshold in thresholds.items():
        assert re.search(rf"\b{threshold}: [^:]*: [^:]*\(triggers? [^)]*\b{name}\b", TrackParams.__doc__)
