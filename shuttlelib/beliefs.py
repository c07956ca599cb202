"""What networks and tracker believe, frame by frame and in the evaluator's terms; behind notebook 06.

Stands beside `evidence`, which shows pictures: here are the tables that `failures` takes apart.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from shuttlelib import geometry, labels, metrics, networks, recipes
from shuttlelib.clips import Clip
from shuttlelib.evidence import look
from shuttlelib.samples import CropPolicy, Samples
from shuttlelib.validation import Looked, evenly

FOLLOW = CropPolicy(follow_share=1.0, jitter_px=0.0, spread=0.0, elsewhere_share=0.0)


def judge_samples(model: networks.Deployed, samples: Samples, at_most: int, batch: int = 16) -> pd.DataFrame:
    """Judge a network on samples one by one, each with the history of the labels.

    Args:
        samples: without augmentation.
        at_most: so many of them, evenly spread.

    Returns:
        As `metrics.outcomes`, with a column clip. Visible means in this input: a stage-2 crop that looks
        elsewhere shows no shuttle. Confidence is the bare probability of what was said.
    """
    picks = evenly(len(samples), at_most)
    said: list[tuple] = []
    truth: list[tuple] = []
    for start in range(0, len(picks), batch):
        chunk = picks[start : start + batch]
        seen = look(model, samples, chunk)
        for n, xy, true_xy, p in zip(chunk, seen.said, seen.truth, seen.p_visible):
            window, (clip, frame) = samples.window(n, n), samples.index[n]
            points = (geometry.window_to_frame(np.asarray(at, np.float64), window) for at in (xy, true_xy))
            for rows, point in zip((said, truth), points):
                rows.append((clip, frame, bool(np.isfinite(point).all()), *point, max(p, 1 - p)))
    columns = ["clip", "frame", "visible", "x_px", "y_px", "confidence"]
    tables = [pd.DataFrame(rows, columns=columns) for rows in (said, truth)]
    judged = []
    for number, opened in enumerate(samples.caches):
        pred, labelled = (table[table["clip"] == number] for table in tables)
        outcome = metrics.outcomes(pred, labelled, opened.clip.info.size_hw)
        judged.append(outcome.assign(clip=opened.clip.name))
    return pd.concat(judged, ignore_index=True)


def follow(
    model: networks.Deployed, clip: Clip, track: pd.DataFrame, frames: Sequence[int], cache_dir: Path
) -> Looked:
    """What a network sees and believes along a track: as in tracking, with the track's own past for history.

    Args:
        model: of stage 1, which sees whole frames, or of stage 2: then crops lie where the track was one
            look earlier, as the tracker's do while it follows.
        track: one row a frame of the clip: frame, visible, x_px, y_px.
        frames: frame numbers, in the order of the result.
        cache_dir: for the clip's decoded frames.

    Returns:
        What `evidence.look` does; truth is the label.
    """
    frame, visible, x_px, y_px = (track[name] for name in ("frame", "visible", "x_px", "y_px"))
    own = replace(clip, table=labels.make_table(clip.name, frame, visible, x_px, y_px, "track"))
    samples = recipes.samples_of(model.net.spec, [own], cache_dir, policy=FOLLOW)
    heads = clip.heads().reindex(list(frames)).to_numpy()
    windows = [samples.window(n, n) for n in frames]
    truth = np.stack([geometry.frame_to_window(xy, window) for xy, window in zip(heads, windows)])
    return look(model, samples, frames)._replace(truth=truth)
