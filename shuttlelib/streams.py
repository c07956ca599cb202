"""Sources that are no files: cameras, network streams and pipes; beside `live`, behind commands.

A lost connection is made again with growing pauses; frame numbers go on, and times go on in real time.
"""

import errno
import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import urlsplit

import av

from shuttlelib import sources
from shuttlelib.errors import UsageError
from shuttlelib.frames import Frame
from shuttlelib.live import Clock, Reader, played
from shuttlelib.sources import Footage, Source
from shuttlelib.video import EndedEarlyError, Reading, TruncatedVideoError, VideoError, VideoInfo

_SCHEMES = ("rtsp", "rtsps", "http", "https")
_SECRET = re.compile(r"(?i)((?:pass|pwd|token|key|secret|auth|sig)\w*=)[^&/;_]*")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_FIXES = {
    av.error.ConnectionRefusedError: "nothing answers there: check host and port",
    av.error.TimeoutError: "no answer: check host and port",
    av.error.ExitError: "no answer in time: check host and port",
    av.error.HTTPUnauthorizedError: "check the user and the password in the address",
    av.error.HTTPForbiddenError: "check the user and the password in the address",
    av.error.HTTPNotFoundError: "check the path of the address",
}


_FROM_THE_START = "send Matroska, MPEG-TS or an mp4 with its index in front (-movflags faststart)"

_Opened: TypeAlias = "tuple[av.container.InputContainer, Reading]"


@dataclass(frozen=True)
class Settings:
    """How streams are read.

    Attributes:
        live: drop frames rather than fall behind; None: cameras and RTSP do, others do not.
        latency_s: longest wait of a frame for the tracker, when live.
        reconnect_s: how long a lost connection is tried to be made again.
        silence_s: a connection that gives nothing for so long is lost.
        raw: what standard input holds, if it is raw video: WIDTHxHEIGHT@FPS[:FORMAT].
        camera: what a camera is asked for, in the same form; empty leaves it to the camera.
        decoder: of files; see `video.read_frames`.
    """

    live: bool | None = None
    latency_s: float = 0.2
    reconnect_s: float = 30.0
    silence_s: float = 10.0
    raw: str = ""
    camera: str = ""
    decoder: str = "cpu"


def kind_of(video: str) -> str:
    """What a name stands for: a pipe, an address, a camera, or a file (also a folder of them)."""
    if video == "-":
        return "pipe"
    if "://" in video:
        return "address"
    return "camera" if video.isdecimal() and not Path(video).exists() else "file"


def find(video: str, settings: Settings) -> list[Source]:
    """The sources that a name stands for: an address, a camera's number, `-`, a file or a folder of videos.

    Raises:
        UsageError: another kind of address, a malformed `raw` or `camera`, or see `sources.find`.
    """
    kind = kind_of(video)
    if kind == "pipe":
        if sys.stdin is None:
            raise UsageError(
                "-: standard input is closed; pipe a video in, as in `ffmpeg … | shuttle track -`"
            )
        return [_pipe(sys.stdin.buffer, settings)]
    if kind == "address":
        return [_address(video, settings)]
    if kind == "camera":
        return [_camera(int(video), settings)]
    files = sources.find(video, settings.decoder)
    return [played(file, settings.latency_s) for file in files] if settings.live else files


def refuse_idle(settings: Settings, videos: Sequence[str], endless: bool) -> None:
    """Refuse settings that would do nothing.

    Args:
        videos: all names that are tracked with these settings.
        endless: whether one of them is, as a `Source`.

    Raises:
        UsageError: a setting for other sources only.
    """
    kinds, usual = set(map(kind_of, videos)), Settings()
    live = endless if settings.live is None else settings.live
    for option, given, works, where in (
        ("--raw", settings.raw, "pipe" in kinds, "standard input (-)"),
        ("--camera", settings.camera, "camera" in kinds, "a camera's number"),
        ("--decoder nvdec", settings.decoder == "nvdec", "file" in kinds, "files"),
        ("--latency-ms", settings.latency_s != usual.latency_s, live, "--live, cameras and RTSP"),
        ("--reconnect-s", settings.reconnect_s != usual.reconnect_s, kinds - {"file", "pipe"}, "streams"),
    ):
        if given and not works:
            raise UsageError(f"{option}: goes with {where} alone; leave it out")


