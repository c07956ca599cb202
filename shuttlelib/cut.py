"""Windows of frames cut in torch, on any device and inside exported graphs; between frames and `device`.

`frames.Frame.window` is the host's way and the reference. Here every output pixel is the mean of the native
pixels that a box around it covers: as wide as an output pixel, but at least one native pixel. So downscaling
averages areas, scale 1 copies and upscaling is bilinear, all with one rule. Chroma is read as if each of
its pixels were four of the frame's, luma and chroma become RGB as limited-range BT.601, and the result is
rounded to whole levels as on the host.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shuttlelib.geometry import Window

_NEAR = 1e-4  # px: edges this close to a pixel's are on it; float32 holds places in a frame to 1/4000 px


class Cut(nn.Module):
    """Cuts windows out of I420 planes: `forward(planes, slots, windows)`.

    Args:
        windows: one or more like those that will be cut: they say what a window's size is, and how many
            pixels the boxes touch; others may lie elsewhere, by whole pixels.
        whole: the windows show whole frames: chroma is brought to half of their size, as on the host.
    """

    def __init__(self, windows: Sequence[Window], whole: bool) -> None:
        super().__init__()
        self.out_hw, self.whole = (windows[0].out_h, windows[0].out_w), whole
        edges = [edge for w in windows for edge in ((w.x0, w.w, w.out_w), (w.y0, w.h, w.out_h))]
        self.luma_taps = max(_touched(*_cover(*edge)) for edge in edges)
        self.chroma_taps = max(_touched(*self._chroma_cover(*edge)) for edge in edges)

    def forward(self, planes: Tensor, slots: Tensor, windows: Tensor) -> Tensor:
        """RGB of each window of several frames.

        Args:
            planes: uint8 or float (S, H*3//2, W).
            slots: int64 (B, T): which planes each input shows, oldest first.
            windows: float32 (B, 4): x0, y0, w, h of each, native px.

        Returns:
            float (B, T, h, w, 3) whole numbers in 0..255; black outside the frame.
        """
        height, width = planes.shape[1] // 3 * 2, planes.shape[2]
        (out_h, out_w), corner, extent = self.out_hw, windows[:, :2], windows[:, 2:]
        columns, rows = ((corner[:, i], extent[:, i], n) for i, n in enumerate((out_w, out_h)))
        first = slots * (height // 2 * 3)  # row of each frame in all planes on top of each other
        y, inside = _mean(
            planes.reshape(-1, width),
            first,
            _weigh(*_cover(*rows), height, self.luma_taps),
            _weigh(*_cover(*columns), width, self.luma_taps),
        )
        row_taps = _weigh(*self._chroma_cover(*rows), height // 2, self.chroma_taps)
        column_taps = _weigh(*self._chroma_cover(*columns), width // 2, self.chroma_taps)
        halves = planes.reshape(-1, width // 2)  # two chroma rows are stored in the room of one luma row
        u, seen = _mean(halves, 2 * (first + height), row_taps, column_taps)
        v, _ = _mean(halves, 2 * (first + height) + height // 2, row_taps, column_taps)
        if self.whole:  # as the host, round what was scaled, then spread chroma
            up = nn.Upsample(scale_factor=2.0)
            y, u, v, seen = y.round(), up(u.round()), up(v.round()), up(seen)
        u, v = u - 128 * seen, v - 128 * seen
        y = 1.164 * (y - 16 * inside).clamp(min=0)
        rgb = torch.stack([y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u], -1)
        return rgb.clamp(0, 255).round()

    def _chroma_cover(self, start: Any, length: Any, count: int) -> tuple[Any, Any]:
        """As `_cover`, in chroma px."""
        if self.whole:
            return _cover(start / 2, length / 2, count // 2)
        low, width = _cover(start, length, count)
        return low / 2, width / 2


def _cover(start: Any, length: Any, count: int) -> tuple[Any, Any]:
    """Where the box of each output pixel begins (…, count), and how wide it is (…, 1)."""
    start, length = (torch.as_tensor(value, dtype=torch.float32)[..., None] for value in (start, length))
    step = length / count
    width = step.clamp(min=1.0)
    return start + (torch.arange(count, device=step.device) + 0.5) * step - width / 2, width


def _touched(low: Tensor, width: Tensor) -> int:
    """The most pixels that a box touches."""
    return int((torch.ceil(low + width - _NEAR) - torch.floor(low + _NEAR)).max())


def _weigh(low: Tensor, width: Tensor, limit: int, taps: int) -> tuple[Tensor, Tensor]:
    """The pixels that each box touches along one side, and the share of it that each covers: (B, n, taps).

    Pixels outside the plane weigh nothing.
    """
    pixel = torch.floor(low + _NEAR)[..., None] + torch.arange(taps, device=low.device)
    high = (low + width)[..., None]
    share = (torch.minimum(high, pixel + 1) - torch.maximum(low[..., None], pixel)).clamp(min=0)
    share = share / width[..., None] * ((pixel >= 0) & (pixel < limit))
    return pixel.clamp(0, limit - 1).long(), share


def _mean(
    plane: Tensor, first: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Means over boxes (B, T, h, w), and the share of each box that lies inside (B, 1, h, w).

    Args:
        plane: (…, W) the rows of all frames.
        first: (B, T) where each frame's begin.
        rows, columns: of the frame, and their weights, each (B, h, taps) and (B, w, taps).
    """
    (row, row_weight), (column, column_weight) = rows, columns
    picked = plane[first[:, :, None, None] + row[:, None]].float()  # (B, T, h, taps, W)
    lines = (picked * row_weight[:, None, ..., None]).sum(3)
    where = column.flatten(1)[:, None, None].expand(*lines.shape[:3], -1)
    picked = torch.gather(lines, 3, where).unflatten(3, column.shape[1:])  # (B, T, h, w, taps)
    inside = row_weight.sum(2)[:, None, :, None] * column_weight.sum(2)[:, None, None]
    return (picked * column_weight[:, None, None]).sum(4), inside
