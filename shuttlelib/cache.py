"""Decoded frames on disk, indexed by number, so that training never waits for a decoder.

Stands between clips and samples. Two layouts, each one uint8 `.npy` a clip that is memory-mapped:
"planes", the native I420 planes (stage 2 cuts crops from them), and "whole", RGB frames
letterboxed to a network's input (stage 1). Beside them lie the numbers of the frames that show something
new. Files are named by the video's hash, so a changed video is decoded anew.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shuttlelib import geometry
from shuttlelib.clips import Clip, require_labelled
from shuttlelib.files import atomic_write, sha256
from shuttlelib.frames import Frame
from shuttlelib.geometry import SizeHW, Window
from shuttlelib.repeats import Repeats
from shuttlelib.video import VideoError, read_frames


class FrameCache:
    """Random access to the frames of one clip.

    Args:
        clip: the clip.
        folder: where cached frames live; made when missing.
        whole_hw: cache letterboxed frames of this size; None caches native planes.

    Attributes:
        frames: uint8, one a frame of the clip.
        new: (n,) numbers of the frames that do not repeat the picture before (see `repeats`).

    Raises:
        VideoError: the video is not the labelled one, or holds fewer frames than its table says.
    """

    def __init__(self, clip: Clip, folder: Path, whole_hw: SizeHW | None):
        self.clip = clip
        self.whole_hw = whole_hw
        kind = f"{whole_hw[0]}x{whole_hw[1]}" if whole_hw else "planes"
        digest = clip.info.video_sha256 or sha256(clip.video_path)
        self.path = Path(folder) / f"{digest[:16]}-{kind}.npy"
        known = self.path.with_name(f"{digest[:16]}-new.npy")
        try:
            self._open(known)
        except (FileNotFoundError, ValueError, EOFError):  # not decoded yet, or damaged
            _decode(clip, self.path, known, whole_hw)
            self._open(known)

    def _open(self, known: Path) -> None:
        self.new = np.load(known)
        self.frames = np.load(self.path, mmap_mode="r")

    def __getstate__(self) -> dict[str, Any]:
        """Without the pixels: a loader process maps the file itself."""
        return {**vars(self), "frames": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.frames = np.load(self.path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.frames)

    def window(self, frame: int, window: Window) -> np.ndarray:
        """uint8 (out_h, out_w, 3) RGB of a frame's window, as the tracker would see it.

        A cache of whole frames serves only the whole-frame window it was made for.
        """
        if self.whole_hw is not None:
            return np.asarray(self.frames[frame])
        return Frame(frame, frame / self.clip.info.fps, self.frames[frame]).window(window)


def open_caches(clips: Iterable[Clip], folder: Path, whole_hw: SizeHW | None) -> list[FrameCache]:
    """A cache for each clip, decoding those that are not there yet."""
    shown = tqdm(list(clips), desc="decode", unit="clip", leave=False)
    return [FrameCache(clip, folder, whole_hw) for clip in shown]


def _decode(clip: Clip, path: Path, known: Path, whole_hw: SizeHW | None) -> None:
    info, video = clip.info, clip.video_path
    require_labelled(clip)
    if not info.frame_count:
        raise VideoError(f"{video}: its table does not know how many frames it has; import it again")
    size_hw = info.even_hw
    shape = (*whole_hw, 3) if whole_hw else (size_hw[0] * 3 // 2, size_hw[1])
    window = geometry.full_window(size_hw, whole_hw) if whole_hw else None
    header = {"descr": "|u1", "fortran_order": False, "shape": (info.frame_count, *shape)}
    # written as a stream: a memory map cannot report a full disk, and Windows cannot rename it
    with atomic_write(path) as temp, temp.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        count, repeats, new = 0, Repeats(), list[int]()
        for frame in read_frames(video):
            if not repeats(frame.luma):
                new.append(frame.index)
            if frame.index < info.frame_count:
                pixels = frame.planes if window is None else frame.window(window)
                file.write(np.ascontiguousarray(pixels).data)
            count = frame.index + 1
        if count < info.frame_count:
            said = f"its table says {info.frame_count}; re-import it"
            raise VideoError(f"{video}: {count} frames decode, {said}")
        with atomic_write(known) as beside, beside.open("wb") as numbers:
            np.save(numbers, np.array(new))
