"""Writes rendered rallies as clips, label tables and splits.csv; the door of `synth`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from shuttlelib import labels, splits
from shuttlelib.errors import UsageError
from shuttlelib.files import sha256
from shuttlelib.geometry import SizeHW
from shuttlelib.labels import ClipInfo
from shuttlelib.synth.camera import VIEWS
from shuttlelib.synth.render import Truth, render_stage
from shuttlelib.synth.scene import make_venue
from shuttlelib.synth.stage import Stage
from shuttlelib.video import VideoWriter

SEED_STEP = 10_007  # rallies of a seed, whose halls no other seed has


class SynthError(UsageError):
    """A rendered rally was asked for in a way that cannot be."""


def render_rally(
    seed: int,
    size_hw: SizeHW = (720, 1280),
    fps: float = 30.0,
    frame_count: int = 150,
    view: str = "broadcast",
    venue: int | None = None,
) -> Iterator[tuple[np.ndarray, Truth]]:
    """Render a rally.

    Args:
        seed: the same seed and arguments give the same pixels.
        size_hw: frame size, px; at least 16 x 16, odd sizes too.
        fps: frames per second.
        frame_count: how many frames.
        view: a key of `VIEWS` (broadcast, side, corner, wide), or "mixed" for one chosen by the seed.
        venue: number of the hall; None for one chosen by the seed.

    Returns:
        Frames uint8 (H, W, 3) RGB with their truth.

    Raises:
        SynthError: an unknown view, a size under 16 px, fps or frame_count not above 0.
    """
    if view != "mixed" and view not in VIEWS:
        raise SynthError(f"view {view!r} is unknown; choose one of {', '.join([*VIEWS, 'mixed'])}")
    if min(size_hw) < 16:
        raise SynthError(f"size_hw {tuple(size_hw)} is too small; give at least (16, 16)")
    if not (fps > 0 and frame_count > 0):
        raise SynthError(f"fps {fps} and frame_count {frame_count} must both be above 0")
    return render_stage(Stage(seed, (int(size_hw[0]), int(size_hw[1])), fps, frame_count, view, venue))


def make_dataset(
    out_dir: str | Path,
    clips: int,
    seed: int,
    size_hw: SizeHW = (720, 1280),
    fps: float = 30.0,
    frame_count: int = 150,
    views: Sequence[str] = ("broadcast",),
    val_share: float = 0.25,
    progress: Callable[[], object] | None = None,
) -> Path:
    """Write a data folder of rendered rallies: clips, label tables, splits.csv.

    Clips are spread over venues, and whole venues over the splits. Two seeds share no venue, so that one may
    judge what the other trained. Other clips of the folder stay.

    Args:
        out_dir: folder, made if missing.
        clips: how many.
        seed: the same seed gives the same rallies; x264 may compress them a little differently each time.
        size_hw, fps, frame_count: of every clip; the size must be even.
        views: taken in turn; "mixed" is allowed.
        val_share: share of the venues in the val split; at least one where it is above 0.
        progress: called after each.

    Returns:
        The folder.

    Raises:
        SynthError: fewer than one clip, a val_share outside [0, 1), or an odd size; the folder already has
            another clip of one of the names.
        LabelError: the folder already has one of the venues in another split.
    """
    if clips < 1 or not 0 <= val_share < 1:
        raise SynthError(f"clips {clips} must be at least 1 and val_share {val_share} in [0, 1)")
    if size_hw[0] % 2 or size_hw[1] % 2:
        raise SynthError(f"size_hw {tuple(size_hw)} is odd; videos need an even width and height")
    out = Path(out_dir)
    venue_count = max(1, min(clips, round(clips / 3) + 1))
    first = SEED_STEP * seed  # halls and rallies of two seeds are never the same
    val_count = min(max(1, round(val_share * venue_count)), venue_count - 1) if val_share > 0 else 0
    names = [f"rendered_{seed:03d}_{i:03d}" for i in range(clips)]
    venues = [i % venue_count for i in range(clips)]
    places = splits.read(out) | {
        name: (make_venue(first + venue).name, "val" if venue >= venue_count - val_count else "train")
        for name, venue in zip(names, venues)
    }
    for name in names:
        _check_free(out, name, size_hw, fps, frame_count)
    splits.write(out, places)  # before the hours of rendering, which may be interrupted
    for i, (name, venue) in enumerate(zip(names, venues)):
        view, own_seed = views[i % len(views)], first + i
        crf = int(np.random.default_rng([5, own_seed]).integers(18, 30))
        rally = render_rally(own_seed, size_hw, fps, frame_count, view, first + venue)
        write_clip(out / f"{name}.mp4", rally, size_hw, fps, crf, "synthetic")
        if progress is not None:
            progress()
    return out


def write_clip(
    path: Path,
    pictures: Iterable[tuple[np.ndarray, Truth | None]],
    size_hw: SizeHW,
    fps: float,
    crf: int,
    origin: str,
) -> None:
    """Write rendered frames as an mp4 (H.264), and what is true of them as a label table beside it.

    Args:
        path: of the mp4; its folder is made if missing.
        pictures: frames uint8 (H, W, 3) RGB with their truth; None leaves a frame without a label.
        size_hw, fps, crf: as for `VideoWriter`.
        origin: of the labels.
    """
    rows = []
    with VideoWriter(path, size_hw, fps, crf=crf) as writer:
        for index, (frame, truth) in enumerate(pictures):
            writer.write(frame)
            if truth is not None:
                rows.append((index, truth.visible, truth.x_px, truth.y_px))
    numbers, visible, x_px, y_px = np.array(rows, float).reshape(-1, 4).T
    table = labels.make_table(path.stem, numbers, visible, x_px, y_px, origin)
    info = ClipInfo(size_hw[1], size_hw[0], float(fps), index + 1, sha256(path))
    labels.write_table(path.with_suffix(".parquet"), table, info)


def _check_free(out: Path, clip: str, size_hw: SizeHW, fps: float, frame_count: int) -> None:
    """Refuse to replace anything but an earlier rendering of the same size, rate and length."""
    path, found = out / f"{clip}.parquet", None
    if path.is_file():
        table, info = labels.read_table(path)
        same = (info.size_hw, info.fps, info.frame_count) == (tuple(size_hw), fps, frame_count)
        if not same or not (table["origin"] == "synthetic").all():
            found = path
    elif path.with_suffix(".mp4").exists():
        found = path.with_suffix(".mp4")
    if found is not None:
        raise SynthError(f"{found}: is there already, and is another clip; give another --seed or --out")
