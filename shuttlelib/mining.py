"""Hard examples: what the current model gets wrong on its own training data; between training and tracking.

One round is: score the train split over several augmented passes, index what fails, fine-tune with the
hard share drawn more often, compare on val. Where the model is confident and consistent and the label
lies far away, the label is the suspect; those go to a list for relabelling, never into the mix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from shuttlelib import geometry
from shuttlelib.cache import FrameCache
from shuttlelib.files import atomic_write
from shuttlelib.networks import Deployed
from shuttlelib.samples import Samples

KINDS = ("miss", "misplaced", "false_alarm")


@dataclass(frozen=True)
class MiningParams:
    """What counts as hard.

    Attributes:
        misplaced_px: a visible head placed farther than this is misplaced, network-input px.
        suspect_confidence: least mean visibility probability of a suspect label.
        suspect_spread_px: largest spread of a suspect's predictions over the passes, input px.
        suspect_distance_px: least distance of a suspect's label, input px.
    """

    misplaced_px: float = 5.0
    suspect_confidence: float = 0.9
    suspect_spread_px: float = 2.0
    suspect_distance_px: float = 20.0


@torch.no_grad()
def score(
    model: Deployed,
    samples: Samples,
    passes: int,
    batch: int = 16,
    params: MiningParams | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """Judge a model on samples, each seen in several augmented draws.

    Args:
        model: ready to run.
        samples: usually of the train split, with their augmentation.
        passes: draws of each sample.

    Returns:
        One row a sample: index, clip, frame, visible (in at least one draw), p_visible (mean),
        error_px (mean over draws that show the head; nan else), spread_px (of the errors' vectors),
        wrong (share of the draws), kind ("" or one of `KINDS`), suspect.
    """
    params = params or MiningParams()
    draws = [(i, i * passes + n) for n in range(passes) for i in range(len(samples))]
    rows = []
    for item in tqdm(DataLoader(samples, batch, sampler=draws), desc="score", leave=False):
        frames = item["frames"].permute(0, 1, 3, 4, 2).to(device)
        xy, _, visible = model(frames, item["history"].to(device))
        rows.append(
            torch.cat([item["index"][:, None], item["xy"], xy[:, 0].cpu(), visible[:, None].cpu()], 1)
        )
    table = pd.DataFrame(
        torch.cat(rows).double().numpy(), columns=["index", "true_x", "true_y", "x", "y", "p_visible"]
    )
    return _judge(samples, table, params)


@torch.no_grad()
def distractors(
    model: Deployed,
    caches: Sequence[FrameCache],
    batch: int = 16,
    apart_px: float = 25.0,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Where stage 1 sees a shuttle that is not there: the crops stage 2 must learn to reject.

    Args:
        model: a stage-1 version.
        caches: of whole frames at its input.
        apart_px: nearest a false place may be to the labelled head, canonical px.

    Returns:
        {clip: (frames, K, 2)} native px, nan where there are fewer than K.
    """
    found = {}
    for cache in tqdm(caches, desc="distractors", unit="clip", leave=False):
        samples = Samples([cache], model.net.spec)
        if not len(samples):
            continue
        window = samples.window(0)
        size_hw = cache.clip.info.even_hw
        near = apart_px / geometry.canonical_scale(size_hw)
        places = np.full((len(cache), model.candidates, 2), np.nan)
        for item in DataLoader(samples, batch):
            xy, _, _ = model(item["frames"].permute(0, 1, 3, 4, 2).to(device), item["history"].to(device))
            head = geometry.window_to_frame(item["xy"].double().numpy(), window)
            guesses = geometry.window_to_frame(xy.double().cpu().numpy(), window)
            close = np.hypot(*np.moveaxis(guesses - head[:, None], 2, 0)) < near  # nan compares as far
            guesses[close] = np.nan
            frames = [samples.index[int(i)][1] for i in item["index"]]
            places[frames] = guesses
        found[cache.clip.name] = places
    return found


def hard_examples(scores: pd.DataFrame, at_most: int) -> pd.DataFrame:
    """The worst samples, at most so many: most often wrong first, then farthest off; suspects left out."""
    hard = scores[(scores["kind"] != "") & ~scores["suspect"]]
    return hard.sort_values(["wrong", "error_px"], ascending=False, kind="stable").head(at_most)


def suspects(scores: pd.DataFrame) -> pd.DataFrame:
    """Samples whose label looks wrong, the farthest first."""
    return scores[scores["suspect"]].sort_values("error_px", ascending=False, kind="stable")


def mixed_weights(weights: np.ndarray, hard: pd.DataFrame, share: float) -> np.ndarray:
    """Sampling weights in which the hard examples together get `share` of the draws.

    Args:
        weights: (N,) the usual weights.
        hard: rows of `hard_examples`.
        share: in [0, 1).
    """
    chosen = np.zeros(len(weights))
    chosen[hard["index"].to_numpy()] = 1.0
    if not chosen.any():
        return weights
    return (1 - share) * weights / weights.sum() + share * chosen / chosen.sum()


def write_index(path: Path, table: pd.DataFrame) -> None:
    """Store scores or an index as Parquet, whole or not at all."""
    with atomic_write(path) as temp:
        table.to_parquet(temp, index=False)


def _judge(samples: Samples, table: pd.DataFrame, params: MiningParams) -> pd.DataFrame:
    table["dx"], table["dy"] = table["x"] - table["true_x"], table["y"] - table["true_y"]
    table["error_px"] = np.hypot(table["dx"], table["dy"])
    seen, said = table["true_x"].notna(), table["p_visible"] >= 0.5
    table["visible"] = seen
    table["miss"] = seen & ~said
    table["misplaced"] = seen & said & (table["error_px"] > params.misplaced_px)
    table["false_alarm"] = ~seen & said
    table["wrong"] = table[list(KINDS)].any(axis=1)
    groups = table.groupby("index", sort=True)
    result = groups[["p_visible", "error_px", "wrong"]].mean()
    result["visible"] = groups["visible"].any()
    result["spread_px"] = np.hypot(*groups[["dx", "dy"]].std(ddof=0).to_numpy().T)
    counts = groups[list(KINDS)].sum()
    result["kind"] = np.where(result["wrong"] > 0, counts.idxmax(axis=1), "")
    result["suspect"] = (
        result["visible"]
        & (result["p_visible"] >= params.suspect_confidence)
        & (result["spread_px"] <= params.suspect_spread_px)
        & (result["error_px"] >= params.suspect_distance_px)
    )
    result = result.reset_index()
    result["index"] = result["index"].astype(int)
    places = [samples.index[i] for i in result["index"]]
    result.insert(1, "clip", [samples.caches[c].clip.name for c, _ in places])
    result.insert(2, "frame", [f for _, f in places])
    return result
