import pytest
import torch

from shuttlelib import networks, versions
from shuttlelib.folding import Folded, folded
from shuttlelib.spec import Spec

SMALL = {"input_hw": [96, 96], "backbone": "mobilenetv4_conv_small_050"}


def deployed(name="stage2_v9", **changes):
    spec = Spec.from_dict({**versions.resolve(name).as_dict(), **SMALL, **changes})
    torch.manual_seed(0)
    net = networks.build(spec).eval()
    for module in net.modules():  # as if trained: no two channels alike
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return networks.Deployed(net).eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalization": "unit"},
        {"frames": 4, "ahead": 0},
        {"frames": 2, "ahead": 1},
        {"backbone": "efficientnet_b0"},
        {"backbone": "resnet18"},
    ],
)
def test_a_folded_network_says_the_same(changes):
    plain = deployed(**changes)
    fast, spec = folded(plain), plain.net.spec
    assert isinstance(fast, Folded)
    pixels = torch.randint(0, 256, (2, spec.frames, 96, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        before, after = (
            module.net.backbone(module.net.fuse(module.pixels(pixels))) for module in (plain, fast)
        )
        for ours, theirs in zip(after, before, strict=True):  # at the borders too, where padding must be 0
            assert ours == pytest.approx(theirs, abs=1e-4 * float(theirs.abs().max()))
        for ours, theirs in zip(fast(pixels), plain(pixels), strict=True):
            assert ours == pytest.approx(theirs, abs=2e-3)


def test_the_network_that_was_given_stays_as_it_was():
    plain = deployed()
    before = {name: value.clone() for name, value in plain.net.state_dict().items()}
    folded(plain)
    assert all(torch.equal(value, before[name]) for name, value in plain.net.state_dict().items())
    assert plain.net.fuse is not None
    assert not isinstance(plain.net.fuse, torch.nn.Identity)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("stage2_v5", {}),
        ("stage2_v9", {"backbone": "tf_efficientnetv2_b0"}),  # pads as TensorFlow does
        ("stage2_v9", {"backbone": "repvgg_a0"}),  # three convolutions read the input
        ("unet_3in3", {"backbone": "unet"}),
    ],
)
def test_what_cannot_be_folded_stays(name, changes):
    plain = deployed(name, **changes)
    assert folded(plain) is plain
