"""Published systems with the conditions of their numbers, beside ours: the paper-style table.

A number without its conditions says nothing: 4 px of a 512x288 grid are 10 px of the 1280x720 frame.
Sources, read in November 2026: READMEs and evaluation code of the repositories, abstracts of the papers.
"""

from dataclasses import dataclass

from shuttlelib.report import scores
from shuttlelib.report.blocks import Bullets, Link, Page, Prose, Table, Text, between, number, sections
from shuttlelib.report.collect import Found

_GRID, _NATIVE = "4 px of 512x288", "4 px of 1280x720"
_STD, _OWN = "Trajectory Dataset, test matches", "alenzenx rallies, raw_data2"
_V3 = "https://github.com/qaz812345/TrackNetV3"
_ALENZENX = "https://github.com/alenzenx/TrackNetV3"


@dataclass(frozen=True)
class Row:
    """One published result; numbers in [0, 1], None where none is published."""

    system: Link
    accuracy: float | None
    f1: float | None
    counted: str  # what counts as right
    data: str
    chosen: str  # on what weights and thresholds were chosen
    more: str


PUBLISHED = (
    Row(
        Link("TrackNetV3 (Chen and Wang, 2023)", _V3),
        0.9751,
        0.9856,
        _GRID,
        _STD,
        "rallies of the training matches",
        "places cut to whole pixels; sees the whole match first (median background, gaps filled from both "
        "sides); 25.1 fps",
    ),
    Row(
        Link("TrackNetV2, as measured there", _V3),
        0.9498,
        0.9703,
        _GRID,
        _STD,
        "rallies of the training matches",
        "places cut to whole pixels; 27.7 fps",
    ),
    Row(
        Link("YOLOv7, as measured there", _V3),
        0.5782,
        0.6800,
        _GRID,
        _STD,
        "rallies of the training matches",
        "34.8 fps",
    ),
    Row(
        Link("TrackNetV2 (Sun et al., 2020)", "https://doi.org/10.1109/ICPAI51961.2020.00023"),
        0.852,
        None,
        "not in the abstract",
        "the dataset's first 18 matches, tested on a new one",
        "not in the abstract",
        "precision 0.972, recall 0.854; 31.8 fps",
    ),
    Row(
        Link("WASB (Tarashima et al., 2023)", "https://arxiv.org/abs/2311.05237"),
        0.890,
        0.931,
        _NATIVE,
        _STD,
        "not in the repository",
        "score above 0.5",
    ),
    Row(
        Link("TrackNetV3 (alenzenx, 2023)", _ALENZENX),
        0.9053,
        None,
        _GRID,
        _OWN,
        "the test set itself: its best epoch",
        "three frames at a time",
    ),
    Row(
        Link("TrackNetV2, as trained there", _ALENZENX),
        0.8849,
        None,
        _GRID,
        _OWN,
        "the test set itself: its best epoch",
        "three frames at a time",
    ),
    Row(
        Link("Shuttle-Detection (BillTheTsar, 2025)", "https://github.com/BillTheTsar/Shuttle-Detection"),
        None,
        None,
        "mean error only: 0.00168 of the frame",
        "own 5,800 frames, 1920x1080, its training split",
        "frames shuffled, then split",
        "86 fps with TensorRT FP16 on a laptop RTX 5080",
    ),
)
_TOLERANCES = Table(
    ("tolerance", "at 512x288", "at 1280x720", "at 1920x1080"),
    (
        ("4 px of the 512x288 grid (TrackNet papers)", "4 px", "10 px", "15 px"),
        ("4 px native at 1280x720 (WASB)", "1.6 px", "4 px", "6 px"),
        ("4 px native at 1920x1080", "1.07 px", "2.67 px", "4 px"),
    ),
)
_DATA: tuple[Text, ...] = (
    (
        Link("Shuttlecock Trajectory Dataset", "https://hackmd.io/@TUIK/rJkRW54cU"),
        ": broadcast, 1280x720, 30 fps; 26 matches to train on, 3 others to test on.",
    ),
    (
        Link("Rallies of alenzenx/TrackNetV3", _ALENZENX),
        ": broadcast, 1280x720; `raw_data` to train on, `raw_data2` to test on. Ours are trained and "
        "judged inside `raw_data`, by venue, so that `raw_data2` stays unseen.",
    ),
)
_BEFORE: tuple[Text, ...] = (
    "Recall of the TrackNet papers leaves out shuttles placed wrongly, and F1 follows it; version pages also "
    "give the strict recall.",
    "An epoch chosen on the test set, or thresholds chosen on the val clips as here, make a number that new "
    "footage will not reach.",
    "A split by frame leaves near-copies of test frames in training; ours is by venue.",
    "A system that sees the whole match before it answers cannot run live; ours says a row 0.3 s "
    "after its frame: three frames for its looks, and 0.2 s until a row is settled.",
)


def page(found: Found) -> Page:
    """The table, ours on top, and what may be compared with what."""
    head = ("system", "accuracy", "F1", "right within", "judged on", "chosen on", "more")
    rows = (*_ours(found), *(_row(row) for row in PUBLISHED))
    return Page(
        "published",
        "Against published systems",
        "Two numbers may be compared only where data, split and tolerance are the same. No system here "
        "shares all three with ours: the table says how far each is from it.",
        sections(
            ("Results with their conditions", [Table(head, rows, right=4)]),
            (
                "What 4 px are",
                [
                    _TOLERANCES,
                    Prose(
                        "A shuttle is 6 to 9 px long at 1280x720 in most broadcast views, without its blur: "
                        "10 px are a little more than that, 4 about half of it."
                    ),
                ],
            ),
            ("The data", [Bullets(_DATA)]),
            ("Before comparing", [Bullets(_BEFORE)]),
        ),
    )


def _ours(found: Found) -> list[tuple[Text, ...]]:
    """The shipped pair at both tolerances."""
    shown = scores.sets(found.versions[found.pair[1]], found)
    if scores.VAL not in shown:
        return []
    part = shown[scores.VAL]
    system = Link(f"this: {found.pair[0]} and {found.pair[1]}", f"versions/{found.pair[1]}")
    data = f"{part['clips']} val clips, {part['frames']:,} frames, other venues than in training"
    rows: list[tuple[Text, ...]] = []
    for at, counted in (("grid512_4px", _GRID), ("native_4px", _NATIVE)):
        limits = scores.intervals(part, at)
        values = (between(part[key][at], limits.get(key)) for key in ("accuracy", "f1"))
        more = "places to a fraction of a pixel; rows told 0.3 s later; history is its own predictions"
        rows.append((system, *values, counted, data, "these clips (thresholds, best weights)", more))
    return rows


def _row(row: Row) -> tuple[Text, ...]:
    return row.system, number(row.accuracy), number(row.f1), row.counted, row.data, row.chosen, row.more
