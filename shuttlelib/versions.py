"""Model versions are data: one row a version, resolved through its parent; no torch here.

A row names its parent and only what differs. `resolve(name)` gives the flat `Spec` that
`networks.build` turns into a network and `train.fit` trains. The historic rows keep the lineage that led
to the heatmap design.

Source: the report and scripts of BillTheTsar/Shuttle-Detection (2025), for the facts of those rows. We
deviate: letterboxed frames, batch norm in the heads, visibility from probabilities, learned prior gains.
"""

from dataclasses import replace
from typing import Any

from shuttlelib.errors import UsageError
from shuttlelib.spec import Spec

# One schedule for all historic rows: under a common budget the design is compared, not the tuning. The
# predecessor trained each with rates of its own (heads 1e-5 to 5e-3), for 10 to 160 epochs.
_HISTORIC: dict[str, Any] = {
    "pretrained": True,
    "fusion": "late",
    "noise": "constant",
    "lr": 1e-3,
    "backbone_lr_scale": 0.1,
    "weight_decay": 1e-4,
    "rendered_share": 0.0,
}
_POOLED: dict[str, Any] = {
    **_HISTORIC,
    "network": "pooled",
    "normalization": "unit",
    "neck": "none",
    "taps": (),
    "decode": "points",
    "trajectory": "conv",
    "visibility": "joint",
    "decay_norms": True,
}
# the predecessor's heatmap pyramid, which a row of each stage begins with
BIFPN: dict[str, Any] = {
    "taps": (4, 8, 16, 32),
    "normalization": "imagenet",
    "neck": "bifpn",
    "neck_channels": 64,
    "neck_rounds": 4,
    "head_maps": 2,
}
ROWS: dict[str, dict[str, Any]] = {
    "stage1_v1": {
        **_POOLED,
        "stage": 1,
        "backbone": "efficientnet_b3",
        "input_hw": (300, 300),
        "hidden": (1024, 256),
        "loss": "relaxed_l2_squared",
        "margin_norm": 0.03,
        "batch": 8,
        "notes": "pooled features, attention over the past frames; overfits: pooling throws the place away",
    },
    "stage1_v2": {
        "parent": "stage1_v1",
        "hidden": (1024, 512, 128),
        "visibility": "none",
        "notes": "a different MLP, places only: slightly faster, same fault",
    },
    "stage1_v3": {
        "parent": "stage1_v2",
        "points": 3,
        "notes": "three places and a diversity loss; they collapse into one cluster, hence the triangle",
    },
    "stage1_v4": {
        "parent": "stage1_v3",
        "network": "pyramid",
        "backbone": "tf_efficientnetv2_b3",
        **BIFPN,
        "hidden": (256, 64, 16),
        "points": 1,
        "decode": "soft_argmax",
        "trajectory": "none",
        "prior": "last",
        "prior_sigma_cells": 3.75,
        "loss": "relaxed_l2",
        "margin_norm": 0.015,
        "decay_norms": False,
        "notes": "heatmap and BiFPN: in 25 epochs what a pooled head needed 110 for",
    },
    "stage1_v5": {
        "stage": 1,
        "parent": "stage1_v4",
        "backbone": "mobilenetv4_conv_small_050",
        "neck_channels": 32,
        "notes": "one early-fused pass of a small network at 16:9; cells by cross-entropy, offsets",
    },
    "stage2_v1": {
        **_POOLED,
        "stage": 2,
        "backbone": "efficientnet_b0",
        "input_hw": (224, 224),
        "hidden": (1024, 512, 128),
        "loss": "relaxed_l2",
        "margin_norm": 0.01,
        "notes": "the pooled design on a crop: train error 0.02, validation 0.10",
    },
    "stage2_v2": {
        "parent": "stage2_v1",
        "hidden": (1024, 256),
        "trajectory": "recent",
        "visible_loss": "mse",
        "notes": "six past triplets and their deltas in place of 1-D convolutions: no better",
    },
    "stage2_v3": {
        "parent": "stage2_v2",
        "normalization": "imagenet",
        "hidden": (1024, 512),
        "visibility": "split",
        "decay_norms": False,
        "notes": "a trunk, then a position and a visibility branch: no better",
    },
    "stage2_v4": {
        "parent": "stage2_v3",
        "network": "pyramid",
        "taps": (16, 32),
        "normalization": "unit",
        "neck": "fpn",
        "neck_channels": 256,
        "hidden": (256, 64, 16),
        "heatmap_stride": 16,
        "decode": "soft_argmax",
        "trajectory": "none",
        "prior": "quadratic",
        "film": True,
        "visibility": "max_mean",
        "margin_norm": 0.0,
        "notes": "heatmap, extrapolated track, FiLM: train error 0.011, validation 0.20",
    },
    "stage2_v5": {
        "parent": "stage2_v4",
        "noise": "uniform",
        "notes": "noise drawn from U(0, 0.02): validation 0.008; a constant level had become a crutch",
    },
    "stage2_v6": {
        "parent": "stage2_v5",
        "backbone": "tf_efficientnetv2_b0",
        **BIFPN,
        "prior": "none",
        "film": False,
        "visibility": "none",
        "notes": "BiFPN without history or visibility: proof of concept, support model",
    },
    "stage2_v7": {
        "parent": "stage2_v6",
        "neck_channels": 96,
        "heatmap_stride": 8,
        "tau": 0.7,
        "prior": "quadratic",
        "notes": "finer taps, 96 channels, sharper soft-argmax, extrapolated track again: validation 0.011",
    },
    "stage2_v8": {
        "stage": 2,
        "parent": "stage2_v5",
        "input_hw": (160, 160),
        "batch": 32,
        "notes": "one early-fused pass on a 160 crop; stride-4 heatmap with offset; no history",
    },
    "stage2_v9": {
        "parent": "stage2_v8",
        "frames": 5,
        "ahead": 2,
        "notes": "two frames either way in place of three past ones: val crops 0.863 to 0.877 right",
    },
    "stage2_v10": {
        "parent": "stage2_v9",
        "poor": 0.4,
        "notes": "poor footage in 40% of the samples: val 0.876 to 0.873, made dark, glaring, blurred or "
        "coarse 0.780 to 0.806",
    },
    "stage2_v11": {
        "parent": "stage2_v10",
        "crop_scale": 1.2,
        "notes": "trained on crops of 192 px, used on 160, halfway back to its parent: val as before, "
        "rendered views 0.857 to 0.876 on average",
    },
    "unet_3in3": {
        "stage": 1,
        "network": "unet",
        "backbone": "unet",
        "taps": (),
        "frames": 3,
        "normalization": "unit",
        "fusion": "stack",
        "neck": "none",
        "neck_channels": 64,
        "heatmap_stride": 1,
        "decode": "centroid",
        "visibility": "peak",
        "loss": "weighted_bce",
        "lr": 1e-3,
        "batch": 8,
        "notes": "baseline of the field: a U-Net as in TrackNetV2, three frames to their three heatmaps",
    },
    "unet_8in8": {
        "parent": "unet_3in3",
        "frames": 8,
        "notes": "baseline of the field: eight frames to their eight heatmaps",
    },
}
# The modern rows start from the dataclass defaults: they share no value with the historic design.
FRESH = {"stage1_v5", "stage2_v8"}
LINEAGE_FIELDS = ("name", "parent", "notes")


