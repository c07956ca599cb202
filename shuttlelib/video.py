"""Video in and out, frame by frame, with PyAV; the source of pixels for clips, samples and tracking.

Frames come in presentation order and are counted from 0; nothing ever seeks, so frame `i` is the same
picture in every module. What the pixels of a `Frame` are is in `frames`.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange

from shuttlelib import nvdec
from shuttlelib.errors import ShuttleError
from shuttlelib.files import as_url, atomic_write, is_stray
from shuttlelib.frames import Frame
from shuttlelib.geometry import SizeHW
from shuttlelib.pictures import Converter, Pictures, measured_fps, note_once, stated_fps

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".ts", ".mts", ".m2ts", ".wmv")
_CLOCK_RESET_S = 1.0  # time stamps that go back by less are out of order, by more a clock that was set anew
_TO_MEASURE = 16  # pictures that are decoded first where the container does not state its rate
_TICKS = 16  # a frame: where pictures come faster than the mean rate, they are told apart by these
_LONGEST_HOLD_S = 3600.0  # nobody waits longer, and mp4 cannot hold the jump of a clock by a day


class VideoError(ShuttleError):
    """A video that cannot be read or written."""


class EndedEarlyError(VideoError):
    """A video that ended before it should have; the frames until then are good."""


class TruncatedVideoError(EndedEarlyError):
    """A video that gave fewer frames than it promised.

    Attributes:
        frames_read: frames yielded before this was raised.
        frames_expected: the container's claim, 0 if unknown.
    """

    def __init__(self, path: str | Path, frames_read: int, frames_expected: int, damaged: int) -> None:
        of = f" of {frames_expected}" if frames_expected else ""
        what = f"{damaged} damaged packets were stepped over" if damaged else "the video stops in the middle"
        super().__init__(f"{path}: {what}, {frames_read}{of} frames read; copy or record it again")
        self.frames_read, self.frames_expected = frames_read, frames_expected


@dataclass(frozen=True)
class VideoInfo:
    """What a container says about its first video stream.

    Attributes:
        path: the file.
        width, height: native size, px.
        fps: mean frames per second, fractional (29.97 stays 29.97); by the first time stamps where the file
            does not say or pauses, or 30.
        frame_count: the container's claim, 0 if unknown.
        pixel_aspect: width of a pixel over its height, as players show it; 1 where the file does not say.
    """

    path: Path
    width: int
    height: int
    fps: float
    frame_count: int
    pixel_aspect: Fraction = Fraction(1)

    @property
    def even_hw(self) -> SizeHW:
        """(height, width) of its `Frame`s, px."""
        return self.height // 2 * 2, self.width // 2 * 2


class Reading:
    """One pass through a container's pictures: what they are, then each of them as a frame.

    Args:
        container: just opened; whoever opened it closes it.
        name: of the file, for errors.
        notes: gets a line for each thing that was done to the pictures (see `pictures.Converter`).
        like: scale the pictures to the size of these; None keeps their own.
        fix: what to do if there is no picture in it.
        prompt: give each picture as soon as it is there; decoding several at a time is faster, but later.

    Attributes:
        info: what the container says, and the size of the pictures as players show them.
        count: frames given so far.
        says_its_length: whether the container knows when it ends.
        pictures: how much of the stream was damaged or missing, once the frames are through.

    Raises:
        VideoError: no pictures, or none that can be decoded.
    """

    def __init__(
        self,
        container: "av.container.InputContainer",
        name: str | Path,
        notes: list[str] | None = None,
        like: VideoInfo | None = None,
        fix: str = "copy or record it again",
        prompt: bool = False,
    ) -> None:
        stream = video_stream(container, name)
        # By frame NVDEC would want a surface more for each thread, and has few
        stream.thread_type = "SLICE" if prompt or stream.codec_context.is_hwaccel else "AUTO"
        self.count = 0
        self.pictures = Pictures(container, stream)
        self._notes = [] if notes is None else notes
        converter = Converter(self._notes, (like.height, like.width) if like else None)
        self.says_its_length = container.duration is not None
        self._shown = converter.convert(iter(self.pictures), stream.time_base)
        fps = stated_fps(stream)
        first = list(islice(self._shown, _TO_MEASURE if fps is None else 1))
        if not first:
            raise VideoError(f"{name}: no frame could be decoded; {fix}")
        self._shown = chain(first, self._shown)
        height, width = converter.shown_hw
        fps = fps or measured_fps([stamp_s for stamp_s, _ in first])
        aspect = stream.sample_aspect_ratio or Fraction(1)
        aspect = 1 / aspect if converter.turn.transpose else aspect
        self.info = VideoInfo(Path(name), width, height, fps, stream.frames, aspect)

    def frames(self, first: int = 0, from_s: float = 0.0) -> Iterator[Frame]:
        """The frames, once: numbered from `first`, the first of them at `from_s`.

        Times follow the time stamps but never run backwards: at a jump back of more than a second (a
        recorder that set its clock anew) they go on one frame later. Without time stamps the rate counts.
        """
        step_s, shift_s, last_s = 1 / self.info.fps, None, from_s - 1 / self.info.fps
        for index, (stamp_s, picture) in enumerate(self._shown, first):
            at_s = last_s + step_s
            if stamp_s is not None:
                shift_s = at_s - stamp_s if shift_s is None else shift_s
                if stamp_s + shift_s < last_s - _CLOCK_RESET_S:
                    shift_s = at_s - stamp_s
                at_s = max(stamp_s + shift_s, last_s)
            last_s = at_s
            self.count += 1
            yield Frame(index, at_s, picture)
        if shift_s is None:
            note_once(self._notes, f"it has no time stamps; times assume {self.info.fps:g} frames per second")


def is_video(path: Path) -> bool:
    """Whether a file has a video's name and is no stray one; no folder is one, but a broken link is."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not is_stray(path) and not path.is_dir()


