"""Hard examples: what the current model gets wrong on its own training data; between training and tracking.

One round is: score the train split over several changed looks, index what fails, fine-tune with the
hard share drawn more often, compare on val. Suspect is a label that lies far from where the model is
confident and consistent, and a label that says invisible where the model sees the shuttle on the line
between the labels just before and after; those go to a list for relabelling, never into the mix. What
the failures have in common is for `clusters` to say.

Distances are px of a 1280x720 frame, for both stages. A look is changed only in ways that can be undone
(another crop, mirrored, darker), so that every answer is a place in the frame and several can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from shuttlelib import geometry, metrics
from shuttlelib.cache import FrameCache
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import atomic_write
from shuttlelib.frames import history_stride
from shuttlelib.networks import Deployed
from shuttlelib.samples import CropPolicy, Samples

KINDS = ("miss", "misplaced", "false_alarm", "disagreement")
GAP = 2  # thirtieths of a second on either side within which a label tells where the shuttle is in between
ON_THE_HEAD = CropPolicy(follow_share=0.0, elsewhere_share=0.0, spread=0.4)


class MiningError(ShuttleError):
    """An index of hard examples cannot be used."""


@dataclass(frozen=True)
class MiningParams:
    """What a round looks at, what counts as hard, and which labels are suspect.

    Attributes:
        batch: looks at a time.
        passes: looks at each frame: plain, then mirrored and darker by turns; stage 2 through another
            crop around the label each time.
        every: judge each so many-th labelled frame only; neighbours fail alike.
        at_most: hard examples to keep.
        hard_share: of the fine-tuning draws, in [0, 1).
        groups: clusters of failures.
        misplaced_px: a visible head placed farther than this is misplaced; 10 px are the 4 px of the
            512x288 grid that the evaluator allows, and five times the noise of good labels.
        apart_px: the stages disagree where their places are farther apart.
        suspect_confidence: least mean visibility probability of a suspect label.
        suspect_spread_px: largest spread of a suspect's predictions over the looks.
        suspect_distance_px: least distance of a suspect's label; and the reach of the line between labels.
    """

    batch: int = 16
    passes: int = 2
    every: int = 1
    at_most: int = 2000
    hard_share: float = 0.3
    groups: int = 5
    misplaced_px: float = 10.0
    apart_px: float = 25.0
    suspect_confidence: float = 0.9
    suspect_spread_px: float = 5.0
    suspect_distance_px: float = 20.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense before anything is scored."""
        for name in ("batch", "passes", "every", "at_most", "groups"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: must be at least 1")
        if not 0 <= self.hard_share < 1:
            raise UsageError(f"hard_share {self.hard_share}: choose a share from 0 up to, but not, 1")


class Pair(NamedTuple):
    """Both stages, and the same clips as each of them sees them; for `score`."""

    stage1: Deployed
    stage2: Deployed
    wholes: Sequence[FrameCache]
    planes: Sequence[FrameCache]


def score(
    model: Deployed, samples: Samples, params: MiningParams, seed: int = 0, pair: Pair | None = None
) -> pd.DataFrame:
    """Judge a model on labelled frames, each seen in several looks, and by what the other stage says.

    Args:
        model: ready to run.
        samples: usually of the train split; their own augmentation is left out.
        seed: of the crops.
        pair: both stages, the model among them; without it nothing can disagree.

    Returns:
        One row a frame: index (sample number), clip, frame, visible, label_x_px, label_y_px, x_px, y_px
        (native; mean answer, or what the pair says where the looks at the label were right or saw
        nothing), p_visible (mean), p_pair (stage 2 where stage 1 looks; nan without a pair), off (the
        model is stage 2, and no shuttle is where stage 1 looks), error_px (mean of the looks that saw the
        head; nan without one), spread_px, wrong (share of the looks), kind ("" or one of `KINDS`), suspect.
    """
    looks = Samples(samples.caches, model.net.spec, None, seed, ON_THE_HEAD)
    numbers, answers = list(range(0, len(looks), params.every)), []
    for n in range(params.passes):
        draws = [(i, i * params.passes + n) for i in numbers]
        xy, p = _answers(model, looks, draws, params.batch, mirror=n % 2 == 1, gain=1 - 0.15 * (n % 3))
        answers.append(np.column_stack([xy[:, 0], p]))
    second = second_opinion(pair, params) if pair else None
    return _judge(_labels(looks, numbers), np.stack(answers), second, model.net.spec.stage, params)


def second_opinion(pair: Pair, params: MiningParams) -> np.ndarray:
    """Where stage 1 sees the shuttle in each labelled frame, and what stage 2 says of a crop around it.

    Returns:
        (2, N, 3), stage 1's and stage 2's best place, native px, and probability of being visible; N as
        in `score`.
    """
    finder = Samples(pair.wholes, pair.stage1.net.spec)
    draws = [(i, i) for i in range(0, len(finder), params.every)]
    xy, p = _answers(pair.stage1, finder, draws, params.batch)
    centers = {cache.clip.name: np.zeros((len(cache), 2)) for cache in pair.planes}
    for (number, _), place in zip(draws, xy[:, 0]):
        clip, frame = finder.index[number]
        centers[finder.caches[clip].clip.name][frame] = place
    crops = Samples(pair.planes, pair.stage2.net.spec, centers=centers)
    again, p_again = _answers(pair.stage2, crops, draws, params.batch)
    return np.stack([np.column_stack([xy[:, 0], p]), np.column_stack([again[:, 0], p_again])])


def distractors(
    model: Deployed, caches: Sequence[FrameCache], apart_px: float = 25.0
) -> dict[str, np.ndarray]:
    """Where stage 1 sees a shuttle that is not there: the crops stage 2 must learn to reject.

    Args:
        model: a stage-1 version.
        caches: of whole frames at its input.
        apart_px: nearest a false place may be to the labelled head.

    Returns:
        {clip: (frames, K, 2)} native px, nan where there are fewer than K.
    """
    samples = Samples(caches, model.net.spec)
    numbers = list(range(len(samples)))
    guesses, _ = _answers(model, samples, [(i, i) for i in numbers], batch=16)
    table = _labels(samples, numbers)
    heads = table[["label_x_px", "label_y_px"]].to_numpy()
    gap = np.hypot(*np.moveaxis(guesses - heads[:, None], 2, 0)) * table["scale"].to_numpy()[:, None]
    guesses[gap < apart_px] = np.nan  # nan, where no head is visible, compares as far
    found = {c.clip.name: np.full((len(c), guesses.shape[1], 2), np.nan) for c in caches}
    for clip, frame, places in zip(table["clip"], table["frame"], guesses):
        found[clip][frame] = places
    return found


def hard_examples(scores: pd.DataFrame, at_most: int) -> pd.DataFrame:
    """The worst frames, at most so many: most often wrong first, then farthest off; suspects left out."""
    hard = scores[(scores["kind"] != "") & ~scores["suspect"]]
    return hard.sort_values(["wrong", "error_px"], ascending=False, kind="stable").head(at_most)


def suspects(scores: pd.DataFrame) -> pd.DataFrame:
    """Frames whose label looks wrong: the farthest first, then those said to be invisible.

    Their `confidence` is that of the surer one, the version itself or the pair, whose answer they show.
    """
    found = scores[scores["suspect"]]
    found = found.assign(confidence=found[["p_visible", "p_pair"]].max(axis=1))
    steps = found["x_px"] - found["label_x_px"], found["y_px"] - found["label_y_px"]
    away = pd.Series(np.hypot(*steps), found.index)
    return found.loc[away.sort_values(ascending=False, kind="stable", na_position="last").index]


def mixed_weights(weights: np.ndarray, hard: pd.DataFrame, share: float) -> np.ndarray:
    """Sampling weights in which the hard examples together get `share` of the draws.

    Args:
        weights: (N,) the usual weights. What they leave out stays out: labels there are not to be trained on.
        hard: rows of `hard_examples`.
        share: in [0, 1).
    """
    chosen = np.zeros(len(weights))
    chosen[hard["index"].to_numpy(int)] = 1.0
    chosen[weights == 0] = 0.0
    if not chosen.any():
        return weights
    return (1 - share) * weights / weights.sum() + share * chosen / chosen.sum()


def compare(before: pd.DataFrame, after: pd.DataFrame, misplaced_px: float) -> pd.DataFrame:
    """What a round bought and what it cost, on frames that were not trained on.

    Args:
        before, after: `score` of the two models, in one pass over the same val frames.

    Returns:
        One row a group (all, ordinary, hard, and each kind, as the model was *before*): frames; fixed and
        broken (frames that failed before only, after only); accuracy, f1, fp2_share and error_px (mean of
        hits) each `_before` and `_after`. The groups are chosen by the old model's failures, so that hard
        can only gain and ordinary only lose: whether it was worth it, "all" says.
    """
    hard, right, rows = before["kind"] != "", after["kind"] == "", {}
    groups = {"all": hard | ~hard, "ordinary": ~hard, "hard": hard}
    groups |= {kind: before["kind"] == kind for kind in KINDS}
    for name, chosen in groups.items():
        changed = {"fixed": (chosen & hard & right).sum(), "broken": (chosen & ~hard & ~right).sum()}
        old, new = (_measures(table[chosen], misplaced_px) for table in (before, after))
        both = {f"{key}_{when}": t[key] for key in old for when, t in (("before", old), ("after", new))}
        rows[name] = {"frames": chosen.sum(), **changed, **both}
    return pd.DataFrame(rows).T


def write_index(path: Path, table: pd.DataFrame, facts: dict[Any, Any] | None = None) -> None:
    """Store scores or an index as Parquet, whole or not at all, with the facts it was made from."""
    table = table.copy()
    table.attrs = facts or {}
    with atomic_write(path) as temp:
        table.to_parquet(temp, index=False)


def stored(path: Path, facts: dict[str, Any]) -> pd.DataFrame | None:
    """What `write_index` wrote from exactly these facts; None where there is no such table."""
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError):
        return None
    return table if table.attrs == facts else None


