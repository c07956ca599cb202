"""What `shuttle label pull` does: answers from the server into the data folder, whole clips at a time.

Everything is read and checked before anything is written. A clip's table and history are written together:
both are complete on the disk before either takes its place.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from shuttlelib import clips, labels, splits
from shuttlelib.apps.labeling import answers as answers_
from shuttlelib.apps.labeling import history as history_
from shuttlelib.apps.labeling import page
from shuttlelib.apps.labeling.answers import Answers
from shuttlelib.apps.labeling.apply import Applied, apply
from shuttlelib.apps.labeling.client import Client
from shuttlelib.apps.labeling.work import Work, WorkClip
from shuttlelib.clips import Clip
from shuttlelib.files import atomic_write, writing
from shuttlelib.labels import LabelError
from shuttlelib.video import is_video

LOCK = ".labels.lock"
OWN_SERVER = "own"  # in the history, for a server that moves from port to port


@dataclass(frozen=True, eq=False)
class Pulled:
    """What a pull did.

    Attributes:
        changes: history rows that came in.
        renamed: present name by the name a clip was labelled under, where they differ.
        gone: (clip, frame) of labels whose annotation was deleted on the server.
        problems: what a person should look at, a line each.
    """

    changes: pd.DataFrame
    renamed: dict[str, str]
    gone: list[tuple[str, int]]
    problems: list[str]


def read_answers(client: Client, work: Work) -> Answers:
    """The answers of a labelling's project, checked.

    Raises:
        LabelError: there is no project yet, or one that this version does not understand.
        LabelServerError: the server does not answer, or the project was deleted.
    """
    if not work.project:
        raise LabelError(f"{work.folder}: nothing was put on a server yet; run `shuttle label serve VIDEO`")
    source = f"project {work.project} at {client.url}"
    page.check_config(client.project(work.project)["label_config"], source)
    return answers_.read(client.export(work.project), work.clips, client.people(), source)


def pull(work: Work, answers: Answers, data: Path, drop_deleted: bool = False) -> Pulled:
    """Bring answers into a data folder.

    New clips are linked into the folder with the venue "unknown"; a clip that was renamed since is found by
    its video's hash.

    Args:
        work: the labelling.
        answers: of `read_answers`.
        data: the data folder, made if missing.
        drop_deleted: remove labels whose annotation was deleted on the server.

    Raises:
        LabelError: another pull is at work there, or a labelled video cannot be found.
        WriteError: the disk is full or the like; clips done so far are complete, the others as they were.
    """
    server = work.url or f"{OWN_SERVER} {work.id}".strip()
    with _locked(data):
        labelled = {answer.clip for answer in answers.found} | {clip for clip, _ in answers.tasks}
        present = {name: _locate(work.clips[name], data) for name in sorted(labelled)}
        found: dict[str, Applied] = {}
        last: dict[Path, Applied] = {}  # a video may have been labelled under several names
        for name, video in present.items():
            before = last.get(video)
            known = (before.table, before.history) if before else _so_far(work.clips[name], data, video.stem)
            mine = [answer for answer in answers.found if answer.clip == name]
            found[name] = apply(*known, mine, answers.there, video.stem, server, work.project, drop_deleted)
            is_new = found[name].is_new or (before is not None and before.is_new)
            last[video] = replace(found[name], is_new=is_new)
        for video, applied in last.items():
            if applied.is_new or _is_half_stored(data, video):
                _store(video, data, applied)
    changes = [applied.changed for applied in found.values() if len(applied.changed)]
    gone = [(present[name].stem, frame) for name, applied in found.items() for frame in applied.gone]
    renamed = {name: video.stem for name, video in present.items() if video.stem != name}
    merged = pd.concat(changes, ignore_index=True) if changes else history_.empty()
    left = [_left_behind(work.clips[name], video, data) for name, video in present.items()]
    return Pulled(merged, renamed, gone, [*answers.problems, *filter(None, left)])


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Hold a data folder against other pulls; the lock falls with the process that holds it."""
    with writing(data):
        data.mkdir(parents=True, exist_ok=True)
    lock = FileLock(data / LOCK)
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise LabelError(
            f"{data}: another pull is writing there (lock {LOCK}); wait until it is done and pull again"
        ) from None


