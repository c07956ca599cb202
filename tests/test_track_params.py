import pytest

from shuttlelib.errors import UsageError
from shuttlelib.track_params import TrackParams


def test_thresholds_are_set_by_name():
    params = TrackParams.parse(["lag_s=0.3", "stage1_candidates=2"])
    assert (params.lag_s, params.stage1_candidates) == (0.3, 2)
    assert TrackParams.parse([]) == TrackParams()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lagg_s=1", r"--param lagg_s=1: give name=value, with a name of .*lag_s"),
        ("lag_s", "--param lag_s: give name=value"),
        ("lag_s=soon", "--param lag_s=soon: 'soon' is not a number"),
        ("peaks=1.5", "--param peaks=1.5: '1.5' is not a whole number"),
        ("lag_s=nan", "'nan' is not a number"),
        ("peaks=0", "peaks 0: must be above 0"),
        ("lag_s=-1", "lag_s -1: must be 0 or more"),
        ("lag_s=-100", "lag_s -100: must be 0 or more"),
        ("lag_s=1e9", "lag_s 1e[+]09: must be at most 60"),
        ("smooth_s=1e9", "smooth_s 1e[+]09: must be at most 60"),
        ("near_logit=800", "near_logit 800: must be at most 100, of either sign"),
        ("appear_logit=-1e5", "appear_logit -100000: must be at most 100, of either sign"),
        ("evidence=1e308", "evidence 1e[+]308: must be at most 10"),
        ("visible_threshold=2", "visible_threshold 2: must be from 0 to 1"),
    ],
)
def test_a_wrong_threshold_is_named_with_those_there_are(text, problem):
    with pytest.raises(UsageError, match=problem):
        TrackParams.parse([text])


def test_every_threshold_is_documented():
    documented = TrackParams.__doc__
    assert [name for name in vars(TrackParams()) if name not in documented] == []
