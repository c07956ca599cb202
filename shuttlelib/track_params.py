"""The thresholds of the tracker."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from shuttlelib.errors import UsageError

_PROBABILITIES = ("visible_threshold", "candidate_min_score", "alone_min_score", "peak_min")
_MOST_LOGIT = 100.0  # exponentials of more overflow, as with more `evidence`
# so much of the track is gone through at every frame
_MOST = {"lag_s": 60.0, "smooth_s": 60.0, "evidence": 10.0}
_ABOVE_0 = ("stage1_candidates", "peaks", "sightings_kept", "sigma_heights", "first_sigma_heights")


@dataclass(frozen=True)
class TrackParams:
    """Every threshold of the tracker, independent of resolution and frame rate.

    Heights are the frame's; speeds are per thirtieth of a second; logits are natural log-odds.

    Attributes:
        visible_threshold: probability from which the shuttle is told as visible.
        triangle_radius_heights: circumradius of the three crops around stage 1's place.
        stage1_candidates: places of stage 1 that stage 2 looks at: the first through the triangle, each
            further one through one crop.
        candidate_min_score: further places below this score are not looked at.
        fast_interval_s: fast mode: time between calibrations (trigger interval).
        ask_again_s: smart mode: calibrate each time the shuttle was unseen, or seen weakly, or followed
            without being seen to fly, for this long (triggers unseen, weak and check).
        weak_logit: smart mode: calibrate when the place that the track believes in has less evidence of its
            own in this frame than this (trigger weak).
        jump_heights: smart mode: calibrate when the position moves farther than this (trigger jump).
        turn_deg: smart mode: calibrate when the path turns by more than this (trigger turn) …
        turn_min_step_heights: … and both steps are at least this long (shorter ones are noise).
        check_s: smart mode: calibrate at least this often while the shuttle is seen (trigger check): a track
            that follows something else looks healthy. 0 never does, however it moves.
        alone_logit: what a followed place loses, in a calibration, where stage 1 sees no shuttle …
        alone_heights: … within this distance (and stage 2 looks no closer where its best one is) …
        alone_min_score: … that scores at least this.
        noise_window_s: when within this time …
        noise_calibrations: … this many calibrations (of 30 frames a second) came from a seen track (lost,
            jump, turn), the rows of that time are withdrawn: told as not visible. 0 never withdraws.
        foresee_heights: the next frame is looked at together with this one, where the track should be by
            then; what was seen there counts if the track is then expected within this distance. 0 looks at
            each frame alone: slower, but rows come a frame earlier.
        lag_s: time after which a row is settled: what comes within it may still change the row.
        peaks: places of one crop that may be the shuttle; they share its probability of being visible …
        peak_min: … if they get at least this much of it.
        merge_heights: sightings nearer than this are one.
        sightings_kept: sightings of a frame that are weighed, the likeliest.
        evidence: weight of the networks' log-odds against what the track expects.
        rest_doubt: log-odds against a place that rests count so many times …
        rest_heights: … if it moved less than this in 1/30 s: a shuttle rests seldom, a shoe often.
        landed_doubt: the same where a flight came to rest: networks take little that lies for a shuttle.
        fly_s: a flight was seen at least this long, not counting what was before a hit …
        fly_heights: … with steps of at least this in 1/30 s.
        landed_s: for so long after a flight was last seen, going down, what has come to rest there is looked
            for, against what was there before; 0 never looks …
        still_s: … and believed once it was seen for so long …
        still_heights: … within this distance.
        smooth_s: a place is moved onto the parabola of those within this time of it, on either side …
        smooth_heights: … if none of them lies farther from that than this.
        lead_heights: places are told so much further along the flight, less where it is slower than
            rest_heights: people set labels behind the head, and networks learn it from them.
        drag_per_height: share of the speed that a flight of one height loses. With it and gravity 5% of the
            labels' steps lie more than 20 px off at 1280x720, 27 px if the last place is expected.
        gravity_heights: fall, gained a thirtieth of a second.
        velocity_gain: how much of a deviation from the expected flight is a change of speed, not noise.
        sigma_heights, sigma_steps: width of what is expected, as a share of the height and of the step; it
            widens with every thirtieth of a second in which nothing was seen.
        first_sigma_heights: the same after one sighting, when the velocity is not known.
        near_logit: what a sighting gains at the expected place, first_logit after one sighting; it falls
            with the square of the distance …
        far_logit: … at most to minus this: the price of a hit.
        appear_logit: price of a track that starts.
        end_logit: price of a track that ends, hide_logit of one that is hidden for a moment, for at
            most hidden_s; end_hidden_logit and stay_hidden_logit are the prices while it is hidden.
        hidden_kept: hidden flights that are remembered, the likeliest.
        look_again_s: offline: gaps up to this long are looked at again where the flights at both ends meet,
            and longer ones up to this long before the shuttle is seen again.
        rectify_s: offline: longest gap that is filled in …
        rectify_rms_heights: … where one flight explains both its ends this well.
    """

    visible_threshold: float = 0.5
    triangle_radius_heights: float = 0.06
    stage1_candidates: int = 3
    candidate_min_score: float = 0.1
    fast_interval_s: float = 0.5
    ask_again_s: float = 0.1
    weak_logit: float = 0.0
    jump_heights: float = 0.1
    turn_deg: float = 90.0
    turn_min_step_heights: float = 0.012
    check_s: float = 0.5
    alone_logit: float = 8.0
    alone_heights: float = 0.03
    alone_min_score: float = 0.02
    noise_window_s: float = 0.2
    noise_calibrations: int = 5
    foresee_heights: float = 0.03
    lag_s: float = 0.2
    peaks: int = 4
    peak_min: float = 0.02
    merge_heights: float = 0.004
    sightings_kept: int = 6
    evidence: float = 1.0
    rest_doubt: float = 1.5
    rest_heights: float = 0.005
    landed_doubt: float = 0.2
    fly_s: float = 0.1
    fly_heights: float = 0.008
    landed_s: float = 1.0
    still_s: float = 0.1
    still_heights: float = 0.005
    smooth_s: float = 0.07
    smooth_heights: float = 0.0028
    lead_heights: float = 0.0007
    drag_per_height: float = 4.0
    gravity_heights: float = 0.001
    velocity_gain: float = 0.7
    sigma_heights: float = 0.006
    sigma_steps: float = 0.3
    first_sigma_heights: float = 0.03
    near_logit: float = 1.0
    first_logit: float = 0.0
    far_logit: float = 3.0
    appear_logit: float = 2.0
    end_logit: float = 3.0
    hide_logit: float = 2.0
    end_hidden_logit: float = 0.7
    stay_hidden_logit: float = 0.3
    hidden_s: float = 0.4
    hidden_kept: int = 2
    look_again_s: float = 0.3
    rectify_s: float = 0.2
    rectify_rms_heights: float = 0.006

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name.endswith("_logit"):
                fine, allowed = abs(value) <= _MOST_LOGIT, f"at most {_MOST_LOGIT:g}, of either sign"
            elif name in _PROBABILITIES:
                fine, allowed = 0 <= value <= 1, "from 0 to 1"
            elif name in _ABOVE_0:
                fine, allowed = value > 0, "above 0"
            else:
                most = _MOST.get(name, math.inf)
                fine, allowed = 0 <= value <= most, f"at most {most:g}" if value > 0 else "0 or more"
            if not fine:
                raise UsageError(f"{name} {value:g}: must be {allowed}")

    @classmethod
    def parse(cls, assignments: Iterable[str]) -> "TrackParams":
        """From texts like `lag_s=0.3`, as a command line gives them.

        Raises:
            UsageError: no such threshold, or a value that is no number of its kind or in no sensible range.
        """
        kinds = {field.name: int if isinstance(field.default, int) else float for field in fields(cls)}
        values: dict[str, Any] = {}
        for text in assignments:
            name, equals, value = text.partition("=")
            if not equals or name not in kinds:
                raise UsageError(f"--param {text}: give name=value, with a name of {', '.join(kinds)}")
            try:
                values[name] = kinds[name](value)
                if not math.isfinite(values[name]):
                    raise ValueError(value)
            except ValueError as error:
                whole = "a whole number" if kinds[name] is int else "a number"
                raise UsageError(f"--param {text}: {value!r} is not {whole}") from error
        return replace(cls(), **values)
