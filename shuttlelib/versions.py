"""Model versions are data: one row a version, resolved through its parent; no torch here.

A row names its parent and only what differs. `resolve(name)` gives the flat `Spec` that
`networks.build` turns into a network and `train.fit` trains. The historic rows keep the lineage that led
to the heatmap design; their facts come from the report of BillTheTsar/Shuttle-Detection (2025).
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from shuttlelib.errors import UsageError


@dataclass(frozen=True)
class Spec:
    """Everything that makes a version, as flat values.

    Attributes:
        name, parent, stage, notes: who it is; stage is 1 (whole frame) or 2 (crop).
        backbone: timm model name; taps: strides of the feature maps taken from it.
        pretrained: start from timm's ImageNet weights (needs the Hub once).
        input_hw: network input, px; frames are letterboxed onto it, crops are square.
        frames: how many it sees: the current one and past ones, a thirtieth of a second apart.
        fusion: "late" passes each of the four frames through the backbone and joins the features;
            "early" passes the current frame and its signed grey differences to the past once.
        neck: "fpn" or "bifpn"; neck_channels; neck_rounds (BiFPN repeats).
        heatmap_stride: input px per heatmap cell.
        decode: "soft_argmax" (expected position at temperature tau) or "offset" (peak cell + offset).
        prior: second heatmap added to the logits: "none", "last" (peak at the last position) or
            "quadratic" (peak at the extrapolated position), prior_sigma_cells wide.
        film: modulate features by the last 6 triplets and 5 deltas.
        visibility: "none", "max_mean" (of the cell probabilities) or "attended" (heatmap statistics and
            the features the heatmap attends to).
        loss: "relaxed_l2" on positions (zero inside margin_norm) or "cross_entropy" over cells.
        noise: frame noise level: "constant" or "uniform" (drawn per frame from U(0, noise_std)).
        lr, backbone_lr_scale, weight_decay, batch, steps: training at the full profile.
        rendered_share: share of training samples drawn from rendered rallies.
        roll_deg, perspective, mix, repeat, reverse, paste: see `augment.Augmentation`; 0 is off.
    """

    name: str
    stage: int
    parent: str = ""
    notes: str = ""
    backbone: str = "mobilenetv4_conv_small"
    taps: tuple[int, ...] = (4, 8, 16, 32)
    pretrained: bool = False
    input_hw: tuple[int, int] = (288, 512)
    frames: int = 4
    fusion: str = "early"
    neck: str = "fpn"
    neck_channels: int = 48
    neck_rounds: int = 1
    heatmap_stride: int = 4
    decode: str = "offset"
    tau: float = 1.0
    prior: str = "none"
    prior_sigma_cells: float = 0.5
    film: bool = False
    visibility: str = "attended"
    loss: str = "cross_entropy"
    margin_norm: float = 0.0
    noise: str = "uniform"
    noise_std: float = 0.02
    lr: float = 2e-3
    backbone_lr_scale: float = 1.0
    weight_decay: float = 0.02
    batch: int = 16
    steps: int = 12000
    rendered_share: float = 0.3
    roll_deg: float = 0.0
    perspective: float = 0.0
    mix: float = 0.0
    repeat: float = 0.0
    reverse: float = 0.0
    paste: float = 0.0

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


ROWS: dict[str, dict[str, Any]] = {
    "stage1_v4": {
        "stage": 1,
        "backbone": "tf_efficientnetv2_b3",
        "pretrained": True,
        "input_hw": (300, 300),
        "fusion": "late",
        "neck": "bifpn",
        "neck_channels": 64,
        "neck_rounds": 4,
        "decode": "soft_argmax",
        "prior": "last",
        "prior_sigma_cells": 3.75,
        "visibility": "none",
        "loss": "relaxed_l2",
        "margin_norm": 0.01,
        "noise": "constant",
        "lr": 1e-3,
        "backbone_lr_scale": 0.1,
        "batch": 8,
        "rendered_share": 0.0,
        "notes": "heatmap and BiFPN: in 25 epochs what a pooled head needed 110 for",
    },
    "stage1_v5": {
        "stage": 1,
        "parent": "stage1_v4",
        "backbone": "mobilenetv4_conv_small_050",
        "neck_channels": 32,
        "notes": "one early-fused pass of a small network at 16:9; cells by cross-entropy, offsets",
    },
    "stage2_v5": {
        "stage": 2,
        "backbone": "efficientnet_b0",
        "taps": (16, 32),
        "pretrained": True,
        "input_hw": (224, 224),
        "fusion": "late",
        "neck_channels": 256,
        "heatmap_stride": 16,
        "decode": "soft_argmax",
        "prior": "quadratic",
        "film": True,
        "visibility": "max_mean",
        "loss": "relaxed_l2",
        "margin_norm": 0.01,
        "lr": 1e-3,
        "backbone_lr_scale": 0.1,
        "rendered_share": 0.0,
        "notes": "noise drawn from U(0, 0.02): a constant level had become a crutch",
    },
    "stage2_v8": {
        "stage": 2,
        "parent": "stage2_v5",
        "input_hw": (160, 160),
        "batch": 32,
        "notes": "one early-fused pass on a 160 crop; stride-4 heatmap with offset; no history",
    },
}
# The two modern rows start from the dataclass defaults: they share no value with the historic design.
FRESH = {"stage1_v5", "stage2_v8"}
LINEAGE_FIELDS = ("name", "parent", "notes")


def names() -> list[str]:
    """All versions, in the order of the lineage."""
    return list(ROWS)


def resolve(name: str, **overrides: Any) -> Spec:
    """The full spec of a version: its parent's values, then its own, then `overrides`.

    Raises:
        UsageError: the name is no row; the message lists the rows.
    """
    if name not in ROWS:
        raise UsageError(f"version '{name}' is not a row; choose one of: {', '.join(ROWS)}")
    row = dict(ROWS[name])
    parent = row.get("parent", "")
    inherited = {} if not parent or name in FRESH else _without_lineage(resolve(parent).as_dict())
    spec = Spec(**{**inherited, **row, "name": name})
    return replace(spec, **overrides)


def diff(a: str, b: str) -> dict[str, tuple[Any, Any]]:
    """The fields in which two versions differ: {field: (value of a, value of b)}."""
    left, right = resolve(a).as_dict(), resolve(b).as_dict()
    return {k: (left[k], right[k]) for k in left if k not in LINEAGE_FIELDS and left[k] != right[k]}


def _without_lineage(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in LINEAGE_FIELDS}
