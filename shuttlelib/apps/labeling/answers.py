"""What people answered on the server, checked, as rows of the canonical table; for `pull` and `agreement`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from shuttlelib import label_studio
from shuttlelib.apps.labeling.page import CHOICES
from shuttlelib.apps.labeling.work import WorkClip
from shuttlelib.labels import LabelError, make_table
from shuttlelib.studio_tasks import POINT, VISIBILITY

_SHAPE_TOLERANCE = 0.01  # relative difference of aspect ratios that rounding to whole px may make


@dataclass(frozen=True, eq=False)
class Answer:
    """One person's latest answer for one frame.

    Attributes:
        clip, frame: as the task names them.
        task, annotation: their numbers on the server.
        who, at: e-mail address (or number) and the server's time of the last change.
        choice: one of `page.CHOICES`.
        visible, x_px, y_px, flags: for the canonical table.
        seconds: time spent, nan where unknown.
    """

    clip: str
    frame: int
    task: int
    annotation: int
    who: str
    at: str
    choice: str
    visible: bool
    x_px: float
    y_px: float
    flags: str
    seconds: float


@dataclass(frozen=True)
class Answers:
    """A project's answers.

    Attributes:
        found: one an annotator and frame.
        tasks: (clip, frame) of every task on the server.
        skipped: how many tasks were skipped and not answered.
        there: numbers of the annotations on the server that were not skipped, those that a later one of the
            same person stands for among them.
        problems: what a person should look at, a line each.
    """

    found: list[Answer]
    tasks: list[tuple[str, int]]
    skipped: int
    there: frozenset[int]
    problems: list[str] = field(default_factory=list)


def read(
    export: Sequence[Any], clips: Mapping[str, WorkClip], people: Mapping[int, str], source: str
) -> Answers:
    """Check a project's JSON export and take it apart.

    Args:
        export: tasks, as `Client.export` gives them.
        clips: those that went out for labelling, by name.
        people: e-mail addresses by user number.
        source: the project's name in messages.

    Raises:
        LabelError: a task or an answer that this version does not understand (made by another version, or by
            hand): names the task. Nothing of the project is used then.
    """
    answers: list[Answer] = []
    tasks: list[tuple[str, int]] = []
    problems: list[str] = []
    skipped = 0
    there: set[int] = set()
    for task in export:
        where = f"{source}, task {task.get('id', '?') if isinstance(task, dict) else '?'}"
        clip, frame = _shown(task, clips, where)
        tasks.append((clip.name, frame))
        latest: dict[str, Answer] = {}
        for answer in _of_task(task, clip, frame, people, where, problems):
            if answer.who not in latest or latest[answer.who].at <= answer.at:
                latest[answer.who] = answer
        kept = _kept(task)
        there |= {int(entry.get("id", 0)) for entry in kept}
        skipped += len(kept) < len(task.get("annotations") or []) and not latest
        answers.extend(latest.values())
    return Answers(answers, tasks, skipped, frozenset(there), problems)


def as_rows(answers: Sequence[Answer], clip: str) -> pd.DataFrame:
    """Canonical rows of one clip's answers; several annotators of a frame are all kept and named."""
    rows = sorted(answers, key=lambda answer: (answer.frame, answer.who))
    frames = [answer.frame for answer in rows]
    return make_table(
        clip,
        frames,
        [answer.visible for answer in rows],
        [answer.x_px for answer in rows],
        [answer.y_px for answer in rows],
        "label_studio",
        [_flags(answer, frames.count(answer.frame) > 1) for answer in rows],
    )


def _flags(answer: Answer, several: bool) -> str:
    who = "_".join(answer.who.replace(";", " ").replace("=", " ").split()) or "unknown"
    return ";".join(filter(None, (f"annotator={who}" if several else "", answer.flags)))


def _shown(task: Any, clips: Mapping[str, WorkClip], where: str) -> tuple[WorkClip, int]:
    """The frame a task shows, which must be one of ours."""
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict) or not {"clip", "frame"} <= set(data):
        raise LabelError(
            f"{where}: its data has no clip and frame; remove the task, it is not of `shuttle label`"
        )
    clip = clips.get(str(data["clip"]))
    if clip is None:
        raise LabelError(
            f"{where}: clip {data['clip']!r} is not in this labelling ({', '.join(clips) or 'no clips'}); "
            "give the --work folder it was served from"
        )
    if data.get("video_sha256", clip.sha256) != clip.sha256:
        raise LabelError(
            f"{where}: made from another video of the name {clip.name!r}; give the --work folder of that one"
        )
    frame = data["frame"]
    if not isinstance(frame, int) or not 0 <= frame < max(clip.frame_count, 1):
        raise LabelError(
            f"{where}: frame {frame!r} is not one of the {clip.frame_count} of clip {clip.name!r}"
        )
    return clip, frame