def read_index(path: Path, samples: Samples) -> pd.DataFrame:
    """Read an index for training, its rows found again in the data by clip and frame.

    Raises:
        MiningError: it cannot be read, or a row is not in the data.
    """
    try:
        table = pd.read_parquet(path)
        keys = list(zip(table["clip"], table["frame"]))
    except (OSError, ValueError, KeyError) as error:
        raise MiningError(f"{path}: not an index of clips and frames ({error}); mine again") from error
    numbers = {(samples.caches[c].clip.name, f): n for n, (c, f) in enumerate(samples.index)}
    for row, (clip, frame) in enumerate(keys, start=1):
        if (clip, frame) not in numbers:
            raise MiningError(
                f"{path}: row {row}: clip {clip}, frame {frame} is not in the data; mine again on this data"
            )
    table["index"] = [numbers[key] for key in keys]
    return table


@torch.no_grad()
def _answers(
    model: Deployed,
    samples: Samples,
    draws: list[tuple[int, int]],
    batch: int,
    mirror: bool = False,
    gain: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Places (N, K, 2), native px, and probability of being visible (N,), for (sample, draw) pairs."""
    places, seen = [np.empty((0, model.candidates, 2))], [np.empty(0)]
    device = next(model.parameters()).device
    for item in tqdm(DataLoader(samples, batch, sampler=draws), desc="score", leave=False):
        frames, history = item["frames"].permute(0, 1, 3, 4, 2), item["history"].clone()
        if mirror:
            frames = frames.flip(3)
            history[..., 0] = (1 - history[..., 0]) * history[..., 2]  # the invisible stays (0, 0, 0)
        if gain != 1:
            frames = (frames * gain).to(torch.uint8)
        xy, _, visible = model(frames.to(device), history.to(device))
        xy = xy.double().cpu()
        if mirror:
            xy[..., 0] = samples.spec.input_hw[1] - xy[..., 0]
        places.append(xy.numpy())
        seen.append(visible.double().cpu().numpy())
    windows = [samples.window(*draw) for draw in draws]
    native = [geometry.window_to_frame(xy, w) for xy, w in zip(np.concatenate(places), windows)]
    return np.array(native).reshape(-1, *places[0].shape[1:]), np.concatenate(seen)


def _labels(samples: Samples, numbers: list[int]) -> pd.DataFrame:
    """index, clip, frame, visible, label (nan where invisible), place between labels, canonical scale."""
    places = [samples.index[n] for n in numbers]
    points = np.array([samples.points[c][f, :3] for c, f in places]).reshape(-1, 3)
    visible = points[:, 2] > 0
    found = [samples.caches[c].clip for c, _ in places]
    strides = [history_stride(cache.clip.info.fps) for cache in samples.caches]
    gaps = [_between(track, GAP * stride) for track, stride in zip(samples.points, strides)]
    between = np.array([gaps[c][f] for c, f in places]).reshape(-1, 2)
    return pd.DataFrame(
        {
            "index": numbers,
            "clip": [clip.name for clip in found],
            "frame": [f for _, f in places],
            "visible": visible,
            "label_x_px": np.where(visible, points[:, 0], np.nan),
            "label_y_px": np.where(visible, points[:, 1], np.nan),
            "between_x_px": between[:, 0],
            "between_y_px": between[:, 1],
            "scale": [geometry.canonical_scale(clip.info.even_hw) for clip in found],
        }
    )


def _between(track: np.ndarray, reach: int) -> np.ndarray:
    """(frames, 2) native px: places on the line between labels at most `reach` frames off; nan elsewhere."""
    xy = pd.DataFrame(np.where(track[:, 2:3] > 0, track[:, :2], np.nan))
    short = xy.isna() & xy.ffill(limit=reach).notna() & xy.bfill(limit=reach).notna()
    return xy.interpolate(limit_area="inside").where(short).to_numpy()


def _judge(
    table: pd.DataFrame, answers: np.ndarray, second: np.ndarray | None, stage: int, params: MiningParams
) -> pd.DataFrame:
    """Rows of `score` from labels, the model's answers (passes, N, 3) and the pair's (2, N, 3)."""
    label, between = (table[[f"{kind}_x_px", f"{kind}_y_px"]].to_numpy() for kind in ("label", "between"))
    visible, scale = table["visible"].to_numpy(), table["scale"].to_numpy()

    def away(xy: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.hypot(*np.moveaxis(xy - other, -1, 0)) * scale

    said, error = answers[..., 2] >= 0.5, away(answers[..., :2], label)
    failed = np.stack([visible & ~said, visible & said & (error > params.misplaced_px), ~visible & said])
    counts, looks = failed.sum(1), len(answers)
    mean, p = answers[..., :2].mean(0), answers[..., 2].mean(0)
    spread = np.sqrt((away(answers[..., :2], mean) ** 2).mean(0))
    far = away(mean, label) >= params.suspect_distance_px
    suspect = (p >= params.suspect_confidence) & (spread <= params.suspect_spread_px) & far
    suspect |= ~visible & said.all(0) & (away(mean, between) < params.suspect_distance_px)
    p_pair, apart, off = np.full(len(table), np.nan), np.zeros(len(table), bool), np.zeros(len(table), bool)
    if second is not None:
        (first, other), (p_first, p_pair) = second[..., :2], second[..., 2]
        agree = (p_first >= 0.5) & (p_pair >= 0.5) & (away(first, other) <= params.apart_px)
        apart = ~agree & ((p_first >= 0.5) | (p_pair >= 0.5)) & ~counts.any(0)
        elsewhere = ~(away(other, label) < params.suspect_distance_px)
        suspect |= agree & elsewhere & visible & ~said.any(0) & (p_pair >= params.suspect_confidence)
        mean = np.where((elsewhere & ~counts.any(0) | ~said.any(0))[:, None], other, mean)
        # a crop where stage 1 looks is one look more for stage 2; only a false sighting counts there
        off = elsewhere & (stage == 2)
        counts, looks = counts + np.array([[0], [0], [1]]) * (off & (p_pair >= 0.5)), looks + 1
    counts = np.concatenate([counts, [apart]])
    seen = said & visible
    return table.assign(
        x_px=mean[:, 0],
        y_px=mean[:, 1],
        p_visible=p,
        p_pair=p_pair,
        off=off,
        error_px=np.where(seen, error, 0).sum(0) / np.where(seen.any(0), seen.sum(0), np.nan),
        spread_px=spread,
        wrong=counts.sum(0) / looks,
        kind=np.where(counts.any(0), np.array(KINDS)[counts.argmax(0)], ""),
        suspect=suspect,
    ).drop(columns=["between_x_px", "between_y_px", "scale"])


def _measures(scores: pd.DataFrame, tolerance_px: float) -> dict[str, float]:
    """The evaluator's measures of some rows, and of the crops where stage 1 sees what is not there.

    The evaluator wants points, and a distance is one seen from the head.
    """
    false = scores[scores["off"]]
    p = np.r_[scores["p_visible"], false["p_pair"]]
    visible = np.r_[scores["visible"], np.zeros(len(false), bool)]
    error, said = np.r_[scores["error_px"], np.full(len(false), np.nan)], p >= 0.5
    points = np.column_stack([np.nan_to_num(error), np.zeros(len(error))])
    counts = metrics.hit_counts(points, said, np.zeros_like(points), visible, tolerance_px)
    hits = error[said & visible & (error <= tolerance_px)]
    measures = {name: float(getattr(counts, name)) for name in ("accuracy", "f1", "fp2_share")}
    return {**measures, "error_px": float(hits.mean()) if len(hits) else np.nan}
