import numpy as np
import torch

from shuttlelib.runtime.graphs import Sized, run_once


class Recorded:
    """Stands for a captured graph: fixed buffers, whatever a call leaves unfilled stays in them."""

    made = ()

    def __init__(self, function, arrays):
        self._function, self._buffers = function, [array.copy() for array in arrays]
        Recorded.made = (*Recorded.made, len(arrays[0]))

    def __call__(self, arrays):
        for buffer, array in zip(self._buffers, arrays):
            buffer[: len(array)] = array
        self._answers = [out.numpy() for out in self._function(*map(torch.from_numpy, self._buffers))]
        return self._answers


def double(values, shifts):
    return 2 * values + shifts, values.sum(1)


def test_each_size_is_made_once_and_padding_never_shows():
    Recorded.made = ()
    sized = Sized(double, Recorded)
    rng = np.random.default_rng(0)
    for count in (1, 3, 4, 2, 5, 3, 16, 11, 1):
        values, shifts = rng.random((count, 3), np.float32), rng.random((count, 3), np.float32)
        doubled, sums = sized(values, shifts)
        assert np.array_equal(doubled, 2 * values + shifts)
        assert np.allclose(sums, values.sum(1))
    assert Recorded.made == (1, 4, 2, 8, 16)


def test_a_large_batch_goes_in_parts():
    Recorded.made = ()
    values = np.arange(37 * 3, dtype=np.float32).reshape(37, 3)
    doubled, _ = Sized(double, Recorded)(values, np.zeros_like(values))
    assert np.array_equal(doubled, 2 * values)
    assert Recorded.made == (16, 8)


def test_answers_outlive_the_next_call():
    sized = Sized(double, Recorded)
    ones = np.ones((2, 3), np.float32)
    first, _ = sized(ones, ones)
    sized(5 * ones, ones)
    assert np.array_equal(first, 3 * ones)


def test_without_a_graph_the_answers_are_the_same():
    values = np.ones((2, 3), np.float32)
    assert np.array_equal(run_once(double, "cpu", values, values)[0], 3 * values)
