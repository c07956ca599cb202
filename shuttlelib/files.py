"""Files: written so that nothing is ever left half-written, read, and told apart; a leaf of the flow."""

import errno
import hashlib
import json
import math
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from shuttlelib.errors import ShuttleError

_FIXES = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder",
    errno.EACCES: "no permission to write there: choose another folder",
    errno.EPERM: "no permission to write there: choose another folder",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another folder",
    errno.EEXIST: "a part of the path is a file, not a folder: choose another folder",
    errno.EISDIR: "a folder has that name: choose another name",
    errno.ENOENT: "no folder can be made there: choose another folder",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}
_FULL_BYTES = 1 << 16  # with less left than this a write failed for want of space


class WriteError(ShuttleError):
    """A file cannot be written."""


class ReadError(ShuttleError):
    """A file is damaged."""


def as_url(path: str | Path) -> str:
    """What FFmpeg takes for a file, whatever its name: it reads `18:30.mp4` as an address otherwise."""
    return f"file:{path}"


def is_stray(path: Path) -> bool:
    """Whether a file is hidden (as macOS' `._a.mp4`), or what `atomic_write` left when it was killed."""
    return path.name.startswith(".") or ".partial-" in path.name


@contextmanager
def atomic_write(path: str | Path, keep: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    The temporary file exists (empty) inside the block, so an unwritable folder is found before any work
    is done, and keeps the suffix, so that writers which go by it work. On an error it is removed and
    an older file at `path` stays as it was; with `keep`, for what cannot be made again, it is removed only if
    it is empty. Missing parent folders are created.

    Raises:
        WriteError: the folder is read-only, the disk is full or the like; the message names the fix.
    """
    path = Path(path)
    if not path.name:
        raise WriteError(f"{path}: cannot be written: it is a folder: give the name of a file")
    thread = threading.get_ident()
    who = os.getpid() if thread == threading.main_thread().ident else f"{os.getpid()}-{thread}"
    temp = path.with_name(f"{path.stem}.partial-{who}{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temp.touch()
            yield temp
            os.replace(temp, path)
    finally:
        # A no-op after the rename; ignored where the parent is no folder or may not be written.
        with suppress(OSError):
            if not keep or temp.stat().st_size == 0:
                temp.unlink()


def write_json(path: str | Path, value: Any) -> None:
    """Write standard JSON (UTF-8, no NaN, a line an entry), whole or not at all.

    Raises:
        WriteError: as for `atomic_write`.
        ValueError: a number is not finite.
    """
    with atomic_write(path) as temp:
        temp.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def plain(value: Any, digits: int | None = None) -> Any:
    """The value with only what JSON knows: no NumPy, paths as text, None for nan and infinity.

    Args:
        digits: decimals to round numbers to; None keeps them all.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, digits) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), digits)
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, float):
        return None if not math.isfinite(value) else value if digits is None else round(value, digits)
    return str(value) if isinstance(value, Path) else value


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        ReadError: it is something else.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ReadError(f"{path}: not a JSON object ({error}); delete it or make it again") from error


def require_fetched(path: str | Path) -> None:
    """Refuse what git leaves in place of a large file where Git LFS is not installed.

    Raises:
        ReadError: the file is such a pointer.
    """
    with open(path, "rb") as file:
        if file.read(64).startswith(b"version https://git-lfs"):
            raise ReadError(f"{path}: only a pointer to the file; install Git LFS and run `git lfs pull`")


def sha256(path: str | Path) -> str:
    """Hex digest of a file, to tie labels to the very video they were made on."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the system's errors about writing `path` into one line that names it and the fix.

    Errors about another file, one that is read meanwhile, pass through.

    Raises:
        WriteError: as for `atomic_write`.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FIXES or not _concerns(error, Path(path)):
            raise
        raise WriteError(f"{path}: cannot be written: {_FIXES[error.errno]}") from error
    except Exception as error:  # safetensors and torch write through code with errors of its own
        if not _is_full(error, Path(path)):
            raise
        raise WriteError(f"{path}: cannot be written: {_FIXES[errno.ENOSPC]}") from error


def _is_full(error: Exception, path: Path) -> bool:
    if not isinstance(error, RuntimeError):
        return "No space left on device" in str(error)
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    return shutil.disk_usage(folder).free < _FULL_BYTES


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error names no file, or one on the way to `path`, under it, or its temporary one."""
    missing = error.errno == errno.ENOENT  # if not on the way, it is a file to be read
    if not isinstance(error.filename, str) or not error.filename:
        return not missing
    named = Path(error.filename)
    temporary = named.parent == path.parent and named.name.startswith(f"{path.stem}.partial-")
    under = named.is_relative_to(path) and not missing
    return temporary or under or path.is_relative_to(named)
