"""One configuration of `shuttle bench`, measured in a process of its own (`python -m shuttlelib.bench_run`).

So its memory is its own, and nothing is warm that a person's first run would find cold. `bench` says what to
measure as JSON in the only argument, and reads the answer, JSON too, from the last line printed.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from shuttlelib.errors import ShuttleError
from shuttlelib.frames import Frame
from shuttlelib.looks import Look, answer_together
from shuttlelib.runtime import Candidates
from shuttlelib.sources import Footage, Source, video_file
from shuttlelib.together import pixels_of
from shuttlelib.tracking import Networks, load_networks, track_source, tracking_source

STAGES = ("decode", "preprocess", "stage1", "stage2", "post")


@dataclass(frozen=True)
class Setup:
    """What is measured.

    Attributes:
        backend, precision: see `runtime.load`; of an automatic precision the row tells what it was.
        mode: of tracking.
        streams: videos tracked at the same time.
        threads: CPU threads of the networks, shared among the streams.
    """

    backend: str
    mode: str
    precision: str
    streams: int
    threads: int


def measure(
    setup: Setup, video: str | Path, repeat: int = 3, models_dir: Path | None = None, data: str = ""
) -> dict[str, Any]:
    """One row of the report, without startup: see `bench` for its fields.

    The end-to-end passes carry one clock, at the door where frames come in (half a microsecond a frame); a
    pass of its own has a clock around every stage.

    Args:
        repeat: passes that count; one more goes before them, to warm up.
        data: folder of labelled clips whose val split says the accuracy; "" leaves it out.

    Raises:
        ShuttleError: the configuration cannot run here, or the video cannot be read.
    """
    with TemporaryDirectory() as folder:
        lanes = _lanes(setup, models_dir)
        passes = [_track(lanes, setup, video, Path(folder)) for _ in range(repeat + 1)][1:]
        row = _end_to_end(passes)
        row |= _clocked(lanes[0], setup.mode, video, Path(folder)) if setup.streams == 1 else {"stages": {}}
        last, first = lanes[0].last, lanes[0].stage1
        versions = {"stage1": first.version, "stage2": last.version if last is not first else None}
        row |= {
            "precision": lanes[0].precision,
            "device": last.device,
            "notes": list(dict.fromkeys(note for lane in lanes for note in lane.notes)),
            "versions": versions,
            "peak_rss_mb": peak_rss_mb(),
        }
        return row | {"accuracy": _accuracy(lanes[0], setup.mode, data, Path(folder)) if data else None}


class _Door:
    """A source with a clock where its frames come in."""

    def __init__(self, video: str | Path) -> None:
        self._openings: list[list[float]] = []
        inner = video_file(video)

        def open_(asked_to_stop: Any) -> Footage:
            footage, asked = inner.open(asked_to_stop), list[float]()
            self._openings.append(asked)
            return replace(footage, frames=_clocked_frames(footage.frames, asked, []))

        self.source: Source = replace(inner, open=open_)

    @property
    def asked(self) -> list[float]:
        """When each frame that gave a row was asked for, s; one that is looked at twice gives one row."""
        return self._openings[0]  # what the mode offline reads first, it opens second


@dataclass(frozen=True)
class _Awaited(Networks):
    """Networks with a clock where frames reach the tracker: a device reads ahead of it in another thread.

    Attributes:
        waits: how long each frame was waited for, s.
    """

    waits: list[float] = field(default_factory=list)

    def ahead(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        """As ever, by the clock."""
        return _clocked_frames(super().ahead(frames), [], self.waits)


def _clocked_frames(
    frames: Generator[Frame, None, None], asked: list[float], waits: list[float]
) -> Generator[Frame, None, None]:
    try:
        while True:
            began = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                return
            asked.append(began)
            waits.append(time.perf_counter() - began)
            yield frame
    finally:
        frames.close()


@dataclass(frozen=True)
class _Pass:
    seconds: float
    frames: int
    frame_ms: np.ndarray  # (N,) from one frame asked for to the next, of all streams


def _lanes(setup: Setup, models_dir: Path | None) -> list[Networks]:
    """Networks for each stream: one pair for all where a device looks, else a pair and a thread each."""
    threads = max(1, setup.threads // setup.streams)

    def load(threads: int) -> Networks:
        return load_networks(
            setup.backend, "auto", threads, models_dir, mode=setup.mode, precision=setup.precision
        )

    first = load(threads)
    if first.eyes is not None:
        return [first]
    return [first, *(load(threads) for _ in range(setup.streams - 1))]


def _track(lanes: Sequence[Networks], setup: Setup, video: str | Path, folder: Path) -> _Pass:
    """Track the video once in every stream, all at the same time."""
    doors = [_Door(video) for _ in range(setup.streams)]
    began = time.perf_counter()
    if len(lanes) < setup.streams:
        askings = (
            tracking_source(door.source, folder / str(n), lanes[0], setup.mode)
            for n, door in enumerate(doors)
        )
        for _, result in answer_together(askings, lanes[0].take, setup.streams):
            if isinstance(result, ShuttleError):
                raise result
    else:
        with ThreadPoolExecutor(setup.streams) as pool:
            jobs = [
                pool.submit(track_source, door.source, folder / str(n), lane, setup.mode)
                for n, (door, lane) in enumerate(zip(doors, lanes, strict=True))
            ]
        for job in jobs:
            job.result()
    seconds = time.perf_counter() - began
    periods = np.concatenate([np.diff(door.asked) for door in doors]) * 1e3
    return _Pass(seconds, sum(len(door.asked) for door in doors), periods)


def _end_to_end(passes: Sequence[_Pass]) -> dict[str, Any]:
    if any(one.frames < 2 for one in passes):
        raise ShuttleError("a video of one frame has no rate; give a longer one")
    rates = [one.frames / one.seconds for one in passes]
    together = np.concatenate([one.frame_ms for one in passes])
    return {
        "end_to_end": {
            "fps": round(float(np.median(rates)), 2),
            "fps_best": round(max(rates), 2),
            "fps_runs": [round(rate, 2) for rate in rates],
            "frames": passes[0].frames,
            "frame_ms": percentiles(together),
        }
    }


def _clocked(networks: Networks, mode: str, video: str | Path, folder: Path) -> dict[str, Any]:
    """Where the time of one pass goes."""
    door, spans, waits = _Door(video), defaultdict[str, list[float]](list), list[float]()
    networks = _Awaited(**{part.name: getattr(networks, part.name) for part in fields(networks)}, waits=waits)
    asking = tracking_source(door.source, folder / "clocked", networks, mode)
    began, answer = time.perf_counter(), None
    with suppress(StopIteration):
        while True:
            start, frames = time.perf_counter(), len(waits)
            look = asking.send(answer)  # type: ignore[arg-type]  # None starts it
            waited = sum(waits[frames:])
            spans["post"].append(time.perf_counter() - start - waited)
            answer = _take(look, networks, spans)
    rate = len(door.asked) / (time.perf_counter() - began)
    spans["decode"] = waits
    stages = {name: _span(spans[name], len(door.asked)) for name in STAGES}
    return {"stages": stages, "clocked_fps": round(rate, 2)}


def _take(look: Look, networks: Networks, spans: dict[str, list[float]]) -> Candidates:
    """Take a look. Answers are arrays on the host, so a device has finished when they are there."""
    began = time.perf_counter()
    if networks.eyes is None:
        pixels = pixels_of([look])
        spans["preprocess"].append(time.perf_counter() - began)
        began = time.perf_counter()
        network = networks.stage1 if look.stage == 1 else networks.last
        answer = network.run(pixels, look.history)
    else:  # cut on the device: a part of looking
        answer = networks.take([look])[0]
    spans[f"stage{look.stage}"].append(time.perf_counter() - began)
    return answer


def _span(seconds: Sequence[float], frames: int) -> dict[str, Any]:
    if not seconds:
        return {}
    share = {"ms_per_frame": round(sum(seconds) * 1e3 / frames, 4), "calls": len(seconds)}
    return share | percentiles(np.asarray(seconds) * 1e3)


def percentiles(values: np.ndarray) -> dict[str, float]:
    """p50, p95 and p99."""
    return {f"p{p}": round(float(np.percentile(values, p)), 4) for p in (50, 95, 99)}


def peak_rss_mb() -> float | None:
    """The most memory that this process held; None where the system does not say."""
    try:  # the kernel's own mark: getrusage counts what the parent held before this process began
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    return None


def _accuracy(networks: Networks, mode: str, data: str, folder: Path) -> dict[str, float]:
    """At 4 px of 512x288, free-running on the val split: `recipes.evaluate_pair`."""
    from shuttlelib import clips, recipes

    report = recipes.evaluate_pair(networks, clips.split(clips.load_dataset(data), "val"), folder, mode)
    return {name: report[name]["grid512_4px"] for name in ("accuracy", "f1")} | {"frames": report["frames"]}


def main() -> None:
    """Measure what the only argument says, and print the row; or why it cannot be measured, as `reason`."""
    asked = json.loads(sys.argv[1])
    setup = Setup(**asked.pop("setup"))
    models = asked.pop("models_dir")
    try:
        row = measure(setup, models_dir=models and Path(models), **asked)
    except ShuttleError as error:
        row = {"reason": str(error)}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
