"""What every notebook and training run writes of itself: folder, seeds, `metrics.json`; a leaf of the flow.

`metrics.json` holds the measures under their own names, and three blocks beside them: `run` (profile, seed,
data hash and other facts), `environment` (versions, machine, commit, time) and `skipped` (cells that
could not run here, with the reason). torch is never imported unless asked for.
"""

import os
import platform
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from shuttlelib.errors import ShuttleError
from shuttlelib.files import is_stray, plain, read_json, sha256, write_json, writing
from shuttlelib.paths import REPO

EXECUTORS = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
PACKAGES = ("shuttlelib", "torch", "torchvision", "timm", *EXECUTORS, "av", "numpy", "pandas")
RESERVED = ("run", "environment", "skipped")
REVISION = "revision.json"  # beside data from the Hub: repository, commit, and the hash of every file


class RunError(ShuttleError):
    """A run folder cannot be used."""


@dataclass(frozen=True)
class Run:
    """A started run.

    Attributes:
        dir: its folder, absolute.
        facts: what identifies it (profile, seed, data hash, …).
        skipped: cells that were skipped, and why.
    """

    dir: Path
    facts: dict[str, Any]
    skipped: list[dict[str, str]] = field(default_factory=list)

    def write_metrics(self, values: Mapping[str, Any]) -> Path:
        """Merge measures into `metrics.json`: new keys are added, known ones replaced, nan becomes null.

        Raises:
            RunError: a key is one of the blocks this module writes.
            ReadError: the file there is damaged.
        """
        for key in RESERVED:
            if key in values:
                raise RunError(f"metrics.json: {key!r} is written by the run itself; use another key")
        path = self.dir / "metrics.json"
        old = {key: value for key, value in read_json(path).items() if key not in RESERVED}
        blocks = {"run": self.facts, "environment": environment(), "skipped": self.skipped}
        write_json(path, plain({**old, **values, **blocks}))
        return path

    def skip(self, cell: str, reason: str) -> None:
        """Say that a cell is skipped and why (no GPU, a package missing), and record it at once."""
        print(f"skipped: {cell}: {reason}")
        self.skipped.append({"cell": cell, "reason": reason})
        self.write_metrics({})


def start_run(run_dir: str | Path, seed: int, profile: str, *, use_torch: bool = False, **facts: Any) -> Run:
    """Create the run's folder, seed every generator in use, and print what the run is.

    Args:
        run_dir: folder for all that the run writes; a relative one is taken from the working directory.
        seed: for `random`, NumPy's global generator and torch (0 to 2**32 - 1).
        profile: how much work the run does.
        use_torch: import torch to seed it and to name its device; otherwise only if it is imported already.
        facts: more to print and keep, such as `data_hash` or `notebook`; `data` (a data folder or several)
            adds their `data_revision`.

    Raises:
        RunError: the seed is out of range.
        WriteError: the folder cannot be made.
    """
    if not 0 <= seed < 2**32:
        raise RunError(f"seed {seed} is out of range: choose one from 0 to {2**32 - 1}")
    folder = Path(run_dir).expanduser().resolve()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  libraries underneath still draw from the global generator
    hardware = _seed_torch(seed, use_torch)
    if revision := data_revision(facts.get("data")):
        facts["data_revision"] = revision
    run = Run(folder, plain({"profile": profile, "seed": seed, **hardware, **facts}))
    print(f"run_dir   {folder}")
    for name, value in run.facts.items():
        print(f"{name:<9} {value}")
    print("versions  " + ", ".join(f"{name} {version}" for name, version in versions().items()))
    return run


def data_revision(folders: str | Path | Sequence[str | Path] | None) -> str | None:
    """`repository@commit` of data folders that were pulled from the Hub (or pushed), joined by ", ".

    "-edited" follows where labels or splits have changed since; None where no folder came from there.
    """
    found = []
    several = folders if isinstance(folders, list | tuple) else [folders] if folders else []
    for folder in map(Path, several):
        record = read_json(folder / REVISION)
        if {"repo", "revision", "files"} <= set(record):
            edited = "" if _unedited(folder, record["files"]) else "-edited"
            found.append(f"{record['repo']}@{record['revision']}{edited}")
    return ", ".join(found) or None


def _unedited(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether a folder's label tables and splits (not the videos: they are large) are as recorded."""
    known = {
        name: sha for name, sha in files.items() if "/" not in name and name.endswith((".parquet", ".csv"))
    }
    splits = [path for path in [folder / "splits.csv"] if path.name in known and path.is_file()]
    tables = [path for path in folder.glob("*.parquet") if not is_stray(path)]
    return known == {path.name: sha256(path) for path in (*tables, *splits)}


def versions() -> dict[str, str]:
    """Version of Python and of each package that matters here and is installed; imports none of them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def environment() -> dict[str, Any]:
    """Facts of the machine and the code: two runs whose facts agree should measure the same."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "commit": _commit(),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _seed_torch(seed: int, use_torch: bool) -> dict[str, Any]:
    """Seed torch where it is in use; its device and threads."""
    if not use_torch and "torch" not in sys.modules:
        return {"device": "not asked (no torch)", "threads": os.cpu_count()}
    import torch

    torch.manual_seed(seed)  # the GPUs' generators too
    gpu = torch.cuda.is_available()
    return {"device": torch.cuda.get_device_name() if gpu else "cpu", "threads": torch.get_num_threads()}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():  # Linux leaves platform.processor() empty
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Short commit of the clone, "-dirty" with local changes; None outside a clone or without git."""
    if not (REPO / ".git").exists():
        return None
    command = ["git", "-C", str(REPO), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