@dataclass(frozen=True)
class Link:
    """How to reach a stream.

    Attributes:
        name: of the stream, for messages; without a password.
        connect: opens it.
        endless: whether it ends only by being stopped or lost; a pipe, which is not made again, ends anyhow.
        again: whether a lost connection can be made again.
        fix: what to do if it cannot be opened and the reason says no more.
        unreadable: what to do if what comes is no video.
    """

    name: str
    connect: Callable[[], "av.container.InputContainer"]
    endless: bool
    again: bool
    fix: str
    unreadable: str

    def open(self, **reading: Any) -> "_Opened":
        """Connect, and read up to the first picture.

        Raises:
            VideoError: it cannot be reached, or has no pictures; the message holds no password.
        """
        try:
            container = self.connect()
        except (av.FFmpegError, OSError, ValueError) as error:
            fixes = {**_FIXES, av.error.InvalidDataError: self.unreadable}
            fix = next((fix for kind, fix in fixes.items() if isinstance(error, kind)), self.fix)
            why = getattr(error, "strerror", error)
            # Not chained: FFmpeg's own message repeats the address as it was given
            raise VideoError(f"{self.name}: cannot be opened ({why}); {fix}") from None
        try:
            return container, Reading(
                container, self.name, prompt=self.endless, fix=self.unreadable, **reading
            )
        except BaseException:
            container.close()
            raise


class Feed:
    """Reads a stream: what it is, then its frames, over as many connections as it takes.

    Args:
        link: to the stream.
        reconnect_s: see `Settings`.
        now: the time, s.
        wait: waits for so many seconds; true if nobody wants frames any more.
    """

    def __init__(self, link: Link, reconnect_s: float, now: Clock, wait: Callable[[float], bool]) -> None:
        self._link, self._reconnect_s, self._now, self._wait = link, reconnect_s, now, wait
        self._last: Frame | None = None
        self._came_s = 0.0  # when it did
        self._lost_s: float | None = None  # when the connection was, if no frame has come since
        self._pause_s = _FIRST_PAUSE_S
        self.notes: list[str] = []
        self.damaged = self.reconnects = 0

    def facts(self) -> dict[str, Any]:
        """For the summary."""
        return {"reconnects": self.reconnects, "damaged_packets": self.damaged}

    def items(self) -> Generator[VideoInfo | Frame, None, None]:
        """A VideoInfo, then every frame.

        Raises:
            VideoError: the first connection fails.
            EndedEarlyError: after the last frame, if it was not the end of the stream.
        """
        first = self._link.open(notes=self.notes)
        info = first[1].info
        yield info
        opened: _Opened | None = first
        while opened is not None:
            container, reading = opened
            with container:
                yield from self._frames(reading)
            if not self._lost(reading):
                break
            opened = self._again(info)
        count = self._last.index + 1 if self._last else 0
        if opened is None and self._link.again:
            raise EndedEarlyError(
                f"{self._link.name}: was lost after {count} frames and did not come back within "
                f"{self._reconnect_s:g} s; check the connection"
            )
        if opened is None or (self.damaged and not self._link.endless):
            raise TruncatedVideoError(self._link.name, count, info.frame_count, self.damaged)

    def _frames(self, reading: Reading) -> Generator[Frame, None, None]:
        """A connection's frames, as they continue those before."""
        before = self._last
        if before is None or not self._link.endless:  # a recording starts again from its beginning
            frames = reading.frames()
        else:
            frames = reading.frames(before.index + 1, before.time_s + self._now() - self._came_s)
        try:
            for frame in frames:
                if before is None or frame.time_s > before.time_s:
                    self._last, self._came_s, self._lost_s = frame, self._now(), None
                    yield frame
        finally:
            self.damaged += reading.pictures.damaged

    def _lost(self, reading: Reading) -> bool:
        ends_by_loss = self._link.endless and self._link.again and not reading.says_its_length
        return reading.pictures.stopped_early or ends_by_loss

    def _again(self, info: VideoInfo) -> "_Opened | None":
        """A new connection; None if there is none in time."""
        if self._lost_s is None:
            self._lost_s, self._pause_s = self._now(), _FIRST_PAUSE_S
        until_s = self._lost_s + self._reconnect_s
        while self._link.again and self._now() < until_s and not self._wait(self._pause_s):
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            try:
                opened = self._link.open(notes=self.notes, like=info)
            except VideoError:
                continue
            self.reconnects += 1
            return opened
        return None


def once(link: Link, stem: str, settings: Settings, now: Clock = time.monotonic) -> Source:
    """A source that can be read once; its outputs are named after the time, so that they replace nothing."""

    def open_(stopped: Callable[[], bool]) -> Footage:
        closing = threading.Event()
        feed = Feed(link, settings.reconnect_s, now, closing.wait)
        live = link.endless if settings.live is None else settings.live
        reader = Reader(feed.items(), stopped, closing, settings.latency_s if live else None, now)
        return reader.footage(feed.notes, feed.facts)

    stem = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Source(link.name, link.name, stem, open_, endless=link.endless)


