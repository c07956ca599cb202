"""How far a labelling is, and how far its annotators agree; for `shuttle label status`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from shuttlelib.apps.labeling.answers import Answer, Answers
from shuttlelib.apps.labeling.work import WorkClip
from shuttlelib.geometry import canonical_scale


def progress(answers: Answers) -> pd.DataFrame:
    """One row a clip: tasks, labelled, visible (to one annotator at least), left."""
    tasks = pd.DataFrame(answers.tasks, columns=["clip", "frame"])
    labelled = {(answer.clip, answer.frame) for answer in answers.found}
    visible = {(answer.clip, answer.frame) for answer in answers.found if answer.visible}
    keys = list(zip(tasks["clip"], tasks["frame"]))
    tasks["labelled"], tasks["visible"] = [key in labelled for key in keys], [key in visible for key in keys]
    groups = tasks.groupby("clip")
    sums = {"tasks": groups["frame"].size(), "labelled": groups["labelled"].sum()}
    table = pd.DataFrame({**sums, "visible": groups["visible"].sum()})
    return table.assign(left=table["tasks"] - table["labelled"])


def pace(answers: Answers) -> pd.DataFrame:
    """One row an annotator: labels and seconds (median a label, as the page measured them)."""
    rows = [(answer.who, answer.seconds) for answer in answers.found]
    groups = pd.DataFrame(rows, columns=["annotator", "seconds"]).groupby("annotator")["seconds"]
    return pd.DataFrame({"labels": groups.size(), "median_s": groups.median()})


def agreement(answers: Answers, clips: Mapping[str, WorkClip]) -> dict[str, Any]:
    """Compare the answers of frames that several people labelled, pair by pair.

    Returns:
        frames (with at least two annotators), pairs (of answers), visibility_agreement (share), kappa
        (Cohen's, visible or not; None where one answer is all there is), choice_agreement (share, all four
        choices), distance_px_median, distance_px_p95 (where both see it; px of a 1280x720 frame; None without
        such a pair) and worst: up to ten (clip, frame, distance_px; inf where they disagree on visibility).

    Source: Cohen, A coefficient of agreement for nominal scales, 1960; pairs of all annotators are pooled.
    """
    groups: dict[tuple[str, int], list[Answer]] = defaultdict(list)
    for answer in answers.found:
        groups[answer.clip, answer.frame].append(answer)
    pairs = [
        pair for group in groups.values() for pair in combinations(sorted(group, key=lambda a: a.who), 2)
    ]
    apart = [_distance(*pair, canonical_scale(clips[pair[0].clip].size_hw)) for pair in pairs]
    both = np.array([value for value in apart if np.isfinite(value)])
    worst = sorted(zip(apart, pairs), key=lambda item: -np.nan_to_num(item[0], nan=-1.0))[:10]
    return {
        "frames": sum(len(group) > 1 for group in groups.values()),
        "pairs": len(pairs),
        "visibility_agreement": _share([a.visible == b.visible for a, b in pairs]),
        "kappa": kappa([(a.visible, b.visible) for a, b in pairs]),
        "choice_agreement": _share([a.choice == b.choice for a, b in pairs]),
        "distance_px_median": float(np.median(both)) if len(both) else None,
        "distance_px_p95": float(np.quantile(both, 0.95)) if len(both) else None,
        "worst": [(a.clip, a.frame, value) for value, (a, _) in worst if value > 0],
    }


def describe(result: Mapping[str, Any]) -> str:
    """The numbers of `agreement`, for a terminal."""
    if not result["pairs"]:
        return "agreement: no frame was labelled by two people yet"

    def shown(name: str, form: str) -> str:
        return "-" if result[name] is None else format(result[name], form)

    lines = [
        f"agreement over {result['frames']} frames with several annotators: "
        f"visibility {shown('visibility_agreement', '.0%')} (kappa {shown('kappa', '.2f')}), "
        f"choice {shown('choice_agreement', '.0%')}, points {shown('distance_px_median', '.1f')} px apart "
        f"(median; 95%: {shown('distance_px_p95', '.1f')}; of 1280x720)"
    ]
    for clip, frame, apart in result["worst"]:
        what = "visible or not" if np.isinf(apart) else f"{apart:.1f} px apart"
        lines.append(f"  {clip} frame {frame}: {what}")
    return "\n".join(lines)


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Cohen's kappa of two answers each; None where chance alone would agree on all of them."""
    if not pairs:
        return None
    first, second = np.array(pairs, dtype=bool).T
    observed = float(np.mean(first == second))
    by_chance = float(first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean()))
    return None if by_chance >= 1 else (observed - by_chance) / (1 - by_chance)


def _distance(a: Answer, b: Answer, scale: float) -> float:
    """Px of a 1280x720 frame; inf where one sees it and one does not, nan where neither does."""
    if a.visible != b.visible:
        return float("inf")
    return float(np.hypot(a.x_px - b.x_px, a.y_px - b.y_px)) * scale


def _share(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None
