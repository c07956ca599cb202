"""Judging a network on samples while it trains; between models and `train`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import default_collate

from shuttlelib import metrics
from shuttlelib.batches import Source
from shuttlelib.geometry import GRID512_HW
from shuttlelib.losses import training_loss
from shuttlelib.metrics import HIT_PX
from shuttlelib.prediction import ShuttleNet
from shuttlelib.samples import Item, Samples


def evenly(count: int, at_most: int) -> list[int]:
    """At most so many numbers below `count`, evenly spread from the first to the last."""
    return np.linspace(0, count - 1, min(at_most, count)).round().astype(int).tolist()


def validate(
    net: ShuttleNet, val: Samples, batch: int, at_most: int, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Metrics of a network on a fixed, evenly spread subset of samples.

    Positions are judged within the network's own input (teacher-centred crops for stage 2): good for
    choosing weights, not for reporting; `shuttle evaluate` judges the free-running tracker.

    Returns:
        accuracy, f1, error_px (mean over hits, px of the 512 grid for stage 1, canonical px for
        stage 2), fp2_share (false alarms among samples without a shuttle) and loss; for comparisons
        across rows accuracy_512 (4 px of the 512 grid for both stages) and median_px (of the best place's
        error, px of that grid, over all samples with a shuttle, whether it was believed or not).
    """
    return judge(net, Source(val, device), batch, at_most)[0]


class Looked(NamedTuple):
    """What a network makes of some samples, for the eye.

    Attributes:
        images: (N, H, W, 3) uint8, the current frame of each sample as the network saw it.
        heatmaps: (N, h, w) probability of each cell; "nowhere" holds the rest.
        xy: (N, 2) best place, input px, whether it is believed or not.
        said: (N, 2) the same, nan where the network says that the head is not visible.
        truth: (N, 2) label, input px, nan where it is not visible.
        p_visible: (N,) probability that it is.
    """

    images: np.ndarray
    heatmaps: np.ndarray
    xy: np.ndarray
    said: np.ndarray
    truth: np.ndarray
    p_visible: np.ndarray


@torch.no_grad()
def look(net: ShuttleNet, samples: Samples, draws: Sequence[Item]) -> Looked:
    """Show samples (by number, or number and draw) to a network, in one batch."""
    batch = default_collate(samples.__getitems__(draws))
    device = next(net.parameters()).device
    prediction = net(batch["frames"].to(device), batch["history"].to(device))
    xy = net.decode(prediction, 1)[0][:, 0].float().cpu().numpy()
    p_visible = torch.sigmoid(prediction.visible_logit.float()).cpu().numpy()
    return Looked(
        batch["frames"][:, net.spec.current].permute(0, 2, 3, 1).numpy(),
        net.probabilities(prediction).float().cpu().numpy(),
        xy,
        np.where(p_visible[:, None] >= 0.5, xy, np.nan),
        batch["xy"].numpy(),
        p_visible,
    )


@torch.no_grad()
def judge(net: ShuttleNet, source: Source, batch: int, at_most: int) -> tuple[dict[str, float], pd.DataFrame]:
    """As `validate`, with a row a sample: index, x, y, logit, true_x, true_y (px), error_px, wrong.

    error_px is nan unless both the label and the network place the shuttle; wrong is any kind of failure.
    """
    spec, samples = net.spec, source.samples
    picks = evenly(len(samples), at_most)
    rows: list[Any] = []
    losses, sizes = [], []
    for item in source.batches(picks[n : n + batch] for n in range(0, len(picks), batch)):
        prediction = net(item["frames"], item["history"])
        losses.append(training_loss(spec, prediction, item["xy"], item["history"])["loss"])
        sizes.append(len(item["xy"]))
        xy = net.decode(prediction, 1)[0][:, 0].float()
        rows.append(torch.cat([xy, prediction.visible_logit.float()[:, None], item["xy"]], 1))
    names = ["x", "y", "logit", "true_x", "true_y"]
    table = pd.DataFrame(torch.cat(rows).double().cpu().numpy(), columns=names)
    found, truth = table[["x", "y"]].to_numpy(), table[["true_x", "true_y"]].to_numpy()
    unit = spec.to_grid512 if spec.stage == 1 else 1.0
    said, seen = table["logit"].to_numpy() >= 0, np.isfinite(truth[:, 0])
    counts = metrics.hit_counts(found * unit, said, truth * unit, seen, HIT_PX)
    gap = np.hypot(*(found - truth).T) * unit
    error = np.where(said & seen, gap, np.nan)
    hits = error <= HIT_PX
    grid = spec.to_grid512 / unit  # from the unit above to the 512 grid
    right = np.where(seen, error * grid <= HIT_PX, ~said)
    table = table.assign(index=picks, error_px=error, wrong=np.where(seen, ~hits, said))
    return {
        "accuracy": float(np.nan_to_num(counts.accuracy)),
        "f1": float(np.nan_to_num(counts.f1)),
        "error_px": float(error[hits].mean()) if hits.any() else HIT_PX,
        "fp2_share": float(np.nan_to_num(counts.fp2_share)),
        "loss": float(np.average(torch.stack(losses).float().cpu(), weights=sizes)),
        "accuracy_512": float(right.mean()),
        "median_px": float(np.median(gap[seen]) * grid) if seen.any() else float(GRID512_HW[1]),
    }, table