def _locate(clip: WorkClip, data: Path) -> Path:
    """Where a labelled video is now, its name by now; in the data folder if it is there.

    Raises:
        LabelError: nowhere, or another video has taken its name.
    """
    same_name = clips.video_beside(data / clip.name, clip.name)
    origin = Path(clip.video)
    near = [path for folder in (data, origin.parent) if folder.is_dir() for path in sorted(folder.iterdir())]
    videos = [path for path in near if is_video(path)]
    first = [path for path in (same_name, origin) if path is not None]
    found = next((path for path in (*first[:1], *videos, *first[1:]) if clip.is_video(path)), None)
    if found is None:
        what = f"{same_name} is another file" if same_name else f"no video in {data} or {origin.parent} is it"
        raise LabelError(
            f"clip {clip.name!r} was labelled on {origin.name} (hash {clip.sha256[:12]}), and {what}; put "
            f"that very video into {data}, under any name, and pull again"
        )
    taken = clips.video_beside(data / found.stem, found.stem)
    if taken is not None and not clip.is_video(taken):
        raise LabelError(
            f"clip {clip.name!r}: {taken} is another video than the labelled {found}; rename one of them and "
            "pull again"
        )
    return found


def _so_far(clip: WorkClip, data: Path, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels and history to go on from: those of the present name, or of the one before it."""
    names, left = [name], data / f"{clip.name}.parquet"
    if not left.is_file() or labels.read_table(left)[1].video_sha256 == clip.sha256:
        names.append(clip.name)  # otherwise another video has that name now
    tables = [path for one in names if (path := data / f"{one}.parquet").is_file()]
    pasts = [path for one in names if (path := history_.path_of(data, one)).is_file()]
    table = labels.read_table(tables[0])[0] if tables else labels.make_table([], [], [], [], [], "", [])
    return table.assign(clip=name), history_.read(pasts[0]) if pasts else history_.empty()


def _is_half_stored(data: Path, video: Path) -> bool:
    """Whether an earlier pull wrote the labels and was stopped before the video."""
    return (data / f"{video.stem}.parquet").is_file() and clips.video_beside(
        data / video.stem, video.stem
    ) is None


def _store(video: Path, data: Path, applied: Applied) -> None:
    """Write a clip's labels and history, then link its video and name its venue if they are new."""
    path, name = data / f"{video.stem}.parquet", video.stem
    info = labels.read_table(path)[1] if path.is_file() else clips.probe(video)
    with atomic_write(path) as table_temp:
        labels.write_table(table_temp, applied.table, info)
        with atomic_write(history_.path_of(data, name)) as temp:
            applied.history.to_parquet(temp, index=False)
    if clips.video_beside(path, name) is None or name not in splits.read(data):
        place = splits.place_of(name, splits.read(data), None)
        clips.store(Clip(name, video, applied.table, info, *place), data)


def _left_behind(clip: WorkClip, video: Path, data: Path) -> str:
    """A line about the label file of a renamed video, "" where there is none."""
    path = data / f"{clip.name}.parquet"
    if video.stem == clip.name or not path.is_file() or clips.video_beside(path, clip.name) is not None:
        return ""
    return f"{path}: its video is {video.name} now, and its labels are in {video.stem}.parquet too; remove it"


def frames_by_clip(frames: Sequence[tuple[str, int]]) -> str:
    """Frames in words: "00030: 4, 17; 00031: 5"."""
    table = pd.DataFrame(list(frames), columns=["clip", "frame"])
    return "; ".join(f"{clip}: {', '.join(map(str, rows))}" for clip, rows in table.groupby("clip")["frame"])
