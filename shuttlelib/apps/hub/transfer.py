"""Moves files between a folder and a repository of the Hub so that nothing is lost and nothing half-written.

Both ways go through a stage. Up: the folder as it shall be, made of links; refused where it would undo what
someone else changed. Down: files land in `.hub/` of the target, are compared with the hash that the Hub
promised, and only then renamed into place. `revision.json` beside the files keeps repository, commit
and the hash of every file, which tells a local edit from an older revision, and runs what they used.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub.utils import WeakFileLock
from tqdm import tqdm

from shuttlelib.apps.hub import client
from shuttlelib.apps.hub.client import HubError, Kind, Tree
from shuttlelib.files import WriteError, sha256, write_json, writing
from shuttlelib.runs import REVISION

WORKERS = 4
KEPT_BY_HUB = ".gitattributes"  # made with the repository, never ours
SHOWN = 5  # names in an error


@dataclass(frozen=True)
class Moved:
    """What a push or pull did.

    Attributes:
        repo, revision: where, and the commit hash.
        files: how many were sent or fetched; 0 where nothing had changed.
        size: their bytes.
    """

    repo: str
    revision: str
    files: int
    size: int


class _Silent(tqdm):
    """The client's progress bar of one file, not shown: one bar stands for all files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})


def read_record(folder: Path) -> dict[str, Any]:
    """`revision.json` of a folder; empty without one.

    Raises:
        HubError: it is damaged.
    """
    path = folder / REVISION
    if not path.is_file():
        return {}
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
        return {
            "repo": str(record["repo"]),
            "revision": str(record["revision"]),
            "files": dict(record["files"]),
        }
    except (ValueError, TypeError, KeyError) as error:
        raise HubError(f"{path}: damaged ({error}); delete it and pull into another folder") from error


def write_record(folder: Path, repo: str, revision: str, files: Mapping[str, str]) -> None:
    """Write `revision.json`: where a folder's files come from (file to SHA-256)."""
    record = {"repo": repo, "revision": revision, "files": dict(sorted(files.items()))}
    write_json(folder / REVISION, record)


