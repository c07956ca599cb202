"""Why frames are hard: what can be measured around each labelled head, causes by rule, and what each costs.

Stands beside metrics, behind notebook 06. Nothing here asks a network: a cause is read from the label track
and the pixels alone, so it is the same for every version, and says where errors gather, not whose they are.
A frame may have several causes. Lengths are canonical px (1280x720) unless a name says otherwise.
"""

from collections import defaultdict

import cv2
import numpy as np
import pandas as pd

from shuttlelib import geometry, metrics, video
from shuttlelib.clips import Clip

LEAST_STRETCHES = 6  # the least and the greatest of fewer bound a median in less than 95% of cases
CROP_PX = 64  # side of the surroundings that are measured
HEAD_PX, RING_PX = 6.0, (10.0, 24.0)  # radius of the head's disc; of the ring that counts as its background
APART_S = 0.2  # frames so far apart show the same background, the shuttle elsewhere
WHITE = 150  # a pixel whose darkest channel is so bright looks like a shuttle
MOVED = 15.0  # least change of brightness (of 255) that counts as the shuttle's own
CAUSES = ("blur", "occlusion", "out of frame", "static", "small", "white background", "clutter", "faint")
NONE = "none of these"

# From where on a circumstance counts as a cause
BLUR_PX = 20.0  # the longer of the label's steps to its two neighbours, which bounds the streak
NEAR_HIDDEN_S = 0.067  # a visible head this close to frames where it is hidden is half hidden itself
# A head this near the frame's edge is leaving; a gap that begins or ends there (or would within two steps) is
# out of frame, any other gap is hidden: behind a player, racket or hand.
EDGE_PX = 24.0
STATIC_PX, STATIC_S = 12.0, 0.134  # extent of the track within a time to either side: in a hand, on the floor
SMALL_PX = 3.0  # width of the shuttle across its motion, native px
WHITE_SHARE = 0.1  # of the background ring that is as white as a shuttle: shirts, lines, lettering
CLUTTER_LUMA = 35.0  # standard deviation of the ring's brightness, of 255
FAINT_LUMA = 30.0  # how much the head differs from what is there before and after, of 255


def circumstances(clip: Clip) -> pd.DataFrame:
    """What is measurable around every labelled frame of a clip.

    Returns:
        One row a labelled frame: clip, frame, stretch (its half second: near-copies share it), step_px,
        drift_px (extent of the track around), edge_px, gap ("" where visible, else "leaving" or "hidden"),
        near_hidden, white_share, clutter_luma, contrast_luma (to the frames before and after) and size_px
        (native, across the motion). nan where there is nothing to measure: no visible neighbour, no head.
    """
    heads = clip.heads().to_numpy()
    table = clip.table[["clip", "frame"]].reset_index(drop=True)
    frames = table["frame"].to_numpy()
    measured = _track(heads, clip) | _pixels(heads, clip)
    table["stretch"] = [f"{clip.name}/{int(frame / clip.info.fps * 2)}" for frame in frames]
    return table.assign(**{name: values[frames] for name, values in measured.items()})


def causes(table: pd.DataFrame) -> pd.DataFrame:
    """Which causes each row of `circumstances` has: bool columns `CAUSES`, `NONE`; unmeasured is no cause."""
    has = {
        "blur": table["step_px"] >= BLUR_PX,
        "occlusion": table["gap"].eq("hidden") | table["near_hidden"],
        "out of frame": table["gap"].eq("leaving") | (table["edge_px"] <= EDGE_PX),
        "static": table["drift_px"] <= STATIC_PX,
        "small": table["size_px"] < SMALL_PX,
        "white background": table["white_share"] >= WHITE_SHARE,
        "clutter": table["clutter_luma"] >= CLUTTER_LUMA,
        "faint": table["contrast_luma"] <= FAINT_LUMA,
    }
    found = pd.DataFrame(has)[list(CAUSES)]
    return found.assign(**{NONE: ~found.any(axis=1)})


