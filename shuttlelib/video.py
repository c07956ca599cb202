"""Video in and out, frame by frame, with PyAV; the source of pixels for clips, samples and tracking.

Frames come in presentation order and are counted from 0; nothing ever seeks, so frame `i` is the same
picture in every module. What the pixels of a `Frame` are is in `frames`.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange

from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write
from shuttlelib.frames import Frame, reformatter
from shuttlelib.geometry import SizeHW

_DEFAULT_FPS = 30.0  # for the rare container that does not say
_OTHERS_SLACK_S = 1.0  # a container's duration is its longest stream's: sound may outlast the pictures

__all__ = [
    "Frame",
    "TruncatedVideoError",
    "VideoError",
    "VideoInfo",
    "VideoWriter",
    "probe",
    "read_frames",
    "sha256",
    "video_stream",
]


class VideoError(ShuttleError):
    """A video that cannot be read or written."""


class TruncatedVideoError(VideoError):
    """A video that gave fewer frames than it promised.

    Attributes:
        frames_read: frames yielded before this was raised.
        frames_expected: the container's claim, 0 if unknown.
    """

    def __init__(self, path: Path, frames_read: int, frames_expected: int, damaged: int) -> None:
        of = f" of {frames_expected}" if frames_expected else ""
        what = f"{damaged} damaged packets were skipped" if damaged else "the video stops in the middle"
        super().__init__(f"{path}: {what}, {frames_read}{of} frames read; copy or record it again")
        self.frames_read, self.frames_expected = frames_read, frames_expected


@dataclass(frozen=True)
class VideoInfo:
    """What a container says about its first video stream.

    Attributes:
        path: the file.
        width, height: native size, px.
        fps: mean frames per second, fractional (29.97 stays 29.97); 30 where the file does not say.
        frame_count: the container's claim, 0 if unknown.
    """

    path: Path
    width: int
    height: int
    fps: float
    frame_count: int

    @property
    def even_hw(self) -> SizeHW:
        """(height, width) of its `Frame`s, px."""
        return self.height // 2 * 2, self.width // 2 * 2


def probe(path: str | Path) -> VideoInfo:
    """Size, rate and length of a video as its container states them.

    Raises:
        VideoError: the file is missing, empty, not a video, cut before its index, or has no pictures.
    """
    with _open(Path(path)) as container:
        return _info(Path(path), video_stream(container, Path(path)))


def read_frames(path: str | Path) -> Iterator[Frame]:
    """Every frame of a video, in order.

    Yields:
        Frames with `index` 0, 1, 2, … and `time_s` from the presentation time stamps, 0 at the first.

    Raises:
        VideoError: as `probe`, before the first frame.
        TruncatedVideoError: after the last frame that decodes, when the file stops early or some of its
            packets were damaged (those frames are missing, and later ones move up).
    """
    path = Path(path)
    with _open(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        info = _info(path, stream)
        pictures = _Pictures(container, stream)
        first_s, index = None, -1
        for index, picture in enumerate(pictures):
            # Not picture.time: pictures the decoder held back to the end have no time base of their own
            at_s = index / info.fps if picture.pts is None else float(picture.pts * stream.time_base)
            first_s = at_s if first_s is None else first_s
            yield Frame(index, at_s - first_s, _to_yuv420p(picture, info), picture.rotation)
        if index < 0:
            raise VideoError(f"{path}: no frame could be decoded; copy or record it again")
        if pictures.stopped_early or pictures.damaged:
            raise TruncatedVideoError(path, index + 1, info.frame_count, pictures.damaged)


class _Pictures:
    """Decodes a stream to its pictures, stepping over damage and noticing an early end.

    Attributes:
        damaged: packets that could not be decoded.
        stopped_early: whether the file ended before its own claim; known once the pictures are through.
    """

    def __init__(self, container: "av.container.InputContainer", stream: "av.VideoStream") -> None:
        self._container, self._stream = container, stream
        self._seen = 0
        self._end_s = 0.0
        self._last_pts: int | None = None
        self.damaged = 0
        self.stopped_early = False

    def __iter__(self) -> Iterator["av.VideoFrame"]:
        for packet in self._intact():
            yield from self._decoded(packet)
        self.stopped_early = self.stopped_early or self._falls_short()
        for picture in self._decoded(None):
            # Pictures are stored in another order than shown: a hole here is one the file's end took
            if self.stopped_early and self._leaves_a_hole(picture):
                break
            yield picture

    def _intact(self) -> Iterator["av.Packet"]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError) as end:
                self.stopped_early = not isinstance(end, StopIteration)
                return
            if packet.is_corrupt:  # cut off by the end of the file
                self.stopped_early = True
                return
            if packet.size:  # the last one is empty and stands for the end
                self._seen += 1
                if packet.pts is not None:
                    end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    self._end_s = max(self._end_s, end_s)
                yield packet

    def _decoded(self, packet: "av.Packet | None") -> Iterator["av.VideoFrame"]:
        try:
            for picture in self._stream.decode(packet):
                yield picture
                self._last_pts = picture.pts
        except av.FFmpegError:
            self.damaged += packet is not None

    def _leaves_a_hole(self, picture: "av.VideoFrame") -> bool:
        if picture.pts is None or self._last_pts is None:
            return False
        return float((picture.pts - self._last_pts) * self._stream.time_base) > 1.5 / _fps(self._stream)

    def _falls_short(self) -> bool:
        """Whether fewer packets came than the index lists or, without one, less time than is claimed."""
        if self._stream.frames:
            return self._seen < sum(entry.size > 0 for entry in self._stream.index_entries)
        alone = len(self._container.streams) == 1
        slack_s = 1.5 / _fps(self._stream) if alone else _OTHERS_SLACK_S
        claimed = (self._container.duration or 0) + (self._container.start_time or 0)
        return self._end_s < claimed / av.time_base - slack_s


class VideoWriter:
    """Writes RGB frames as H.264 mp4; the file appears under its name only once it is complete.

    Use it as a context manager: on any error inside the block the partial file is removed.

    Args:
        path: the mp4 to write.
        size_hw: size of every frame, px; both even (4:2:0 chroma).
        fps: frames per second, may be fractional.
        crf: x264's quality, lower is better and larger.

    Raises:
        VideoError: an odd size, a frame of another size or type, or no frame at all.
        WriteError: the folder cannot be written or the disk is full.
    """

    def __init__(self, path: str | Path, size_hw: SizeHW, fps: float, crf: int = 23) -> None:
        self.path = Path(path)
        if size_hw[0] % 2 or size_hw[1] % 2:
            raise VideoError(f"{path}: frame size {size_hw[1]}x{size_hw[0]} is odd; crop it to even numbers")
        self.size_hw, self.fps, self.crf = size_hw, fps, crf
        self._frames = 0

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as stack:
            temp = stack.enter_context(atomic_write(self.path))
            self._container = stack.enter_context(
                av.open(str(temp), "w", format="mp4", options={"movflags": "faststart"})
            )
            self._stream = self._add_stream()
            self._exits = stack.pop_all()
        return self

    def _add_stream(self) -> "av.VideoStream":
        rate = Fraction(self.fps).limit_denominator(1001)
        options = {"crf": str(self.crf), "preset": "veryfast"}
        stream = self._container.add_stream("libx264", rate, options=options)
        stream.height, stream.width = self.size_hw
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 6  # SMPTE 170M: BT.601 as written
        context.color_range = ColorRange.MPEG
        return stream

    def write(self, rgb: np.ndarray) -> None:
        """Append one frame, uint8 (H, W, 3)."""
        if rgb.shape != (*self.size_hw, 3) or rgb.dtype != np.uint8:
            raise VideoError(f"{self.path}: frame is {rgb.dtype} {rgb.shape}, not uint8 {(*self.size_hw, 3)}")
        planes = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2YUV_I420)
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        picture.pts = self._frames
        self._frames += 1
        self._container.mux(self._stream.encode(picture))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish and rename; on any error remove what was written."""
        with self._exits:
            if error is not None:
                raise error
            if not self._frames:
                raise VideoError(f"{self.path}: no frame was written")
            self._container.mux(self._stream.encode(None))


