"""What the track may be: a few hypotheses a frame, weighed by what networks see and how shuttles fly.

A hidden Markov model over time, between the networks' answers and the tracker's rows. In each frame the
shuttle is nowhere to be seen, at one of the places that were seen, or hidden on the flight of an earlier
one. The weight of a hypothesis is its probability given all frames so far (forward); some frames later,
`Hypotheses.settled` weighs it by what came after as well (backward). So a shoe that looks right for three
frames loses against the shuttle that flies on, and a blurred frame within a flight stays the shuttle.

Source: Rabiner, A tutorial on hidden Markov models, 1989 (forward and backward weights, scaled). Ours has
    the sightings of a frame for states, each with the velocity of its likeliest past.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shuttlelib.flight import Flight
from shuttlelib.frames import BASE_FPS, ROUNDING_S
from shuttlelib.geometry import SizeHW, Window, window_to_frame
from shuttlelib.runtime import Candidates
from shuttlelib.track_params import TrackParams

_IMPOSSIBLE = -30.0  # a log-likelihood that never wins and keeps every sum above 0
_SURE = 1e-4  # no network is surer than this that a place is the shuttle, or is not
_SURPRISE = 3.0  # sigmas: farther off than this is a hit, and what was known of the velocity is over


class Sighting(NamedTuple):
    """A place where a network may have seen the shuttle.

    Attributes:
        x_px, y_px: native px.
        logit: log-odds that it is the shuttle, of the network alone.
    """

    x_px: float
    y_px: float
    logit: float


class Column(NamedTuple):
    """The N hypotheses of one frame: nowhere first, then K sightings, then the hidden ones.

    Attributes:
        xy_px: (N, 2) places; that of "nowhere" means nothing.
        velocity_px: (N, 2) px a frame.
        unseen: (N,) frames since the last sighting, 0 for a sighting.
        steps: (N,) steps of its flight that were seen; without one its velocity is not known.
        flown_s: (N,) time in which those were fast, s; 0 again after a hit or a jump.
        logit: (K,) of the sightings, alone.
        move: (M, N) likelihood of getting here from each hypothesis of the frame before.
        evidence: (N,) likelihood ratio of what the networks said.
        weight: (N,) probability given all frames up to this one.
    """

    xy_px: np.ndarray
    velocity_px: np.ndarray
    unseen: np.ndarray
    steps: np.ndarray
    flown_s: np.ndarray
    logit: np.ndarray
    move: np.ndarray
    evidence: np.ndarray
    weight: np.ndarray


class Verdict(NamedTuple):
    """What is believed of a frame.

    Attributes:
        xy_px: (2,) the likeliest place; nan where nothing was seen.
        probability: that the shuttle is visible at all.
        logit: log-odds of that place, of the network alone.
        flown_s: time in which the flight that led there was seen to be fast, s.
    """

    xy_px: np.ndarray
    probability: float
    logit: float
    flown_s: float


_NOTHING = Column(
    xy_px=np.zeros((1, 2)),
    velocity_px=np.zeros((1, 2)),
    unseen=np.zeros(1),
    steps=np.zeros(1),
    flown_s=np.zeros(1),
    logit=np.zeros(0),
    move=np.zeros((0, 1)),
    evidence=np.ones(1),
    weight=np.ones(1),
)


class Hypotheses:
    """The hypotheses of one video, frame by frame; `len` is how many frames can still be judged.

    Args:
        params: thresholds.
        height_px: of the frames.
        fps: new pictures a second.
        lag: frames after which a verdict is settled.
    """

    def __init__(self, params: TrackParams, height_px: int, fps: float, lag: int) -> None:
        self._p = params
        self._flight = Flight.of(params.drag_per_height, params.gravity_heights, height_px, fps)
        self._frame_s, self._thirtieths = 1 / fps, BASE_FPS / fps
        # What neighbouring frames say is the more alike the closer they are: evidence is per thirtieth
        self._share = min(1.0, self._thirtieths)
        self._longest = max(1, round(params.hidden_s * fps))
        self._sigma_px = params.sigma_heights * height_px
        self._first_px = params.first_sigma_heights * height_px
        self._merge_px = params.merge_heights * height_px
        self._rest_px = params.rest_heights * height_px
        self._fly_px = params.fly_heights * height_px
        self._columns: deque[Column] = deque(maxlen=lag + 2)
        self.forget()

    def __len__(self) -> int:
        return len(self._columns) - 1

    def forget(self) -> None:
        """Start anew."""
        self._columns.clear()
        self.add(_NOTHING)

    def expected(self, later: int = 0) -> np.ndarray | None:
        """(2,) native px where the next frame should show it, or one `later`; None without a track."""
        last = self._columns[-1]
        if len(last.weight) < 2:
            return None
        best = 1 + int(last.weight[1:].argmax())
        place, velocity = (flown[best] for flown in self._flown)
        for _ in range(later):
            place, velocity = self._flight.on(place, velocity)
        return place

    def ahead(self, sightings: Sequence[Sighting]) -> Column:
        """The hypotheses of the next frame, if this is what was seen; nothing changes yet."""
        last, (moved, velocity) = self._columns[-1], self._flown
        seen = self._distinct(sightings)
        places, logit = np.array([s[:2] for s in seen]).reshape(-1, 2), np.array([s.logit for s in seen])
        order = [i for i in (-last.weight).argsort().tolist() if i and last.unseen[i] < self._longest]
        hidden = order[: self._p.hidden_kept]
        sigma = self._sigma(last)
        off = places - moved[:, None]
        distance = np.sqrt((off * off).sum(-1))  # (M, K)
        move = self._moves(last, distance, sigma, hidden)
        paths = last.weight[:, None] * move
        start = paths[:, 1 : 1 + len(seen)].argmax(0)  # (K,) which flight each sighting goes on
        k = np.arange(len(seen))
        goes_on = (start > 0) & (distance[start, k] < _SURPRISE * sigma[start])
        step = (places - last.xy_px[start]) / (1 + last.unseen[start])[:, None]
        fast = self._flies(step, velocity[start]) & (logit > 0)
        flown_s = goes_on * (last.flown_s[start] + fast * self._frame_s)
        doubt = np.where(flown_s < self._p.fly_s - ROUNDING_S, self._p.rest_doubt, self._p.landed_doubt)
        doubt = np.where(self._rests(last, step, start) & (logit < 0), doubt, 1.0)
        evidence = np.ones(1 + len(seen) + len(hidden))
        evidence[1 : 1 + len(seen)] = np.exp(self._p.evidence * self._share * doubt * logit)
        weight = self._together(paths, 0) * evidence
        known = goes_on & (last.steps[start] > 0)
        gain = np.where(known, self._p.velocity_gain, 1.0) / (1 + last.unseen[start]) * (start > 0)
        speed = velocity[start] * (start > 0)[:, None] + gain[:, None] * off[start, k]
        return Column(
            np.concatenate([_NOTHING.xy_px, places, moved[hidden]]),
            np.concatenate([_NOTHING.velocity_px, speed, velocity[hidden]]),
            np.concatenate([np.zeros(1 + len(seen)), last.unseen[hidden] + 1]),
            np.concatenate([np.zeros(1), (last.steps[start] + 1) * (start > 0), last.steps[hidden]]),
            np.concatenate([np.zeros(1), flown_s, last.flown_s[hidden]]),
            logit,
            move,
            evidence,
            weight / weight.sum(),
        )

    def add(self, column: Column) -> None:
        """Go on to the next frame."""
        self._columns.append(column)
        self._flown = self._flight.on(column.xy_px, column.velocity_px)  # where each would be a frame later

    def settled(self, back: int) -> Verdict:
        """The verdict on the frame `back` frames before the last one, given all since."""
        later = np.ones(len(self._columns[-1].weight))
        for place in range(len(self._columns) - 1, len(self._columns) - 1 - back, -1):
            column = self._columns[place]
            later = self._together(column.move * (column.evidence * later), 1)
            later /= later[0]  # never 0: from nowhere the way to nowhere is open
        return verdict(self._columns[-1 - back], later)

    def _distinct(self, sightings: Sequence[Sighting]) -> list[Sighting]:
        """The likeliest of those at one place, the likeliest first."""
        kept: list[Sighting] = []
        for one in sorted(sightings, key=lambda s: -s.logit):
            if all(math.hypot(one.x_px - k.x_px, one.y_px - k.y_px) > self._merge_px for k in kept):
                kept.append(one)
        return kept[: self._p.sightings_kept]

    def _together(self, ways: np.ndarray, axis: int) -> np.ndarray:
        """What several ways to a hypothesis weigh: their sum, taken once in a thirtieth of a second.

        Taken in every frame, it would give places side by side, between which there are many ways, the
        more weight the more frames a second has, while evidence stays the same: they would win by number.
        """
        if self._share == 1:
            return ways.sum(axis)
        return (ways ** (1 / self._share)).sum(axis) ** self._share

    def _flies(self, step_px: np.ndarray, velocity_px: np.ndarray) -> np.ndarray:
        """(K,) whether steps (K, 2) are fast and go on in the direction of flight: noise turns back."""
        speed_px = np.hypot(*velocity_px.T)
        along_px = (step_px * velocity_px).sum(-1) / np.maximum(speed_px, 1e-9)
        return np.minimum(along_px, speed_px) > self._fly_px * self._thirtieths

    def _rests(self, last: Column, step_px: np.ndarray, start: np.ndarray) -> np.ndarray:
        """(K,) whether a sighting, (K, 2) away from one before it, rests, as that one did."""
        lengths_px = np.hypot(*step_px.T), np.hypot(*last.velocity_px[start].T)
        slow = np.maximum(*lengths_px) < self._rest_px * self._thirtieths
        return slow & (start > 0) & (last.unseen[start] == 0)

    def _sigma(self, last: Column) -> np.ndarray:
        """(M,) px: how far from its flight each hypothesis may be seen next."""
        speed = np.sqrt((last.velocity_px * last.velocity_px).sum(-1)) / self._share
        known = self._sigma_px + self._p.sigma_steps * speed
        return np.where(last.steps > 0, known, self._first_px) * (1 + last.unseen * self._share)

    def _moves(
        self, last: Column, distance_px: np.ndarray, sigma_px: np.ndarray, hidden: list[int]
    ) -> np.ndarray:
        """(M, N) likelihood of each hypothesis after each of the last frame."""
        p, seen = self._p, slice(1, 1 + distance_px.shape[1])
        log = np.full((len(last.weight), 1 + distance_px.shape[1] + len(hidden)), _IMPOSSIBLE)
        log[:, 0] = np.where(last.unseen > 0, -p.end_hidden_logit, -p.end_logit)
        near = np.where(last.steps > 0, p.near_logit, p.first_logit) - np.log1p(last.unseen * self._share)
        near = near[:, None] - 0.5 * (distance_px / sigma_px[:, None]) ** 2
        log[:, seen] = np.maximum(near * self._share, -p.far_logit)
        log[0, seen], log[0, 0] = -p.appear_logit, 0.0
        for place, i in enumerate(hidden, seen.stop):
            log[i, place] = -p.hide_logit if last.unseen[i] == 0 else -p.stay_hidden_logit
        return np.exp(log)


def verdict(column: Column, later: np.ndarray | None = None) -> Verdict:
    """What the weights of a frame say, after those of later frames (N,) if given."""
    weight = column.weight if later is None else column.weight * later
    seen = weight[1 : 1 + len(column.logit)]
    if not len(seen):
        return Verdict(np.full(2, math.nan), 0.0, -math.inf, 0.0)
    best = int(seen.argmax())
    probability = float(seen.sum() / weight.sum())
    return Verdict(
        column.xy_px[1 + best], probability, float(column.logit[best]), float(column.flown_s[1 + best])
    )


def sightings_in(
    result: Candidates, windows: Sequence[Window], size_hw: SizeHW, params: TrackParams
) -> list[list[Sighting]]:
    """What stage 2 may have seen in each of its crops.

    The peaks of a crop share its probability of being visible by their scores; the best is always told.
    """
    found: list[list[Sighting]] = []
    answers = zip(result.xy, result.score.tolist(), result.visible.tolist(), windows, strict=True)
    for xy, scores, visible, window in answers:
        total = sum(scores) + 1e-9
        found.append([])
        places = window_to_frame(xy[: params.peaks].astype(np.float64), window).tolist()
        for (x, y), score in zip(places, scores):
            share = visible * score / total
            if score < scores[0] and share < params.peak_min:
                break
            share = min(max(share, _SURE), 1 - _SURE)
            inside = min(max(x, 0.0), float(size_hw[1])), min(max(y, 0.0), float(size_hw[0]))
            found[-1].append(Sighting(*inside, math.log(share / (1 - share))))
    return found
