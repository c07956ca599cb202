import numpy as np
import pytest
from fakes import BrightBackend

from shuttlelib.errors import ShuttleError
from shuttlelib.runtime.vote import Vote

FRAMES = np.full((2, 4, 32, 32, 3), 100, np.uint8)


def test_the_mean_of_the_log_odds_decides_for_any_number_of_voters():
    for thresholds in ([100], [60, 160], [60, 160, 80]):
        voters = [BrightBackend((32, 32), threshold) for threshold in thresholds]
        visible = Vote(voters).run(FRAMES).visible
        mean = np.mean([(100 - threshold) / 10 for threshold in thresholds])
        assert visible == pytest.approx([1 / (1 + np.exp(-mean))] * 2, rel=1e-3)


def test_places_are_the_first_ones_and_history_goes_to_those_who_read_it():
    frames = FRAMES.copy()
    frames[:, :, 5, 7] = 250
    first, second = BrightBackend((32, 32)), BrightBackend((32, 32), uses_history=True)
    vote = Vote([first, second])
    history = np.zeros((2, 30, 3), np.float32)
    assert vote.run(frames, history).xy.tolist() == first.run(frames).xy.tolist()
    assert vote.uses_history
    assert first.histories[0] is None
    assert second.histories[0] is history
    assert vote.version == "bright+bright"


def test_a_vote_tells_where_it_runs_now_and_what_its_voters_have_to_say():
    voters = [BrightBackend((32, 32)) for _ in range(3)]
    vote = Vote(voters)
    assert vote.note == ""
    voters[0].device, voters[0].note, voters[2].note = "cpu (left the GPU)", "a full GPU", "a full GPU"
    vote.run(FRAMES)
    assert (vote.device, vote.note) == ("cpu (left the GPU)", "a full GPU")


def test_a_vote_looks_ahead_as_its_voters_do():
    vote = Vote([BrightBackend((32, 32), frames=5, ahead=2), BrightBackend((32, 32), frames=5, ahead=2)])
    assert (vote.frames, vote.ahead) == (5, 2)


@pytest.mark.parametrize(
    "other", [BrightBackend((64, 64)), BrightBackend((32, 32), frames=8), BrightBackend((32, 32), ahead=1)]
)
def test_voters_must_see_the_same(other):
    with pytest.raises(ShuttleError, match=r"--vote bright: sees \d frames of .*vote with a version"):
        Vote([BrightBackend((32, 32)), other])
