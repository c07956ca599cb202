"""Frames kept on a device, where windows are cut and networks run; between tracker and tracking.

A frame's planes are copied to the device once. After that a look sends a few numbers there (which frames
and windows) and fetches a few back (places and scores); on a GPU all between is one CUDA graph where the
backend allows.
"""

import threading
import weakref
from collections.abc import Generator, Iterable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shuttlelib.cut import Cut
from shuttlelib.errors import ShuttleError
from shuttlelib.frames import PAST, Frame
from shuttlelib.geometry import SizeHW
from shuttlelib.looks import Look, sample_window
from shuttlelib.pictures import note_once
from shuttlelib.runtime import Backend, Candidates
from shuttlelib.runtime.graphs import Captured, Function, Sized, run_once
from shuttlelib.runtime.memory import free_unused, is_out_of_memory
from shuttlelib.together import MOST, joined_history, take_grouped, take_on_host

FULL_LOOKS = 300  # after the memory was full, so many batches are kept as small as it wanted


class Planes:
    """The planes of all frames of one size that are still in use, on a device.

    A frame takes a place when it is first asked for and leaves it when nobody holds the frame any more.
    Several threads may ask.

    Args:
        size_hw: of the frames, px.
        device: cpu or cuda.
        places: how many frames there is room for at first; more is made when it is needed.

    Attributes:
        tensor: uint8 (places, H*3//2, W); another one after more room was made.
    """

    def __init__(self, size_hw: SizeHW, device: str, places: int = 96) -> None:
        shape = (size_hw[0] * 3 // 2, size_hw[1])
        self.tensor = torch.empty((places, *shape), dtype=torch.uint8, device=device)
        self._free = list(range(places))
        self._places: weakref.WeakKeyDictionary[Frame, int] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._grown = self._seen = 0  # how often more room was made, and by when who looks has waited for it
        self._upload = _Upload(shape) if device == "cuda" else None

    def place(self, frame: Frame) -> int:
        """Where in `tensor` a frame is; it is copied there if it is new."""
        place = self._places.get(frame)
        if place is not None:
            return place
        with self._lock:
            if not self._free:
                self._grow()
            place = self._free.pop()
            if self._upload is None:
                frame.planes_into(self.tensor[place].numpy())
            else:
                self._upload.send(frame, self.tensor[place])
            self._places[frame] = place
        weakref.finalize(frame, self._free.append, place).atexit = False
        return place

    def _grow(self) -> None:
        count = len(self.tensor)
        with torch.cuda.stream(self._upload.stream if self._upload else None):
            larger = self.tensor.new_empty(2 * count, *self.tensor.shape[1:])  # if it fails, all stays
            larger[:count] = self.tensor
        self.tensor, self._grown = larger, self._grown + 1
        self._free.extend(range(count, 2 * count))

    def ready(self, frame: Frame) -> None:
        """Have what is launched next wait until a frame has arrived, and those before it."""
        if self._upload is None:
            return
        if self._seen != self._grown:  # frames that came long ago have just been copied
            torch.cuda.current_stream().wait_stream(self._upload.stream)
            self._seen = self._grown
        torch.cuda.current_stream().wait_event(self._upload.arrivals[frame])


class _Upload:
    """Copies frames to the GPU on a stream of its own.

    Two pinned buffers take turns: one is filled while the other is on its way.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.stream = torch.cuda.Stream()
        buffers = (torch.empty(shape, dtype=torch.uint8).pin_memory() for _ in range(2))
        self._turns = cycle([(buffer, torch.cuda.Event()) for buffer in buffers])
        self.arrivals: weakref.WeakKeyDictionary[Frame, Any] = weakref.WeakKeyDictionary()

    def send(self, frame: Frame, target: Tensor) -> None:
        """Begin to copy a frame to `target`."""
        buffer, sent = next(self._turns)
        sent.synchronize()  # the buffer's last frame has left it
        frame.planes_into(buffer.numpy())
        with torch.cuda.stream(self.stream):
            target.copy_(buffer, non_blocking=True)
            sent.record()
            arrival = torch.cuda.Event()
            arrival.record()
        self.arrivals[frame] = arrival


class DeviceEyes:
    """Takes the looks of trackers on a device.

    Args:
        stage1, stage2: backends with a `run_device`.
        device: cpu or cuda.

    Attributes:
        notes: what a person should know of how it went.
    """

    def __init__(self, stage1: Backend, stage2: Backend | None, device: str) -> None:
        self._networks: dict[int, Any] = {1: stage1, 2: stage2}
        self._device = device
        self._planes: dict[SizeHW, Planes] = {}
        self._lock = threading.Lock()
        self._sights: dict[tuple[int, SizeHW], tuple[Tensor, Any]] = {}
        self._room: dict[tuple[int, SizeHW], int] = {}  # looks there is memory for, where it was full
        self._small = 0  # batches until more is tried again
        self.notes: list[str] = []

    def ahead(self, frames: Iterable[Frame]) -> Generator[Frame, None, None]:
        """Send each frame to the device as it passes: wanted in the thread that decodes."""
        for frame in frames:
            try:
                self._of(frame).place(frame)
            except RuntimeError as error:  # `take` knows what to do without memory
                if not is_out_of_memory(error):
                    raise
            yield frame

    def warm_up(self, size_hw: SizeHW) -> None:
        """Have made what the first looks at frames of a size need, before they come and cannot wait."""
        blank = Frame(0, 0.0, np.zeros((size_hw[0] * 3 // 2, size_hw[1]), np.uint8))
        for stage, network in self._networks.items():
            for batch in (1,) if stage == 1 else (1, 2, 3) if network else ():
                windows = [sample_window(stage, network.input_hw, size_hw)] * batch
                past = np.zeros((batch, PAST, 3), np.float32) if network.uses_history else None
                self.take([Look(stage, windows, [[blank] * network.frames] * batch, past)])

    def take(self, looks: Sequence[Look]) -> list[Candidates]:
        """The answer to each look."""
        self._small -= 1
        if self._small == 0:
            self._room.clear()
        return take_grouped(looks, lambda look: (look.stage, look.frames[0][-1].size_hw), self._run)

    def _of(self, frame: Frame) -> Planes:
        with self._lock:  # each stream's reader asks
            if frame.size_hw not in self._planes:
                self._planes[frame.size_hw] = Planes(frame.size_hw, self._device)
            return self._planes[frame.size_hw]

    def _run(self, kind: tuple[int, SizeHW], looks: Sequence[Look]) -> Candidates:
        """Looks of one stage at frames of one size; where memory runs out in halves, then from the host."""
        on_cpu = not hasattr(self._networks[kind[0]], "run_device")  # it went on there
        if not on_cpu and len(looks) <= self._room.get(kind, MOST):
            try:
                return self._run_all(kind, looks)
            except (RuntimeError, ShuttleError) as error:  # TensorRT's want of memory is told by the latter
                if not is_out_of_memory(error):
                    raise
            free_unused()
            self._room[kind], self._small = len(looks) // 2, FULL_LOOKS
            how = "several looks were taken in smaller batches"
            if len(looks) == 1:
                how = "some windows were cut on the host"
            note_once(self.notes, f"the GPU's memory is full: {how}")
        return take_on_host(self._networks, looks)[0] if len(looks) == 1 else self._halved(kind, looks)

    def _halved(self, kind: tuple[int, SizeHW], looks: Sequence[Look]) -> Candidates:
        middle = len(looks) // 2
        halves = [self._run(kind, half) for half in (looks[:middle], looks[middle:])]
        return Candidates(*(np.concatenate(pair) for pair in zip(*halves)))

    def _run_all(self, kind: tuple[int, SizeHW], looks: Sequence[Look]) -> Candidates:
        planes, rows = self._of(looks[0].frames[0][-1]), []
        seen = dict.fromkeys(frame for look in looks for frames in look.frames for frame in frames)
        places = {frame: planes.place(frame) for frame in seen}
        for look in looks:
            for window, frames in zip(look.windows, look.frames):
                box = window.x0, window.y0, window.w, window.h
                rows.append((*box, *(places[frame] for frame in frames)))
        arrays = [np.array(rows, np.float32), joined_history(looks)]
        sight = self._sight(kind, looks[0], planes)  # of the planes as they are now
        for frame in seen:  # where memory ran out an older one may have come last
            planes.ready(frame)
        return Candidates(*sight(*(a for a in arrays if a is not None)))

    def _sight(self, kind: tuple[int, SizeHW], look: Look, planes: Planes) -> Any:
        """What answers a stage's looks at frames of one size, made when it is first wanted."""
        made = self._sights.get(kind)
        if made is None or made[0] is not planes.tensor:
            made = planes.tensor, self._see(self._networks[kind[0]], look, planes.tensor)
        self._sights[kind] = made
        return made[1]

    def _see(self, network: Any, look: Look, tensor: Tensor) -> Any:
        cut = Cut(look.windows, whole=look.stage == 1).to(self._device)
        if network.name == "torch-compile":
            cut = torch.compile(cut)  # type: ignore[assignment]

        def see(asked: Tensor, history: Tensor | None = None) -> Sequence[Tensor]:
            pixels = cut(tensor, asked[:, 4:].long(), asked[:, :4]).to(torch.uint8)
            return network.run_device(pixels, history)

        # What is kept must not hold these eyes: their memory would outlive them until cycles are collected
        if self._device == "cuda" and network.name != "torch":
            return Sized(see, partial(_captured, self.notes, self._device))
        return partial(run_once, see, self._device)


def _captured(notes: list[str], device: str, see: Function, arrays: Sequence[np.ndarray]) -> Any:
    """What runs a function on arrays of one size: a CUDA graph, or the function where that cannot be."""
    try:
        return Captured(see, arrays)
    except (RuntimeError, ShuttleError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        note_once(notes, f"CUDA graphs do not work here ({reason}): slower without")
        return lambda arrays: run_once(see, device, *arrays)
