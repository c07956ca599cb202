"""Rendered shuttles on real clips: places the data never shows, before backgrounds no renderer makes.

Stands between clips and samples. A clip's own shuttle is taken away, by the same place in a near frame,
and a rendered rally is played over what is left: its shuttle flies, falls and lies there,
in front of everything. The result is a clip like any other, with exact labels.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from shuttlelib import clips, geometry, labels, splits, video
from shuttlelib.clips import Clip
from shuttlelib.errors import UsageError
from shuttlelib.synth.camera import random_camera
from shuttlelib.synth.dataset import SEED_STEP, write_clip
from shuttlelib.synth.rally import ABSENT, HELD, play
from shuttlelib.synth.render import Truth, shuttle_patch, truth_of
from shuttlelib.synth.shuttle import blend
from shuttlelib.synth.stage import random_look

BLINK = 5  # frames: a shorter gap between labels probably shows the shuttle all the same
ALIKE = 12.0  # grey levels: mean difference around a place between two frames that show the same there
NEAREST, FARTHEST = 5, 15  # frames away, where the picture without the shuttle is taken from
RADIUS_PX, SOFT = 12.0, 0.35  # canonical px around a resting shuttle; share of the radius that fades out


def make_dataset(
    data_dir: str | Path,
    out_dir: str | Path,
    count: int,
    seed: int = 0,
    progress: Callable[[], object] | None = None,
) -> Path:
    """Write a data folder of rendered shuttles on the train clips of another.

    Args:
        data_dir: a data folder; its val and test clips are left alone.
        out_dir: folder, made if missing; other clips of it stay.
        count: clips to write; the train clips are taken in turn.
        seed: the same seed gives the same clips; x264 may compress them a little differently each time.
        progress: called after each.

    Returns:
        `out_dir`.

    Raises:
        UsageError: both folders are one, count is below 1, `data_dir` has no train clips, or `out_dir` has a
            clip of the same name that was made from another one.
        VideoError: a clip cannot be read to its end, or has an odd size.
    """
    if (out := Path(out_dir)).resolve() == Path(data_dir).resolve():
        why = "clips of the next time would be made from those of this one"
        raise UsageError(f"--out {out}: the folder that clips are taken from; {why}; give another --out")
    sources = clips.split(clips.load_dataset(data_dir), "train")
    if count < 1 or not sources:
        raise UsageError(f"{data_dir}: {len(sources)} train clips, {count} wanted; both must be at least 1")
    chosen = [sources[i % len(sources)] for i in range(count)]
    names = [f"{clip.name}_onto_{seed:03d}_{i:03d}" for i, clip in enumerate(chosen)]
    for name, clip in zip(names, chosen):
        _require_from(clip, out / f"{name}.parquet")
    places = {name: (clip.venue, "train") for name, clip in zip(names, chosen)}
    splits.write(out, splits.read(out) | places)
    for i, (name, clip) in enumerate(zip(names, chosen)):
        write_onto(clip, out, name, seed * SEED_STEP + i)
        if progress is not None:
            progress()
    return out


def write_onto(clip: Clip, out_dir: str | Path, name: str, seed: int) -> Path:
    """Write one clip with a rendered shuttle in place of its own.

    Frames whose own shuttle is not known, or could not be taken away, get no label.

    Args:
        clip: the real one.
        out_dir: gets `<name>.mp4` (H.264) and `<name>.parquet` (canonical labels).
        seed: of the rally, the camera and the shuttle's looks.

    Returns:
        The path of the mp4.

    Raises:
        VideoError: the clip cannot be read to its end, has an odd size, or is not the one that was labelled.
    """
    clips.require_labelled(clip)
    path = Path(out_dir) / f"{name}.mp4"
    crf = int(np.random.default_rng([6, seed]).integers(18, 26))
    write_clip(path, put_onto(clip, seed), clip.info.size_hw, clip.info.fps, crf, "onto")
    return path


def put_onto(clip: Clip, seed: int) -> Iterator[tuple[np.ndarray, Truth | None]]:
    """Frames uint8 (H, W, 3) RGB of a clip with a rendered shuttle, and what is true of each.

    The truth is None where the clip's own shuttle is still to be seen. A held shuttle is left out: no
    player here holds one.
    """
    rng = np.random.default_rng([9210, seed])
    info = clip.info
    camera = random_camera(rng, "broadcast", info.size_hw)
    look = random_look(rng, info.fps, 1 / geometry.canonical_scale(info.size_hw)).shuttle
    start_s, gain = float(rng.uniform(0, 6)), float(rng.uniform(0.7, 1.1))
    timeline = play(rng, start_s + clip.frames / info.fps + 0.5)
    for index, (frame, bare) in enumerate(without_shuttle(clip)):
        time_s = start_s + index / info.fps
        head, _, state = timeline.at(np.array([time_s]))
        patch = None
        if state[0] not in (ABSENT, HELD):
            patch = shuttle_patch(timeline, camera, look, time_s, lambda _: gain)
        if patch is not None:
            blend(frame, patch)
        truth = truth_of(camera, patch, head[0])
        yield frame, truth if bare else None


def without_shuttle(clip: Clip) -> Iterator[tuple[np.ndarray, bool]]:
    """Frames uint8 (H, W, 3) RGB of a clip, its shuttle taken away, and whether that could be done.

    What was behind it is taken from a near frame that shows the place without it: from the one that looks
    most alike around it, if any looks alike. Else somebody moves there.
    """
    spots, known = _spots(clip)
    count = len(spots)
    radius = RADIUS_PX / geometry.canonical_scale(clip.info.size_hw) + 0.6 * _pace(spots)
    window: dict[int, np.ndarray] = {}
    frames = video.read_frames(clip.video_path)
    for i in range(count):
        while max(window, default=-1) < min(i + FARTHEST, count - 1):
            frame = next(frames, None)
            if frame is None:
                raise video.VideoError(f"{clip.video_path}: ends before frame {count - 1}; import it again")
            window[frame.index] = frame.rgb
        window.pop(i - FARTHEST - 1, None)
        image, bare = window[i].copy(), bool(known[i])
        if np.isfinite(spots[i]).all():
            around = _ring(image, spots[i], radius[i])
            unlike = {
                time: np.abs(_ring(window[time], spots[i], radius[i]) - around).mean()
                for time in _clear(spots, known, i, radius[i])
            }
            donor = min(unlike, key=lambda time: unlike[time], default=-1)
            bare = donor >= 0 and unlike[donor] < ALIKE
            if bare:
                _take_away(image, window[donor], spots[i], radius[i])
        yield image, bare


def _require_from(clip: Clip, path: Path) -> None:
    """Check that what is written over, if it is there, was made from a clip of this size, rate and length.

    Raises:
        UsageError: it was not.
    """
    try:
        made = labels.read_table(path)[1]
    except labels.LabelError:  # none, or a damaged one, which is to be made again
        return
    if (made.size_hw, made.fps, made.frame_count) != (clip.info.size_hw, clip.info.fps, clip.frames):
        raise UsageError(
            f"{path}: made from another clip than {clip.video_path}; give another --seed or another --out"
        )


def _spots(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Where the clip shows its shuttle (frames, 2), native px, and in which frames that is known (frames,).

    Labels say so, and lines across short gaps between them.
    """
    spots = clip.heads().to_numpy(float)
    seen = np.flatnonzero(np.isfinite(spots).all(1))
    for before, after in pairwise(seen):
        if 1 < after - before <= BLINK + 1:
            share = np.arange(1, after - before)[:, None] / (after - before)
            spots[before + 1 : after] = spots[before] * (1 - share) + spots[after] * share
    return spots, np.isin(np.arange(len(spots)), clip.table["frame"]) | np.isfinite(spots).all(1)


