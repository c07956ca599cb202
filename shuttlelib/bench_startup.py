"""How long `shuttle track` takes to its first row, measured from outside; a part of `bench`."""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from shuttlelib import paths
from shuttlelib.bench_run import Setup
from shuttlelib.errors import ShuttleError

# The command itself; afterwards, the names of the files that it had read
_COMMAND = """
import sys
from pathlib import Path
from shuttlelib.cli import main
try:
    main()
finally:
    names = "__file__", "__cached__"
    files = {getattr(module, name, None) for module in list(sys.modules.values()) for name in names}
    maps = Path("/proc/self/maps")
    if maps.exists():
        files |= {line.split()[-1] for line in maps.read_text().splitlines() if "/" in line}
    print(*filter(None, files), sep="\\n", file=sys.stderr)
"""


def startup_s(setup: Setup, video: Path, models_dir: Path | None, repeat: int = 3) -> dict[str, float | None]:
    """Seconds from the start of a process to its first row.

    Returns:
        warm: median of `repeat`, everything in the page cache; cold: once, after what the process reads was
        taken out of it, None where the system cannot. What other programs have mapped stays in it.

    Raises:
        ShuttleError: `shuttle track` gives no row.
    """
    _, files = _start(setup, video, models_dir)
    warm = sorted(_start(setup, video, models_dir)[0] for _ in range(repeat))[repeat // 2]
    folders = (models_dir or paths.MODELS, paths.CACHE)  # graphs and weights; engines and compiled networks
    files += [str(path) for folder in folders for path in folder.rglob("*") if path.is_file()]
    os.sync()  # what is not on disk yet stays in the page cache
    cold = _start(setup, video, models_dir)[0] if _forget([*files, str(video)]) else None
    return {"warm": round(warm, 3), "cold": None if cold is None else round(cold, 3)}


def _start(setup: Setup, video: Path, models_dir: Path | None) -> tuple[float, list[str]]:
    """Seconds to the first row, and the files that were read."""
    # A file for errors: a pipe that nobody reads yet would fill up
    with TemporaryDirectory() as folder, TemporaryFile("w+") as errors:
        options = [f"--{name}={getattr(setup, name)}" for name in ("backend", "mode", "precision", "threads")]
        options += [] if models_dir is None else [f"--models={models_dir}"]
        command = [sys.executable, "-c", _COMMAND, "track", str(video), "--out", folder, "--jsonl", *options]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None  # it is a pipe
            first = process.stdout.readline()
            seconds = time.perf_counter() - began
            process.communicate()
        errors.seek(0)
        said = errors.read().splitlines()
    if not first.startswith("{"):  # its status tells of warnings too, and only the first row counts here
        why = next((line for line in said if line.startswith("error:")), "gave no row")
        raise ShuttleError(f"shuttle track {video}: {why}")
    return seconds, said


def _forget(files: list[str]) -> bool:
    """Take files out of the page cache; whether the system can."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for name in files:
        try:
            handle = os.open(name, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
    return True