def probe(path: str | Path) -> VideoInfo:
    """Size, rate and length of a video as its container states them, its size as players show it.

    Raises:
        VideoError: the file is missing, empty, not a video, cut before its index, or has no pictures.
    """
    with _open(Path(path)) as container:
        return Reading(container, path).info


def read_frames(
    path: str | Path, notes: list[str] | None = None, decoder: str = "cpu"
) -> Generator[Frame, None, None]:
    """Every frame of a video, in order.

    Args:
        path: the file.
        notes: gets a line for each thing that was done to the pictures (see `pictures.Converter`).
        decoder: cpu; nvdec, which falls back to the CPU with a note; or auto, which falls back without.

    Yields:
        Frames with `index` 0, 1, 2, … and `time_s` from the presentation time stamps, 0 at the first.

    Raises:
        VideoError: as `probe`, before the first frame.
        TruncatedVideoError: after the last frame that decodes, when the file stops early or some of its
            packets were damaged (those frames are missing, and later ones move up).
    """
    path = Path(path)
    notes = [] if notes is None else notes
    on_gpu = None if decoder == "cpu" else nvdec.open_on_gpu(path, notes, decoder)
    with on_gpu or _open(path) as container:
        reading = Reading(container, path, notes)
        yield from reading.frames()
        pictures = reading.pictures
        if pictures.patched:
            patched = "pictures were damaged, and shown as the decoder patched them"
            note_once(notes, f"{pictures.patched} {patched}")
        if pictures.stopped_early or pictures.damaged:
            raise TruncatedVideoError(path, reading.count, reading.info.frame_count, pictures.damaged)


