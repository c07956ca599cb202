"""Puts answers into a clip's label table, and what they replaced into its history; no files here."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from shuttlelib.apps.labeling import answers as answers_
from shuttlelib.apps.labeling import history as history_
from shuttlelib.apps.labeling.answers import Answer
from shuttlelib.labels import as_canonical


@dataclass(frozen=True, eq=False)
class Applied:
    """A clip with its answers in.

    Attributes:
        table: the canonical table, in frame order.
        history: the whole history, older rows first.
        changed: history rows that are new, and such rows of answers that were lost and are restored.
        gone: frames with an annotation in the history that is not on the server any more.
        is_new: whether table or history differ from before.
    """

    table: pd.DataFrame
    history: pd.DataFrame
    changed: pd.DataFrame
    gone: list[int]
    is_new: bool


def apply(
    table: pd.DataFrame,
    history: pd.DataFrame,
    answers: Sequence[Answer],
    there: frozenset[int],
    clip: str,
    server: str,
    project: int,
    drop_deleted: bool = False,
) -> Applied:
    """Bring the answers for one clip into its labels.

    A frame is touched only when its answers are not all in the history: labels that were cleaned since the
    last pull stay clean. A frame that lost them since is done again without a second history row: none of
    its rows is from the server (its labels were imported again), or its rows still are what the history says
    was replaced (the write was cut off between the two files).

    Args:
        table, history: of the clip, empty ones for a new clip.
        answers: of the clip, from `answers.read`.
        there: numbers of all annotations on the server.
        clip: its present name.
        server, project: where the answers are from.
        drop_deleted: also remove labels whose annotation was deleted on the server; otherwise they stay.
    """
    by_frame: dict[int, list[Answer]] = {}
    for answer in answers:
        by_frame.setdefault(answer.frame, []).append(answer)
    known = set(zip(history["server"], history["project"], history["annotation"], history["at"]))
    lost = _deleted(history, there, server, project)
    asked = table[table["frame"].isin([*by_frame, *lost])]
    rows = dict(list(asked.groupby("frame")))
    new_rows: dict[int, pd.DataFrame] = {}
    changes: list[pd.DataFrame] = []
    restored: list[pd.DataFrame] = []
    for frame, group in sorted(by_frame.items()):
        old = rows.get(frame, table.iloc[:0])
        fresh = [a for a in group if (server, project, a.annotation, a.at) not in known]
        if fresh:
            changes.append(history_.entries(fresh, old, clip, server, project))
        elif _is_lost(history[history["frame"] == frame].iloc[-1], old, group, clip, (server, project)):
            entries = history_.entries(group, old, clip, server, project)
            restored.append(entries.assign(action=history_.RESTORED))
        else:
            continue
        new_rows[frame] = answers_.as_rows(group, clip)
    for frame, removed in lost.items() if drop_deleted else ():
        changes.append(
            history_.entries(removed, rows.get(frame, table.iloc[:0]), clip, server, project, removed=True)
        )
        new_rows[frame] = answers_.as_rows(by_frame.get(frame, []), clip)
    kept = table[~table["frame"].isin(list(new_rows))]
    parts = [part for part in (kept, *new_rows.values()) if len(part)]
    merged = pd.concat(parts).sort_values("frame", kind="stable") if parts else kept
    grown = _joined([history, *changes])
    return Applied(as_canonical(merged), grown, _joined([*changes, *restored]), sorted(lost), bool(new_rows))


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Histories one after the other."""
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else history_.empty()


def _is_lost(
    last: pd.Series, old: pd.DataFrame, group: Sequence[Answer], clip: str, source: tuple[str, int]
) -> bool:
    """Whether the history has the answers for a frame, by its last row, and the table does not."""
    if (last["server"], last["project"]) == source and not (old["origin"] == "label_studio").any():
        return True
    if last["action"] == history_.REMOVED:
        return False
    was = history_.rows_as_json(old)
    return was == last["replaced"] and was != history_.rows_as_json(answers_.as_rows(group, clip))


def _deleted(
    history: pd.DataFrame, there: frozenset[int], server: str, project: int
) -> dict[int, list[Answer]]:
    """Answers in the history that the server has no more, by frame."""
    ours = history[(history["server"] == server) & (history["project"] == project)]
    latest = ours.drop_duplicates("annotation", keep="last")
    gone = latest[~latest["annotation"].isin(there) & (latest["action"] != history_.REMOVED)]
    found: dict[int, list[Answer]] = {}
    for row in gone[list(history_.FROM_ANSWER)].to_dict("records"):
        answer = Answer(clip="", flags="", seconds=float("nan"), **{str(name): row[name] for name in row})
        found.setdefault(answer.frame, []).append(answer)
    return found
