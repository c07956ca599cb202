"""The tracker: two networks and a state machine that decides, frame by frame, which of them looks where.

Stands between runtime and tracking (which reads and writes files). Stage 2 follows the shuttle on
crops; a calibration (stage 1, then stage 2 around its places) finds it again when the track looks sick.
History is the tracker's own past predictions, never ground truth.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from shuttlelib.errors import UsageError
from shuttlelib.frames import BASE_FPS, Frame, history_stride, windows_of
from shuttlelib.geometry import SizeHW, Window, crop_window, frame_to_window, full_window, window_to_frame
from shuttlelib.runtime import Backend, Candidates
from shuttlelib.track_params import TrackParams

Result = TypeVar("Result")
MODES = ("smart", "fast", "calibration")  # of a pair
WHOLE = "whole"  # the mode of a stage-1 version alone
PAST = 30  # rows of history a network may ask for
_DOUBTS = ("lost", "jump", "turn")  # triggers of a track that was seen until now: many of them mean noise


@dataclass
class Row:
    """What the tracker says of one frame.

    Attributes:
        frame: number of the frame.
        time_s: its time.
        visible: whether the shuttle's head is visible.
        x_px, y_px: the head, native px; nan where not visible.
        confidence: calibrated probability that the row is right: visible and placed well, or not visible.
        source: detected (a network saw it), rectified (filled in by physics), held (kept from an earlier
            frame) or none (not visible).
    """

    frame: int
    time_s: float
    visible: bool
    x_px: float
    y_px: float
    confidence: float
    source: str


class Look(NamedTuple):
    """One batch that the tracker wants a network to see: the current and past frames through windows.

    Attributes:
        stage: which network, 1 or 2.
        windows: of the frames, one an input.
        frames: those that the network sees, oldest first, the last one current.
        history: see `Backend.run`; None where the network has no use for it.
    """

    stage: int
    windows: list[Window]
    frames: list[Frame]
    history: np.ndarray | None

    def pixels(self) -> np.ndarray:
        """uint8 (B, T, h, w, 3): the frames through each window."""
        return np.stack([windows_of(self.frames, window) for window in self.windows])


_Asking = Generator[Look, Candidates, "_Found"]


class _Found(NamedTuple):
    """Stage 2's answer at its best crop, or stage 1's of the whole frame."""

    xy_px: np.ndarray  # (2,) native px, a guess when not visible
    probability: float  # given what the track expects
    alone: float  # of the network alone


def answer_all(asking: Generator[Look, Candidates, Result], see: Callable[[Look], Candidates]) -> Result:
    """What a generator returns once each of its looks is taken; it is closed if one fails."""
    try:
        look = next(asking)
        while True:
            look = asking.send(see(look))
    except StopIteration as done:
        return done.value
    finally:
        asking.close()


class Tracker:
    """Tracks the shuttle through the frames of one video, given one after the other.

    Args:
        stage1: finds the region in the letterboxed whole frame.
        stage2: places the head in a crop at the canonical scale; None where `mode` is whole.
        size_hw: of the frames, px.
        fps: of the video.
        mode: smart, fast, calibration, or whole: stage 1 alone, on every frame.
        params: thresholds.
        calibration: `{"visible": [a, b], "invisible": [a, b]}`: confidence = sigmoid(a * logit(p) + b) of
            the raw probability p that a row is right; None leaves p as it is.

    Attributes:
        counts: how often each trigger fired (start, interval, always, lost, unseen, jump, turn, still), how
            many rows were withdrawn, and how many inputs each network saw.

    Raises:
        UsageError: no such mode, or it needs a stage 2.
    """

    def __init__(
        self,
        stage1: Backend,
        stage2: Backend | None,
        size_hw: SizeHW,
        fps: float,
        mode: str = "smart",
        params: TrackParams | None = None,
        calibration: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        if mode not in (*MODES, WHOLE):
            raise UsageError(f"--mode {mode}: choose one of {', '.join((*MODES, WHOLE))}")
        if stage2 is None and mode != WHOLE:
            raise UsageError(f"--mode {mode}: needs a stage-2 version; give one, or use --mode {WHOLE}")
        self.stage1, self.stage2, self.size_hw, self.fps, self.mode = stage1, stage2, size_hw, fps, mode
        self.params = params or TrackParams()
        self.calibration = dict(calibration or {})
        self.counts: Counter[str] = Counter()
        self._stride = history_stride(fps)
        self._per_base = fps / BASE_FPS / self._stride  # steps of one stride to thirtieths of a second
        self._whole = full_window(size_hw, stage1.input_hw)
        past = max(stage1.frames, stage2.frames if stage2 else 0) - 1
        self._frames: deque[Frame] = deque(maxlen=past * self._stride + 1)
        self._rows: deque[Row] = deque(maxlen=max(PAST * self._stride, self._frames_in(self.params.still_s)))
        self._last_seen: np.ndarray | None = None  # native px
        self._hint: np.ndarray | None = None  # best place of the last calibration, visible or not
        self._places: list[np.ndarray] = []  # where the current frame is expected to show it, native px
        self._step_px = 0.0  # length of the last step
        self._unseen = 0
        self._since_calibration = 0
        self._noise_frames = max(1, self._frames_in(self.params.noise_window_s))
        self._doubts: deque[bool] = deque(maxlen=self._noise_frames)

    def track(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Row]]:
        """Each frame with its final row, in order; rows wait until they can no longer be withdrawn.

        When `frames` raises, the rows so far come out first.
        """
        final: list[tuple[Frame, Row]] = []
        tracking = self.tracking(frames, lambda frame, row: final.append((frame, row)))
        answer: Candidates | None = None
        while True:
            try:
                look = next(tracking) if answer is None else tracking.send(answer)
            except StopIteration:
                break
            except Exception:
                yield from final
                raise
            yield from final
            final.clear()
            answer = self.see(look)
        yield from final

    def tracking(
        self, frames: Iterable[Frame], emit: Callable[[Frame, Row], None]
    ) -> Generator[Look, Candidates, None]:
        """As `track`, for a caller that looks itself (see `asking`); final rows go to `emit`."""
        waiting: deque[tuple[Frame, Row]] = deque()
        try:
            for frame in frames:
                waiting.append((frame, (yield from self.asking(frame))))
                if len(waiting) > self._noise_frames:
                    emit(*waiting.popleft())
        finally:
            for item in waiting:
                emit(*item)

    def step(self, frame: Frame) -> Row:
        """The row of the next frame; a later step may still withdraw it (change it to not visible)."""
        return answer_all(self.asking(frame), self.see)

    def asking(self, frame: Frame) -> Generator[Look, Candidates, Row]:
        """The next frame's row, for a caller that looks itself: each `Look` wants its `Candidates` sent in.

        So several trackers can share one batch, and pixels may stay where the networks run.
        """
        self._frames.append(frame)
        self._places, self._step_px = self._expected(frame.index)
        trigger, found = "", None
        if self.mode == WHOLE:
            found = (yield from self._look_at_all())[0]
        elif self.mode == "calibration":
            trigger = "always"
        elif self._hint is None:
            trigger = "start"
        elif self.mode == "fast" and self._since_calibration + 1 >= self._frames_in(
            self.params.fast_interval_s
        ):
            trigger = "interval"
        else:
            found = yield from self._look(self._places)
            trigger = self._doubt(found) if self.mode == "smart" else ""
        self._since_calibration += 1
        if trigger:
            self.counts[trigger] += 1
            self._since_calibration = 0
            calibrated = yield from self._calibrate(afresh=trigger == "still")
            self._hint = calibrated.xy_px
            if trigger == "still" and found is not None:
                found = found._replace(probability=found.alone)
            if found is None or calibrated.probability > found.probability:
                found = calibrated
        assert found is not None  # one of the two looked
        row = self._row(frame, found)
        self._rows.append(row)
        self._doubts.append(trigger in _DOUBTS)
        if 0 < self.params.noise_calibrations <= sum(self._doubts):
            self._withdraw()
        return row

    def _frames_in(self, seconds: float) -> int:
        return max(1, round(seconds * self.fps))

    def _calibrate(self, afresh: bool = False) -> _Asking:
        """Stage 1 on the whole frame, stage 2 on crops around its places; the likeliest one wins.

        `afresh` forgets what the track expects.
        """
        _, places, scores = yield from self._look_at_all()
        radius = self.params.triangle_radius_heights * self.size_hw[0]
        angles = np.deg2rad([-90, 30, 150])
        centers = [places[0] + radius * np.array([math.cos(a), math.sin(a)]) for a in angles]
        for place, score in zip(places[1:], scores[1:]):
            if len(centers) < self.params.stage1_candidates + 2 and score >= self.params.candidate_min_score:
                centers.append(place)
        return (yield from self._look(centers, afresh))

    def _look_at_all(self) -> Generator[Look, Candidates, tuple[_Found, np.ndarray, np.ndarray]]:
        """Stage 1 on the whole frame: its answer, its places (K, 2) native px and their scores (K,)."""
        windows = [self._whole]
        result = yield self._asked(1, windows, self.stage1)
        self.counts["stage1_inputs"] += 1
        places = window_to_frame(result.xy[0].astype(np.float64), self._whole)
        inside = np.clip(places[0], 0, (self.size_hw[1], self.size_hw[0]))
        seen = float(result.visible[0])
        return _Found(inside, seen, seen), places, result.score[0]

    def _look(self, centers: list[np.ndarray], afresh: bool = False) -> _Asking:
        """Stage 2 on a crop at each centre, in one batch; the likeliest, given the track unless afresh."""
        assert self.stage2 is not None  # the modes that come here need one
        side = self.stage2.input_hw[0]
        limit = np.array([self.size_hw[1], self.size_hw[0]], dtype=np.float64)
        windows = [crop_window(np.clip(center, 0, limit), self.size_hw, side) for center in centers]
        result = yield self._asked(2, windows, self.stage2)
        self.counts["stage2_inputs"] += len(windows)
        answers = zip(result.xy[:, 0].astype(np.float64), windows, strict=True)
        xy_px = np.stack([window_to_frame(xy, window) for xy, window in answers])
        alone = np.clip(result.visible.astype(np.float64), 1e-6, 1 - 1e-6)
        logit = np.log(alone / (1 - alone)) + (0.0 if afresh else self._prior_logit(xy_px))
        best = int(np.argmax(logit))
        probability = 1 / (1 + math.exp(-logit[best]))
        return _Found(np.clip(xy_px[best], 0, limit), probability, float(alone[best]))

    def _prior_logit(self, xy_px: np.ndarray) -> np.ndarray:
        """What the track says of places (N, 2) native px: log-odds (N,) to add to stage 2's."""
        p = self.params
        if self._last_seen is None or self._unseen >= self._frames_in(p.prior_coast_s):
            return np.full(len(xy_px), -p.prior_lost_logit)
        sigma_px = p.prior_sigma_heights * self.size_hw[0] + p.prior_sigma_steps * self._step_px
        sigma_px *= 1 + self._unseen * BASE_FPS / self.fps
        distance_px = np.hypot(*(xy_px - self._places[0]).T)
        return np.maximum(p.prior_near_logit - 0.5 * (distance_px / sigma_px) ** 2, -p.prior_far_logit)

    def see(self, look: Look) -> Candidates:
        """Cut what a look asks for out of its frames, and run its network."""
        network = self.stage1 if look.stage == 1 else self.stage2
        assert network is not None  # the modes that look at crops need a stage 2
        return network.run(look.pixels(), look.history)

    def _asked(self, stage: int, windows: list[Window], network: Backend) -> Look:
        last = len(self._frames) - 1  # the first frame stands for those before it
        seen = [self._frames[max(0, last - self._stride * b)] for b in reversed(range(network.frames))]
        return Look(stage, windows, seen, self._history(windows, network))

    def _history(self, windows: list[Window], network: Backend) -> np.ndarray | None:
        """(B, 30, 3) float32 past x, y in 0..1 of each window and visible, oldest first."""
        if not network.uses_history:
            return None
        history = np.zeros((len(windows), PAST, 3), np.float32)
        for back in range(1, min(PAST, len(self._rows) // self._stride) + 1):
            row = self._rows[-self._stride * back]
            if row.visible:
                for past, window in zip(history, windows):
                    xy = frame_to_window(np.array([row.x_px, row.y_px]), window)
                    past[-back] = *(xy / (window.out_w, window.out_h)), 1
        return history

    def _expected(self, index: int) -> tuple[list[np.ndarray], float]:
        """Where to follow, native px: the last place and a share of the last step; and that step's length.

        While the shuttle is unseen the last calibration's best place is watched too, if it is elsewhere.
        """
        step_px = 0.0
        places = [] if self._last_seen is None else [self._last_seen]
        coast = self._frames_in(self.params.coast_s)
        seen = [row for row in list(self._rows)[-3 * coast :] if row.visible][-2:]
        if len(seen) == 2 and self._unseen < coast:
            before, last = (np.array([row.x_px, row.y_px]) for row in seen)
            velocity = (last - before) / (seen[1].frame - seen[0].frame)
            step_px = float(np.hypot(*velocity))
            places = [last + self.params.motion_gain * velocity * (index - seen[1].frame)]
        if self._hint is not None and (not places or self._unseen):
            apart = self.params.triangle_radius_heights * self.size_hw[0]
            if not places or float(np.abs(self._hint - places[0]).max()) > apart:
                places.append(self._hint)
        return places, step_px

    def _doubt(self, found: _Found) -> str:
        """Which sign of a sick track the answer shows, if any."""
        if found.probability < self.params.visible_threshold:
            if self._unseen == 0:
                return "lost"
            return "unseen" if (self._unseen + 1) % self._frames_in(self.params.ask_again_s) == 0 else ""
        points = [found.xy_px]
        for back in (1, 2):
            row = self._rows[-self._stride * back] if len(self._rows) >= self._stride * back else None
            if row is None or not row.visible:
                break
            points.append(np.array([row.x_px, row.y_px]))
        steps = [(new - old) / self.size_hw[0] * self._per_base for new, old in pairwise(points)]
        if steps and np.hypot(*steps[0]) > self.params.jump_heights:
            return "jump"
        if (
            len(steps) == 2
            and _turn_deg(steps[1], steps[0], self.params.turn_min_step_heights) > self.params.turn_deg
        ):
            return "turn"
        return "still" if self._rests(found.xy_px) else ""

    def _rests(self, xy_px: np.ndarray) -> bool:
        """Whether the track is where it was `still_s` ago, and was not asked about it since."""
        count = self._frames_in(self.params.still_s)
        if self.params.still_s <= 0 or len(self._rows) < count or self._since_calibration < count:
            return False
        rows = list(self._rows)[-count:]
        reach = self.params.still_heights * self.size_hw[0]
        return all(r.visible and math.hypot(r.x_px - xy_px[0], r.y_px - xy_px[1]) < reach for r in rows)

    def _row(self, frame: Frame, found: _Found) -> Row:
        """The row of an answer; also moves the place to follow."""
        visible = found.probability >= self.params.visible_threshold
        self._unseen = 0 if visible else self._unseen + 1
        if visible:
            self._last_seen = found.xy_px
            x_px, y_px = (float(value) for value in found.xy_px)
            confidence = self._confidence("visible", found.probability)
            return Row(frame.index, frame.time_s, True, x_px, y_px, confidence, "detected")
        confidence = self._confidence("invisible", 1 - found.probability)
        return Row(frame.index, frame.time_s, False, math.nan, math.nan, confidence, "none")

    def _confidence(self, kind: str, probability: float) -> float:
        if kind not in self.calibration:
            return probability
        a, b = self.calibration[kind]
        p = min(max(probability, 1e-6), 1 - 1e-6)
        return 1 / (1 + math.exp(-(a * math.log(p / (1 - p)) + b)))

    def _withdraw(self) -> None:
        """Tell the rows of the noise window as not visible; the track starts anew."""
        for row in list(self._rows)[-len(self._doubts) :]:
            if row.visible:
                row.visible, row.x_px, row.y_px, row.source = False, math.nan, math.nan, "none"
                row.confidence = 1 - row.confidence
                self.counts["withdrawn_rows"] += 1
        self._doubts.clear()
        self._unseen += 1


def _turn_deg(before: np.ndarray, after: np.ndarray, least: float) -> float:
    """Angle between two steps (2,), degrees; 0 where one is shorter than `least`."""
    lengths = float(np.hypot(*before)), float(np.hypot(*after))
    if min(lengths) < max(least, 1e-9):
        return 0.0
    cosine = float(before @ after) / (lengths[0] * lengths[1])
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
