"""What `shuttle label serve` does: pick frames, cut them out, send them with the model's answers to a server.

Two steps, so that nothing is on the server before all pictures are on the disk: `prepare_video` and
`prepare_suspects` give `Batch`es, `publish` sends them. Both can be repeated: no frame goes out twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from shuttlelib import clips, labels, tracking
from shuttlelib.apps.labeling import page, pick, pictures, suspects, tasks
from shuttlelib.apps.labeling.client import Client
from shuttlelib.apps.labeling.work import Work, WorkClip
from shuttlelib.labels import LabelError


@dataclass(frozen=True)
class Settings:
    """How frames are chosen and cut out.

    Attributes:
        frames: wanted frames a video.
        unsure_share: of them, those where the model is least sure.
        seed: of the draw.
        lossless: PNG instead of JPEG.
        suggest_from: least confidence of a point that is shown as a pre-annotation. Moving a wrong point
            takes longer than setting one: a suggestion pays if it is right six times in ten (`effort`).
    """

    frames: int = 60
    unsure_share: float = 0.5
    seed: int = 0
    lossless: bool = False
    suggest_from: float = 0.9


@dataclass(frozen=True, eq=False)
class Batch:
    """Frames of one clip that go out together.

    Attributes:
        clip: the clip; its `frames` are those that went out before.
        why: reason by frame number.
        answers: predictions by frame number; a frame without any is missing.
        lossless: whether the frames are PNG files.
    """

    clip: WorkClip
    why: dict[int, str]
    answers: dict[int, list[dict[str, Any]]]
    lossless: bool


def prepare_video(
    work: Work,
    video: Path,
    settings: Settings,
    networks: tracking.Networks | None,
    data: Path | None = None,
    on_frame: Callable[[int, Any], None] | None = None,
) -> Batch:
    """Track a video, pick frames of it and cut them out.

    Args:
        work: the labelling.
        video: the file.
        settings: how.
        networks: the model that pre-annotates; None labels without one.
        data: a data folder whose labelled frames are not sent out.
        on_frame: for a progress bar of the tracking.

    Raises:
        LabelError: another video of that name is in the labelling already.
        VideoError, WriteError: as for tracking and cutting out.
    """
    clip = _clip(work, video)
    track = None if networks is None else _track(work, video, networks, on_frame)
    taken = set(clip.frames) | _labelled(data, clip.name)
    confidence = None if track is None else track["confidence"]
    why = pick.pick_frames(
        clip.frame_count, clip.fps, settings.frames, confidence, taken, settings.unsure_share, settings.seed
    )
    seen = {} if track is None else _places(track)
    found = pictures.extract(video, clip.fps, list(why.index), seen, _media(work, clip), settings.lossless)
    answers = {}
    if track is not None and networks is not None:
        model = f"{networks.stage1.version}+{networks.last.version}"
        for row in track[track.index.isin(found)].reset_index().to_dict("records"):
            sure = bool(row["visible"]) and row["confidence"] >= settings.suggest_from
            says = (sure, row["x_px"], row["y_px"], row["confidence"])
            answers[int(row["frame"])] = [tasks.prediction(*says, clip.size_hw, model)]
    return Batch(clip, {frame: why[frame] for frame in found}, answers, settings.lossless)


def prepare_suspects(work: Work, path: Path, data: Path, lossless: bool = False) -> list[Batch]:
    """Cut out the frames of a list of suspects; the model's answer and the present label go with them.

    Args:
        path: see `suspects.read_suspects`.
        data: the data folder that the labels in doubt are in.

    Raises:
        LabelError: the list cannot be read, or names a clip or frame that is not in the data folder.
    """
    table = suspects.read_suspects(path)
    videos = clips.videos_in(data)
    batches = []
    for name in sorted(table["clip"].unique()):
        rows = table[table["clip"] == name]
        if name not in videos or not (data / f"{name}.parquet").is_file():
            raise LabelError(f"{path}: clip {name!r} is not in {data}; give the --data folder that was mined")
        clip = _clip(work, videos[name])
        if rows["frame"].max() >= clip.frame_count:
            raise LabelError(
                f"{path}: clip {name!r} has no frame {rows['frame'].max()} (of {clip.frame_count}); "
                "mine it again"
            )
        rows = rows[~rows["frame"].isin(clip.frames)].set_index("frame")
        current = labels.read_table(data / f"{name}.parquet")[0].drop_duplicates("frame").set_index("frame")
        found = pictures.extract(
            videos[name], clip.fps, list(rows.index), _places(current), _media(work, clip), lossless
        )
        answers = {frame: _doubts(frame, rows, current, clip) for frame in found}
        batches.append(Batch(clip, dict.fromkeys(found, suspects.WHY_SUSPECT), answers, lossless))
    return batches


def publish(client: Client, work: Work, batches: Sequence[Batch], title: str) -> Work:
    """Put prepared frames on the server, making the project if there is none.

    A frame that the project already shows is not sent again, so a repeat after an interruption is safe.

    Returns:
        The labelling, saved, with its project and frames.
    """
    if not work.project:
        work = replace(work, project=client.create_project(title, page.LABEL_CONFIG))
        work.save()
    if work.url and not work.pictures:
        work = replace(work, pictures=client.create_project(f"{title}: pictures", page.UPLOAD_CONFIG))
        work.save()
    page.check_config(client.project(work.project)["label_config"], f"project {work.project} at {client.url}")
    shown = {(str(t["data"].get("clip")), t["data"].get("frame")) for t in client.export(work.project)}
    models = set()
    for batch in batches:
        fresh = sorted(frame for frame in batch.why if (batch.clip.name, frame) not in shown)
        if fresh:
            client.import_tasks(work.project, _tasks(client, work, batch, fresh))
        models |= {answer["model_version"] for frame in fresh for answer in batch.answers.get(frame, [])}
        shown |= {(batch.clip.name, frame) for frame in fresh}
        known = work.clips.get(batch.clip.name, batch.clip)
        out = tuple(sorted({*known.frames, *batch.clip.frames, *batch.why}))
        work = work.with_clip(replace(batch.clip, frames=out))
        work.save()
    for model in sorted(models - {tasks.CURRENT_LABEL}):
        work = replace(work, model=model)
        client.update_project(work.project, model_version=model)  # whose answers are the pre-annotations
        work.save()
    return work


def address(client: Client, work: Work) -> str:
    """Where a person labels."""
    return f"{client.url}/projects/{work.project}/data?labeling=1"


def _clip(work: Work, video: Path) -> WorkClip:
    """The record of a video, with the frames that are out."""
    new = WorkClip.of(video, clips.probe(video))
    old = work.clips.get(new.name)
    if old is None:
        return new
    if old.sha256 != new.sha256:
        raise LabelError(
            f"{video}: another video of that name is in {work.folder} (hash {old.sha256[:12]}, this one "
            f"{new.sha256[:12]}); rename it or use another --work folder"
        )
    return replace(new, frames=old.frames)


def _track(
    work: Work,
    video: Path,
    networks: tracking.Networks,
    on_frame: Callable[[int, Any], None] | None,
) -> pd.DataFrame:
    """The tracker's rows by frame."""
    done = tracking.track_video(video, work.folder / "tracks", networks=networks, on_frame=on_frame)
    return pd.read_csv(done.csv).set_index("frame")


