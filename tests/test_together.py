import numpy as np
import pytest
from fakes import BrightBackend, write_models

from shuttlelib import tracking
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.frames import Frame
from shuttlelib.geometry import Window
from shuttlelib.looks import Look, answer_together
from shuttlelib.runtime import Candidates
from shuttlelib.sources import video_file
from shuttlelib.together import pixels_of, take_grouped, take_on_host

WINDOW = Window(0, 0, 32, 32, 32, 32)


def look(stage=2, inputs=1, light=16):
    frame = Frame(0, 0.0, np.full((96, 64), light, np.uint8))
    return Look(stage, [WINDOW] * inputs, [[frame] * 4] * inputs, None)


def numbered(result):
    """An answer for each input: its number among those of its run."""
    return Candidates(np.zeros((result, 1, 2)), np.zeros((result, 1)), np.arange(result, dtype=float))


def moving(seed):
    """Draws a bright dot that moves at its own pace, and is away for a while."""

    def draw(index):
        pixels = np.full((180, 320, 3), 30, np.uint8)
        x, y = 40 + (3 + seed) * index, 60 + 10 * seed
        if not 8 <= index < 11 + seed:
            pixels[y - 6 : y + 7, x - 6 : x + 7] = 235
        return pixels

    return draw


def test_looks_of_a_kind_share_a_run_and_get_their_own_part_back():
    runs = []

    def run(kind, some):
        runs.append((kind, [len(one.windows) for one in some]))
        return numbered(sum(runs[-1][1]))

    answers = take_grouped([look(2, 5), look(1), look(2, 3), look(1)], lambda one: one.stage, run)
    assert runs == [(2, [5, 3]), (1, [1, 1])]
    assert [list(answer.visible) for answer in answers] == [[0, 1, 2, 3, 4], [0], [5, 6, 7], [1]]


def test_pixels_of_looks_are_one_batch_in_memory_that_is_used_again():
    bright, dark = look(inputs=2, light=200), look(light=50)
    batch = pixels_of([bright, dark])
    assert np.array_equal(batch, np.concatenate([bright.pixels(), dark.pixels()]))
    assert np.shares_memory(pixels_of([dark]), batch)
    assert np.array_equal(pixels_of([dark]), dark.pixels())
    assert np.array_equal(pixels_of([look(inputs=5)]), look(inputs=5).pixels())


def test_a_run_has_at_most_sixteen_inputs_or_one_look():
    sizes = []

    def run(_, some):
        sizes.append(sum(len(one.windows) for one in some))
        return numbered(sizes[-1])

    answers = take_grouped([look(2, n) for n in (5, 5, 5, 5, 20, 1)], lambda one: one.stage, run)
    assert sizes == [15, 5, 20, 1]
    assert [len(answer.visible) for answer in answers] == [5, 5, 5, 5, 20, 1]


def test_pixels_of_several_looks_go_in_as_one_batch():
    network = BrightBackend((32, 32))
    dark, bright = take_on_host({2: network}, [look(light=40, inputs=2), look(light=220)])
    assert [len(batch) for batch in network.batches] == [3]
    assert dark.visible.max() < 0.5 < bright.visible.min()


def test_the_next_begins_when_one_ends_and_an_error_ends_one_alone():
    begun = []

    def asking(number, steps):
        begun.append(number)
        for _ in range(steps):
            yield look()
        if number == 1:
            raise ShuttleError("cut")
        return number

    def take(looks):
        assert len(looks) <= 2
        return [None] * len(looks)

    ends = []
    for number, result in answer_together((asking(n, s) for n, s in enumerate((4, 1, 0, 2))), take, 2):
        ends.append((number, str(result)))
        assert len(begun) - len(ends) <= 1
    assert ends == [(1, "cut"), (2, "2"), (0, "0"), (3, "3")]


def test_an_error_while_looking_closes_all():
    closed = []

    def asking(number):
        try:
            yield look()
        finally:
            closed.append(number)

    def take(_):
        raise UsageError("no GPU")

    with pytest.raises(UsageError, match="no GPU"):
        list(answer_together([asking(0), asking(1)], take, 2))
    assert closed == [0, 1]


@pytest.mark.parametrize("ahead", [0, 2])
def test_each_of_several_videos_gets_the_rows_it_gets_alone(tiny_video, tmp_path, ahead):
    paths = [tiny_video(f"{seed}.mp4", 20 + 6 * seed, (180, 320), 30, moving(seed)) for seed in range(3)]
    models = write_models(tmp_path / "models", hw2=(96, 96), ahead=ahead)
    networks = tracking.load_networks("onnx", "cpu", 1, models)
    for path in paths:
        tracking.track_video(path, tmp_path / "alone", networks=networks)
    sources = [video_file(path) for path in paths]
    askings = (tracking.tracking_source(source, tmp_path / "together", networks) for source in sources)
    results = dict(answer_together(askings, networks.take, 2))
    assert sorted(results) == [0, 1, 2]
    for number, path in enumerate(paths):
        ours, alone = (tmp_path / folder / f"{path.stem}.csv" for folder in ("together", "alone"))
        assert ours.read_text() == alone.read_text()
        assert results[number].summary["counts"]["lost"] >= 1
