"""The result of a tracking run as the page shows it: rows, places where the track was lost, corrections."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shuttlelib.apps.web.stills import Stills
from shuttlelib.files import atomic_write, write_json
from shuttlelib.rows import runs
from shuttlelib.tracking import TrackResult

LABEL_COLUMNS = ("Frame", "Visibility", "X", "Y")  # TrackNet's, which every importer reads
Corrections = Mapping[int, tuple[float, float] | None]  # frame to native px, None where not visible


class Gap(NamedTuple):
    """Frames `first` to `last` without a shown shuttle; `doubted`: one was seen, with too little trust."""

    first: int
    last: int
    doubted: bool


@dataclass(frozen=True)
class Track:
    """One tracked video.

    Attributes:
        video: the file.
        result: what `track_video` returned.
        rows: the CSV: frame, time_s, visible, x_px, y_px, confidence, source; one row a frame.
    """

    video: Path
    result: TrackResult
    rows: pd.DataFrame

    @classmethod
    def read(cls, video: Path, result: TrackResult) -> "Track":
        """The track with the rows of its CSV."""
        return cls(video, result, pd.read_csv(result.csv))

    @property
    def summary(self) -> dict[str, Any]:
        """What the JSON holds."""
        return self.result.summary

    @property
    def overlay(self) -> Path:
        """The video with the track drawn over it, which the page always asks for."""
        assert self.result.overlay is not None
        return self.result.overlay

    @property
    def size_wh(self) -> tuple[int, int]:
        """Native width and height, px."""
        return self.summary["width"], self.summary["height"]

    @cached_property
    def stills(self) -> Stills:
        """The pictures of its frames."""
        return Stills(self.video, self.time_s)

    @cached_property
    def xy_px(self) -> np.ndarray:
        """(N, 2) places, nan where not visible."""
        return self.rows[["x_px", "y_px"]].to_numpy(np.float64)

    @cached_property
    def time_s(self) -> np.ndarray:
        """(N,) seconds since the first frame."""
        return self.rows["time_s"].to_numpy(np.float64)

    @cached_property
    def confidence(self) -> np.ndarray:
        """(N,) probability that a row is right."""
        return self.rows["confidence"].to_numpy(np.float64)

    @cached_property
    def visible(self) -> np.ndarray:
        """(N,) bool, as tracked."""
        return self.rows["visible"].to_numpy(bool)

    def shown(self, least: float) -> np.ndarray:
        """(N,) bool: rows with at least this confidence that hold a place."""
        return self.visible & (self.confidence >= least)

    def gaps(self, least: float) -> list[Gap]:
        """Every run of frames without a shown place, in order."""
        return [
            Gap(first, end - 1, bool(self.visible[first:end].any()))
            for first, end in runs(~self.shown(least))
        ]

    def write_kept(self, least: float, corrections: Corrections) -> tuple[Path, Path]:
        """CSV and JSON for download: corrections made, rows below `least` left out, and both files say so.

        Without either they are the tracker's own files. A corrected row is sure (confidence 1, source
        `corrected`) and stays. With a `least` the CSV gets a last column `min_confidence`; the JSON gets the
        entries `corrected_frames` and `filter`, and both files a name that tells.
        """
        csv, report = self.result.csv, self.result.summary_json
        if least <= 0 and not corrections:
            return csv, report
        rows, told, name = self.rows.astype({"source": object}), dict(self.summary), csv.stem
        if corrections:
            name += "_corrected"
            told["corrected_frames"] = sorted(corrections)
        for frame, place in corrections.items():
            x, y = np.round(place or (np.nan, np.nan), 3)
            row = {"visible": int(place is not None), "x_px": x, "y_px": y, "confidence": 1.0}
            for column, value in (row | {"source": "corrected"}).items():
                rows.loc[frame, column] = value
        if least > 0:
            kept = rows["confidence"] >= least
            counts = {"rows_kept": int(kept.sum()), "rows_left_out": int((~kept).sum())}
            name += f"_confidence_{round(least * 100)}"
            told["filter"] = {"min_confidence": least, **counts}
            rows = rows[kept].assign(min_confidence=least)
        with atomic_write(csv.with_name(f"{name}.csv")) as temp:
            rows.to_csv(temp, index=False, lineterminator="\n")
        write_json(csv.with_name(f"{name}.json"), told)
        return csv.with_name(f"{name}.csv"), csv.with_name(f"{name}.json")

    def delete(self) -> None:
        """Delete what was made of the video."""
        self.stills.close()
        rmtree(self.result.csv.parent, ignore_errors=True)


def write_labels(track: Track, corrections: Corrections) -> Path:
    """Corrected frames as a label file `<video>_ball.csv`; other frames stay unlabelled.

    Beside the video, `shuttle data import` reads it as it reads TrackNet's.
    """
    path = track.result.csv.with_name(f"{track.video.stem}_ball.csv")
    lines = [",".join(LABEL_COLUMNS)]
    for frame, place in sorted(corrections.items()):
        lines.append(f"{frame},0,-1,-1" if place is None else f"{frame},1,{place[0]:.2f},{place[1]:.2f}")
    with atomic_write(path) as temp:
        temp.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
