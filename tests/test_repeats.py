import numpy as np
import pytest

from shuttlelib.frames import Frame
from shuttlelib.repeats import MOST, RECENT, RHYTHM, Repeats, once, rows_of
from shuttlelib.rows import Row

SIZE_HW = (96, 160)
NOISE = 6  # levels that coding changes


def picture(number, players=True, shuttle=True):
    """Luma of a court on which a player and a shuttle move."""
    luma = np.full(SIZE_HW, 90, np.int64)
    if players:
        luma[40:72, (5 * number) % 130 : (5 * number) % 130 + 16] = 200
    if shuttle:
        luma[8:14, (9 * number) % 150 : (9 * number) % 150 + 6] = 140
    return luma


def coded(luma, seed):
    noise = np.random.default_rng(seed).integers(-NOISE, NOISE + 1, luma.shape)
    return np.clip(luma + noise, 0, 255).astype(np.uint8)


def found(lumas):
    repeats = Repeats()
    return [n for n, luma in enumerate(lumas) if repeats(coded(luma, n))]


def pulldown(counts, frames):
    """The number of the picture in each frame, each shown as often as `counts` says in turn."""
    shown = [n for n in range(frames) for _ in range(counts[n % len(counts)])]
    return shown[:frames]


@pytest.mark.parametrize(
    "counts",
    [(1, 1, 1, 1, 2), (2,), (3, 2), (4,), (5,)],
    ids=["25 at 30", "30 at 60", "24 at 60", "30 at 120", "24 at 120"],
)
def test_repeats_are_found_once_it_is_known_how_much_frames_differ(counts):
    shown = pulldown(counts, 90)
    truth = [n for n in range(1, 90) if shown[n] == shown[n - 1]]
    assert found([picture(n) for n in shown]) == [n for n in truth if n > RECENT]


@pytest.mark.parametrize("players", [True, False])
def test_whatever_moves_is_new(players):
    assert found([picture(n, players) for n in range(60)]) == []


def test_a_shuttle_that_flies_while_players_stand_is_new():
    assert found([picture(n if n < 30 else 30) + picture(n, False) - 90 for n in range(60)]) == []


@pytest.mark.parametrize("height", [96, 288, 720, 1440])
def test_a_small_shuttle_is_seen_at_every_size(height):
    size = max(3, height // 120)

    def shown(n):
        luma = np.full((height, height * 2), 90, np.uint8)
        luma[: height // 3, n % 3 :: 7] = 200 if n < 20 else 90  # many move, and then only the shuttle
        x = height // 2 + n * size
        luma[height // 2 : height // 2 + size, x : x + size] = 160
        return luma

    repeats = Repeats()
    assert not any([repeats(shown(n)) for n in range(40)][22:])


def test_nothing_repeats_where_nothing_moves():
    assert found([picture(0) for _ in range(60)]) == []


def test_players_who_stop_repeat_a_few_times_only():
    stopped = found([picture(min(n, 30)) for n in range(90)])
    assert stopped[:MOST] == [31, 32, 33, 34]
    assert 35 not in stopped
    assert max(stopped) <= 30 + RECENT


def test_another_size_is_new():
    repeats = Repeats()
    for n in pulldown((2,), 40):
        repeats(coded(picture(n), n))
    assert not repeats(np.full((48, 80), 90, np.uint8))


def frames_of(shown, late_s=0.0, late=1000):
    for n, number in enumerate(shown):
        chroma = np.full((SIZE_HW[0] // 2, SIZE_HW[1]), 128, np.uint8)
        at_s = n / 60 + late_s * (n >= late)
        yield Frame(n, at_s, np.concatenate([coded(picture(number), number), chroma]))


def test_each_picture_comes_once_and_knows_its_repeats():
    late = list(once(frames_of(pulldown((3, 2), 60)), 0.5))[-10:]
    assert {1 + len(frame.again) for frame in late} == {2, 3}
    numbers = [one.index for frame in late for one in (frame, *frame.again)]
    assert numbers == list(range(numbers[0], 60))


@pytest.mark.parametrize(
    ("counts", "times"), [((1,), 1), ((1, 1, 1, 1, 2), 1), ((2,), 2), ((3, 2), 2), ((4,), 4), ((5,), 5)]
)
def test_it_is_told_how_many_frames_show_a_picture(counts, times):
    told = {frame.index: frame.times for frame in once(frames_of(pulldown(counts, 400)), 0.5)}
    assert {number for index, number in told.items() if index < RHYTHM} == {1}
    assert {number for index, number in told.items() if index > 3 * RHYTHM} == {times}


def test_a_picture_that_comes_again_after_a_gap_is_new():
    new = [frame.index for frame in once(frames_of(pulldown((2,), 60), late_s=9.0, late=51), 0.5)]
    assert 51 in new
    assert 49 not in new
    assert 53 not in new


def test_a_repeat_has_the_row_of_its_picture_at_its_own_time():
    frame, again = frames_of([0, 0])
    frame.again.append(again)
    row = Row(0, 0.0, True, 3.5, 4.5, 0.9, "detected")
    assert list(rows_of(frame, row)) == [
        (frame, row),
        (again, Row(1, 1 / 60, True, 3.5, 4.5, 0.9, "detected")),
    ]


def test_who_leaves_early_closes_the_frames():
    left = []

    def frames():
        try:
            yield from frames_of(range(9))
        finally:
            left.append(True)

    new = once(frames(), 0.5)
    next(new)
    new.close()
    assert left == [True]
