"""Random numbers that depend on a seed and a draw number alone; a leaf of what is drawn for training."""

import numpy as np


class Draws:
    """Random numbers of a batch: each a function of (seed, stream, draw number) and of the order of calls.

    A counter-based generator costs microseconds a batch; seeding one of NumPy's costs 20 a draw.

    Args:
        seed: of all draws.
        numbers: (B,) draw numbers, at least 0.
        stream: another stream is independent of this one.

    Source: the finalizer and the increment of SplitMix64 (Steele, Lea, Flood, 2014).
    """

    def __init__(self, seed: int, numbers: np.ndarray, stream: int = 0):
        start = _mix(np.full(1, (8 * seed + stream) % (1 << 64), np.uint64))
        self.state = _mix(start + np.asarray(numbers).astype(np.uint64))
        self.used = 0

    def uniform(
        self, low: float | np.ndarray = 0.0, high: float | np.ndarray = 1.0, size: tuple[int, ...] = ()
    ) -> np.ndarray:
        """(B, *size) from U(low, high)."""
        count = int(np.prod(size, dtype=int))
        steps = np.arange(self.used + 1, self.used + count + 1, dtype=np.uint64)
        self.used += count
        bits = _mix(self.state[:, None] + steps * np.uint64(0x9E3779B97F4A7C15))
        unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * unit.reshape(-1, *size)

    def normal(self, size: tuple[int, ...] = ()) -> np.ndarray:
        """(B, *size) from N(0, 1)."""
        radius = np.sqrt(-2 * np.log(1 - self.uniform(size=size)))
        return radius * np.cos(self.uniform(0, 2 * np.pi, size))

    def chance(self, share: float) -> np.ndarray:
        """(B,) true with this probability."""
        return self.uniform() < share

    def below(self, count: int | np.ndarray, size: tuple[int, ...] = ()) -> np.ndarray:
        """(B, *size) whole numbers from 0 up to `count`, which is at least 1, exclusive."""
        return (self.uniform(size=size) * count).astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
