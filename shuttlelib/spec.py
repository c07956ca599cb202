"""What a model version is made of, as flat values, and which of them go together; before `versions`."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from shuttlelib.errors import UsageError
from shuttlelib.geometry import CANONICAL_HW, GRID512_HW


@dataclass(frozen=True)
class Spec:
    """Everything that makes a version, as flat values.

    Attributes:
        name, parent, stage, notes: who it is; stage is 1 (whole frame) or 2 (crop).
        network: "pyramid" (backbone, neck, heatmap), "pooled" (backbone, global average pooling, MLP) or
            "unet" (a U-Net of our own, one heatmap at input resolution for every frame it sees).
        backbone: timm model name, or "unet"; taps: strides of the feature maps taken from it (pyramid).
        pretrained: start from timm's ImageNet weights (needs the Hub once).
        input_hw: network input, px; frames are letterboxed onto it, crops are square.
        frames: how many it sees, a thirtieth of a second apart; ahead: how many of them come after the
            current one, the others before it.
        normalization: of the pixels: "imagenet" (its mean and deviation) or "unit" (0 to 1).
        fusion: "late" passes each frame through the backbone and joins the features; "early" passes the
            current frame and its signed grey differences to the others once; "stack" passes the colours of
            all frames as channels once.
        neck: "fpn", "bifpn" or "none"; neck_channels (of a U-Net: at full resolution); neck_rounds (BiFPN
            repeats).
        head_maps: pyramid maps that the head sees: the one at the heatmap's stride and coarser ones.
        hidden: widths between features and output: linear layers (pooled) or 3x3 convolutions (pyramid;
            none is one as wide as the neck).
        heatmap_stride: input px per heatmap cell.
        points: places that a pooled head gives; more than one are kept apart by a diversity loss.
        decode: "soft_argmax" (expected position at temperature tau), "offset" (peak cell + offset),
            "centroid" (centre of mass around the peak) or "points" (as the pooled head gives them).
        trajectory: what a pooled head knows of the track: "none", "conv" (1-D convolutions over 30
            triplets) or "recent" (the last 6 triplets and 5 deltas).
        prior: second heatmap added to the logits: "none", "last" (peak at the last position) or
            "quadratic" (peak at the extrapolated position), prior_sigma_cells wide.
        film: modulate features by the last 6 triplets and 5 deltas.
        visibility: "none"; of a heatmap "max_mean" (of the cell probabilities), "attended" (heatmap
            statistics and the features the heatmap attends to) or "peak" (the peak's height); of a pooled
            head "joint" (from the layer that gives the place) or "split" (a branch of its own).
        loss: of the place: "relaxed_l2" (distance beyond margin_norm), "relaxed_l2_squared",
            "cross_entropy" (over cells) or "weighted_bce" (over cells of every frame's heatmap).
        visible_loss: "bce", or "mse" between the probability and 0.1 or 0.9.
        noise: frame noise level: "constant" or "uniform" (drawn per frame from U(0, noise_std)).
        decay_norms: weight decay on norms and biases too.
        lr, backbone_lr_scale, weight_decay, batch, steps: training at the full profile.
        rendered_share: share of training samples drawn from rendered rallies.
        crop_scale: side of the crops of training, in sides of the input, which is what deployment sees.
        roll_deg, perspective, poor: see `augment.Augmentation`; 0 is off.
    """

    name: str
    stage: int
    parent: str = ""
    notes: str = ""
    network: str = "pyramid"
    backbone: str = "mobilenetv4_conv_small"
    taps: tuple[int, ...] = (4, 8, 16, 32)
    pretrained: bool = False
    input_hw: tuple[int, int] = (288, 512)
    frames: int = 4
    ahead: int = 0
    normalization: str = "imagenet"
    fusion: str = "early"
    neck: str = "fpn"
    neck_channels: int = 48
    neck_rounds: int = 1
    head_maps: int = 1
    hidden: tuple[int, ...] = ()
    heatmap_stride: int = 4
    points: int = 1
    decode: str = "offset"
    tau: float = 1.0
    trajectory: str = "none"
    prior: str = "none"
    prior_sigma_cells: float = 0.5
    film: bool = False
    visibility: str = "attended"
    loss: str = "cross_entropy"
    visible_loss: str = "bce"
    margin_norm: float = 0.0
    noise: str = "uniform"
    noise_std: float = 0.02
    decay_norms: bool = False
    lr: float = 2e-3
    backbone_lr_scale: float = 1.0
    weight_decay: float = 0.02
    batch: int = 16
    steps: int = 12000
    rendered_share: float = 0.3
    crop_scale: float = 1.0
    roll_deg: float = 0.0
    perspective: float = 0.0
    poor: float = 0.0

    @property
    def current(self) -> int:
        """Which of the frames, counted from the oldest, is the current one: its head is asked for."""
        return self.frames - 1 - self.ahead

    @property
    def in_training(self) -> "Spec":
        """This version at the size of its training's crops, a multiple of 32 px."""
        if self.crop_scale == 1:
            return self
        side = 32 * max(1, round(self.crop_scale * self.input_hw[0] / 32))
        return replace(self, input_hw=(side, side))

    @property
    def to_grid512(self) -> float:
        """Factor from input px to px of the 512x288 grid.

        Stage 1 sees the whole width, stage 2 a crop at the scale of a 1280x720 frame.
        """
        return GRID512_HW[1] / (self.input_hw[1] if self.stage == 1 else CANONICAL_HW[1])

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; tuples become lists there and come back through `from_dict`."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Spec":
        """The inverse of `as_dict`, ignoring keys this release does not know."""
        known = {f.name for f in fields(Spec)}
        kept: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known
        }
        return Spec(**kept)


# What each kind of network is made of, and what it has no use for; which loss goes with which decoding
_MADE_OF: dict[str, dict[str, tuple[Any, ...]]] = {
    "pyramid": {
        "fusion": ("early", "late"),
        "neck": ("fpn", "bifpn"),
        "decode": ("offset", "soft_argmax"),
        "prior": ("none", "last", "quadratic"),
        "visibility": ("none", "max_mean", "attended"),
    },
    "pooled": {
        "fusion": ("late",),
        "neck": ("none",),
        "decode": ("points",),
        "trajectory": ("none", "conv", "recent"),
        "visibility": ("none", "joint", "split"),
    },
    "unet": {
        "stage": (1,),
        "backbone": ("unet",),
        "fusion": ("stack",),
        "neck": ("none",),
        "heatmap_stride": (1,),
        "decode": ("centroid",),
        "visibility": ("peak",),
    },
}
_IDLE = {
    "pyramid": ("points", "trajectory"),
    "pooled": ("prior", "film"),
    "unet": ("points", "trajectory", "prior", "film"),
}
_RELAXED = ("relaxed_l2", "relaxed_l2_squared")
_LOSSES = {"offset": ("cross_entropy",), "soft_argmax": _RELAXED, "points": _RELAXED}
_CHOICES: dict[str, tuple[Any, ...]] = {
    "stage": (1, 2),
    "normalization": ("imagenet", "unit"),
    "visible_loss": ("bce", "mse"),
    "noise": ("constant", "uniform"),
}


def check(spec: Spec) -> None:
    """Refuse values that do not go together.

    Raises:
        UsageError: names the version, the field, its value, and what to use instead.
    """
    if spec.network not in _MADE_OF:
        raise _unfit(spec, "network", f"choose one of {', '.join(_MADE_OF)}")
    defaults = {field.name: (field.default,) for field in fields(Spec)}
    idle = {field: defaults[field] for field in _IDLE[spec.network]}
    loss = {"loss": _LOSSES.get(spec.decode, ("weighted_bce",))}
    for rules, why in (
        (_CHOICES, ""),
        (_MADE_OF[spec.network] | idle, f" with network {spec.network!r}"),
        (loss, f" with decode {spec.decode!r}"),
    ):
        for field, allowed in rules.items():
            if getattr(spec, field) not in allowed:
                raise _unfit(spec, field, f"{' or '.join(map(repr, allowed))} goes{why}")
    h, w = spec.input_hw
    if spec.stage == 2 and h != w:
        raise _unfit(spec, "input_hw", "crops are square")
    same_at_any_size = spec.network == "pyramid" and spec.loss == "cross_entropy" and spec.prior == "none"
    if spec.crop_scale != 1 and not (spec.crop_scale > 0 and spec.stage == 2 and same_at_any_size):
        raise _unfit(
            spec, "crop_scale", "use 1; more than 0 where stage 2 has a heatmap with offsets, no prior"
        )
    if spec.frames < 2:
        raise _unfit(spec, "frames", "at least 2 show motion")
    if spec.ahead and spec.fusion != "early":
        raise _unfit(spec, "ahead", "only early fusion sees frames ahead: use 0")
    if not 0 <= spec.ahead < spec.frames:
        raise _unfit(spec, "ahead", f"use 0 to {spec.frames - 1}, fewer than frames")
    if spec.network == "unet" and (h % 8 or w % 8):
        raise _unfit(spec, "input_hw", "a U-Net halves it three times: use multiples of 8")
    if spec.network == "pyramid":
        _check_pyramid(spec)


def _check_pyramid(spec: Spec) -> None:
    if spec.heatmap_stride not in spec.taps:
        raise _unfit(spec, "heatmap_stride", f"use one of the taps {spec.taps}, or add it to them")
    level = spec.taps.index(spec.heatmap_stride)
    if spec.neck == "fpn" and level:
        raise _unfit(spec, "taps", f"finer ones than an FPN's heatmap are idle: use {spec.taps[level:]}")
    if not 1 <= spec.head_maps <= len(spec.taps) - level:
        raise _unfit(spec, "head_maps", f"use 1 to {len(spec.taps) - level} with these taps and stride")
    if not spec.tau > 0:
        raise _unfit(spec, "tau", "use more than 0")


def _unfit(spec: Spec, field: str, fix: str) -> UsageError:
    return UsageError(f"version {spec.name}: {field} {getattr(spec, field)!r} does not fit; {fix}")