def by_cause(rows: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """What each cause costs, the costliest first; "none of these" stays last.

    Args:
        rows: judged frames with columns outcome, right, stretch.
        found: `causes` of the same rows.

    Returns:
        Indexed by cause: frames, wrong, error_rate with its 95% limits low and high, elsewhere (error rate of
        all other frames), extra (wrong frames beyond what they would be at that rate: what a cure could
        win at most), and the share of the frames that are missed, misplaced and false_alarm.
    """
    table = {}
    for cause, column in found.items():
        here, rest = rows[column.to_numpy()], rows[~column.to_numpy()]
        low, high = wilson(1 - here["right"].mean(), here["stretch"].nunique())
        kinds = {"missed": "FN", "misplaced": "FP1", "false_alarm": "FP2"}
        table[cause] = {
            "frames": len(here),
            "wrong": int((~here["right"]).sum()),
            "error_rate": 1 - here["right"].mean(),
            "low": low,
            "high": high,
            "elsewhere": 1 - rest["right"].mean(),
            "extra": (rest["right"].mean() - here["right"].mean()) * len(here),
            **{name: here["outcome"].eq(kind).mean() for name, kind in kinds.items()},
        }
    result = pd.DataFrame(table).T.astype({"frames": int, "wrong": int})
    return result.iloc[np.lexsort((-result["extra"].fillna(0), result.index == NONE))]


def examples(rows: pd.DataFrame, found: pd.DataFrame, each: int) -> pd.DataFrame:
    """Frames to look at: `each` of every cause that has any wrong, two of a half second at most.

    Args:
        rows, found: as for `by_cause`; the index of `rows` must be unique.

    Returns:
        Rows of `rows` by cause, clip and frame, with a column cause; empty ones where a cause has too few.
        Frames of several causes are shown once where others can stand for the second.
    """
    picked = []
    shown = pd.Series(False, rows.index)
    for cause in found:
        wrong = rows[found[cause].to_numpy() & ~rows["right"].to_numpy()].sample(frac=1, random_state=0)
        wrong = wrong.loc[shown[wrong.index].sort_values(kind="stable").index]  # shown already: last
        nth = wrong.groupby("stretch").cumcount()
        order = (nth + each * shown[wrong.index])[nth < 2]  # more of a half second are the same picture
        first = wrong.loc[order.sort_values(kind="stable").index[:each]].sort_values(["clip", "frame"])
        shown[first.index] = True
        if len(first):
            picked.append(first.reset_index(drop=True).reindex(range(each)).assign(cause=cause))
    return pd.concat(picked, ignore_index=True) if picked else rows.iloc[:0].assign(cause="")


def binned(rows: pd.DataFrame, by: str, edges: np.ndarray) -> pd.DataFrame:
    """Error and misses of visible frames over a measure.

    Args:
        rows: judged frames with columns outcome, error_px, stretch and `by`.
        edges: (B + 1,) of the bins; a bin holds its lower edge.

    Returns:
        One row a bin with frames in it: low_edge, high_edge, frames, median_px (of those placed, hit or not)
        with 95% limits median_low and median_high, missed (share said not visible or placed wrongly) with
        limits missed_low and missed_high. Limits count half seconds, not frames; the median's those with a
        place, and are nan where these are too few to bound it.
    """
    seen = rows[rows["outcome"].isin(["TP", "FP1", "FN"])]
    place = np.digitize(seen[by].to_numpy(), edges) - 1  # nan falls behind the last bin
    table = []
    for i in range(len(edges) - 1):
        inside = seen[place == i]
        if inside.empty:
            continue
        placed, stretches = inside.dropna(subset="error_px"), inside["stretch"].nunique()
        count = placed["stretch"].nunique()
        half = 0.98 / np.sqrt(max(1, count))  # of the order statistic: 1.96 sqrt(1/4 / n)
        quantiles = np.clip([0.5, 0.5 - half, 0.5 + half], 0, 1)
        middle = np.quantile(placed["error_px"], quantiles) if count else np.full(3, np.nan)
        if count < LEAST_STRETCHES:
            middle[1:] = np.nan
        missed = 1 - inside["right"].mean()
        table.append((edges[i], edges[i + 1], len(inside), *middle, missed, *wilson(missed, stretches)))
    names = ["low_edge", "high_edge", "frames", "median_px", "median_low", "median_high"]
    return pd.DataFrame(table, columns=[*names, "missed", "missed_low", "missed_high"])


def wilson(share: float, count: int) -> tuple[float, float]:
    """95% limits of a share of `count` independent trials; (0, 1) of none.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if not count:
        return 0.0, 1.0
    z2 = 1.96**2 / count
    middle, half = share + z2 / 2, np.sqrt(z2 * (share * (1 - share) + z2 / 4))
    return float((middle - half) / (1 + z2)), float((middle + half) / (1 + z2))


def judge(clip: Clip, predicted: pd.DataFrame) -> pd.DataFrame:
    """The frames of a clip with their outcome: `metrics.outcomes` with a column clip."""
    return metrics.outcomes(predicted, clip.table, clip.info.size_hw).assign(clip=clip.name)


def _track(heads: np.ndarray, clip: Clip) -> dict[str, np.ndarray]:
    """What the label track alone says; heads: (frames, 2) native px, nan where not visible."""
    fps, size_hw = clip.info.fps, clip.info.size_hw
    heads = heads * geometry.canonical_scale(size_hw)
    far = np.array(size_hw[::-1]) * geometry.canonical_scale(size_hw)
    steps = np.hypot(*np.diff(heads, axis=0).T)
    step = np.fmax(np.r_[np.nan, steps], np.r_[steps, np.nan])
    edge = np.minimum(heads, far - heads).min(1)
    around = pd.DataFrame(heads).rolling(2 * max(1, round(STATIC_S * fps)) + 1, center=True, min_periods=2)
    drift = np.hypot(*(around.max() - around.min()).to_numpy().T)
    seen = np.isfinite(edge)
    hidden = np.zeros(len(heads), bool)
    hidden[clip.table.loc[~clip.table["visible"], "frame"]] = True
    leaves = pd.Series(np.where(seen, edge - 2 * np.nan_to_num(step) <= EDGE_PX, np.nan))
    leaving = hidden & (leaves.ffill().eq(1) | leaves.bfill().eq(1)).to_numpy()
    gap = np.where(leaving, "leaving", np.where(hidden, "hidden", ""))
    reach = 2 * max(1, round(NEAR_HIDDEN_S * fps)) + 1
    near = pd.Series(gap == "hidden").rolling(reach, center=True, min_periods=1).max().to_numpy(bool)
    return {"step_px": step, "drift_px": drift, "edge_px": edge, "gap": gap, "near_hidden": near & seen}


def _pixels(heads: np.ndarray, clip: Clip) -> dict[str, np.ndarray]:
    """What the surroundings of each head (frames, 2) native px show."""
    names = ("white_share", "clutter_luma", "contrast_luma", "size_px")
    values = np.full((len(heads), len(names)), np.nan)
    size_hw, apart = clip.info.even_hw, max(1, round(APART_S * clip.info.fps))
    crops: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
    scale = geometry.canonical_scale(size_hw)

    def measure(n: int) -> None:
        looks = crops.pop(n, {})
        if 0 in looks and len(looks) > 1:
            window = geometry.crop_window(heads[n], size_hw, CROP_PX)
            now, head = looks.pop(0), geometry.frame_to_window(heads[n], window)
            *luma, width = surroundings(now, list(looks.values()), head)
            values[n] = *luma, width / scale

    for frame in video.read_frames(clip.video_path):
        for when in (-1, 0, 1):  # this frame comes before, is or follows that of the head
            n = frame.index - when * apart
            if 0 <= n < len(heads) and np.isfinite(heads[n]).all():
                crops[n][when] = frame.window(geometry.crop_window(heads[n], size_hw, CROP_PX))
        measure(frame.index - apart)  # which needs no later frame
    for n in list(crops):
        measure(n)
    return dict(zip(names, values.T))


def surroundings(
    now: np.ndarray, others: list[np.ndarray], head: np.ndarray
) -> tuple[float, float, float, float]:
    """What one crop shows of the head's background.

    Args:
        now: (S, S, 3) uint8 with the head at `head` (2,) px.
        others: the same crop of earlier and later frames; what differs from all of them is the shuttle.

    Returns:
        Share of near-white pixels in the ring around; standard deviation of the ring's brightness; how much
        the head differs from the other frames (90th percentile in its disc); width of the shuttle across its
        longest extent, px (nan where it did not move clear of itself or of a player).
    """
    luma = now.astype(np.float64).mean(-1)
    y, x = np.mgrid[: now.shape[0], : now.shape[1]] + 0.5
    far = np.hypot(x - head[0], y - head[1])
    disc, ring = far <= HEAD_PX, (far >= RING_PX[0]) & (far <= RING_PX[1])
    changed = np.min([np.abs(luma - other.astype(np.float64).mean(-1)) for other in others], axis=0)
    white = clutter = contrast = width = float("nan")
    if ring.any():
        white, clutter = float((now.min(-1) >= WHITE)[ring].mean()), float(luma[ring].std())
    if disc.any():  # else the head lies beyond the frame's edge
        contrast, width = float(np.percentile(changed[disc], 90)), _width(changed, disc)
    return white, clutter, contrast, width


def _width(changed: np.ndarray, disc: np.ndarray) -> float:
    """Width of the blob of change that holds the disc's strongest pixel, at half its height, px."""
    peak = np.where(disc, changed, -1)
    blobs = cv2.connectedComponents((changed >= max(MOVED, peak.max() / 2)).astype(np.uint8))[1]
    own = blobs[np.unravel_index(peak.argmax(), peak.shape)]
    y, x = np.nonzero(blobs == own)
    at_rim = {0, len(blobs) - 1} & {*x.tolist(), *y.tolist()}
    if not own or at_rim or len(x) < 3:
        return np.nan
    narrow = np.linalg.eigvalsh(np.cov(np.stack([x, y])))[0]
    return float(np.sqrt(12 * narrow + 1))  # of a strip of pixels, which are one wide themselves