def link(source: Path, target: Path) -> None:
    """Stand `target` for `source` in a stage: a link, or a copy where links are not allowed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def upload(
    repo: str, kind: Kind, stage: Path, own: Sequence[str], private: bool, replace: bool, base: str = ""
) -> Moved:
    """Make a repository hold what a stage holds; a cut upload goes on where it stopped.

    Args:
        stage: folder with the files as they shall be in the repository.
        own: patterns of what belongs to the stage: such files of the repository that it lacks are removed.
        private: make a new repository private; an old one has to be so already.
        replace: overwrite what others changed since `base`.
        base: commit that the local files come from; "" where they come from none.

    Raises:
        HubError: the Hub refuses, or someone changed there what this push would undo.
    """
    with client.speaking(repo):
        api = client.api()
        client.patiently(
            lambda: api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
        )
        info = client.patiently(lambda: api.repo_info(repo, repo_type=kind))
        if private and not info.private:
            raise HubError(f"{repo}: is public: make it private on its page, or push to another name")
        start = client.head(repo, kind)
        there = client.tree(repo, kind, start)
        known = client.tree(repo, kind, base) if base and base != start else there if base else {}
        mine = {
            path.relative_to(stage).as_posix(): path for path in sorted(stage.rglob("*")) if path.is_file()
        }
        new = {
            name: path
            for name, path in mine.items()
            if not (name in there and client.same_file(path, there[name]))
        }
        gone = [name for name in there if name not in mine and _ours(name, own)]
        if not replace:
            _refuse_to_undo(repo, start, known, there, {*new, *gone})
        if not new and not gone:
            return Moved(repo, start, 0, 0)
        client.patiently(
            lambda: api.upload_folder(
                repo_id=repo,
                repo_type=kind,
                folder_path=stage,
                commit_message=f"Push {len(mine)} files with shuttle",
                delete_patterns=list(own) if gone else None,
                parent_commit=start,
            )
        )
        end = client.head(repo, kind)
        arrived = client.tree(repo, kind, end)
        missing = [n for n, path in new.items() if not (n in arrived and client.same_file(path, arrived[n]))]
    if missing:
        raise HubError(f"{repo}@{end}: {_some(missing)} did not arrive as sent: push again")
    return Moved(repo, end, len(new), sum(path.stat().st_size for path in new.values()))


def download(
    repo: str,
    kind: Kind,
    revision: str,
    wanted: Mapping[str, str],
    tree: Tree,
    out: Path,
    stale: Sequence[Path] = (),
) -> Moved:
    """Bring files of a commit into a folder, verified, each whole or not at all.

    Args:
        revision: commit hash.
        wanted: name in `out` to path in the repository.
        tree: the commit's files.
        stale: files of the folder that are wrong beside the new ones; they go once all is fetched.

    Raises:
        HubError: the folder holds another repository, a local file was edited since, or a file did not
            arrive with the hash that the Hub promised.
        WriteError: the disk is full or the folder may not be written.
    """
    with writing(out), _alone(out):
        record = read_record(out)
        if record and record["repo"] != repo:
            raise HubError(f"{out}: holds {record['repo']}, not {repo}: pull into another folder")
        old = record.get("files", {})
        needed = {name: path for name, path in wanted.items() if not client.same_file(out / name, tree[path])}
        gone = [name for name in old if name not in wanted and (out / name).is_file()]
        edited = [n for n in [*needed, *gone] if (out / n).is_file() and sha256(out / n) != old.get(n)]
        if edited:
            raise HubError(
                f"{out}: {_some(edited)} changed here since the last pull, and {repo}@{revision[:12]} holds "
                "something else: push first, or pull into another folder"
            )
        stage = out / ".hub" / revision
        fetch(repo, kind, revision, {path: tree[path] for path in needed.values()}, stage)
        for file in stale:  # before the new files: a kill between the two leaves none beside them
            file.unlink(missing_ok=True)
        for name, path in needed.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / path, out / name)
        for name in gone:
            (out / name).unlink(missing_ok=True)
        write_record(out, repo, revision, {name: sha256(out / name) for name in wanted})
        shutil.rmtree(out / ".hub", ignore_errors=True)
    return Moved(repo, revision, len(needed), sum(tree[path].size for path in needed.values()))


def fetch(repo: str, kind: Kind, revision: str, files: Tree, stage: Path) -> None:
    """Download files of a commit to `stage/<path in the repository>`, resumed after a cut, each verified.

    Raises:
        HubError: a file does not have the hash that the Hub promised; it is deleted.
        WriteError: they do not fit on the disk.
    """
    missing = {path: entry for path, entry in files.items() if not client.same_file(stage / path, entry)}
    size = sum(entry.size for entry in missing.values())
    stage.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(stage).free
    if size > free:
        raise WriteError(f"{stage}: needs {megabytes(size)}, {megabytes(free)} are free: free some space")

    def one(path: str) -> str:
        client.patiently(
            lambda: client.api().hf_hub_download(
                repo, path, repo_type=kind, revision=revision, local_dir=stage, tqdm_class=_Silent
            )
        )
        if not client.same_file(stage / path, missing[path]):
            (stage / path).unlink(missing_ok=True)
            raise HubError(
                f"{repo}@{revision[:12]}: {path} arrived damaged (another hash than promised): pull again"
            )
        return path

    bar = tqdm(total=size, unit="B", unit_scale=True, desc=repo, disable=not sys.stderr.isatty(), leave=False)
    with client.speaking(repo), bar, ThreadPoolExecutor(WORKERS) as pool:
        try:
            for path in pool.map(one, missing):
                bar.update(missing[path].size)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def megabytes(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e6:,.1f} MB"


def _ours(name: str, own: Sequence[str]) -> bool:
    return name != KEPT_BY_HUB and any(fnmatch(name, pattern) for pattern in own)


def _refuse_to_undo(repo: str, start: str, known: Tree, there: Tree, touched: set[str]) -> None:
    """Raise where others changed a file since `known` that this push would write or remove."""

    def blob(files: Tree, name: str) -> str | None:
        return files[name].blob_id if name in files else None

    undone = sorted(name for name in touched if blob(there, name) != blob(known, name))
    if undone:
        raise HubError(
            f"{repo}: {_some(undone)} changed there (now at {start[:12]}), which this folder never pulled: "
            "pull into another folder and compare, or give --replace (its history keeps the old state)"
        )


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder's lock: a second pull into it waits for the first."""
    out.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(out / ".hub.lock"):
        yield
