"""The network itself in torch."""

from pathlib import Path
from typing import Any

import numpy as np

from shuttlelib.errors import ShuttleError
from shuttlelib.runtime.base import Candidates


class TorchBackend:
    """The network itself in torch, eager."""

    name = "torch"

    def __init__(self, model_dir: Path, card: dict[str, Any], device: str, threads: int) -> None:
        try:
            import torch

            from shuttlelib import networks
        except ImportError as error:
            raise ShuttleError(
                f"--backend torch: {error.name} is not installed; pip install torch timm"
            ) from error
        if device == "cuda" and not torch.cuda.is_available():
            raise ShuttleError("--device cuda: torch finds no GPU here; use --device cpu")
        torch.set_num_threads(threads)
        self._torch = torch
        self._net = networks.load(model_dir, device)
        self._device = device
        gpu = torch.cuda.get_device_name() if device == "cuda" else ""
        self.device = f"cuda ({gpu})" if device == "cuda" else f"cpu ({threads} threads)"
        self.version, self.input_hw, self.frames = card["name"], card["input_hw"], card["frames"]
        self.uses_history = bool(card.get("history", False))

    def run(self, frames: np.ndarray, history: np.ndarray | None = None) -> Candidates:
        torch = self._torch
        with torch.inference_mode():
            past = None if history is None else torch.from_numpy(history).to(self._device)
            out = self._net(torch.from_numpy(frames).to(self._device), past)
        return Candidates(*(part.float().cpu().numpy() for part in out))