class VideoWriter:
    """Writes RGB frames as H.264 mp4; the file appears under its name only once it is complete.

    Use it as a context manager: on any error inside the block the partial file is removed.

    Args:
        path: the mp4 to write.
        size_hw: size of every frame, px; both even (4:2:0 chroma).
        fps: frames per second, may be fractional.
        crf: x264's quality, lower is better and larger.
        note: what the file says of itself, its metadata's comment.
        pixel_aspect: width of a pixel over its height.

    Raises:
        VideoError: an odd size, a frame of another size or type, or no frame at all.
        WriteError: the folder cannot be written or the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        size_hw: SizeHW,
        fps: float,
        crf: int = 23,
        note: str = "",
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self.path = Path(path)
        if size_hw[0] % 2 or size_hw[1] % 2:
            raise VideoError(f"{path}: frame size {size_hw[1]}x{size_hw[0]} is odd; crop it to even numbers")
        self.size_hw, self.fps, self.crf, self.note = size_hw, fps, crf, note
        self.pixel_aspect = pixel_aspect
        self._next = 0  # where the last frame ends, in sixteenths of a frame at a constant rate
        self._skipped = 0.0  # frames

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as stack:
            temp = stack.enter_context(atomic_write(self.path))
            opened = av.open(as_url(temp), "w", format="mp4", options={"movflags": "faststart"})
            self._container = stack.enter_context(opened)
            self._container.metadata["comment"] = self.note
            self._stream = self._add_stream()
            self._exits = stack.pop_all()
        return self

    def _add_stream(self) -> "av.VideoStream":
        rate = Fraction(self.fps).limit_denominator(round(1001 / min(self.fps, 1)))
        options = {"crf": str(self.crf), "preset": "veryfast"}
        stream = self._container.add_stream("libx264", rate, options=options)
        stream.height, stream.width = self.size_hw
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / (_TICKS * rate)
        context.colorspace = context.color_primaries = context.color_trc = 6  # SMPTE 170M: BT.601 as written
        context.color_range = ColorRange.MPEG
        if self.pixel_aspect != 1:
            context.sample_aspect_ratio = self.pixel_aspect
        return stream

    def write(self, rgb: np.ndarray, time_s: float | None = None) -> None:
        """Append one frame, uint8 (H, W, 3), at `time_s`: until then the last one is held, an hour at most.

        At the constant rate it follows without a time, or with one that is less than half a frame off.
        """
        if rgb.shape != (*self.size_hw, 3) or rgb.dtype != np.uint8:
            raise VideoError(f"{self.path}: frame is {rgb.dtype} {rgb.shape}, not uint8 {(*self.size_hw, 3)}")
        planes = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2YUV_I420)
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        picture.pts = self._next if time_s is None else self._due(time_s * self.fps)
        picture.time_base, picture.duration = self._stream.codec_context.time_base, _TICKS
        self._next = picture.pts + _TICKS
        self._container.mux(self._stream.encode(picture))

    def _due(self, frame: float) -> int:
        """Where a picture of a time, told in frames, belongs, in ticks; after the one before."""
        late = frame - self._skipped - self._next / _TICKS
        if late > _LONGEST_HOLD_S * self.fps:
            self._skipped += late
        on_beat = _TICKS * round(frame - self._skipped)
        if on_beat >= self._next:
            return on_beat
        return max(round(_TICKS * (frame - self._skipped)), self._next - _TICKS + 1, 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish and rename; on any error remove what was written."""
        with self._exits:
            if error is not None:
                raise error
            if not self._next:
                raise VideoError(f"{self.path}: no frame was written")
            self._container.mux(self._stream.encode(None))


def _open(path: Path) -> "av.container.InputContainer":
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if path.is_dir():
        raise VideoError(f"{path}: is a folder, not a video file")
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(12)
        if not head:
            raise VideoError(f"{path}: the file is empty (zero bytes); copy or record it again")
        return av.open(as_url(path))
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, PermissionError):
            raise VideoError(f"{path}: may not be read; check its permissions") from error
        if head[4:8] == b"ftyp":
            raise VideoError(
                f"{path}: the video has no index (it was cut off); copy or record it again"
            ) from error
        raise VideoError(f"{path}: not a video; give a file that a video player opens") from error


def video_stream(container: "av.container.InputContainer", path: str | Path) -> "av.VideoStream":
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
