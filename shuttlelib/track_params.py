"""The thresholds of the tracker."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackParams:
    """Every threshold of the tracker, independent of resolution and frame rate.

    Heights are the frame's; speeds are per thirtieth of a second.

    Attributes:
        visible_threshold: probability from which stage 2's answer counts as visible.
        triangle_radius_heights: circumradius of the three crops around stage 1's place.
        stage1_candidates: places of stage 1 that stage 2 looks at: the first through the triangle, each
            further one through one crop.
        candidate_min_score: further places below this score are not looked at.
        motion_gain: share of the last step that the next one is expected to repeat. On the labels of the
            real rallies, 0.33% of frames then lie more than 60 px off at 1280x720; 0.53% at 0 (stay),
            0.39% at 1 (linear), 1.4% by quadratic extrapolation, which multiplies the label noise.
        coast_s: how long an unseen shuttle is expected to keep moving; then its last place is watched.
        fast_interval_s: fast mode: time between calibrations.
        ask_again_s: smart mode: calibrate each time the shuttle was unseen for this long.
        jump_heights: smart mode: calibrate when the position moves farther than this.
        turn_deg: smart mode: calibrate when the path turns by more than this …
        turn_min_step_heights: … and both steps are at least this long (shorter ones are noise).
        still_s: smart mode: calibrate when a seen track has rested for this long (asked once per such
            time) without regard to what the track expects: a shuttle rests seldom, a shoe often …
        still_heights: … within this distance of where it was that long ago.
        prior_near_logit: log-odds that the track adds to stage 2's at the expected place; they fall with
            the square of the distance …
        prior_far_logit: … at most to minus this.
        prior_lost_logit: log-odds taken off while there is no track, since most of what looks like a
            shuttle then is none.
        prior_coast_s: how long an unseen track still expects something.
        prior_sigma_heights, prior_sigma_steps: width of what is expected, as a share of the height and of the
            last step; it widens with every thirtieth of a second in which nothing was seen.
        noise_window_s: when within this time …
        noise_calibrations: … this many calibrations came from a seen track (lost, jump, turn), the
            rows of that time are withdrawn: told as not visible. 0 never withdraws.
    """

    visible_threshold: float = 0.5
    triangle_radius_heights: float = 0.06
    stage1_candidates: int = 3
    candidate_min_score: float = 0.1
    motion_gain: float = 0.7
    coast_s: float = 0.1
    fast_interval_s: float = 0.5
    ask_again_s: float = 0.1
    jump_heights: float = 0.1
    turn_deg: float = 90.0
    turn_min_step_heights: float = 0.012
    still_s: float = 0.5
    still_heights: float = 0.01
    prior_near_logit: float = 1.0
    prior_far_logit: float = 2.0
    prior_lost_logit: float = 1.0
    prior_coast_s: float = 0.2
    prior_sigma_heights: float = 0.006
    prior_sigma_steps: float = 0.3
    noise_window_s: float = 0.2
    noise_calibrations: int = 5
