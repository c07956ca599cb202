"""What a training shows of itself in TensorBoard; beside `train` in the flow."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch.utils.tensorboard import SummaryWriter

from shuttlelib import plots
from shuttlelib.prediction import ShuttleNet
from shuttlelib.samples import Samples
from shuttlelib.validation import evenly, look

FIXED, HARD = 4, 6  # validation samples that are shown each time: always the same; the worst


class TrainLog:
    """Events under `run_dir/tensorboard`; steps that a resumed training repeats replace the old ones.

    Args:
        run_dir: the folder of the run.
        step: where the training stands.
        on: false writes nothing (processes other than the main one).
    """

    def __init__(self, run_dir: Path, step: int, on: bool):
        self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1) if on else None
        self.waited = 0.0  # seconds for data since the last entry
        self._last = step, time.perf_counter()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers of a step under their names."""
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, float(value), step)

    def pace(self, step: int, batch: int) -> dict[str, float]:
        """Samples a second and the share of the time that waited for data, since the last call."""
        (before, then), now = self._last, time.perf_counter()
        seconds, waited = max(1e-9, now - then), self.waited
        self._last, self.waited = (step, now), 0.0
        return {
            "speed/samples_per_s": (step - before) * batch / seconds,
            "speed/data_wait_share": waited / seconds,
        }

    def pictures(self, step: int, net: ShuttleNet, val: Samples, table: pd.DataFrame) -> None:
        """What the network believes of a few validation samples, and of those it gets most wrong.

        Args:
            table: of `validation.judge`.
        """
        if self.writer is None:
            return
        badness = table["wrong"] * (1e3 + table["error_px"].fillna(1e3)) + table["error_px"].fillna(0.0)
        hard = table.loc[badness.sort_values(ascending=False, kind="stable").index[:HARD], "index"]
        fixed = table["index"].iloc[evenly(len(table), FIXED)]
        for name, numbers in (("fixed", fixed), ("hardest", hard)):
            self.writer.add_image(f"val/{name}", _strip(net, val, list(numbers)), step, dataformats="HWC")
        rows = [(val.caches[c].clip.name, f) for c, f in (val.index[i] for i in hard)]
        self.writer.add_text("val/hardest", ", ".join(f"{clip} frame {frame}" for clip, frame in rows), step)
        self.writer.flush()

    def result(self, facts: Mapping[str, Any], measures: Mapping[str, float]) -> None:
        """The hyperparameters against what came of them."""
        if self.writer is not None:
            plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in facts.items()}
            self.writer.add_hparams(plain, {f"best/{k}": float(v) for k, v in measures.items()}, run_name=".")

    def close(self) -> None:
        """Write what is still held back."""
        if self.writer is not None:
            self.writer.close()


def _strip(net: ShuttleNet, val: Samples, numbers: list[int]) -> np.ndarray:
    """Current frames side by side, (H, N * W, 3) uint8: heatmap, ring where placed, cross where labelled."""
    seen = look(net, val, numbers)
    images = map(plots.blend_heatmap, seen.images, seen.heatmaps)
    return np.concatenate([plots.mark(*shown) for shown in zip(images, seen.said, seen.truth)], 1)