def names() -> list[str]:
    """All versions, in the order of the lineage."""
    return list(ROWS)


def lineage() -> list[str]:
    """The historic versions and those that followed them, stage by stage, oldest first."""
    return [name for name in ROWS if resolve(name).network != "unet"]


def baselines() -> list[str]:
    """Networks of the field, for comparison: one network over the whole frame, no stage 2."""
    return [name for name in ROWS if resolve(name).network == "unet"]


def resolve(name: str, **overrides: Any) -> Spec:
    """The full spec of a version: its parent's values, then its own, then `overrides`.

    Raises:
        UsageError: the name is no row; the message lists the rows.
    """
    if name not in ROWS:
        raise UsageError(f"version '{name}' is not a row; choose one of: {', '.join(ROWS)}")
    row = {**ROWS[name], "name": name, **overrides}
    parent = row.get("parent")
    return replace(resolve(parent), **row) if parent and name not in FRESH else Spec(**row)


def changes(name: str) -> dict[str, tuple[Any, Any]]:
    """What a version does unlike its parent: {field: (parent's value, own value)}; empty without one."""
    parent = resolve(name).parent
    return diff(parent, name) if parent else {}


def diff(a: str, b: str) -> dict[str, tuple[Any, Any]]:
    """The fields in which two versions differ: {field: (value of a, value of b)}."""
    return spec_diff(resolve(a), resolve(b))


def spec_diff(a: Spec, b: Spec) -> dict[str, tuple[Any, Any]]:
    """As `diff`, of specs as they are: those of a card may differ from the row of their name."""
    left, right = a.as_dict(), b.as_dict()
    return {k: (left[k], right[k]) for k in left if k not in LINEAGE_FIELDS and left[k] != right[k]}
