"""The page's private folder: made when the server starts, readable by its user alone, gone when it stops.

    shuttle-app-<random>/       mode 0700, with the lock of the running server
        v-<visitor>/            one browser's
            <random>/           one video and what was made of it

Whatever lies elsewhere in it is Gradio's: uploads that are still coming in.
"""

import logging
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX, _LOCK, _VISITOR = "shuttle-app-", "server.lock", "v-"
_STARTING_S = 60.0  # a folder this young without a lock may be one whose server is just starting
_LOG = logging.getLogger(__name__)


class Folders:
    """Where uploads and results live.

    Args:
        root: the private folder.
        keep_s: how long a video that nobody looks at stays.
    """

    def __init__(self, root: Path, keep_s: float) -> None:
        self.root, self.keep_s = root, keep_s

    def new(self, visitor: str) -> Path:
        """An empty folder of a visitor's, for one video."""
        folder = self.of(visitor) / secrets.token_urlsafe(9)
        folder.mkdir(mode=0o700, parents=True)
        return folder

    def of(self, visitor: str) -> Path:
        """The folder that holds everything of one visitor."""
        return self.root / f"{_VISITOR}{visitor}"

    def owns(self, visitor: str, path: str | Path) -> bool:
        """Whether a file lies in a visitor's folder, symbolic links followed."""
        return bool(visitor) and Path(path).resolve().is_relative_to(self.of(visitor))

    def touch(self, folder: Path) -> None:
        """Say that a folder is in use: its time starts anew."""
        with suppress(FileNotFoundError):
            os.utime(folder)

    def remove(self, folder: Path) -> None:
        """Delete a video's folder with everything in it; the visitor's too once it is empty."""
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()

    def sweep(self) -> None:
        """Delete videos that nobody looked at for `keep_s`, and uploads that never arrived whole."""
        before = time.time() - self.keep_s
        for entry in self.root.iterdir():
            mine = entry.name.startswith(_VISITOR)
            for path in entry.iterdir() if mine else [entry]:
                if path.name != _LOCK and _changed(path) < before:
                    self.remove(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def opened(keep_s: float, parent: Path | None = None) -> Iterator[Folders]:
    """Make the private folder and keep it swept; leftovers of servers that died are removed first.

    Args:
        keep_s: see `Folders`.
        parent: where it goes; the system's folder for temporary files if left out.
    """
    parent = Path(parent or tempfile.gettempdir()).resolve()
    remove_leftovers(parent)
    root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))  # made with mode 0700
    folders, stop = Folders(root, keep_s), threading.Event()

    def keep_clean() -> None:
        while not stop.wait(min(60.0, keep_s / 2)):
            try:
                folders.sweep()
            except OSError:  # removed while we looked: the next round sees it
                _LOG.debug("sweep", exc_info=True)

    sweeper = threading.Thread(target=keep_clean, daemon=True)
    try:
        with FileLock(root / _LOCK):
            sweeper.start()
            yield folders
    finally:
        stop.set()
        sweeper.join()
        shutil.rmtree(root, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Delete the folders of servers that no longer run: the system frees a dead process's lock."""
    for root in parent.glob(f"{_PREFIX}*"):
        if not _ours(root):
            continue
        lock = root / _LOCK
        if not lock.exists() and time.time() - _changed(root) < _STARTING_S:
            continue
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(root, ignore_errors=True)


def _ours(root: Path) -> bool:
    """A real folder of this user: in a shared folder for temporary files, others' names prove nothing."""
    if root.is_symlink() or not root.is_dir():
        return False
    return not hasattr(os, "getuid") or root.stat().st_uid == os.getuid()


def _changed(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return time.time()
