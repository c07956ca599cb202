"""An ONNX graph that takes whole frames: the windows are cut, scaled and converted inside it; beside export.

For deployments that copy a frame to the GPU once, as decoded, and do nothing else on the host.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from shuttlelib import export, networks
from shuttlelib.cut import Cut
from shuttlelib.folding import folded
from shuttlelib.frames import PAST
from shuttlelib.geometry import FULLHD_HW, SizeHW, Window
from shuttlelib.looks import sample_window

NAME = "model.planes.onnx"
MAX_FRAMES = 4096


class FromPlanes(nn.Module):
    """A deployed network behind the cutting of its windows: `forward(planes, slots, windows, history)`.

    See `cut.Cut` and `networks.Deployed` for what goes in and out.
    """

    def __init__(self, deployed: networks.Deployed, cut: Cut) -> None:
        super().__init__()
        self.deployed, self.cut = deployed, cut

    def forward(
        self, planes: Tensor, slots: Tensor, windows: Tensor, history: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        # TensorRT takes uint8 only into a cast; half precision holds every level
        return self.deployed(self.cut(planes.half(), slots, windows), history)


def export_planes(model_dir: Path, size_hw: SizeHW = FULLHD_HW) -> Path:
    """Write model.planes.onnx beside model.safetensors; needs the weights.

    Inputs: "planes" uint8 (frames, H*3//2, W), I420 at native resolution; "slots" int64 (batch, T), which of
    them each input sees, oldest first; "windows" float32 (batch, 4), their x0, y0, w, h in native px (see
    `geometry.full_window` and `geometry.crop_window`); "history" and outputs as in model.onnx. All planes are
    converted at each run, so they should be of no more frames than are looked at.

    Args:
        model_dir: the version.
        size_hw: the largest frames that it will see; smaller ones of any size may go in too.
    """
    model_dir = Path(model_dir)
    deployed = folded(networks.load(model_dir))
    spec = deployed.net.spec
    window = sample_window(spec.stage, spec.input_hw, size_hw)
    heights = range(2, size_hw[0] + 1, 2)  # a smaller frame's boxes may touch more pixels than the largest's
    smaller = [sample_window(spec.stage, spec.input_hw, (h, round(h * 8 / 9) * 2)) for h in heights]
    module = FromPlanes(deployed, Cut([window, *smaller], whole=spec.stage == 1)).eval()
    args = example(window, size_hw, spec.frames)
    if networks.uses_history(spec):
        args = (*args, torch.zeros(len(args[1]), PAST, 3))
    batch = [Dim("batch", min=1, max=export.MAX_BATCH), Dim.DYNAMIC, Dim.DYNAMIC]
    frames: dict[int, Any] = {0: Dim("frames", min=1, max=MAX_FRAMES), 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    shapes = (frames, *({0: axis} for axis, _ in zip(batch, args[1:])))
    path = model_dir / NAME
    export.write_graph(module, args, ["planes", "slots", "windows", "history"][: len(args)], shapes, path)
    return path


def example(window: Window, size_hw: SizeHW, frames: int, batch: int = 2) -> tuple[Tensor, ...]:
    """Planes of noise, slots and windows, for a batch."""
    generator = torch.Generator().manual_seed(0)
    shape = (frames + 1, size_hw[0] * 3 // 2, size_hw[1])
    planes = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    slots = torch.arange(frames).expand(batch, -1).contiguous()
    return planes, slots, torch.tensor([[window.x0, window.y0, window.w, window.h]] * batch)
