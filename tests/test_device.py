import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import BrightBackend
from torch.utils._python_dispatch import TorchDispatchMode

from shuttlelib import device, networks, paths, tracking, versions
from shuttlelib.cut import Cut
from shuttlelib.device import DeviceEyes, Planes
from shuttlelib.errors import ShuttleError
from shuttlelib.export_planes import example
from shuttlelib.frames import Frame
from shuttlelib.looks import Look, answer_all, answer_together, sample_window
from shuttlelib.track_params import TrackParams
from shuttlelib.tracker import Tracker
from shuttlelib.video import read_frames

SIZE_HW = (180, 320)


class BrightDevice(BrightBackend):
    """`BrightBackend`, also on tensors; out of memory above `most` inputs."""

    def __init__(self, *args, most=16, **more):
        super().__init__(*args, **more)
        self.most = most

    def run_device(self, frames, history=None):
        if len(frames) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert (history is not None) == self.uses_history
        past = None if history is None else history.numpy()
        return [torch.from_numpy(part) for part in self.run(frames.numpy(), past)]


def dot(index, seed=0):
    planes = np.full((SIZE_HW[0] * 3 // 2, SIZE_HW[1]), 128, np.uint8)
    planes[: SIZE_HW[0]] = 30
    x, y = 40 + (4 + seed) * index, 50 + 20 * seed
    if not 9 <= index < 12:
        planes[y - 6 : y + 7, x - 6 : x + 7] = 230
    return Frame(index, index / 30, planes)


def pair(**more):
    return BrightDevice((36, 64), 60, **more), BrightDevice((96, 96), **more)


def scene(seed=0):
    return (dot(index, seed) for index in range(24))


def tracked(both, frames, rows, size_hw=SIZE_HW):
    """A generator of looks, its rows going to `rows`."""
    tracker = Tracker(*both, size_hw, 30.0, "smart", TrackParams(noise_calibrations=0))
    return tracker.tracking(frames, lambda _, row: rows.append(row))


def alone(both, frames, take, size_hw=SIZE_HW):
    """The rows of one video."""
    rows = []
    answer_all(tracked(both, frames, rows, size_hw), lambda look: take([look])[0])
    return rows


def together(both, take):
    """The rows of three videos at once."""
    rows = [[], [], []]
    ends = answer_together([tracked(both, scene(n), rows[n]) for n in range(3)], take, 3)
    assert len(list(ends)) == 3
    return rows


def same(ours, theirs, within_px):
    assert [row.visible for row in ours] == [row.visible for row in theirs]
    gaps = [np.hypot(a.x_px - b.x_px, a.y_px - b.y_px) for a, b in zip(ours, theirs) if a.visible]
    assert len(gaps) > len(ours) / 2
    assert max(gaps) <= within_px


@pytest.mark.parametrize("history", [False, True])
def test_rows_are_those_of_pixels_cut_on_the_host(history):
    both = pair(uses_history=history)
    ours = alone(both, scene(), DeviceEyes(*both, "cpu").take)
    same(ours, alone(both, scene(), tracking.Networks(*both).take), 0.5)


@pytest.mark.parametrize("history", [False, True])
def test_warming_up_asks_what_the_first_frames_will(history):
    both = pair(uses_history=history)
    tracking.Networks(*both, eyes=DeviceEyes(*both, "cpu")).warm_up(SIZE_HW)
    assert [len(batch) for batch in both[0].batches] == [1]
    assert [len(batch) for batch in both[1].batches] == [1, 2, 3]


def test_several_trackers_on_a_device_get_the_rows_they_get_alone():
    both = pair()
    rows = together(both, DeviceEyes(*both, "cpu").take)
    assert max(len(batch) for batch in both[1].batches) > 5
    for seed, ours in enumerate(rows):
        same(ours, alone(both, scene(seed), DeviceEyes(*both, "cpu").take), 0)


def test_too_little_memory_halves_the_batch_and_is_told():
    both = pair(most=6)
    eyes = DeviceEyes(*both, "cpu")
    assert [sum(row.visible for row in own) > 15 for own in together(both, eyes.take)] == [True] * 3
    assert len(eyes.notes) == 1
    assert "smaller batches" in eyes.notes[0]
    both[1].most = 0  # not even one look: its windows are cut on the host
    same(alone(both, scene(), eyes.take), alone(both, scene(), tracking.Networks(*both).take), 0.5)
    assert "on the host" in eyes.notes[1]


def test_a_graph_that_cannot_be_captured_is_told_and_done_without():
    notes = []  # a machine without a GPU captures nothing
    run = device._captured(notes, "cpu", lambda values: (2 * values,), [np.zeros((2, 3), np.float32)])
    assert np.array_equal(run([np.ones((2, 3), np.float32)])[0], np.full((2, 3), 2))
    assert "CUDA graphs do not work here" in notes[0]


def test_a_full_memory_is_remembered_for_a_while(monkeypatch):
    monkeypatch.setattr(device, "FULL_LOOKS", 6)
    both = pair(most=0)
    eyes, tries, run_device = DeviceEyes(*both, "cpu"), [], both[1].run_device

    def counted(frames, history=None):
        tries.append(len(frames))
        return run_device(frames, history)

    both[1].run_device = counted
    blank = Frame(0, 0.0, np.zeros((SIZE_HW[0] * 3 // 2, SIZE_HW[1]), np.uint8))
    look = Look(2, [sample_window(2, both[1].input_hw, SIZE_HW)], [[blank] * both[1].frames], None)
    for _ in range(6):
        eyes.take([look])
    assert tries == [1]
    eyes.take([look])
    assert tries == [1, 1]


def test_eyes_go_with_their_last_holder_and_what_they_kept_with_them():
    both = pair()
    eyes = DeviceEyes(*both, "cpu")
    gc.disable()
    try:
        alone(both, scene(), eyes.take)
        planes = weakref.ref(next(iter(eyes._planes.values())))
        del eyes
        assert planes() is None
    finally:
        gc.enable()


class HostReads(TorchDispatchMode):
    """Notes what a CUDA graph may not hold: values that come from the host or go there."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(name in str(function) for name in ("lift_fresh", "local_scalar", "nonzero")):
            self.found.add(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("version", "stage"), [("stage1_v5", 1), ("stage2_v11", 2)])
def test_a_look_of_the_shipped_networks_can_be_captured(version, stage):
    deployed = networks.load(paths.MODELS / version)
    window = sample_window(stage, deployed.net.spec.input_hw, SIZE_HW)
    planes, slots, windows = example(window, SIZE_HW, deployed.net.spec.frames, batch=1)
    cut = Cut([window], stage == 1)
    with torch.inference_mode(), HostReads() as reads:
        deployed(cut(planes, slots, windows).to(torch.uint8))
    assert reads.found == set()


@pytest.mark.parametrize("version", versions.names())
def test_every_version_can_be_captured(version):
    """Whatever it is made of, nothing comes from the host while it runs."""
    spec = versions.resolve(version, pretrained=False)
    if spec.network != "unet":
        spec = replace(spec, backbone="mobilenetv4_conv_small_050", input_hw=(64, 64))
    deployed = networks.Deployed(networks.build(spec).eval())
    frames = torch.zeros(1, spec.frames, *spec.input_hw, 3, dtype=torch.uint8)
    with torch.inference_mode(), HostReads() as reads:
        deployed(frames, torch.rand(1, 30, 3) if networks.uses_history(spec) else None)
    assert reads.found == set()


def test_frames_pass_on_their_way_to_the_device():
    both = pair()
    eyes = DeviceEyes(*both, "cpu")
    whole = tracking.Networks(*both, eyes=eyes)
    frames = list(whole.ahead(scene()))
    assert [frame.index for frame in frames] == list(range(24))
    planes = eyes._of(frames[0])
    assert len({planes._places[frame] for frame in frames}) == 24, "all are there before anybody asks"


def test_tensorrts_want_of_memory_is_one_too(monkeypatch):
    both = pair()

    def full(*_):
        raise ShuttleError("model.trt: TensorRT is out of memory for a context of 1 inputs")

    monkeypatch.setattr(both[1], "run_device", full)
    eyes = DeviceEyes(*both, "cpu")
    rows = alone(both, scene(), eyes.take)
    same(rows, alone(pair(), scene(), DeviceEyes(*pair(), "cpu").take), 0.3)
    assert "the GPU's memory is full" in eyes.notes[0]


def test_a_network_that_went_on_on_the_cpu_is_asked_on_the_host():
    class Left(BrightBackend):
        """As `memory.Sparing` once the GPU has no room."""

    both = BrightDevice((36, 64), 60), Left((96, 96))
    rows = alone(both, scene(), DeviceEyes(*both, "cpu").take)
    same(rows, alone(pair(), scene(), DeviceEyes(*pair(), "cpu").take), 0.3)


def test_every_frame_of_a_look_is_waited_for(monkeypatch):
    waited, frames = [], list(scene())[:4]
    monkeypatch.setattr(Planes, "ready", lambda planes, frame: waited.append(frame.index))
    eyes = DeviceEyes(*pair(), "cpu")
    window = sample_window(2, (96, 96), SIZE_HW)
    eyes.take([Look(2, [window], [[frames[0], *frames[:3]]], None), Look(2, [window], [frames], None)])
    assert waited == [0, 1, 2, 3]


def test_a_frame_is_copied_once_and_its_place_is_free_when_nobody_holds_it():
    planes = Planes((4, 6), "cpu", places=2)
    frames = [Frame(i, 0.0, np.full((6, 6), i, np.uint8)) for i in range(3)]
    places = [planes.place(frame) for frame in frames[:2]]
    assert [planes.place(frame) for frame in frames[:2]] == places
    before = planes.tensor
    places.append(planes.place(frames[2]))  # more room is made, and what is there stays
    assert planes.tensor is not before
    assert [int(planes.tensor[place].max()) for place in places] == [0, 1, 2]
    del frames[0]
    room = planes.tensor
    taken = {planes.place(Frame(3, 0.0, np.zeros((6, 6), np.uint8))) for _ in range(5)}
    assert not taken & set(places[1:])
    assert places[0] in taken
    assert planes.tensor is room, "places are used again"


def test_where_there_is_no_memory_for_more_frames_those_that_are_there_stay(monkeypatch):
    planes = Planes((4, 6), "cpu", places=1)
    frames = [Frame(i, 0.0, np.full((6, 6), i + 1, np.uint8)) for i in range(2)]
    assert planes.place(frames[0]) == 0
    with monkeypatch.context() as patch:

        def full(*_):
            raise torch.OutOfMemoryError

        patch.setattr(torch.Tensor, "new_empty", full)
        with pytest.raises(torch.OutOfMemoryError):
            planes.place(frames[1])
    assert planes.place(frames[1]) == 1
    assert [int(planes.tensor[place].max()) for place in (0, 1)] == [1, 2]


@pytest.mark.slow
def test_shipped_networks_place_the_shuttle_where_the_host_path_does():
    frames = [frame for frame, _ in zip(read_frames(paths.REPO / "samples" / "rally.mp4"), range(24))]
    loaded = tracking.load_networks("torch", "cpu", 1)
    pair = loaded.stage1, loaded.stage2
    eyes = DeviceEyes(*pair, "cpu")
    ours, theirs = (alone(pair, iter(frames), take, (720, 1280)) for take in (eyes.take, loaded.take))
    same(ours, theirs, 0.3)
