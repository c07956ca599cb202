"""Run the scripts of paperspace/ as a rented machine would: an empty home, nothing but what the test sets."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import monotonic

from shuttlelib.paths import REPO

SCRIPTS = REPO / "paperspace"
TOOLS = "/usr/local/bin:/usr/bin:/bin"


class Machine:
    """A machine with a store, a home and tools of its own; `free_kb` is what its disk says is free."""

    def __init__(self, root: Path, **environment: str):
        self.root = root
        for name in ("home", "bin", "tmp"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.store = root / "store"
        self.environment = {
            "HOME": str(root / "home"),
            "TMPDIR": str(root / "tmp"),
            "PATH": f"{root / 'bin'}:{TOOLS}",
            "SHUTTLE_STORE": str(self.store),
            "SHUTTLE_TICK": "0.1",
            "SHUTTLE_GRACE": "20",
            "SHUTTLE_OFF_DELAY": "0",
            "SHUTTLE_POWEROFF": f"touch {root / 'powered-off'}",  # never the real one
            "SHUTTLE_PCI": str(root / "pci"),
            "PIP_NO_INDEX": "1",
            "OMP_NUM_THREADS": "1",
            **environment,
        }

    def tool(self, name: str, script: str) -> Path:
        """Put a program on the machine's path."""
        return program(self.root / "bin" / name, script)

    def run(self, *words: str | Path, cwd: Path = REPO) -> subprocess.CompletedProcess[str]:
        """Run a script of paperspace/ by name."""
        command = ["bash", str(SCRIPTS / words[0]), *map(str, words[1:])]
        return subprocess.run(
            command, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=1500, check=False
        )

    def headless(self, *words: str | Path) -> str:
        """`run_headless.sh`, which must work; its output."""
        done = self.run("run_headless.sh", *words)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def job(self, name: str) -> Path:
        """The folder of a job."""
        return self.store / "jobs" / name

    def log(self, name: str) -> str:
        """What a job has written so far."""
        return (self.job(name) / "log").read_text()

    def state(self, name: str) -> str:
        """The state that `status` shows of a job."""
        return next(line.split()[1] for line in self.headless("status").splitlines() if line.startswith(name))

    def end(self) -> None:
        """Leave no process behind, whatever became of the test."""
        kill(f"SHUTTLE_STORE={self.store}")


def program(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return path


def until(condition: Callable[[], object], seconds: float = 800) -> None:
    """Wait until a condition holds."""
    end, clock = monotonic() + seconds, Event()
    while not condition():
        assert monotonic() < end, "waited in vain"
        clock.wait(0.02)


def processes(mark: str) -> dict[int, str]:
    """Command lines of the processes that carry `mark` in their environment, by number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def kill(mark: str, words: str = "") -> list[int]:
    """Kill the processes that carry `mark` and have `words` in their command line; their numbers."""
    found = [pid for pid, command in processes(mark).items() if words in command]
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found
