"""Folder layouts of the public sets: which video belongs to which label file; used by `intake`.

Both layouts keep the labels of a rally in `<match>/csv/<rally>_ball.csv`. They differ in where the video is:

- Shuttlecock Trajectory Dataset (TrackNetV2's): `<part>/<match>/video/<rally>.mp4`, the parts being
  Professional, Amateur and Test, or train and test. Source: the README of qaz812345/TrackNetV3.
- RacketVision: `<sport>/all/<match>/csv/…` and `<sport>/videos/<match>_<rally>.mp4`, with the splits in
  `<sport>/info/{train,val,test}.json` as [match, rally] pairs. Source: the dataset card of
  linfeng302/RacketVision.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from shuttlelib import splits
from shuttlelib.clips import video_beside
from shuttlelib.files import is_stray
from shuttlelib.labels import LabelError

SPORTS = ("badminton", "tennis", "tabletennis")


@dataclass(frozen=True)
class Rally:
    """One labelled rally of a public set.

    Attributes:
        name: for the clip, unique in the set.
        video, labels: its files.
        venue: the match, the unit of a split.
        split: train, val or test.
    """

    name: str
    video: Path
    labels: Path
    venue: str
    split: str


def find(root: str | Path, sport: str = "badminton") -> list[Rally]:
    """The rallies of a folder in one of the layouts; empty where there are none.

    A match that a set's own list has in two splits goes whole to the stricter one (test, then val), because a
    split is by match.

    Args:
        root: the set's folder, or one above it.
        sport: of a set that holds several.

    Raises:
        LabelError: a label file without its video, or a list of splits that cannot be read.
    """
    root = Path(root)
    found = []
    listed: dict[Path, dict[tuple[str, str], str]] = {}
    for labels in sorted(root.glob("**/csv/*_ball.csv")):
        if is_stray(labels):
            continue
        match, rally = labels.parent.parent, labels.stem.removesuffix("_ball")
        part = match.parent
        if part.name == "all":
            if part.parent.name in SPORTS and part.parent.name != sport:
                continue
            own = listed.setdefault(part.parent, _listed(part.parent / "info"))
            split, prefix = own.get((match.name, rally), "train"), ""
            video = video_beside(part.parent / "videos" / rally, f"{match.name}_{rally}")
        else:
            split = part.name.lower() if part.name.lower() in splits.NAMES else "train"
            prefix = "" if match == root or part == root else f"{part.name.lower()}_"
            video = video_beside(match / "video" / rally, rally)
        if video is None:
            raise LabelError(f"{labels}: no video of this rally beside it; download the set again")
        found.append(Rally(f"{prefix}{match.name}_{rally}", video, labels, f"{prefix}{match.name}", split))
    return _whole_matches(found)


def _listed(info: Path) -> dict[tuple[str, str], str]:
    """(match, rally) to split, of the lists in `info/`."""
    found: dict[tuple[str, str], str] = {}
    for name in splits.NAMES:  # train, val, test: a rally in two lists keeps the stricter one
        path = info / f"{name}.json"
        if not path.is_file():
            continue
        try:
            found.update(
                {(str(match), str(rally)): name for match, rally in json.loads(path.read_text("utf-8"))}
            )
        except (ValueError, TypeError) as error:
            raise LabelError(
                f"{path}: not a list of [match, rally] ({error}); download the set again"
            ) from error
    return found


def _whole_matches(rallies: list[Rally]) -> list[Rally]:
    strictest: dict[str, str] = {}
    for rally in rallies:
        before = strictest.get(rally.venue, "train")
        strictest[rally.venue] = max(before, rally.split, key=splits.NAMES.index)
    return [replace(rally, split=strictest[rally.venue]) for rally in rallies]
