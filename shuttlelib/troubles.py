"""What can go wrong in a training, and what it leaves for the person; beside `train` in the flow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shuttlelib import plots
from shuttlelib.batches import Batch
from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write
from shuttlelib.samples import Samples

NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
SHOWN = 24  # pictures of a batch on its contact sheet


class TrainError(ShuttleError):
    """Training cannot go on."""


def need_samples(run_dir: Path, train: Samples, val: Samples) -> None:
    """Refuse to begin what has nothing to learn from, or nothing to be judged on.

    Raises:
        TrainError: one of the two is empty.
    """
    if not len(train) or not len(val):
        raise TrainError(
            f"{run_dir}: {len(train)} training and {len(val)} validation samples; both need some"
        )


def lacks_memory(error: Exception) -> bool:
    """Whether an error means that the GPU's or the CPU's memory did not suffice."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(sign in str(error) for sign in NO_MEMORY)


@contextmanager
def memory_named(run_dir: Path, batch: int, accumulate: int) -> Iterator[None]:
    """Say what to try when the memory does not suffice.

    Raises:
        TrainError: in place of the GPU's or the CPU's own error; it names the batch and what to give.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        advice = f"--batch {max(1, batch // 2)}"
        if more := next((parts for parts in range(accumulate + 1, batch + 1) if batch % parts == 0), None):
            same = f"the same {batch} samples a step, {batch // more} at once"
            advice = f"--accumulate {more} ({same}) or {advice}"
        raise TrainError(
            f"{run_dir}: out of memory with a batch of {batch} in {accumulate} part(s); give {advice}"
        ) from error


def save_batch(run_dir: Path, step: int, batch: Batch, samples: Samples) -> str:
    """Keep a batch for a look: `nan_batch.npz` and a contact sheet `nan_batch.png`, each whole or not at all.

    Args:
        batch: as `batches.Source` makes them; the arrays go into the file, with clip, frame and step.

    Returns:
        Where it is and what it shows, for an error message.
    """
    arrays: dict[str, Any] = {key: value.detach().cpu().numpy() for key, value in batch.items()}
    places = [samples.index[int(i)] for i in arrays["index"]]
    clips = [samples.caches[clip].clip.name for clip, _ in places]
    frames = [frame for _, frame in places]
    path = run_dir / "nan_batch.npz"
    with atomic_write(path) as temp:
        np.savez_compressed(temp, **{**arrays, "clip": clips, "frame": frames, "step": step})
    titles = [f"{clip} {frame}" for clip, frame in zip(clips, frames)][:SHOWN]
    images = list(arrays["frames"][:SHOWN, samples.spec.current].transpose(0, 2, 3, 1))
    sheet = plots.contact_sheet(images, titles, list(arrays["xy"][:SHOWN]))
    with atomic_write(path.with_suffix(".png")) as temp:
        sheet.savefig(temp)
    return f"its batch is in {path} and .png: clip frame {', '.join(titles)}"
