import numpy as np
import pytest

from shuttlelib import cleanup, labels, planting
from shuttlelib.clips import Clip
from shuttlelib.labels import ClipInfo

INFO = ClipInfo(1280, 720, 30.0, 600)


def labelled(frames):
    """A clip with labels on some frames of a flight that is visible throughout."""
    frames = np.asarray(frames)
    xy = 200.0 + 8 * np.abs(frames % 100 - 50), 100.0 + frames / 2
    return Clip("a", None, labels.make_table("a", frames, True, *xy, "synthetic"), INFO, "hall", "train")


@pytest.mark.parametrize(
    ("frames", "count"),
    [
        (range(100), len(planting.FAULTS)),
        (range(0, 300, 3), 0),
        ([n for n in range(600) if n % 60 < 14], len(planting.FAULTS) - 1),  # here gaps are no fault
        ([], 0),
    ],
    ids=["all", "every third", "stretches", "none"],
)
def test_faults_go_among_five_labelled_frames_in_a_row_and_are_found(frames, count):
    clip = labelled(frames)
    table, planted = planting.plant_faults(clip, seed=0)
    assert len(planted) == count
    found = cleanup.clean(table, INFO)[1]
    hits = planted.merge(found, on=["clip", "check", "frame"])
    assert set(hits["check"]) >= set(planted["check"]) - {"spike", "flicker"}
    assert set(table["frame"]) >= set(frames) - set(planted["frame"] - 1)
