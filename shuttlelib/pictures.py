"""What a decoder gives, made into the pictures that everything here reads; between containers and frames.

Whatever was recorded comes out upright, progressive, of one size and as 8-bit limited-range 4:2:0, so that
frame `i` is the same picture in every module.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange

from shuttlelib.frames import UPRIGHT, Turn, reformatter, turned
from shuttlelib.geometry import SizeHW

_DEFAULT_FPS = 30.0  # for the rare container that does not say
_MOST_GUESSED_FPS = 240.0  # a guess beyond it is the container's clock
_MOST_STEPS = 2.1  # the guessed rate may be twice the mean: it may count the two fields of a picture
_OTHERS_SLACK_S = 1.0  # a container's duration is its longest stream's: sound may outlast the pictures


def stated_fps(stream: "av.VideoStream") -> float | None:
    """Mean frames per second, fractional, as the container states it; None where it does not.

    Nor where the mean is far below the rate of single steps: then the recording paused.
    """
    mean, guess = float(stream.average_rate or 0), float(stream.guessed_rate or 0)
    guess = guess if guess <= _MOST_GUESSED_FPS else 0.0
    paused = 0 < mean < guess / _MOST_STEPS
    return None if paused else mean or guess or None


def measured_fps(stamps_s: Sequence[float | None]) -> float:
    """Frames per second by the median step of some time stamps; 30 where they do not tell."""
    known = sorted(stamp for stamp in stamps_s if stamp is not None)
    steps = np.diff(known)
    return 1 / float(np.median(steps)) if len(steps) > 1 and np.median(steps) > 0 else _DEFAULT_FPS


def note_once(notes: list[str], line: str) -> None:
    """Add a line that is not among the notes yet."""
    if line not in notes:
        notes.append(line)


class Pictures:
    """Decodes a stream to its pictures, stepping over damage and noticing an early end.

    Attributes:
        damaged: packets that could not be decoded, or arrived incomplete.
        patched: pictures whose damage the decoder covered up, where it says so.
        stopped_early: whether the file ended before its own claim; known once the pictures, or the packets,
            are through.
    """

    def __init__(self, container: "av.container.InputContainer", stream: "av.VideoStream") -> None:
        self._container, self._stream = container, stream
        self._seen = 0
        self._end_s = 0.0
        self._last_pts: int | None = None
        self.damaged = self.patched = 0
        self.stopped_early = False

    def __iter__(self) -> Iterator["av.VideoFrame"]:
        for packet in self.packets():
            yield from self._decoded(packet)
        for picture in self._decoded(None):
            # Pictures are stored in another order than shown: a hole here is one the file's end took
            if self.stopped_early and self._leaves_a_hole(picture):
                break
            yield picture

    def packets(self) -> Iterator["av.Packet"]:
        """The packets to decode, without decoding: all but an empty or torn one at the end."""
        yield from self._intact()
        self.stopped_early = self.stopped_early or self._falls_short()

    def _intact(self) -> Iterator["av.Packet"]:
        # By a lost piece of the transport or, if it is the last, by the file's end
        torn: av.Packet | None = None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError) as end:
                self.stopped_early = torn is not None or not isinstance(end, StopIteration)
                return
            if not packet.size:  # the last one is empty and stands for the end
                continue
            if torn is not None:
                self.damaged += 1
                yield torn
            torn = packet if packet.is_corrupt else None
            self._seen += 1
            if packet.pts is not None:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._end_s = max(self._end_s, end_s)
            if torn is None:
                yield packet

    def _decoded(self, packet: "av.Packet | None") -> Iterator["av.VideoFrame"]:
        try:
            for picture in self._stream.decode(packet):
                self.patched += picture.is_corrupt
                yield picture
                self._last_pts = picture.pts
        except av.FFmpegError:
            self.damaged += packet is not None

    def _leaves_a_hole(self, picture: "av.VideoFrame") -> bool:
        if picture.pts is None or self._last_pts is None:
            return False
        return float((picture.pts - self._last_pts) * self._stream.time_base) > 1.5 * self._step_s()

    def _step_s(self) -> float:
        return 1 / (stated_fps(self._stream) or _DEFAULT_FPS)

    def _falls_short(self) -> bool:
        """Whether fewer packets came than the index lists or, without one, less time than is claimed."""
        if self._stream.frames:
            return self._seen < sum(entry.size > 0 for entry in self._stream.index_entries)
        alone = len(self._container.streams) == 1
        slack_s = 1.5 * self._step_s() if alone else _OTHERS_SLACK_S
        claimed = (self._container.duration or 0) + (self._container.start_time or 0)
        return self._end_s < claimed / av.time_base - slack_s


class Converter:
    """Makes the pictures of one video alike.

    Interlaced ones are made whole (one for one, at the same time); pictures that change size are scaled
    to the first one's; full range and more than 8 bits become limited range and 8 bits; a turned or
    mirrored picture becomes as players show it.

    Args:
        notes: gets a line for each of these that a reader of the coordinates should know.
        shown_hw: scale the pictures to this size; None takes the first one's.

    Attributes:
        turn: how the pictures are shown; known from the first one on.
    """

    def __init__(self, notes: list[str], shown_hw: SizeHW | None = None) -> None:
        self._notes = notes
        self._shown_hw = shown_hw
        self._stored_wh: tuple[int, int] | None = None
        self.turn = UPRIGHT
        self._deinterlacer: _Deinterlacer | None = None

    @property
    def shown_hw(self) -> SizeHW:
        """Height and width of the pictures as shown, px; known from the first on."""
        assert self._shown_hw is not None  # asked for before any picture
        return self._shown_hw

    def convert(
        self, decoded: Iterator["av.VideoFrame"], time_base: Fraction
    ) -> Iterator[tuple[float | None, "av.VideoFrame | np.ndarray"]]:
        """Time in seconds (None: the container does not say) and picture or planes, of each one decoded."""
        for picture in self._progressive(decoded, time_base):
            at_s = None if picture.pts is None else float(picture.pts * picture.time_base)
            if self._stored_wh is None:
                self.turn = _turn(picture)
                own_hw = (picture.height, picture.width)
                self._shown_hw = self._shown_hw or (own_hw[::-1] if self.turn.transpose else own_hw)
                self._stored_wh = self.shown_hw if self.turn.transpose else self.shown_hw[::-1]
                if self.turn != UPRIGHT:
                    h, w = self.shown_hw
                    note_once(self._notes, f"its pictures are stored turned or mirrored; shown as {w}x{h}")
            if (picture.width, picture.height) != self._stored_wh:
                h, w = self.shown_hw
                scaled = f"its pictures change size; all are scaled to {w}x{h}, the first one's"
                note_once(self._notes, scaled)
            same = _to_yuv420p(picture, self._stored_wh)
            yield at_s, same if self.turn == UPRIGHT else turned(same, self.turn)

    def _progressive(
        self, decoded: Iterator["av.VideoFrame"], time_base: Fraction
    ) -> Iterator["av.VideoFrame"]:
        for picture in decoded:
            # Pictures that the decoder held back to the end have no time base of their own
            picture.time_base = time_base
            if picture.interlaced_frame:
                note_once(self._notes, "its pictures are interlaced; each was made whole (bwdif)")
            if self._deinterlacer is not None and not self._deinterlacer.fits(picture):
                yield from self._deinterlacer.fed(None)
                self._deinterlacer = None
            if self._deinterlacer is None and picture.interlaced_frame:
                self._deinterlacer = _Deinterlacer(picture)
            yield from [picture] if self._deinterlacer is None else self._deinterlacer.fed(picture)
        if self._deinterlacer is not None:
            yield from self._deinterlacer.fed(None)


class _Deinterlacer:
    """Deinterlaces pictures of one size and format; the last one comes out when it is fed None."""

    def __init__(self, like: "av.VideoFrame") -> None:
        self._like = (like.width, like.height, like.format.name)
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=like.time_base
        )
        filter_ = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self._graph.link_nodes(source, filter_, self._graph.add("buffersink")).configure()

    def fits(self, picture: "av.VideoFrame") -> bool:
        return (picture.width, picture.height, picture.format.name) == self._like

    def fed(self, picture: "av.VideoFrame | None") -> Iterator["av.VideoFrame"]:
        self._graph.vpush(picture)
        while True:
            try:
                yield self._graph.vpull()
            except (BlockingIOError, EOFError):
                return


def _to_yuv420p(picture: "av.VideoFrame", size_wh: tuple[int, int]) -> "av.VideoFrame":
    """8-bit limited-range 4:2:0 of that size, whatever the decoder gave (10-bit, full range, …)."""
    full_range = picture.color_range == ColorRange.JPEG
    same_size = (picture.width, picture.height) == size_wh
    if picture.format.name == "yuv420p" and same_size and not full_range:
        return picture
    source = ColorRange.JPEG if full_range else None
    return reformatter("decoded").reformat(
        picture, *size_wh, "yuv420p", src_color_range=source, dst_color_range=ColorRange.MPEG
    )


def _turn(picture: "av.VideoFrame") -> Turn:
    """How players show a picture, by its display matrix (a, b, _, c, d, …): x' = ax + cy, y' = bx + dy."""
    data = picture.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return Turn(True, c < 0, b < 0)
    return Turn(False, a < 0, d < 0)
