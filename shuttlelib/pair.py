"""The networks that a tracker runs: a loaded stage 1 and stage 2; between runtime and tracking."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shuttlelib import paths, runtime
from shuttlelib.ahead import read_ahead
from shuttlelib.errors import UsageError
from shuttlelib.frames import Frame
from shuttlelib.geometry import SizeHW
from shuttlelib.looks import Look
from shuttlelib.runtime import Candidates
from shuttlelib.runtime.vote import Vote
from shuttlelib.together import take_on_host
from shuttlelib.tracker import WHOLE

if TYPE_CHECKING:
    from shuttlelib.device import DeviceEyes


@dataclass(frozen=True)
class Networks:
    """The loaded pair, and how to turn the last one's probability into a confidence.

    Without a stage 2 only mode "whole" is possible. `eyes` cut pixels and look on a device; without them
    pixels are cut on the host.
    """

    stage1: runtime.Backend
    stage2: runtime.Backend | None
    calibration: dict[str, Any] | None = None
    why: str = "given"
    precision: str = "fp32"
    eyes: "DeviceEyes | None" = None

    @property
    def last(self) -> runtime.Backend:
        """The one that places the head."""
        return self.stage2 or self.stage1

    @property
    def notes(self) -> list[str]:
        """What a person should know of how they ran, such as that the GPU's memory was full."""
        said = [getattr(network, "note", "") for network in (self.stage1, self.stage2)]
        said += getattr(self.eyes, "notes", [])
        return [note for note in dict.fromkeys(said) if note]

    def alone(self) -> "Networks":
        """Stage 1 without stage 2, whose calibration does not hold for it."""
        return self if self.stage2 is None else replace(self, stage2=None, calibration=None)

    def warm_up(self, size_hw: SizeHW) -> None:
        """Have made what the first frames of a size need, before they come and cannot wait."""
        if self.eyes is not None:
            self.eyes.warm_up(size_hw)
            return
        runtime.warm_up(self.stage1)
        if self.stage2 is not None:
            runtime.warm_up(self.stage2, (1, 2, 3))

    def ahead(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        """Frames on their way to the tracker; where a device cuts windows, a thread sends them there."""
        eyes = self.eyes
        return frames if eyes is None else read_ahead(lambda: eyes.ahead(frames), depth=2)

    def take(self, looks: Sequence[Look]) -> list[Candidates]:
        """Take looks, of one tracker or of several, in as few runs as possible."""
        if self.eyes is not None:
            return self.eyes.take(looks)
        return take_on_host({1: self.stage1, 2: self.stage2}, looks)


def load_networks(
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    models_dir: Path | None = None,
    versions: Sequence[str] = (),
    mode: str = "smart",
    precision: str = "fp32",
    vote: Sequence[Path] = (),
) -> Networks:
    """Load a stage-1 and a stage-2 version, or a stage-1 version alone.

    Args:
        backend, device, threads: see `runtime.load`.
        models_dir: folder of models, or in mode "whole" a model folder; None is the repository's.
        versions: names of the two, or of stage 1 alone; empty takes the default pair.
        mode: of tracking; "whole" needs no stage 2.
        precision: see `runtime.load`.
        vote: folders of more stage-2 models, which vote on visibility; see `runtime.vote`.

    Raises:
        ShuttleError: see `runtime.load` and `runtime.vote`.
        UsageError: a version of the wrong stage; a voter that is not of stage 2, or in mode "whole".
    """
    root = Path(models_dir or paths.MODELS)
    if mode == WHOLE and (root / "version.json").is_file():
        dirs = [root]
    else:
        dirs = [root / version for version in versions] or list(runtime.default_pair(root))
        dirs = dirs[:1] if mode == WHOLE else dirs
    for folder, stage in zip(dirs, (1, 2)):
        told = runtime.read_card(folder)["stage"]
        if told != stage:
            raise UsageError(f"{folder}: is of stage {told}; give a version of stage {stage} here")
    _check_voters(vote, alone=len(dirs) == 1)
    name, where, precision, why = runtime.choose(dirs[-1], backend, device, precision)

    def load(folder: Path) -> runtime.Backend:
        return runtime.load(folder, name, where, threads, precision)

    loaded = [load(folder) for folder in dirs]
    calibration = runtime.read_card(dirs[-1]).get("calibration")
    if vote:
        loaded[-1] = Vote([loaded[-1], *map(load, vote)])
    stage1, stage2 = loaded[0], loaded[1] if len(dirs) > 1 else None
    eyes = None
    if where == "cuda" and all(hasattr(network, "run_device") for network in loaded):
        from shuttlelib.device import DeviceEyes  # it imports torch, which nothing else here needs

        eyes = DeviceEyes(stage1, stage2, "cuda")
    return Networks(stage1, stage2, calibration, why, precision, eyes)


def _check_voters(vote: Sequence[Path], alone: bool) -> None:
    """Refuse what cannot vote; `alone`: there is no stage 2 beside which it could."""
    for folder in vote:
        stage = runtime.read_card(folder)["stage"]
        if alone or stage != 2:
            why = f"--mode {WHOLE} has no stage 2" if alone else f"is of stage {stage}"
            raise UsageError(f"--vote {folder}: {why}; models of stage 2 vote, beside a stage 2")