def _address(url: str, settings: Settings) -> Source:
    """A stream or a recording at an RTSP or HTTP address."""
    name, stem = _shown(url)
    scheme = url.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        raise UsageError(f"{name}: {scheme} is not supported; give {', '.join(_SCHEMES)} or a file")
    rtsp = scheme.startswith("rtsp")
    options = {"rtsp_flags": "prefer_tcp"} if rtsp else {}

    def connect() -> "av.container.InputContainer":
        return av.open(url, options=options, timeout=settings.silence_s)

    unreadable = "check that a video player shows it" if rtsp else _FROM_THE_START
    endless = rtsp or bool(settings.live)
    return once(Link(name, connect, endless, True, "check the address", unreadable), stem, settings)


def _shown(url: str) -> tuple[str, str]:
    """What to call an address, without anything that may be secret; and a stem for files."""
    try:
        parts = urlsplit(url)
    except ValueError:  # whose message may repeat a password
        scheme = url.partition("://")[0]
        raise UsageError(f"{scheme}://…: is no address; check the host and its brackets") from None
    unclear = "@" in url and "@" not in parts.netloc  # a password with an unescaped / ? or #
    host = parts.netloc.rpartition("@")[2]
    if unclear or not host:
        return f"{parts.scheme}://…", parts.scheme
    path = _SECRET.sub(r"\1…", parts.path)
    last = Path(parts.path).stem if "=" not in parts.path else ""
    return f"{parts.scheme}://{host}{path}", re.sub(r"[^\w.-]+", "-", last or host)


def _camera(number: int, settings: Settings) -> Source:
    """A camera of this machine."""
    wanted = _raw_options("--camera", settings.camera)
    kind, pixels = {
        "linux": ("v4l2", "input_format"),
        "darwin": ("avfoundation", "pixel_format"),
        "win32": ("dshow", "vcodec"),
    }.get(sys.platform, ("v4l2", "input_format"))
    if "pixel_format" in wanted:
        wanted[pixels] = wanted.pop("pixel_format")
    if kind == "avfoundation":
        wanted.setdefault("framerate", "30")  # it has no default of its own that cameras accept

    def connect() -> "av.container.InputContainer":
        return av.open(_device(kind, number), format=kind, options=wanted, timeout=settings.silence_s)

    fix, unreadable = "plug it in, or give another camera's number", "ask for another picture with --camera"
    link = Link(f"camera {number}", connect, True, True, fix, unreadable)
    return once(link, f"camera{number}", settings)


def _device(kind: str, number: int) -> str:
    """What FFmpeg calls a camera."""
    if kind == "v4l2":
        return f"/dev/video{number}"
    if kind == "avfoundation":
        return f"{number}:none"  # no sound
    cameras = [device for device in av.enumerate_input_devices(kind) if "video" in device.media_types]
    if number >= len(cameras):
        raise FileNotFoundError(errno.ENOENT, f"there are {len(cameras)} cameras, counted from 0")
    return f"video={cameras[number].name}"


def _pipe(file: BinaryIO, settings: Settings) -> Source:
    """What another program writes to our standard input: a container or, with `raw`, bare pictures."""
    if file.isatty():
        raise UsageError("-: standard input is a terminal; pipe a video in, like: ffmpeg … | shuttle track -")
    raw = _raw_options("--raw", settings.raw)
    unbuffered = getattr(file, "raw", file)  # gives what is there instead of waiting for a whole block

    def connect() -> "av.container.InputContainer":
        return av.open(unbuffered, format="rawvideo" if raw else None, options=raw)

    live = bool(settings.live)
    fix = f"check --raw {settings.raw}" if raw else "pipe a video in"
    link = Link("standard input", connect, live, False, fix, _FROM_THE_START)
    return once(link, "stdin", settings)


def _raw_options(option: str, value: str) -> dict[str, str]:
    """FFmpeg's options for pictures of a size, rate and format."""
    if not value:
        return {}
    rate = r"(?=[.0]*[1-9])\d*\.?\d*(?:/0*[1-9]\d*)?"  # no zero
    match = re.fullmatch(rf"([1-9]\d*x[1-9]\d*)@({rate})(?::(\w+))?", value)
    if match is None:
        raise UsageError(
            f"{option} {value}: give WIDTHxHEIGHT@FPS, all above 0, maybe with :FORMAT, like 1280x720@30"
        )
    names = ("video_size", "framerate", "pixel_format")
    return {name: text for name, text in zip(names, match.groups()) if text}