def sha256(path: str | Path) -> str:
    """Hex digest of a file, to tie labels to the very video they were made on."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: Path) -> "av.container.InputContainer":
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if path.is_dir():
        raise VideoError(f"{path}: is a folder, not a video file")
    try:
        with path.open("rb") as file:
            head = file.read(12)
        if not head:
            raise VideoError(f"{path}: the file is empty (zero bytes); copy or record it again")
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, PermissionError):
            raise VideoError(f"{path}: may not be read; check its permissions") from error
        if head[4:8] == b"ftyp":
            raise VideoError(
                f"{path}: the video has no index (it was cut off); copy or record it again"
            ) from error
        raise VideoError(f"{path}: not a video; give a file that a video player opens") from error


def video_stream(container: "av.container.InputContainer", path: Path) -> "av.VideoStream":
    """The stream that every reader here takes: the first that is moving pictures.

    Raises:
        VideoError: there is none, or it cannot be decoded.
    """
    cover = av.stream.Disposition.attached_pic  # an album picture in a music file is not a video
    for stream in container.streams.video:
        if not stream.disposition & cover:
            if stream.codec_context is None or min(stream.width, stream.height) < 2:
                raise VideoError(f"{path}: the video stream cannot be decoded; re-encode it as H.264")
            return stream
    raise VideoError(f"{path}: has no video stream (audio only?); give a file with pictures")


def _info(path: Path, stream: "av.VideoStream") -> VideoInfo:
    return VideoInfo(path, stream.width, stream.height, _fps(stream), stream.frames)


def _fps(stream: "av.VideoStream") -> float:
    return float(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS)


def _to_yuv420p(picture: "av.VideoFrame", info: VideoInfo) -> "av.VideoFrame":
    """8-bit limited-range 4:2:0 at the stream's size, whatever the decoder gave (10-bit, full range, …)."""
    full_range = picture.color_range == ColorRange.JPEG
    same_size = (picture.width, picture.height) == (info.width, info.height)
    if picture.format.name == "yuv420p" and same_size and not full_range:
        return picture
    source = ColorRange.JPEG if full_range else None
    return reformatter("decoded").reformat(
        picture, info.width, info.height, "yuv420p", src_color_range=source, dst_color_range=ColorRange.MPEG
    )
