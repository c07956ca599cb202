import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest

from shuttlelib.errors import StoppedError
from shuttlelib.live import Reader, Waiting, paced
from shuttlelib.video import VideoError, VideoInfo

INFO = VideoInfo("v", 160, 90, 30.0, 0)


def frame(index, time_s=None):
    return SimpleNamespace(index=index, time_s=index / 30 if time_s is None else time_s)


def never():
    return False


def simulate(step_s, work_s, budget_s, count=120):
    """Frames come every `step_s` to a tracker that takes `work_s` for each: which it got, and the queue."""
    waiting, tracked, free_s = Waiting(budget_s), [], 0.0
    for index in range(count):
        now_s = index * step_s
        while free_s <= now_s and (taken := waiting.take(max(free_s, (index - 1) * step_s))) is not None:
            free_s = max(free_s, (index - 1) * step_s) + work_s
            tracked.append(taken.index)
            waiting.done(taken, free_s)
        waiting.put(frame(index), now_s)
    return tracked, waiting


def test_a_fast_tracker_gets_every_frame():
    tracked, waiting = simulate(step_s=1 / 30, work_s=0.01, budget_s=0.2)
    assert tracked == list(range(119))
    assert waiting.facts()["live"]["dropped"] == 0


def test_a_slow_tracker_gets_evenly_spread_frames_that_are_never_late():
    tracked, waiting = simulate(step_s=1 / 30, work_s=2 / 30, budget_s=0.2)
    late = [b - a for a, b in pairwise(tracked[10:])]
    assert set(late) <= {1, 2, 3}
    assert sum(late) / len(late) == pytest.approx(2, abs=0.1)
    facts = waiting.facts()["live"]
    assert facts["budget_ms"] == 200
    assert facts["dropped"] == pytest.approx(60 - 0.2 * 30, abs=4)
    assert facts["latency_ms"]["max"] <= 200 + 2 * 67


def test_without_a_budget_nothing_is_dropped_and_the_reader_must_pause():
    waiting = Waiting(None)
    for index in range(8):
        assert not waiting.full
        waiting.put(frame(index), 100.0 * index)
    assert waiting.full
    assert [waiting.take(1e6).index for _ in range(8)] == list(range(8))
    assert waiting.take(1e6) is None
    assert waiting.facts() == {}


def test_the_newest_frame_is_kept_however_late_it_is():
    waiting = Waiting(0.1)
    for index in range(5):
        waiting.put(frame(index), index / 100)
    assert waiting.take(50.0).index == 4
    assert waiting.dropped == 4


def test_a_file_plays_at_its_own_rate():
    clock = [5.0]

    def wait(seconds):
        clock[0] += seconds

    at = []
    for one in paced(iter([frame(i, i / 10) for i in range(5)]), lambda: clock[0], wait):
        at.append(clock[0])
        clock[0] += 0.25 if one.index == 1 else 0.01  # once, too slow
    assert at == pytest.approx([5.0, 5.1, 5.35, 5.36, 5.4])


def feed(frames, closing=None, closed=None):
    try:
        yield INFO
        yield from frames
        if closing is not None:
            closing.wait(30)  # a network that says nothing more
    finally:
        if closed is not None:
            closed.set()


def test_a_reader_hands_every_frame_over_and_then_the_error():
    def broken():
        yield from map(frame, range(50))
        raise VideoError("the line is cut")

    footage = Reader(feed(broken()), never, threading.Event(), None).footage([], dict)
    assert footage.info == INFO
    assert [next(footage.frames).index for _ in range(50)] == list(range(50))
    with pytest.raises(VideoError, match="the line is cut"):
        next(footage.frames)


def test_a_reader_holds_little_and_ends_with_its_user():
    given, closed = [], threading.Event()

    def endless():
        for index in range(1_000_000):
            given.append(index)
            yield frame(index)

    footage = Reader(feed(endless(), closed=closed), never, threading.Event(), None).footage([], dict)
    assert next(footage.frames).index == 0
    footage.frames.close()
    assert closed.wait(5)
    assert len(given) < 20


def test_a_reader_ends_with_a_user_who_took_no_frame():
    closing, closed = threading.Event(), threading.Event()
    footage = Reader(feed([frame(0)], closing, closed), never, closing, None).footage([], dict)
    footage.frames.close()
    assert closed.wait(5)


def test_who_is_asked_to_stop_does_not_wait_for_the_network():
    closing, asked = threading.Event(), threading.Event()
    footage = Reader(feed([frame(0)], closing), asked.is_set, closing, 0.2).footage([], dict)
    assert next(footage.frames).index == 0
    asked.set()
    assert next(footage.frames, None) is None
    assert closing.is_set()


def test_a_source_that_cannot_be_opened_says_why_and_one_that_hangs_can_be_left():
    def refuse():
        raise VideoError("nobody there")
        yield

    with pytest.raises(VideoError, match="nobody there"):
        Reader(refuse(), never, threading.Event(), None).footage([], dict)
    closing = threading.Event()

    def hang():
        closing.wait(30)
        yield INFO

    with pytest.raises(StoppedError):
        Reader(hang(), lambda: True, closing, None).footage([], dict)
    assert closing.is_set()
