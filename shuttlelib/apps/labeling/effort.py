"""What a label costs a person, with and without the model's pre-annotations; for `shuttle label effort`.

The model of time is the keystroke-level model: K 0.2 s a key, P 1.1 s to point, B 0.1 s a press or release
of the mouse button, M 1.35 s to look and decide. The hands rest on mouse and keyboard, and the time a page
takes to load is left out. Times are those of practised people, so what counts is the ratio. The actions are
those that the labelling page needs, as its test in a browser carries them out.

Source: Card, Moran & Newell, The keystroke-level model for user performance time, Comm. ACM 23(7), 1980.
"""

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from shuttlelib import tracking
from shuttlelib.apps.labeling import pick, serve
from shuttlelib.clips import Clip
from shuttlelib.geometry import canonical_scale
from shuttlelib.labels import LabelError

SECONDS = {"K": 0.2, "P": 1.1, "B": 0.1, "M": 1.35}
TOLERANCE_PX = 3.0  # a careful person leaves a point that is this near: labels scatter by 2 px
SUGGEST_FROM = (0.0, 0.8, 0.9, 0.95)
# M look; P and B B click on the head; K the visibility; K K submit. To move a point: P B, P B.
ACTIONS = {
    "set a point": "MPBBKKK",
    "say why it is not visible": "MMKKK",
    "accept": "MKK",
    "move the point": "MMPBPBKK",
}
_WITHOUT = {True: "set a point", False: "say why it is not visible"}  # by truth
_WITH = {
    "right": "accept",
    "misplaced": "move the point",
    "missed": "set a point",
    "false alarm": "say why it is not visible",
    "rightly unseen": "say why it is not visible",
}


def seconds(action: str) -> float:
    """Time of an action of `ACTIONS`, s."""
    return sum(SECONDS[step] for step in ACTIONS[action])


def inputs(action: str) -> int:
    """Keys, and presses and releases of the mouse button, of an action."""
    return sum(step in "KB" for step in ACTIONS[action])


def judge(
    track: pd.DataFrame, truth: pd.DataFrame, size_hw: tuple[int, int], tolerance_px: float = TOLERANCE_PX
) -> pd.DataFrame:
    """What a person must do about every labelled frame of a tracked clip.

    Args:
        track: the tracker's rows by frame.
        truth: canonical labels.
        size_hw: native.
        tolerance_px: farther points are moved; px of a 1280x720 frame.

    Returns:
        By frame: outcome (a key of `_WITH`), said (a point), confidence, with_model and without (names of
        `ACTIONS`).
    """
    says = track[["visible", "x_px", "y_px", "confidence"]].add_suffix("_said")
    both = truth.set_index("frame").join(says, how="inner")
    apart = np.hypot(both["x_px"] - both["x_px_said"], both["y_px"] - both["y_px_said"])
    apart = apart * canonical_scale(size_hw)
    seen, said = both["visible"].astype(bool), both["visible_said"].astype(bool)
    kinds = [seen & said & (apart <= tolerance_px), seen & said, seen & ~said, ~seen & said]
    outcome = np.select([kind.to_numpy() for kind in kinds], list(_WITH)[:4], list(_WITH)[4])
    return pd.DataFrame(
        {
            "outcome": outcome,
            "said": said,
            "confidence": both["confidence_said"],
            "with_model": [_WITH[name] for name in outcome],
            "without": [_WITHOUT[bool(value)] for value in seen],
        },
        index=both.index,
    )


def measure(
    dataset: Sequence[Clip],
    networks: tracking.Networks,
    tolerance_px: float = TOLERANCE_PX,
) -> dict[str, Any]:
    """Track clips of known truth and count what correcting the answers would cost.

    Args:
        dataset: clips with labels taken as truth, best rendered ones.
        networks: the model.
        tolerance_px: see `judge`.

    Returns:
        all, picked: `summarize` of every labelled frame, and of those that `shuttle label serve` would send
        out, at most a third of a clip.

    Raises:
        LabelError: there is no clip.
    """
    if not dataset:
        raise LabelError("no clips to measure on; render some with `shuttle data synth`")
    everything, chosen = [], []
    with tempfile.TemporaryDirectory() as folder:
        for clip in dataset:
            done = tracking.track_video(clip.video_path, folder, networks=networks)
            track = pd.read_csv(done.csv).set_index("frame")
            judged = judge(track, clip.table, clip.info.size_hw, tolerance_px)
            count = min(serve.Settings.frames, len(track) // 3)
            frames = pick.pick_frames(len(track), clip.info.fps, count, track["confidence"]).index
            everything.append(judged)
            chosen.append(judged[judged.index.isin(frames)])
    return {"all": summarize(pd.concat(everything)), "picked": summarize(pd.concat(chosen))}


def summarize(judged: pd.DataFrame) -> dict[str, Any]:
    """What the frames of `judge` cost.

    Returns:
        frames, outcomes (shares), without, and with_model: by each of `SUGGEST_FROM`, the least confidence of
        a point that is suggested (others the person sets). Each of these has seconds_a_frame,
        frames_an_hour, inputs_a_frame and times_as_fast (as without).
    """
    shares = judged["outcome"].value_counts(normalize=True).reindex(list(_WITH), fill_value=0.0)
    without = _cost(judged["without"])
    levels = {}
    for level in SUGGEST_FROM:
        shown = ~judged["said"] | (judged["confidence"] >= level)
        levels[str(level)] = _cost(judged["with_model"].where(shown, judged["without"]), without)
    return {"frames": len(judged), "outcomes": shares.to_dict(), "without": without, "with_model": levels}


def _cost(actions: pd.Series, without: Mapping[str, float] | None = None) -> dict[str, float]:
    each = float(actions.map(seconds).mean())
    return {
        "seconds_a_frame": each,
        "frames_an_hour": 3600 / each,
        "inputs_a_frame": float(actions.map(inputs).mean()),
        "times_as_fast": without["seconds_a_frame"] / each if without else 1.0,
    }


def describe(result: Mapping[str, Any]) -> str:
    """The numbers of `measure`, for a terminal."""
    lines = []
    for name, part in result.items():
        shares = ", ".join(f"{outcome} {share:.0%}" for outcome, share in part["outcomes"].items())
        lines += [f"{name}: {part['frames']} frames: {shares}"]
        rows = {"no suggestions": part["without"]}
        rows |= {f"suggest from {level}": row for level, row in part["with_model"].items()}
        lines += [
            f"  {how:<18} {row['frames_an_hour']:5.0f} frames/h ({row['times_as_fast']:.2f} times), "
            f"{row['seconds_a_frame']:.2f} s and {row['inputs_a_frame']:.1f} keys and clicks a frame"
            for how, row in rows.items()
        ]
    return "\n".join(lines)
