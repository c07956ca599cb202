import math
from itertools import pairwise

import numpy as np
import pytest
from fakes import BrightBackend

from shuttlelib.errors import UsageError
from shuttlelib.frames import Frame, history_stride
from shuttlelib.looks import answer_all, with_coming
from shuttlelib.offline import Memory
from shuttlelib.refine import refined
from shuttlelib.runtime import Candidates
from shuttlelib.together import take_on_host
from shuttlelib.track_params import TrackParams
from shuttlelib.tracker import Tracker

SIZE_HW = (360, 640)  # half of 1280x720: a crop of 160 input px shows 80 native px
NEVER_NOISE = TrackParams(noise_calibrations=0)


def dot(index, xy_px, size_hw=SIZE_HW, fps=30.0, light=235):
    """A black frame with one bright 4x4 dot centred at a point; None draws none."""
    return dots(index, {} if xy_px is None else {xy_px: light}, size_hw, fps)


def dots(index, lights, size_hw=SIZE_HW, fps=30.0):
    """A black frame with 4x4 dots {centre: luma of 16 to 235}; from 126 on the networks call one visible."""
    planes = np.full((size_hw[0] * 3 // 2, size_hw[1]), 128, np.uint8)
    planes[: size_hw[0]] = 16
    for (x, y), light in lights.items():
        x, y = round(x), round(y)
        planes[max(0, y - 2) : min(y + 2, size_hw[0]), max(0, x - 2) : x + 2] = light
    return Frame(index, index / fps, planes)


def make(mode="smart", fps=30.0, params=NEVER_NOISE, **more):
    # A dot of 4 px shrinks with the whole frame, so stage 1 is content with less light
    return Tracker(
        BrightBackend((180, 320), 60), BrightBackend((160, 160)), SIZE_HW, fps, mode, params, **more
    )


def see(tracker):
    """What takes a tracker's looks, each with pixels of its own, which `BrightBackend` keeps."""
    networks = {1: tracker.stage1, 2: tracker.stage2}
    return lambda look: networks[look.stage].run(look.pixels(), look.history)


def step(tracker, frame, coming=()):
    """The next frame's row, which later frames may change."""
    return answer_all(tracker.asking(frame, coming), see(tracker))


def track(tracker, frames, rows=None):
    """The final rows of frames, also put into `rows` as they come."""
    rows = [] if rows is None else rows
    answer_all(tracker.tracking(frames, lambda _, row: rows.append(row)), see(tracker))
    return rows


def follow(tracker, path):
    return [step(tracker, dot(index, xy_px)) for index, xy_px in enumerate(path)]


STRAIGHT = [(100 + 6 * i, 200 - 2 * i) for i in range(30)]


@pytest.mark.parametrize("mode", ["smart", "fast", "calibration"])
def test_every_mode_follows_a_moving_dot(mode):
    rows = follow(make(mode), STRAIGHT)
    assert [row.frame for row in rows] == list(range(30))
    assert all(row.visible and row.source == "detected" for row in rows)
    found = np.array([(row.x_px, row.y_px) for row in rows])
    assert np.abs(found - STRAIGHT).max() <= 2
    assert all(0.5 <= row.confidence <= 1 for row in rows)


def test_modes_calibrate_as_often_as_they_say():
    always, sometimes, once = (make(mode) for mode in ("calibration", "fast", "smart"))
    for tracker in (always, sometimes, once):
        follow(tracker, STRAIGHT)
    assert always.counts["always"] == always.counts["stage1_inputs"] == 30
    assert sometimes.counts["interval"] == 1  # frame 15, half a second after the start
    assert sometimes.counts["stage1_inputs"] == 2
    # checked 0.1 s after the start, when its flight is shorter (it is one from the second step on), and later
    assert once.counts == {"start": 1, "check": 2, "stage1_inputs": 3, "stage2_inputs": 3 + 29}


def test_stage_2_does_not_look_again_where_both_stages_agree():
    apart = make(params=TrackParams(noise_calibrations=0, alone_heights=0.0))
    assert all(row.visible for row in follow(apart, STRAIGHT))
    assert apart.counts["check"] == 2
    assert apart.counts["stage2_inputs"] == 3 + 29 + 2 * 3


def test_a_frame_in_which_nothing_was_seen_has_no_place_at_any_threshold():
    tracker = make("offline", params=TrackParams(visible_threshold=0.0), memory=Memory({}))
    row = step(tracker, dot(0, None))
    assert (row.visible, row.source) == (False, "none")


def test_fast_mode_counts_time_not_frames():
    tracker = make("fast", fps=60.0)
    follow(tracker, [(100 + i, 200) for i in range(61)])
    assert tracker.counts["interval"] == 2


def test_a_vanished_shuttle_is_asked_for_once_and_then_once_a_while():
    tracker = make()
    rows = follow(tracker, STRAIGHT[:10] + [None] * 10)
    assert [row.visible for row in rows] == [True] * 10 + [False] * 10
    assert all(math.isnan(row.x_px) and row.source == "none" and row.confidence > 0.5 for row in rows[10:])
    assert tracker.counts["lost"] == 1
    assert tracker.counts["unseen"] == 3  # every third frame, a tenth of a second


def test_a_shuttle_that_reappears_elsewhere_is_found_again():
    tracker = make()
    rows = follow(tracker, STRAIGHT[:8] + [None] * 4 + [(500, 100)] * 6)
    assert not any(row.visible for row in rows[8:12])
    assert [row.visible for row in rows[15:]] == [True] * 3
    assert rows[-1].x_px == pytest.approx(500, abs=2)


def test_a_shuttle_that_reappears_nearby_needs_no_calibration():
    tracker = make()
    rows = follow(tracker, [*STRAIGHT[:8], None, *STRAIGHT[9:12]])
    assert [row.visible for row in rows] == [True] * 8 + [False] + [True] * 3
    assert tracker.counts["stage1_inputs"] == 3  # the start, before its flight was long, and when it was lost


def test_a_jump_and_a_turn_trigger():
    jumping = make()
    follow(jumping, [*STRAIGHT[:6], (STRAIGHT[5][0] + 38, STRAIGHT[5][1])])
    assert (jumping.counts["jump"], jumping.counts["turn"]) == (1, 0)
    turning = make()
    follow(turning, STRAIGHT[:6] + STRAIGHT[4::-1])
    assert (turning.counts["jump"], turning.counts["turn"]) == (0, 1)
    quiet = make(params=TrackParams(turn_deg=181, noise_calibrations=0))
    follow(quiet, STRAIGHT[:6] + STRAIGHT[4::-1])
    assert quiet.counts["turn"] == 0


def test_small_trembling_is_no_turn():
    tracker = make()
    follow(tracker, [(100 + 2 * (i % 2), 200) for i in range(12)])
    assert tracker.counts["turn"] == 0


def test_triggers_do_not_depend_on_the_frame_rate():
    """The same flight at 30 and at 120 fps: the same turn, seen over the same thirtieth of a second."""
    slow, swift = make(fps=30.0), make(fps=120.0)
    path = [100 + 8 * min(t, 16 - t) for t in np.arange(0, 16, 0.25)]
    follow(slow, [(x, 200) for x in path[::4]])
    follow(swift, [(x, 200) for x in path])
    assert slow.counts["jump"] == swift.counts["jump"] == 0
    assert slow.counts["turn"] == 1
    assert 1 <= swift.counts["turn"] <= 4  # the frames of that thirtieth of a second
    assert history_stride(29.97) == 1
    assert history_stride(119.88) == 4
    assert history_stride(15) == 1


def test_a_calibration_replaces_a_worse_answer_only():
    class Timid(BrightBackend):
        """Says the truth in the crops of a calibration, and doubts everything when it follows."""

        def run(self, frames, history=None):
            answer = super().run(frames, history)
            return answer if len(frames) > 1 else answer._replace(visible=answer.visible * 0.1)

    tracker = Tracker(BrightBackend((180, 320), 60), Timid((160, 160)), SIZE_HW, 30.0, "smart", NEVER_NOISE)
    rows = follow(tracker, STRAIGHT[:2])
    assert rows[1].visible
    assert tracker.counts["lost"] == 1


def test_many_calibrations_mean_noise_and_withdraw_their_rows():
    tracker = make(params=TrackParams(noise_window_s=0.2, noise_calibrations=4))
    wild = STRAIGHT[:10] + [(150 + 45 * (i % 2), 180) for i in range(6)] + [(150, 180)] * 9
    rows = track(tracker, (dot(i, xy) for i, xy in enumerate(wild)))
    assert [row.frame for row in rows] == list(range(len(wild)))
    withdrawn = [row.frame for row in rows if not row.visible]
    assert tracker.counts["withdrawn_rows"] == 6
    assert set(range(8, 14)) <= set(withdrawn) <= set(range(8, 16))
    assert all(row.source == "none" and math.isnan(row.x_px) for row in rows if not row.visible)
    assert all(row.visible for row in rows[-5:])


@pytest.mark.parametrize("fps", [15.0, 24.0, 30.0, 60.0, 120.0])
def test_noise_is_told_by_its_share_of_the_time_at_any_rate(fps):
    def withdrawn(wild_s):
        tracker = make(fps=fps, params=TrackParams(noise_window_s=0.2, noise_calibrations=5))
        count, seconds = round(1.2 * fps), 1 / fps
        path = [(150 + 45 * (i % 2) * (0.4 <= i * seconds < 0.4 + wild_s), 180) for i in range(count)]
        track(tracker, (dot(i, xy, fps=fps) for i, xy in enumerate(path)))
        return tracker.counts["withdrawn_rows"]

    assert withdrawn(0.06) == 0
    assert withdrawn(0.4) > 0


@pytest.mark.parametrize("fps", [1.0, 5.0, 6.0])
def test_one_calibration_is_no_noise_however_few_frames_a_second_has(fps):
    tracker = make(fps=fps, params=TrackParams())
    rows = track(tracker, (dot(i, (60 + 8 * i + 120 * (i >= 6), 180), fps=fps) for i in range(12)))
    assert tracker.counts["lost"] > 0
    assert tracker.counts["withdrawn_rows"] == 0
    assert all(row.visible for row in rows)


def test_the_frames_of_a_trigger_are_bounded(monkeypatch):
    monkeypatch.setattr("shuttlelib.tracker.FIRED_KEPT", 7)
    tracker = make("calibration")
    follow(tracker, STRAIGHT)
    assert list(tracker.fired["always"]) == list(range(23, 30))
    assert tracker.counts["always"] == 30


@pytest.mark.parametrize("ahead", [0, 2])
def test_rows_come_out_before_the_video_fails(ahead):
    def broken():
        for index in range(5):
            yield dot(index, STRAIGHT[index])
        raise UsageError("cut")

    tracker = make()
    tracker.ahead = ahead
    rows = []
    with pytest.raises(UsageError, match="cut"):
        track(tracker, broken(), rows)
    assert [row.frame for row in rows] == [0, 1, 2, 3, 4]


def test_whoever_drives_a_tracker_may_take_its_looks():
    alone, driven, rows = make(), make(), []
    frames = [dot(i, xy) for i, xy in enumerate(STRAIGHT)]
    looks = driven.tracking(frames, lambda _, row: rows.append(row))
    answer_all(looks, lambda look: take_on_host({1: driven.stage1, 2: driven.stage2}, [look])[0])
    assert rows == track(alone, frames)
    assert len(rows) == len(STRAIGHT)


def test_networks_see_the_past_oldest_first_a_thirtieth_of_a_second_apart():
    tracker = make(fps=60.0)
    for index in range(9):
        planes = np.full((540, 640), 128, np.uint8)
        planes[:360] = 16 + 20 * index
        step(tracker, Frame(index, index / 60, planes))
    levels = [batch[0, :, 150, 150, 0].astype(int) for batch in tracker.stage2.batches]
    ladder = [(20 * index) * 255 / 219 for index in range(9)]
    assert levels[0] == pytest.approx([ladder[0]] * 4, abs=2)  # early frames repeat the first one
    assert levels[-1] == pytest.approx([ladder[2], ladder[4], ladder[6], ladder[8]], abs=2)


def test_networks_see_frames_to_come_and_at_the_end_the_last_one():
    ahead = [BrightBackend((180, 320), 60, frames=2, ahead=1), BrightBackend((160, 160), frames=5, ahead=2)]
    tracker = Tracker(*ahead, SIZE_HW, 60.0, "calibration", NEVER_NOISE)
    assert tracker.ahead == 4
    grey = [np.full((540, 640), 128, np.uint8) for _ in range(12)]
    for index, planes in enumerate(grey):
        planes[:360] = 16 + 15 * index
    frames = [Frame(index, index / 60, planes) for index, planes in enumerate(grey)]
    assert [row.frame for row in track(tracker, frames)] == list(range(12))
    ladder = [15 * index * 255 / 219 for index in range(12)]
    levels = [batch[0, :, 150, 150, 0].astype(int) for batch in ahead[1].batches]
    for current, shown in ((0, (0, 0, 0, 2, 4)), (5, (1, 3, 5, 7, 9)), (10, (6, 8, 10, 11, 11))):
        assert levels[current] == pytest.approx([ladder[index] for index in shown], abs=2)
    few = [batch[0, :, 90, 160, 0].astype(int) for batch in ahead[0].batches]
    assert few[5] == pytest.approx([ladder[5], ladder[7]], abs=2)


def both_ways(path, mode="smart", fps=30.0, **params):
    """A path tracked with foresight and without: each tracker and its rows."""
    reaches = [TrackParams(noise_calibrations=0, foresee_heights=reach, **params) for reach in (0.03, 0.0)]
    trackers = [make(mode, fps, reach) for reach in reaches]
    frames = [dot(index, xy, fps=fps) for index, xy in enumerate(path)]
    return [(tracker, track(tracker, frames)) for tracker in trackers]


@pytest.mark.parametrize("mode", ["smart", "fast", "offline"])
def test_the_next_frame_is_looked_at_together_with_this_one(mode):
    (foresees, ours), (waits, theirs) = both_ways(STRAIGHT, mode)
    assert (foresees.ahead, waits.ahead) == (1, 0)
    assert foresees.counts["foreseen"] >= 13
    assert waits.counts["foreseen"] == 0
    assert len(foresees.stage2.batches) < 0.6 * len(waits.stage2.batches)
    assert [row.visible for row in ours] == [row.visible for row in theirs] == [True] * 30
    assert [row.x_px for row in ours] == pytest.approx([row.x_px for row in theirs], abs=0.6)


def test_what_was_foreseen_elsewhere_is_looked_at_again():
    swift = [(60 + 16 * i, 200) for i in range(8)]
    turned = [*swift, *((swift[7][0] - 16 * i, 200) for i in range(1, 8))]
    (foresees, ours), (_, theirs) = both_ways(turned, turn_deg=181, jump_heights=1)
    assert [row.visible for row in ours] == [row.visible for row in theirs] == [True] * 15
    assert [row.x_px for row in ours] == pytest.approx([x for x, _ in turned], abs=2)
    looked = foresees.counts["stage2_inputs"] - 3  # without those of the start
    assert looked + foresees.counts["foreseen"] > 2 * 7 + 7  # some frames were looked at twice


def test_a_foreseen_frame_is_seen_among_its_own_neighbours():
    networks = [BrightBackend((180, 320), 60), BrightBackend((160, 160), 1, frames=5, ahead=2)]
    tracker = Tracker(*networks, SIZE_HW, 60.0, "smart", NEVER_NOISE)
    assert tracker.ahead == 5
    grey = [np.full((540, 640), 128, np.uint8) for _ in range(12)]
    for index, planes in enumerate(grey):
        planes[:360] = 16 + 15 * index
    frames = [Frame(index, index / 60, planes) for index, planes in enumerate(grey)]
    assert [row.frame for row in track(tracker, frames)] == list(range(12))
    ladder = [15 * index * 255 / 219 for index in range(12)]
    pairs = [batch[:, :, 150, 150, 0].astype(int) for batch in networks[1].batches if len(batch) == 2]
    shown = {round((pair[n, 2] * 219 / 255) / 15): pair[n] for pair in pairs for n in (0, 1)}
    for current, seen in ((5, (1, 3, 5, 7, 9)), (6, (2, 4, 6, 8, 10)), (10, (6, 8, 10, 11, 11))):
        assert shown[current] == pytest.approx([ladder[index] for index in seen], abs=2)
    assert len(networks[1].batches[-1]) == 1  # the last frame has none after it


def test_what_was_foreseen_of_a_frame_that_never_came_is_forgotten():
    tracker, frames = make(), [dot(index, xy) for index, xy in enumerate(STRAIGHT)]
    for frame, after in pairwise(frames[:5]):
        step(tracker, frame, [after])
    assert tracker._foreseen or tracker.counts["foreseen"]
    before = tracker.counts["foreseen"]
    for index in (6, 8, 10):  # as where frames are dropped
        row = step(tracker, frames[index], [frames[index + 1]])
        assert row.x_px == pytest.approx(STRAIGHT[index][0], abs=2)
    assert tracker.counts["foreseen"] == before


def test_a_network_that_looks_at_the_track_cannot_foresee():
    networks = [BrightBackend((180, 320), 60), BrightBackend((160, 160), uses_history=True)]
    tracker = Tracker(*networks, SIZE_HW, 30.0, "smart", NEVER_NOISE)
    assert tracker.ahead == 0
    track(tracker, (dot(index, xy) for index, xy in enumerate(STRAIGHT)))
    assert tracker.counts["foreseen"] == 0


def test_a_frame_comes_with_those_after_it_and_none_is_lost_where_reading_fails():
    def broken():
        yield from "abcd"
        raise UsageError("cut")

    seen = []
    with pytest.raises(UsageError, match="cut"):
        seen.extend((now, "".join(coming)) for now, coming in with_coming(broken(), 2))
    assert seen == [("a", "bc"), ("b", "cd"), ("c", "d"), ("d", "")]
    assert [(now, "".join(coming)) for now, coming in with_coming("ab", 0)] == [("a", ""), ("b", "")]


def test_each_network_sees_as_many_frames_as_it_asks_for():
    few, many = BrightBackend((180, 320), 60, frames=3), BrightBackend((160, 160), frames=8)
    tracker = Tracker(few, many, SIZE_HW, 60.0, "calibration", NEVER_NOISE)
    for index in range(16):
        planes = np.full((540, 640), 128, np.uint8)
        planes[:360] = 16 + 10 * index
        step(tracker, Frame(index, index / 60, planes))
    ladder = [(10 * index) * 255 / 219 for index in range(16)]
    seen = many.batches[-1][0, :, 150, 150, 0].astype(int)
    assert seen == pytest.approx(ladder[1::2], abs=2)
    assert few.batches[-1][0, :, 90, 160, 0].astype(int) == pytest.approx(ladder[11::2], abs=2)


def test_one_network_alone_is_asked_once_a_frame():
    stage1 = BrightBackend((180, 320), 60, uses_history=True)
    tracker = Tracker(stage1, None, SIZE_HW, 30.0, "whole")
    rows = follow(tracker, [*STRAIGHT[:6], None])
    for row, place in zip(rows[:6], STRAIGHT):
        assert (row.x_px, row.y_px) == pytest.approx(place, abs=2)
    assert [row.visible for row in rows] == [True] * 6 + [False]
    assert dict(tracker.counts) == {"stage1_inputs": 7}
    assert stage1.histories[-1][0, -7:, 2].tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_other_modes_need_a_second_stage():
    with pytest.raises(UsageError, match=r"--mode smart: needs a stage-2 version.*--mode whole"):
        Tracker(BrightBackend((180, 320)), None, SIZE_HW, 30.0, "smart")


def test_history_is_what_the_tracker_itself_said():
    tracker = Tracker(
        BrightBackend((180, 320), 60),
        BrightBackend((160, 160), uses_history=True),
        SIZE_HW,
        30.0,
        "smart",
        NEVER_NOISE,
    )
    rows = follow(tracker, [*STRAIGHT[:4], None, STRAIGHT[5]])
    history = tracker.stage2.histories[-1]
    assert history.shape[1:] == (30, 3)
    assert history.dtype == np.float32
    assert history[0, -6:, 2].tolist() == [0, 1, 1, 1, 1, 0]
    assert not history[0, -1].any()
    step = (history[0, -2, :2] - history[0, -3, :2]) * 80  # a crop shows 80 native px at 640x360
    assert step == pytest.approx([rows[3].x_px - rows[2].x_px, rows[3].y_px - rows[2].y_px], abs=0.01)


@pytest.mark.parametrize(("near_logit", "seen"), [(-1.0, False), (1.0, True)])
def test_what_the_track_expects_needs_less_evidence(near_logit, seen):
    tracker = make(params=TrackParams(near_logit=near_logit))
    follow(tracker, STRAIGHT[:6])
    assert step(tracker, dot(6, STRAIGHT[6], light=117)).visible is seen


@pytest.mark.parametrize(("far_logit", "seen"), [(0.0, True), (3.0, False)])
def test_what_the_track_does_not_expect_needs_more(far_logit, seen):
    tracker = make(params=TrackParams(far_logit=far_logit))
    follow(tracker, STRAIGHT[:6])
    assert step(tracker, dot(6, (STRAIGHT[6][0], STRAIGHT[6][1] + 30), light=134)).visible is seen


@pytest.mark.parametrize(("appear_logit", "seen"), [(0.0, True), (2.0, False)])
def test_without_a_track_a_faint_place_is_no_shuttle(appear_logit, seen):
    tracker = make(params=TrackParams(appear_logit=appear_logit))
    assert step(tracker, dot(0, (300, 100), light=134)).visible is seen


def judged(lights_by_frame):
    """Whether each frame was called visible at once, and in the end."""
    tracker = make(params=TrackParams(noise_calibrations=0))
    rows, at_once = [], []
    for index, lights in enumerate(lights_by_frame):
        rows.append(step(tracker, dots(index, lights)))
        at_once.append(rows[-1].visible)
    return at_once, [row.visible for row in rows]


def test_a_faint_sighting_within_a_flight_is_the_shuttle_once_it_is_known_what_came_after():
    path = [{xy: 235} for xy in STRAIGHT[:14]]
    path[6] = {STRAIGHT[6]: 103}
    at_once, in_the_end = judged(path)
    assert at_once == [True] * 6 + [False] + [True] * 7
    assert in_the_end == [True] * 14


def test_a_sighting_off_the_flight_that_follows_is_taken_back():
    path = [{(500, 60): 150}] + [{xy: 235} for xy in STRAIGHT[1:12]]
    at_once, in_the_end = judged(path)
    assert at_once[0]
    assert in_the_end == [False] + [True] * 11


def test_a_row_is_settled_after_the_lag_and_never_later():
    tracker = make(params=TrackParams(noise_calibrations=0))
    rows, shown = [], []
    for index, xy in enumerate(STRAIGHT[:20]):
        rows.append(step(tracker, dot(index, xy, light=110 if index == 6 else 235)))
        shown.append([(row.visible, row.confidence) for row in rows])
    assert tracker.settles == 6
    for back in range(len(rows) - tracker.settles):
        assert len({moment[back] for moment in shown[back + tracker.settles :]}) == 1


@pytest.mark.parametrize("frames", [4, 20])
def test_a_place_is_told_on_its_flight_and_ahead(frames):
    shaken = [(x + 0.6 * (-1) ** n, y) for n, (x, y) in enumerate(STRAIGHT[:frames])]
    shown = [dot(index, xy) for index, xy in enumerate(shaken)]
    as_seen = TrackParams(noise_calibrations=0, smooth_s=0, lead_heights=0)
    seen, told = track(make(params=as_seen), shown), track(make(), shown)
    assert told == [refined(seen, n, NEVER_NOISE, SIZE_HW, 30.0) for n in range(frames)]
    assert told != seen


def test_a_stage_1_alone_is_told_as_it_said():
    frames = [dot(index, xy) for index, xy in enumerate(STRAIGHT)]
    whole = [
        Tracker(BrightBackend((180, 320), 60), None, SIZE_HW, 30.0, "whole", params)
        for params in (TrackParams(), TrackParams(smooth_s=0, lead_heights=0))
    ]
    with_places, as_seen = (track(tracker, frames) for tracker in whole)
    assert with_places == as_seen
    assert any(row.visible for row in as_seen)


def test_a_weak_track_is_asked_about_at_once_and_then_once_a_while():
    tracker = make()
    for index, xy in enumerate(STRAIGHT[:16]):
        step(tracker, dot(index, xy, light=120 if index >= 8 else 235))
    assert list(tracker.fired["start"]) == [0]
    assert list(tracker.fired["weak"]) == [8, 11, 14]
    assert tracker.counts["weak"] == 3


@pytest.mark.parametrize(("check_s", "alone_logit"), [(0.0, 8.0), (0.2, 0.0), (0.2, 8.0)])
def test_a_followed_place_that_stage_1_does_not_see_is_given_up_when_told_to(check_s, alone_logit):
    params = TrackParams(noise_calibrations=0, check_s=check_s, ask_again_s=0.2, alone_logit=alone_logit)
    tracker, lamp = make(params=params), (100, 300)
    rows = [step(tracker, dots(0, {lamp: 160}))]  # of equal lights stage 1 tells the upper one
    rows += [step(tracker, dots(n, {lamp: 160, (200 + n / 2, 60): 160})) for n in range(1, 30)]
    assert tracker.counts["check"] == (4 if check_s else 0)
    assert all(row.visible for row in rows)
    given_up = bool(check_s and alone_logit)
    assert [row.y_px < 100 for row in rows] == [False] * 6 + [given_up] * 24


def test_further_candidates_of_stage_1_are_verified():
    class Distracted(BrightBackend):
        """Believes in a corner first and in the dot second."""

        def run(self, frames, history=None):
            answer = super().run(frames, history)
            corner = np.full_like(answer.xy, 10.0)
            xy = np.concatenate([corner, answer.xy], 1)
            return Candidates(xy, np.array([[0.8, 0.5]], np.float32), answer.visible)

    for count, seen in ((2, True), (1, False)):
        params = TrackParams(stage1_candidates=count)
        tracker = Tracker(
            Distracted((180, 320), 60), BrightBackend((160, 160)), SIZE_HW, 30.0, "smart", params
        )
        row = step(tracker, dot(0, (500, 300)))
        assert row.visible is seen


def test_confidence_goes_through_the_calibration():
    raw = follow(make(), [(100, 100), None])
    cool = follow(make(calibration={"visible": (0.5, 0.0), "invisible": (1.0, -1.0)}), [(100, 100), None])
    for before, after, (a, b) in zip(raw, cool, ((0.5, 0.0), (1.0, -1.0))):
        logit = math.log(before.confidence / (1 - before.confidence))
        assert after.confidence == pytest.approx(1 / (1 + math.exp(-(a * logit + b))), rel=1e-3)


def test_memory_does_not_grow_with_the_video():
    tracker = make(fps=60.0)
    follow(tracker, [(100 + i % 50, 100) for i in range(100)])
    assert len(tracker._frames) == 7
    assert len(tracker._rows) == 60


def test_an_unknown_mode_is_wrong_usage():
    with pytest.raises(UsageError, match="--mode fats: choose one of smart, fast, calibration"):
        make("fats")


def test_what_a_csv_rounds_to_certain_gets_the_confidence_that_was_fitted():
    tracker = make()  # where p is 0.99996, the CSV that the curve is fitted to says 1.0000
    tracker.calibration = {"visible": (0.5, 0.0)}
    assert tracker.confidence("visible", 0.99996) == tracker.confidence("visible", 1.0)
    assert tracker.confidence("visible", 0.9999) < tracker.confidence("visible", 0.99996)
