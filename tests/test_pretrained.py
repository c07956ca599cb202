import timm
import torch

from shuttlelib import networks
from shuttlelib.versions import resolve

BACKBONE = "mobilenetv4_conv_small_050"


def test_pretrained_weights_reach_the_backbone_and_fewer_channels_are_stretched(tmp_path, monkeypatch):
    """timm's own loading, from a file in place of the Hub."""
    torch.manual_seed(1)
    source = timm.create_model(BACKBONE, pretrained=False)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    real = timm.create_model

    def from_file(name, pretrained=False, **options):
        overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")}} if pretrained else {}
        return real(name, pretrained=pretrained, **overlay, **options)

    monkeypatch.setattr(timm, "create_model", from_file)
    spec = resolve("stage1_v5", backbone=BACKBONE, neck_channels=16)
    net = networks.build(spec, pretrained=True)
    theirs = source.state_dict()
    loaded = net.backbone.state_dict()
    shared = [key for key in loaded if key in theirs and loaded[key].shape == theirs[key].shape]
    assert len(shared) > 0.8 * len(loaded)
    assert all(torch.equal(loaded[key], theirs[key]) for key in shared)
    stem = loaded["conv_stem.weight"]
    assert stem.shape[1] == 6
    torch.testing.assert_close(stem[:, :3], stem[:, 3:])
    torch.testing.assert_close(stem.sum(1), theirs["conv_stem.weight"].sum(1))
    other = networks.build(spec)
    assert not torch.equal(other.backbone.state_dict()[shared[0]], theirs[shared[0]])