def _labelled(data: Path | None, name: str) -> set[int]:
    path = None if data is None else data / f"{name}.parquet"
    return set(labels.usable(labels.read_table(path)[0])["frame"]) if path and path.is_file() else set()


def _places(table: pd.DataFrame) -> dict[int, pictures.Place]:
    seen = table[table["visible"].astype(bool) & table["x_px"].notna() & table["y_px"].notna()]
    return {int(frame): (x, y) for frame, x, y in zip(seen.index, seen["x_px"], seen["y_px"])}


def _doubts(frame: int, rows: pd.DataFrame, current: pd.DataFrame, clip: WorkClip) -> list[dict[str, Any]]:
    """The model's answer for a frame, and the label that it contradicts."""
    x, y, confidence = (float(rows[name][frame]) for name in ("x_px", "y_px", "confidence"))
    says = (bool(np.isfinite(x + y)), x, y, confidence)
    answers = [tasks.prediction(*says, clip.size_hw, "mined")]
    if frame in current.index:
        x, y = float(current["x_px"][frame]), float(current["y_px"][frame])
        said = (bool(current["visible"][frame]), x, y, float("nan"))
        answers.append(tasks.prediction(*said, clip.size_hw, tasks.CURRENT_LABEL))
    return answers


def _media(work: Work, clip: WorkClip) -> Path:
    return work.folder / "media" / clip.name


def _tasks(client: Client, work: Work, batch: Batch, frames: list[int]) -> list[dict[str, Any]]:
    """The tasks of some frames of a batch; an existing server is sent the pictures first."""
    folder = _media(work, batch.clip)
    names = {
        (frame, n): pictures.image_name(frame, n, batch.lossless)
        for frame in frames
        for n in range(page.PAST + 1)
    }
    if work.url:
        sent = client.upload(work.pictures, [folder / name for name in names.values()])
        urls = {key: sent[folder / name] for key, name in names.items()}
    else:
        client.add_folder(work.project, folder.resolve())
        urls = {key: f"/data/local-files/?d={quote(f'{folder.name}/{name}')}" for key, name in names.items()}
    return [
        tasks.task(
            batch.clip,
            frame,
            batch.why[frame],
            [urls[frame, n] for n in range(page.PAST + 1)],
            batch.answers.get(frame, []),
        )
        for frame in frames
    ]
