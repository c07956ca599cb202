"""The tracker: two networks and a state machine that decides, frame by frame, which of them looks where.

Stands between runtime and tracking (which reads and writes files). Stage 2 follows the shuttle on
crops; a calibration (stage 1, then stage 2 around its places) finds it again when the track looks sick
(`triggers`). What was seen is weighed over time (`hypotheses`). History is the tracker's own past
predictions, never ground truth.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import chain

import numpy as np

from shuttlelib.errors import UsageError, check_choice
from shuttlelib.frames import BASE_FPS, PAST, Frame, history_stride
from shuttlelib.geometry import SizeHW, Window, crop_window, frame_to_window, full_window, window_to_frame
from shuttlelib.hypotheses import Column, Hypotheses, Sighting, Verdict, sightings_in, verdict
from shuttlelib.landing import Landing
from shuttlelib.looks import Look, with_coming
from shuttlelib.offline import Memory
from shuttlelib.refine import refined
from shuttlelib.rows import SURE, Row
from shuttlelib.runtime import Backend, Candidates
from shuttlelib.track_params import TrackParams
from shuttlelib.triggers import NOISE, SEEN, Triggers

OFFLINE = "offline"  # smart, and once more over the video when all of it is known
MODES = ("smart", "fast", "calibration", OFFLINE)  # of a pair
WHOLE = "whole"  # the mode of a stage-1 version alone
FIRED_KEPT = 10_000  # a camera may run for days
Foreseen = list[tuple[np.ndarray, list[Sighting]]]  # where a frame was looked at, and what was seen there


class Tracker:
    """Tracks the shuttle through the frames of one video, given one after the other.

    Args:
        stage1: finds the region in the letterboxed whole frame.
        stage2: places the head in a crop at the canonical scale; None where `mode` is whole.
        size_hw: of the frames, px.
        fps: new pictures a second.
        mode: smart, fast, calibration, offline, or whole: stage 1 alone, on every frame.
        params: thresholds.
        calibration: `{"visible": [a, b], "invisible": [a, b]}`: confidence = sigmoid(a * logit(p) + b) of
            the raw probability p that a row is right; None leaves p as it is.
        memory: of a first pass over the same frames: this is the second, which looks again where it says.

    Attributes:
        counts: how often each trigger fired (see `docs/modes.md`), how many rows were withdrawn, and how many
            inputs each network saw.
        fired: the frames in which each trigger fired, the last `FIRED_KEPT` of each.
        sightings: in mode offline what was seen in each frame, by its number.
        settles: frames after which a row changes no more.
        ahead: frames after the current one that a network looks at.

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
        memory: Memory | None = None,
    ) -> None:
        check_choice("--mode", mode, (*MODES, WHOLE))
        if stage2 is None and mode != WHOLE:
            raise UsageError(f"--mode {mode}: needs a stage-2 version; give one, or use --mode {WHOLE}")
        self.stage1, self.stage2, self.size_hw, self.fps, self.mode = stage1, stage2, size_hw, fps, mode
        self.params = params or TrackParams()
        self.calibration = dict(calibration or {})
        self._memory = memory
        self.sightings: dict[int, list[Sighting]] = {}
        self.counts: Counter[str] = Counter()
        self.fired: dict[str, deque[int]] = {}
        self._stride = history_stride(fps)
        self._whole = full_window(size_hw, stage1.input_hw)
        networks = [network for network in (stage1, stage2) if network is not None]
        past = max(network.frames - 1 - network.ahead for network in networks)
        follows = stage2 is not None and mode in ("smart", "fast", OFFLINE) and memory is None
        self._foresees = follows and not networks[-1].uses_history and self.params.foresee_heights > 0
        self.ahead = max(network.ahead for network in networks) * self._stride + self._foresees
        self._frames: deque[Frame] = deque(maxlen=past * self._stride + 1)
        self._coming: Sequence[Frame] = ()
        self._triggers = Triggers(self.params, size_hw[0], fps)
        self._landing = Landing(self.params, size_hw, fps)
        self._lag = self._frames_in(self.params.lag_s)
        self._doubts: deque[bool] = deque(maxlen=self._frames_in(self.params.noise_window_s))
        least = self.params.noise_calibrations
        self._noisy = round(max(least * fps / BASE_FPS, min(least, 2)))  # one is never many
        self.settles = max(self._lag, self._doubts.maxlen or 0)
        kept = max(PAST * self._stride, self.settles + 1 + self._frames_in(self.params.smooth_s))
        self._rows: deque[Row] = deque(maxlen=kept)
        self._track = Hypotheses(self.params, size_hw[0], fps, self._lag)
        self._last_seen: np.ndarray | None = None  # native px
        self._regions = np.empty((0, 2))  # where the last calibration's stage 1 saw one, native px
        self._foreseen: dict[int, Foreseen] = {}  # of the next frame, by its number
        self._hint: np.ndarray | None = None  # best place of the last calibration, visible or not
        self._landed: list[Sighting] | None = None  # in this frame; None: not looked for
        self._since_calibration = 0

    def tracking(
        self, frames: Iterable[Frame], emit: Callable[[Frame, Row], None]
    ) -> Generator[Look, Candidates, None]:
        """Track frames: a `Look` wants its `Candidates` (see `asking`); settled rows go to `emit` in order.

        When `frames` raises, the rows so far come out first.
        """
        waiting: deque[Frame] = deque()
        try:
            for frame, coming in with_coming(frames, self.ahead):
                yield from self.asking(frame, coming)
                waiting.append(frame)
                if len(waiting) > self.settles:
                    emit(waiting.popleft(), self._refined(self.settles))
        finally:
            for back in range(self._lag - 1, -1, -1):
                self._settle(back)
            for back in range(len(waiting) - 1, -1, -1):
                emit(waiting.popleft(), self._refined(back))

    def asking(self, frame: Frame, coming: Sequence[Frame] = ()) -> Generator[Look, Candidates, Row]:
        """The next frame's row, which `settles` more frames may change; each `Look` wants its `Candidates`.

        So several trackers can share one batch, and pixels may stay where the networks run.

        Args:
            frame: the current one.
            coming: up to `ahead` frames after it; the last one known stands for those that are missing.
        """
        self._frames.append(frame)
        self._coming = coming
        if self.mode == WHOLE:
            return self._keep(frame, (yield from self._look_at_all())[0])
        if self._memory is not None:
            return self._judge(frame, self._track.ahead((yield from self._look_again(frame, self._memory))))
        foreseen, self._foreseen = self._foreseen.get(frame.index, []), {}
        trigger, sightings, self._landed = self._due(), list[Sighting](), None
        if not trigger:
            sightings = yield from self._follow(foreseen)
            column = yield from self._weighed(frame, sightings)
            trigger = self._doubt(verdict(column))
        self._since_calibration += 1
        if trigger:
            self.counts[trigger] += 1
            self.fired.setdefault(trigger, deque(maxlen=FIRED_KEPT)).append(frame.index)
            self._since_calibration = 0
            found = yield from self._calibrate(sightings if trigger in SEEN else [])
            sightings = self._doubted(sightings) + found
            self._hint = np.array(max(found or sightings, key=lambda sighting: sighting.logit)[:2])
            column = yield from self._weighed(frame, sightings)
        if self.mode == OFFLINE:
            self.sightings[frame.index] = sightings + (self._landed or [])
        row = self._judge(frame, column)
        self._doubts.append(trigger in NOISE)
        if 0 < self._noisy <= sum(self._doubts):
            self._withdraw()
        return row

    def _follow(self, foreseen: Foreseen) -> Generator[Look, Candidates, list[Sighting]]:
        """What stage 2 sees where the track is expected.

        The crops of the next frame, where the track should be by then, come in the same batch: two take
        little longer than one. If the track is then expected elsewhere, that frame is looked at again.
        """
        reach = self.params.foresee_heights * self.size_hw[0]
        found, places = list[Sighting](), list[np.ndarray]()
        for place in self._places():
            near = min(foreseen, key=lambda seen: math.dist(seen[0], place), default=None)
            if near is not None and math.dist(near[0], place) <= reach:
                found += near[1]
            else:
                places.append(place)
        if not places:
            self.counts["foreseen"] += 1
            return found
        coming = self._places(1) if self._foresees and self._coming else []
        seen = yield from self._look_each(places, coming)
        if coming:
            self._foreseen = {self._coming[0].index: list(zip(coming, seen[len(places) :]))}
        return found + list(chain(*seen[: len(places)]))

    def _weighed(self, frame: Frame, sightings: list[Sighting]) -> Generator[Look, Candidates, Column]:
        """The hypotheses of this frame; where it is not seen, also from a look at what came to rest."""
        assert self.stage2 is not None
        column = self._track.ahead(sightings + (self._landed or []))
        if self._landed is not None or verdict(column).probability >= self.params.visible_threshold:
            return column
        look = self._landing.look(frame, self.stage2)
        if look is None:
            return column
        result = yield look
        self.counts["landed"] += 1
        self.counts["stage2_inputs"] += 1
        self._landed = self._landing.stayed(sightings_in(result, look.windows, self.size_hw, self.params)[0])
        return self._track.ahead(sightings + self._landed) if self._landed else column

    def _due(self) -> str:
        """The trigger that fires without a look, if any."""
        if self.mode == "calibration":
            return "always"
        if self._hint is None:
            return "start"
        interval = self._frames_in(self.params.fast_interval_s)
        return "interval" if self.mode == "fast" and self._since_calibration + 1 >= interval else ""

    def _doubt(self, found: Verdict) -> str:
        """The trigger that a look fires, if any."""
        if self.mode not in ("smart", OFFLINE):
            return ""
        visible = found.probability >= self.params.visible_threshold
        place = found.xy_px, visible, found.logit, found.flown_s
        return self._triggers.fired(*place, self._rows, self._since_calibration)

    def _frames_in(self, seconds: float) -> int:
        return max(1, round(seconds * self.fps))

    def _calibrate(self, followed: list[Sighting]) -> Generator[Look, Candidates, list[Sighting]]:
        """Stage 1 on the whole frame, then what stage 2 sees on crops around its places.

        Where stage 1's best place is one that is followed, stage 2 has seen it already.
        """
        _, places, scores = yield from self._look_at_all()
        self._regions = places[scores >= self.params.alone_min_score]
        radius = self.params.triangle_radius_heights * self.size_hw[0]
        angles = np.deg2rad([-90, 30, 150])
        centers = [places[0] + radius * np.array([math.cos(a), math.sin(a)]) for a in angles]
        shown = [places[0], *centers]
        for place in places[1:][scores[1:] >= self.params.candidate_min_score]:
            if len(shown) < self.params.stage1_candidates + 3 and not _near(place, shown, radius):
                shown.append(place)
        reach = self.params.alone_heights * self.size_hw[0]
        known = any(math.dist(places[0], sighting[:2]) <= reach for sighting in followed)
        centers = shown[4:] if known else shown[1:]
        return (yield from self._look(centers)) if centers else []

    def _doubted(self, sightings: list[Sighting]) -> list[Sighting]:
        """What was seen on the crops that follow the track: of less evidence where stage 1 sees nothing."""
        reach, price = self.params.alone_heights * self.size_hw[0], self.params.alone_logit
        gaps = [np.hypot(*(self._regions - sighting[:2]).T).min(initial=np.inf) for sighting in sightings]
        return [
            sighting._replace(logit=sighting.logit - price * (gap > reach))
            for sighting, gap in zip(sightings, gaps)
        ]

    def _look_at_all(self) -> Generator[Look, Candidates, tuple[Verdict, np.ndarray, np.ndarray]]:
        """Stage 1 on the whole frame: its answer, its places (K, 2) native px and their scores (K,)."""
        result = yield self._asked(1, [self._whole], self.stage1)
        self.counts["stage1_inputs"] += 1
        places = window_to_frame(result.xy[0].astype(np.float64), self._whole)
        inside = np.clip(places[0], 0, (self.size_hw[1], self.size_hw[0]))
        return Verdict(inside, float(result.visible[0]), 0.0, 0.0), places, result.score[0]

    def _look(self, centers: Sequence[np.ndarray]) -> Generator[Look, Candidates, list[Sighting]]:
        """What stage 2 sees on crops of this frame, in one batch."""
        return list(chain(*(yield from self._look_each(centers))))

    def _look_each(
        self, centers: Sequence[np.ndarray], coming: Sequence[np.ndarray] = ()
    ) -> Generator[Look, Candidates, list[list[Sighting]]]:
        """What stage 2 sees on a crop at each centre of this frame, then of the next one, in one batch."""
        assert self.stage2 is not None  # the modes that come here need one
        side, all_centers = self.stage2.input_hw[0], (*centers, *coming)
        limit = np.array([self.size_hw[1], self.size_hw[0]], dtype=np.float64)
        windows = [crop_window(np.clip(center, 0, limit), self.size_hw, side) for center in all_centers]
        result = yield self._asked(2, windows, self.stage2, len(coming))
        self.counts["stage2_inputs"] += len(windows)
        return sightings_in(result, windows, self.size_hw, self.params)

    def _asked(self, stage: int, windows: list[Window], network: Backend, coming: int = 0) -> Look:
        """A look at this frame, through the last `coming` windows at the next one."""
        times = range(1 + network.ahead - network.frames, 1 + network.ahead)
        seen = [[self._frame_at(self._stride * time + later) for time in times] for later in (0, 1)]
        frames = [seen[n >= len(windows) - coming] for n in range(len(windows))]
        return Look(stage, windows, frames, self._history(windows, network))

    def _frame_at(self, later: int) -> Frame:
        """The frame so many after the current one; at either end of the video the last one there."""
        if later > 0 and self._coming:
            return self._coming[min(later, len(self._coming)) - 1]
        return self._frames[max(0, len(self._frames) - 1 + min(later, 0))]

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

    def _places(self, later: int = 0) -> list[np.ndarray]:
        """Where to follow, native px: where the track is expected, or will be so many frames later.

        While the shuttle is unseen the last calibration's best place is watched too, if it is elsewhere.
        """
        expected = self._track.expected(later)
        expected = self._last_seen if expected is None else expected
        places = [] if expected is None else [expected]
        reach = self.params.triangle_radius_heights * self.size_hw[0]
        following = bool(places) and self._rows[-1].visible
        if self._hint is not None and not following and not _near(self._hint, places, reach):
            places.append(self._hint)
        return places

    def _look_again(self, frame: Frame, memory: Memory) -> Generator[Look, Candidates, list[Sighting]]:
        """What the first pass saw, and what is seen where it says to look again."""
        places = list(memory.places.get(frame.index, ()))
        again = (yield from self._look(places)) if places else []
        self.counts["again"] += bool(places)
        return [*memory.sightings.get(frame.index, ()), *again]

    def _judge(self, frame: Frame, column: Column) -> Row:
        """Go on to a frame's hypotheses: its row; also settles an earlier one."""
        self._track.add(column)
        row = self._keep(frame, verdict(column))
        self._settle(self._lag)
        return row

    def _keep(self, frame: Frame, found: Verdict) -> Row:
        """The row of the current frame, the newest of the track's."""
        row = Row(frame.index, frame.time_s, False, math.nan, math.nan, 0.0, "none")
        self._fill(row, found)
        if row.visible:
            self._last_seen = found.xy_px
        self._triggers.told(row.visible)
        self._landing.told(frame, found, row.visible)
        self._rows.append(row)
        return row

    def _settle(self, back: int) -> None:
        """Judge the row `back` frames ago again, now that it is known what came after."""
        if back < len(self._track):
            self._fill(self._rows[-1 - back], self._track.settled(back))

    def _refined(self, back: int) -> Row:
        """The row so many frames ago, settled, as it is told; in mode whole as the network said it."""
        if self.mode == WHOLE:
            return self._rows[-1 - back]
        return refined(self._rows, len(self._rows) - 1 - back, self.params, self.size_hw, self.fps)

    def _fill(self, row: Row, found: Verdict) -> None:
        somewhere = not math.isnan(found.xy_px[0])  # nothing was seen is below a threshold of 0 too
        row.visible = somewhere and found.probability >= self.params.visible_threshold
        row.x_px, row.y_px = map(float, found.xy_px) if row.visible else (math.nan, math.nan)
        row.source = "detected" if row.visible else "none"
        kind, p = ("visible", found.probability) if row.visible else ("invisible", 1 - found.probability)
        row.confidence = self.confidence(kind, p)

    def confidence(self, kind: str, probability: float) -> float:
        """The calibrated probability that a row of a kind (visible, invisible, rectified) is right."""
        if kind not in self.calibration:
            return probability
        a, b = self.calibration[kind]
        p = min(max(probability, SURE), 1 - SURE)
        return 1 / (1 + math.exp(-(a * math.log(p / (1 - p)) + b)))

    def _withdraw(self) -> None:
        """Tell the rows of the noise window as not visible; the track starts anew."""
        if self._rows[-1].visible:
            self._triggers.told(False)
        for row in list(self._rows)[-len(self._doubts) :]:
            if row.visible:
                row.visible, row.x_px, row.y_px, row.source = False, math.nan, math.nan, "none"
                row.confidence = 1 - row.confidence
                self.counts["withdrawn_rows"] += 1
            self.sightings.pop(row.frame, None)
        self._doubts.clear()
        self._track.forget()


def _near(place: np.ndarray, others: list[np.ndarray], reach_px: float) -> bool:
    """Whether a place (2,) is in view of a crop at one of the others."""
    return any(float(np.abs(place - other).max()) <= reach_px for other in others)
