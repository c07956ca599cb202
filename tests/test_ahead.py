import os
import sys
import threading
from itertools import count

import pytest

from shuttlelib.ahead import NICE, read_ahead


def test_items_keep_their_order():
    assert list(read_ahead(lambda: (n for n in range(50)), depth=3)) == list(range(50))


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
def test_what_reads_ahead_steps_back_for_what_looks():
    def priority():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def source():
        yield priority()

    def outer():
        yield from read_ahead(source)

    before = priority()
    assert list(read_ahead(source)) == list(read_ahead(outer)) == [min(before + NICE, 19)]
    assert priority() == before


def test_where_a_priority_may_not_be_lowered_it_stays(monkeypatch):
    def refuse(*_):
        raise PermissionError("no")

    monkeypatch.setattr(os, "setpriority", refuse)
    assert list(read_ahead(lambda: (n for n in range(3)))) == [0, 1, 2]


def test_an_error_comes_after_the_items_before_it():
    def broken():
        yield 1
        yield 2
        raise ValueError("torn")

    items = read_ahead(broken)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="torn"):
        next(items)


def test_no_more_than_depth_items_wait():
    made = []
    full = threading.Event()

    def source():
        for n in count():
            made.append(n)
            if len(made) == 4:
                full.set()
            yield n

    items = read_ahead(source, depth=3)
    assert [next(items)] == [0]
    assert full.wait(10)  # one in hand and three that wait …
    assert len(made) == 4  # … and no fifth, for which there is no room
    assert [next(items), next(items)] == [1, 2]
    items.close()


def test_closing_early_ends_the_source_in_its_own_thread():
    ended = []

    def endless():
        try:
            yield from count()
        finally:
            ended.append(threading.current_thread().name)

    before = threading.active_count()
    items = read_ahead(endless, depth=2)
    assert next(items) == 0
    items.close()
    assert ended == ["read-ahead"]
    assert threading.active_count() == before


def test_a_source_that_cannot_be_opened_says_so():
    def missing():
        raise FileNotFoundError("no such film")

    with pytest.raises(FileNotFoundError, match="no such film"):
        next(read_ahead(missing))