def _pace(spots: np.ndarray) -> np.ndarray:
    """(frames,) px: the longer of the steps to both neighbours; a fast shuttle is a streak."""
    step = np.nan_to_num(np.hypot(*np.diff(spots, axis=0).T))
    return np.maximum(np.append(step, 0), np.insert(step, 0, 0))


def _clear(spots: np.ndarray, known: np.ndarray, i: int, radius: float) -> list[int]:
    """Frames, neither too near nor too far, that show the spot of frame `i` without a shuttle."""
    away = np.arange(NEAREST, FARTHEST + 1)
    times = np.concatenate([i - away, i + away])
    times = times[(times >= 0) & (times < len(spots))]
    times = times[known[times]]
    gaps = np.hypot(*(spots[times] - spots[i]).T)
    return times[~(gaps <= 2.5 * radius)].tolist()  # nan, not seen there, is clear


def _take_away(image: np.ndarray, donor: np.ndarray, spot: np.ndarray, radius: float) -> None:
    """Show what a donor shows around a spot (2,) of an image (H, W, 3) uint8, softly at the rim, in place."""
    h, w = image.shape[:2]
    x0, y0 = np.maximum(np.floor(spot - radius), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(spot + radius), (w, h)).astype(int)
    if x0 >= x1 or y0 >= y1:
        return
    y, x = np.mgrid[y0:y1, x0:x1] + 0.5
    mask = np.clip((radius - np.hypot(x - spot[0], y - spot[1])) / (SOFT * radius), 0, 1)[..., None]
    here = np.s_[y0:y1, x0:x1]
    image[here] = (image[here] - mask * (image[here].astype(np.float64) - donor[here])).round().clip(0, 255)


def _ring(image: np.ndarray, spot: np.ndarray, radius: float) -> np.ndarray:
    """(N, 3) pixels around a spot (2,), just outside of what is taken away."""
    h, w = image.shape[:2]
    x0, y0 = np.floor(spot - 2 * radius).clip(0, (w - 1, h - 1)).astype(int)
    x1, y1 = np.ceil(spot + 2 * radius).clip(1, (w, h)).astype(int)
    y, x = np.mgrid[y0:y1, x0:x1] + 0.5
    gap = np.hypot(x - spot[0], y - spot[1])
    return image[y0:y1, x0:x1][(gap >= radius) & (gap < 2 * radius)].astype(float)
