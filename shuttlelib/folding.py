"""Early fusion folded into a backbone's first convolution; between networks and what deploys them.

Grey, its changes and normalization are linear in the pixels, and so is the convolution that reads them: one
convolution of raw pixels does all of it. It reads them interleaved, as they lie in memory, by a kernel three
times as wide, so nothing is permuted and no channel is computed.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from shuttlelib import blocks
from shuttlelib.networks import Deployed, PyramidNet


class Folded(Deployed):
    """A deployed network of early fusion whose first convolution reads interleaved pixels."""

    zero: Tensor

    def __init__(self, deployed: Deployed) -> None:
        net = deepcopy(deployed.net)
        assert isinstance(net, PyramidNet)
        assert net.fuse is not None
        super().__init__(net, deployed.candidates)
        spec = net.spec
        name, first = _first_conv(net)
        net.backbone.set_submodule(name, _interleaved(first, _mix(net.fuse, spec.frames)))
        net.fuse = nn.Identity()
        # What fusion makes zero of, which is what padding has to be
        zero = blocks.IMAGENET_MEAN if spec.normalization != "unit" else (0.0, 0.0, 0.0)
        self.register_buffer("zero", 255 * torch.tensor(zero).repeat(spec.input_hw[1]), persistent=False)

    def pixels(self, frames: Tensor) -> Tensor:
        """uint8 (B, T, H, W, 3) to (B, T, H, 3 W), 0 where fusion gives 0."""
        return frames.float().flatten(3) - self.zero


def folded(deployed: Deployed) -> Deployed:
    """The same answers from less work, where that is possible; for weights that change no more.

    What fuses late, or whose backbone does not begin with one plain convolution, stays what it is.
    """
    net = deployed.net
    if not isinstance(net, PyramidNet) or net.spec.fusion != "early":
        return deployed
    first = _first_conv(net)[1]
    plain = type(first) is nn.Conv2d and first.groups == 1 and first.dilation == (1, 1)
    if not plain or first.padding_mode != "zeros" or isinstance(first.padding, str):
        return deployed
    fast = Folded(deployed).eval().to(first.weight.device)
    return fast if _agree(deployed, fast) else deployed


def _agree(deployed: Deployed, fast: Folded) -> bool:
    """Whether both see the same in noise: some backbones read their input by more than one convolution."""
    spec, device = deployed.net.spec, fast.zero.device
    noise = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (1, spec.frames, *spec.input_hw, 3), dtype=torch.uint8, generator=noise)
    try:
        with torch.no_grad():
            ours, theirs = (one.net(one.pixels(frames.to(device))).heatmap for one in (fast, deployed))
    except RuntimeError:
        return False
    return bool((ours - theirs).abs().max() <= 1e-2 * theirs.abs().max())


def _first_conv(net: PyramidNet) -> tuple[str, nn.Conv2d]:
    return next((n, m) for n, m in net.backbone.named_modules() if isinstance(m, nn.Conv2d))


def _mix(fuse: nn.Module, frames: int) -> Tensor:
    """(2 + T, T, 3): how much of each colour of each frame is in each fused channel."""
    each = torch.eye(frames * 3).view(-1, frames, 3, 1, 1)
    with torch.no_grad():
        channels = fuse(each) - fuse(torch.zeros_like(each))
    return channels[..., 0, 0].T.reshape(-1, frames, 3)


def _interleaved(first: nn.Conv2d, mix: Tensor) -> nn.Conv2d:
    """The convolution of T channels of width 3 W that equals `first` on what `mix` makes of them."""
    assert not isinstance(first.padding, str)
    kernel, stride, padding = (
        (down, 3 * across) for down, across in (first.kernel_size, first.stride, first.padding)
    )
    conv = nn.Conv2d(mix.shape[1], first.out_channels, kernel, stride, padding, bias=first.bias is not None)
    weight = first.weight.detach().double()
    with torch.no_grad():
        conv.weight.copy_(torch.einsum("ocyx,ctr->otyxr", weight, mix.to(weight)).flatten(3))
    conv.bias = first.bias
    return conv
