"""The field's baseline: a U-Net from several frames to a heatmap of each; between blocks and networks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shuttlelib import blocks
from shuttlelib.prediction import Prediction, ShuttleNet
from shuttlelib.spec import Spec

START = 0.01  # probability of each cell before training, so that the empty ones do not drown the shuttle


class UNet(ShuttleNet):
    """Colours of all frames as channels in, one heatmap a frame out, at input resolution.

    Source: Sun et al. 2020, "TrackNetV2: Efficient Shuttlecock Tracking Network",
    doi:10.1109/ICPAI51961.2020.00023, and Huang et al. 2019, arXiv:1907.03698. Layers and widths are
    theirs; we normalize before each ReLU rather than after, and read the place as a centre of mass.
    """

    def __init__(self, spec: Spec):
        super().__init__(spec)
        c, t = spec.neck_channels, spec.frames
        self.down = nn.ModuleList([_convs(3 * t, c, 2), _convs(c, 2 * c, 2), _convs(2 * c, 4 * c, 3)])
        self.bottom = _convs(4 * c, 8 * c, 3)
        self.up = nn.ModuleList([_convs(12 * c, 4 * c, 3), _convs(6 * c, 2 * c, 2), _convs(3 * c, c, 2)])
        self.out = nn.Conv2d(c, t, 1)
        nn.init.constant_(self.out.bias, math.log(START / (1 - START)))  # type: ignore[arg-type]

    def forward(self, frames: Tensor, history: Tensor | None = None) -> Prediction:
        """Predict; see `ShuttleNet`. The shuttle is as visible as its peak is high."""
        x = blocks.normalize(frames, self.spec.normalization).flatten(1, 2)
        skips = []
        for layer in self.down:
            skips.append(layer(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for layer in self.up:
            x = layer(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skips.pop()], 1))
        maps = self.out(x).float()
        heatmap = maps[:, -1]
        none = maps.new_empty(maps.shape[0], 2, 0, 0)
        return Prediction(heatmap, none, heatmap.flatten(1).amax(1), past=maps[:, :-1])


def _convs(c_in: int, c_out: int, count: int) -> nn.Sequential:
    return nn.Sequential(blocks.conv(c_in, c_out), *(blocks.conv(c_out, c_out) for _ in range(count - 1)))
