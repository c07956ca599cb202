"""What one trained row does with single samples, and how sure a number of them is; beneath `claims`.

Every sample is judged on its own, so that intervals can resample clips (frames of one clip are not
independent) and rows can be compared on the same draws.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from shuttlelib.losses import training_loss
from shuttlelib.metrics import HIT_PX
from shuttlelib.prediction import Prediction, ShuttleNet, places
from shuttlelib.samples import Samples
from shuttlelib.validation import evenly

NOISE_LEVELS = (0.0, 0.005, 0.01, 0.02, 0.04)  # standard deviation, fractions of the range
RESAMPLES = 1000


@torch.no_grad()
def judge(
    net: ShuttleNet, samples: Samples, at_most: int, batch: int = 16, noise: float = 0.0, device: str = "cpu"
) -> pd.DataFrame:
    """Show a network an evenly spread subset of samples and judge each of them.

    Args:
        samples: with their augmentation for what training saw, without for validation.
        noise: standard deviation of further Gaussian noise on every frame, fraction of the range.

    Returns:
        One row a sample: clip, frame, visible (in the input), said (visible), true_x, true_y and error_px (of
        the best place; px of the 512x288 grid, nan where there is no head), spread_px (mean distance
        between the places of a row with several, else nan), loss, right (placed within 4 px and said, or
        neither).
    """
    generator = torch.Generator().manual_seed(0)
    parts = []
    for item in DataLoader(Subset(samples, evenly(len(samples), at_most)), batch):
        frames = _noisy(item["frames"], noise, generator)
        prediction = net(frames.to(device), item["history"].to(device))
        parts.append(_judged(net, prediction, {k: v.to(device) for k, v in item.items()}))
    table = pd.concat(parts, ignore_index=True)
    origins = [samples.index[int(n)] for n in table.pop("index")]
    table.insert(0, "clip", [samples.caches[c].clip.name for c, _ in origins])
    table.insert(1, "frame", [frame for _, frame in origins])
    return table


def noise_sweep(net: ShuttleNet, samples: Samples, at_most: int, device: str) -> pd.DataFrame:
    """`judge` at each of `NOISE_LEVELS`; column `level`."""
    tables = {level: judge(net, samples, at_most, noise=level, device=device) for level in NOISE_LEVELS}
    return pd.concat([table.assign(level=level) for level, table in tables.items()], ignore_index=True)


def interval(tables: Sequence[pd.DataFrame], statistic: Callable[..., float]) -> tuple[float, float, float]:
    """A number made of some tables, and its 95% bootstrap interval.

    Args:
        tables: with a column `clip`; those of the same clips are resampled by the same draw of them.
        statistic: of the tables, as many arguments.

    Returns:
        value, low, high; nan where it is undefined, as the limits are of a single clip.
    """
    rng = np.random.default_rng(0)
    where = [table.reset_index(drop=True).groupby("clip").indices for table in tables]
    drawn = []
    for _ in range(RESAMPLES if all(len(at) > 1 for at in where) else 0):
        draws: dict[tuple[str, ...], list[int]] = {}
        picks = []
        for at in where:
            names = tuple(map(str, at))
            if names not in draws:
                draws[names] = rng.integers(len(names), size=len(names)).tolist()
            picks.append(np.concatenate([at[names[i]] for i in draws[names]]))
        drawn.append(statistic(*(table.take(pick) for table, pick in zip(tables, picks))))
    finite = np.array([v for v in drawn if np.isfinite(v)])
    low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (np.nan, np.nan)
    return float(statistic(*tables)), float(low), float(high)


def median_error(table: pd.DataFrame) -> float:
    """Median distance of the best place over samples with a shuttle, px of the 512x288 grid."""
    return float(table["error_px"].median())


def accuracy(table: pd.DataFrame) -> float:
    """Share of samples that are right."""
    return float(table["right"].mean())


def has_learned(table: pd.DataFrame) -> bool:
    """Whether a row places the head clearly better than one fixed answer, the median place, would."""
    seen = table[table["visible"]]
    fixed = np.hypot(seen["true_x"] - seen["true_x"].median(), seen["true_y"] - seen["true_y"].median())
    return bool(median_error(seen) < 0.8 * np.median(fixed))


def placed_share(table: pd.DataFrame) -> float:
    """Of the samples with a shuttle, those placed within 4 px, whether it was believed or not."""
    return float((table.loc[table["visible"], "error_px"] <= HIT_PX).mean())


def false_alarm_share(table: pd.DataFrame) -> float:
    """Of the samples without a shuttle, those where one was said."""
    return float(table.loc[~table["visible"], "said"].mean())


def ratio(top: float, bottom: float) -> float:
    """top / bottom; nan where that says nothing."""
    return top / bottom if bottom > 0 else float("nan")


def _noisy(frames: Tensor, level: float, generator: torch.Generator) -> Tensor:
    if not level:
        return frames
    noise = torch.randn(frames.shape, generator=generator) * (255 * level)
    return (frames.float() + noise).round().clamp(0, 255).to(torch.uint8)


def _judged(net: ShuttleNet, prediction: Prediction, item: dict[str, Tensor]) -> pd.DataFrame:
    """The rows of one batch."""
    unit = net.spec.to_grid512
    xy = net.decode(prediction, 1)[0][:, 0].float()
    error = (xy - item["xy"]).norm(dim=1).cpu().numpy() * unit
    truth = item["xy"].cpu().numpy() * unit
    visible = np.isfinite(truth).all(1)
    said = (prediction.visible_logit.float() >= 0).cpu().numpy()
    losses = [float(_loss_of(net, prediction, item, i)) for i in range(len(xy))]
    return pd.DataFrame(
        {
            "index": item["index"].cpu().numpy(),
            "visible": visible,
            "said": said,
            "error_px": error,
            "true_x": truth[:, 0],
            "true_y": truth[:, 1],
            "spread_px": _spread(net, prediction, len(xy)) * unit,
            "loss": losses,
            "right": np.where(visible, said & (error <= HIT_PX), ~said),
        }
    )


def _loss_of(net: ShuttleNet, prediction: Prediction, item: dict[str, Tensor], i: int) -> Tensor:
    alone = Prediction(*(part[i : i + 1] for part in prediction))
    return training_loss(net.spec, alone, item["xy"][i : i + 1], item["history"][i : i + 1])["loss"]


def _spread(net: ShuttleNet, prediction: Prediction, count: int) -> np.ndarray:
    """Mean distance between the places of a row that gives several, input px."""
    n = net.spec.points
    if n < 2:
        return np.full(count, np.nan)
    found = places(net.spec, prediction).float()
    return (torch.cdist(found, found).sum((1, 2)) / (n * (n - 1))).cpu().numpy()
