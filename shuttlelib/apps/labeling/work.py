"""The folder a labelling lives in: which server and project, which clips, which frames went out.

`work.json` says all of it; `media/<clip>/` holds the pictures, `tracks/` what the model answered, and
`server/` the database and the log-in of a server of its own.
"""

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from shuttlelib.files import sha256, write_json
from shuttlelib.labels import ClipInfo, LabelError

FILE = "work.json"


@dataclass(frozen=True)
class WorkClip:
    """A clip as it went out for labelling.

    Attributes:
        name: its name then.
        video: where it lay then.
        bytes, sha256: what it is recognised by when it has been renamed.
        width, height: of the extracted pictures, px (even, as frames are decoded).
        fps, frame_count: of the video.
        frames: numbers of the frames that went out, in order.
    """

    name: str
    video: str
    bytes: int
    sha256: str
    width: int
    height: int
    fps: float
    frame_count: int
    frames: tuple[int, ...] = ()

    @classmethod
    def of(cls, video: Path, info: ClipInfo) -> "WorkClip":
        """The record of a video."""
        height, width = info.even_hw
        size = video.stat().st_size
        place = str(video.resolve())
        return cls(video.stem, place, size, info.video_sha256, width, height, info.fps, info.frame_count)

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of the pictures, px."""
        return self.height, self.width

    def is_video(self, path: Path) -> bool:
        """Whether a file is this very video."""
        return path.is_file() and path.stat().st_size == self.bytes and sha256(path) == self.sha256


@dataclass(frozen=True)
class Work:
    """A labelling.

    Attributes:
        folder: of `work.json`.
        url: of an existing server; "" for one of its own.
        id: of the labelling, so that numbers of two own servers are told apart; "" in older ones.
        project: number on the server, 0 while there is none.
        pictures: number of the project that holds the pictures on an existing server, 0 while there is none.
        model: the version that pre-annotated.
        clips: by name.
    """

    folder: Path
    url: str = ""
    id: str = ""
    project: int = 0
    pictures: int = 0
    model: str = ""
    clips: dict[str, WorkClip] = field(default_factory=dict)

    def with_clip(self, clip: WorkClip) -> "Work":
        """The same with one clip added or renewed."""
        return replace(self, clips={**self.clips, clip.name: clip})

    def save(self) -> None:
        """Write `work.json`, whole or not at all."""
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_json(self.folder / FILE, content)


def load(folder: Path, must_exist: bool = True) -> Work:
    """Read a labelling; a fresh one where there is none and none must exist.

    Raises:
        LabelError: no labelling there, or its file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        if must_exist:
            raise LabelError(
                f"{path}: no labelling there; start one with `shuttle label serve VIDEO --work {folder}`"
            )
        return Work(folder, id=secrets.token_hex(4))
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        records = {name: WorkClip(**clip) for name, clip in content.pop("clips").items()}
        frames = {name: replace(clip, frames=tuple(clip.frames)) for name, clip in records.items()}
        return Work(folder, clips=frames, **content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LabelError(
            f"{path}: damaged, or of another version ({error}); the labels are safe on the server: "
            "export the project there as JSON and use `shuttle data import`"
        ) from error
