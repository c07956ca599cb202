import gc
import weakref

import numpy as np
import onnxruntime
import pytest
import torch
from fakes import BrightBackend

from shuttlelib.runtime import memory


class FullGpu(BrightBackend):
    """Raises what the GPU's library raises when more than `room` inputs come at once."""

    name, device = "torch", "cuda (fake)"

    def __init__(self, room, error):
        super().__init__((32, 32))
        self.room, self.error = room, error

    def run(self, frames, history=None):
        if len(frames) > self.room:
            raise self.error
        return super().run(frames, history)

    def run_device(self, frames, history=None):
        raise AssertionError("nobody asks")


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    onnxruntime.capi.onnxruntime_pybind11_state.Fail(
        "Non-zero status code. bfc_arena.cc: Failed to allocate memory for requested buffer of size 5"
    ),
    RuntimeError("CUDA error: out of memory"),
]


def spots(batch):
    frames = np.zeros((batch, 4, 32, 32, 3), np.uint8)
    frames[np.arange(batch), -1, 5 + np.arange(batch), 9] = 240
    return frames


def cpu():
    return BrightBackend((32, 32))


def test_it_sees_what_its_backend_sees():
    backend = memory.Sparing(lambda: BrightBackend((32, 32), frames=5, ahead=2), cpu)
    assert (backend.frames, backend.ahead) == (5, 2)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_full_gpu_gets_smaller_batches(error):
    gpu = FullGpu(2, error)
    backend = memory.Sparing(lambda: gpu, cpu)
    assert (backend.name, backend.device, backend.note) == ("torch", "cuda (fake)", "")
    answer = backend.run(spots(7))
    assert np.array_equal(answer.xy, cpu().run(spots(7)).xy)
    assert [len(batch) for batch in gpu.batches] == [2, 2, 2, 1]
    assert backend.note == "the GPU's memory is full: at most 2 inputs at a time"
    assert backend.run(spots(1)).xy.shape == (1, 1, 2)


def test_a_gpu_without_any_room_is_left_for_the_cpu():
    backend = memory.Sparing(lambda: FullGpu(0, ERRORS[0]), cpu)
    assert np.array_equal(backend.run(spots(3)).xy, cpu().run(spots(3)).xy)
    assert backend.note == "the GPU's memory is full: went on with fake on the CPU"
    assert (backend.name, backend.device) == ("fake", "cpu")


def test_a_gpu_that_is_left_keeps_no_memory():
    class Plain(BrightBackend):
        def run(self, frames, history=None):
            raise RuntimeError("CUDA error: out of memory")

        def run_device(self, frames, history=None):
            raise AssertionError("nobody asks")

    gpus = [Plain((32, 32))]
    left = weakref.ref(gpus[0])
    backend = memory.Sparing(gpus.pop, cpu)
    backend.run(spots(1))
    gc.collect()
    assert left() is None
    assert not hasattr(backend, "run_device")


def test_a_gpu_that_is_full_at_the_start():
    def full():
        raise ERRORS[0]

    backend = memory.Sparing(full, cpu)
    assert backend.run(spots(1)).xy.shape == (1, 1, 2)
    assert "CPU" in backend.note
    assert not hasattr(backend, "run_device")


def test_a_gpu_that_only_what_nobody_uses_had_filled():
    class Held:
        def __init__(self):
            self.itself = self

    held = Held()
    left = weakref.ref(held)
    del held

    def open_gpu():
        if left() is not None:
            raise ERRORS[0]
        return BrightBackend((32, 32))

    gc.disable()
    try:
        backend = memory.Sparing(open_gpu, cpu)
    finally:
        gc.enable()
    assert backend.note == ""


def test_other_errors_pass():
    backend = memory.Sparing(
        lambda: FullGpu(0, RuntimeError("an illegal memory access was encountered")), cpu
    )
    with pytest.raises(RuntimeError, match="illegal"):
        backend.run(spots(1))


def test_warming_up_finds_the_room_there_is():
    backend = memory.Sparing(lambda: FullGpu(2, ERRORS[0]), cpu)
    assert backend.run_device is not None
    backend.warm_up((1, 4))
    assert backend.note == "the GPU's memory is full: at most 2 inputs at a time"
