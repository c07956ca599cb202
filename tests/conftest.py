import os
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

# Before anything imports them: no window for figures, and one thread, so that numbers do not depend on the
# machine and the tests leave it usable.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is compiled in tests is kept neither in the user's cache nor longer than the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SHUTTLE_CACHE", str(folder))
        patch.setattr("shuttlelib.paths.CACHE", folder)
        yield


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Where a test module has imported torch, hold it to one thread."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def rallies_dir() -> Path:
    """The folder of real labelled rallies that the environment names, for tests that need it."""
    folder = os.environ.get("SHUTTLE_RALLIES")
    if not folder:
        pytest.skip("needs real rallies: set SHUTTLE_RALLIES to their folder")
    if not Path(folder).is_dir():
        pytest.fail(f"SHUTTLE_RALLIES={folder}: no such folder")
    return Path(folder)


@pytest.fixture
def tiny_video(tmp_path: Path) -> Callable[..., Path]:
    """Makes small videos: `tiny_video("a.mp4", frames=6, size_hw=(64, 96), fps=29.97, draw=None)`.

    `draw(index)` gives a frame, uint8 RGB (H, W, 3); without it, every frame is one grey, brighter each time.
    """

    def make(
        name: str = "clip.mp4",
        frames: int = 6,
        size_hw: tuple[int, int] = (64, 96),
        fps: float = 30.0,
        draw: Callable[[int], np.ndarray] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = size_hw
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "10", "preset": "ultrafast"}
            for index in range(frames):
                grey = np.full((*size_hw, 3), 40 + 160 * index // max(frames - 1, 1), np.uint8)
                picture = av.VideoFrame.from_ndarray(grey if draw is None else draw(index), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        return path

    return make
