"""Several stage-2 models that vote on whether the shuttle is visible, behind the interface of one."""

from collections.abc import Sequence

import numpy as np

from shuttlelib.errors import ShuttleError
from shuttlelib.runtime.base import Backend, Candidates

_CLIP = 1e-6


class Vote:
    """Backends that see the same pixels: the first one's places, the mean of all log-odds of being visible.

    The shuttle counts as visible where the models together say so. Each costs a run.

    Raises:
        ShuttleError: one wants another input or other frames than the first.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        first = backends[0]
        for other in backends[1:]:
            if _sees(other) != _sees(first):
                raise ShuttleError(
                    f"--vote {other.version}: sees {_sees(other)}, {first.version} {_sees(first)}; "
                    "vote with a version of the same input"
                )
        self._backends = list(backends)
        self._tell()
        self.input_hw = first.input_hw
        self.frames, self.ahead = first.frames, first.ahead
        self.version = "+".join(backend.version for backend in backends)
        self.uses_history = any(backend.uses_history for backend in backends)

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        """See `Backend.run`."""
        answers = [
            backend.run(frames, history if backend.uses_history else None) for backend in self._backends
        ]
        self._tell()
        p = np.clip(np.stack([answer.visible for answer in answers]).astype(np.float64), _CLIP, 1 - _CLIP)
        logit = np.log(p / (1 - p)).mean(0)
        return answers[0]._replace(visible=(1 / (1 + np.exp(-logit))).astype(np.float32))

    def _tell(self) -> None:
        """Where the first one runs now, and what a person should know of how any of them does."""
        self.name, self.device = self._backends[0].name, self._backends[0].device
        notes = (getattr(backend, "note", "") for backend in self._backends)
        self.note = "; ".join(dict.fromkeys(filter(None, notes)))


def _sees(backend: Backend) -> str:
    h, w = backend.input_hw
    return f"{backend.frames} frames of {w}x{h}, {backend.ahead} of them ahead"