def _kept(task: dict[str, Any]) -> list[dict[str, Any]]:
    """A task's annotations that were not skipped."""
    return [entry for entry in task.get("annotations") or [] if not entry.get("was_cancelled")]


def _of_task(
    task: dict[str, Any],
    clip: WorkClip,
    frame: int,
    people: Mapping[int, str],
    where: str,
    problems: list[str],
) -> list[Answer]:
    """The answers for a task, in the server's order."""
    found = []
    for entry, said in zip(_kept(task), label_studio.of_task(task, where, 1)):
        for result in entry.get("result") or []:
            _check_names(result, where)
        said = replace(said, data={**said.data, "image_width": clip.width, "image_height": clip.height})
        _check_size(said, clip, f"{where} ({clip.name} frame {frame})", problems)
        if not said.choice and said.points:
            said = replace(said, choice=CHOICES[0])
        flags, note = _doubt(said)
        if note:
            problems.append(f"{where} ({clip.name} frame {frame}): {note}")
        if not said.choice:
            continue
        points = label_studio.sightings(said)
        visible, x, y = points[-1] if said.choice == CHOICES[0] else (False, float("nan"), float("nan"))
        who = (
            people.get(int(said.annotator), said.annotator) if said.annotator.isdecimal() else said.annotator
        )
        found.append(
            Answer(
                clip.name,
                frame,
                int(task["id"]),
                said.number,
                who,
                said.updated_at,
                said.choice,
                visible,
                x,
                y,
                flags,
                float(entry.get("lead_time") or "nan"),
            )
        )
    return found


def _check_names(result: dict[str, Any], where: str) -> None:
    """Refuse what our page cannot have made."""
    fix = "pull with the version of shuttlelib that made the project"
    name = result.get("from_name")
    if name not in (POINT, VISIBILITY):
        raise LabelError(f"{where}: an answer by {name!r}, known are {POINT!r} and {VISIBILITY!r}; {fix}")
    chosen = (result.get("value") or {}).get("choices", []) if name == VISIBILITY else []
    strange = [choice for choice in chosen if choice not in CHOICES]
    if strange:
        raise LabelError(f"{where}: visibility {strange[0]!r}, known are {', '.join(CHOICES)}; {fix}")


def _check_size(said: label_studio.Annotation, clip: WorkClip, where: str, problems: list[str]) -> None:
    """Notice pictures of another size than were cut out; percent stay right unless the shape changed."""
    for point in said.points:
        size = (point.get("original_width"), point.get("original_height"))
        if size in ((clip.width, clip.height), (None, None)):
            continue
        width, height = float(size[0] or 0), float(size[1] or 0)
        what = f"{where}: labelled on a picture of {width:.0f}x{height:.0f}, not {clip.width}x{clip.height}"
        if not height or abs(width / height / (clip.width / clip.height) - 1) > _SHAPE_TOLERANCE:
            raise LabelError(
                f"{what}: another shape, so its percent say another place; cut the frames out again"
            )
        problems.append(f"{what}; its percent are taken of the video's size")


def _doubt(said: label_studio.Annotation) -> tuple[str, str]:
    """A flag for an answer that training must not believe, and the line that says why."""
    if said.choice != CHOICES[0]:
        return (
            "",
            "" if said.choice else "neither point nor visibility, left out; open the task and choose one",
        )
    if not said.points:
        return "no_coordinates", "visible, but no point was set; open the task and set it"
    percent = [float(point.get(axis) or 0) for point in said.points for axis in ("x", "y")]
    if min(percent) < 0 or max(percent) > 100:
        return "out_of_frame", f"its point is outside the picture ({max(percent):.1f}%); move it inside"
    if len(said.points) > 1:
        return "", f"{len(said.points)} points, the last is taken; open the task and remove the others"
    return "", ""
