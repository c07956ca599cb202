"""From a version's spec to a network; from weights on disk to something that runs.

Follows `samples` and `augment` in the flow, precedes `train`. One class serves every heatmap row: what
differs between rows are the values of the spec, never a code path named after a version.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shuttlelib import blocks, geometry
from shuttlelib.errors import ShuttleError
from shuttlelib.files import atomic_write
from shuttlelib.versions import Spec

CANDIDATES = 4
HISTORY = 30
ALWAYS_VISIBLE = 4.0  # the logit of rows without a visibility head: they place the shuttle in every frame


class Prediction(NamedTuple):
    """What a network says of a batch.

    Attributes:
        heatmap: (B, h, w) logits; "nowhere" has logit 0.
        offset: (B, 2, h, w) from each cell's centre to the head, in cells; zero for soft-argmax rows.
        visible_logit: (B,).
    """

    heatmap: Tensor
    offset: Tensor
    visible_logit: Tensor


class ShuttleNet(nn.Module):
    """Four frames (and, for some rows, the track so far) to a heatmap, offsets and a visibility."""

    def __init__(self, spec: Spec, pretrained: bool = False):
        super().__init__()
        self.spec = spec
        early = spec.fusion == "early"
        self.backbone, channels = _backbone(spec, 6 if early else 3, pretrained)
        c = spec.neck_channels
        if spec.neck == "bifpn":
            self.neck: nn.Module = blocks.BiFPN(channels, c, spec.neck_rounds)
        else:
            self.neck = blocks.FPN(channels, c)
        self.join = nn.Identity() if early else blocks.conv(4 * c, c, kernel=1)
        self.film = blocks.Film(c) if spec.film else None
        self.head = nn.Sequential(blocks.conv(c, c), _undecided(nn.Conv2d(c, 3, 1), spec))
        self.prior_gain = nn.Parameter(torch.zeros(())) if spec.prior != "none" else None
        self.visibility = _visibility(spec.visibility, c)

    def forward(self, frames: Tensor, history: Tensor | None = None) -> Prediction:
        """Predict.

        Args:
            frames: (B, 4, 3, H, W) RGB in 0..255, uint8 or float, oldest first, the last one current.
            history: (B, 30, 3) past x, y in [0, 1] of the input and visible, oldest first; rows
                without a prior or FiLM ignore it, others take None as "no track yet".
        """
        if history is None:
            history = torch.zeros(frames.shape[0], HISTORY, 3, device=frames.device)
        features = self._features(frames)
        if self.film is not None:
            features = self.film(features, history)
        out = self.head(features).float()
        logits, offset = out[:, 0], out[:, 1:]
        if self.prior_gain is not None:
            logits = logits + F.softplus(self.prior_gain) * self._prior(history, logits)
        if self.spec.decode == "soft_argmax":
            offset = torch.zeros_like(offset)
        if self.visibility is None:
            visible_logit = torch.full_like(logits[:, 0, 0], ALWAYS_VISIBLE)
        else:
            visible_logit = self.visibility(logits, features.float())
        return Prediction(logits, offset, visible_logit)

    def decode(self, prediction: Prediction, k: int = CANDIDATES) -> tuple[Tensor, Tensor]:
        """The k best places: xy (B, k, 2) in input px and score (B, k) in [0, 1], best first.

        Soft-argmax rows have one place; it is repeated with score 0.
        """
        stride = self.spec.heatmap_stride
        if self.spec.decode == "offset":
            xy, score = blocks.local_peaks(prediction.heatmap, prediction.offset, k)
            return geometry.cell_to_px(xy, stride), score
        xy = blocks.soft_argmax(prediction.heatmap, self.spec.tau)[:, None].expand(-1, k, -1)
        score = torch.sigmoid(prediction.visible_logit)[:, None]
        padded = F.pad(score, (0, k - 1))
        return geometry.cell_to_px(xy, stride), padded

    def _features(self, frames: Tensor) -> Tensor:
        if self.spec.fusion == "early":
            return self.neck(self.backbone(blocks.fuse_early(frames)))[0]
        b, t = frames.shape[:2]
        maps = self.neck(self.backbone(blocks.normalize(frames).flatten(0, 1)))
        return self.join(maps[0].unflatten(0, (b, t)).flatten(1, 2))

    def _prior(self, history: Tensor, logits: Tensor) -> Tensor:
        h, w = logits.shape[-2:]
        if self.spec.prior == "last":
            xy, present = history[:, -1, :2], history[:, -1, 2] > 0.5
        else:
            xy, present = blocks.extrapolate(history)
        return blocks.bump(xy * xy.new_tensor((w, h)), present, (h, w), self.spec.prior_sigma_cells)


class Deployed(nn.Module):
    """A network with everything around it in the graph: uint8 in, places and probabilities out.

    The arithmetic of ONNX, TensorRT and torch deployments is this module, so they agree.
    """

    def __init__(self, net: ShuttleNet, candidates: int = CANDIDATES):
        super().__init__()
        self.net = net
        self.candidates = candidates

    def forward(self, frames: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 RGB (B, 4, H, W, 3), oldest first, to xy (B, k, 2) px, score (B, k), visible (B,)."""
        # TensorRT takes uint8 only into a cast, so the cast comes before the permutation
        prediction = self.net(frames.float().permute(0, 1, 4, 2, 3), history)
        xy, score = self.net.decode(prediction, self.candidates)
        return xy.float(), score.float(), torch.sigmoid(prediction.visible_logit.float())


def uses_history(spec: Spec) -> bool:
    """Whether a row looks at the track so far."""
    return spec.film or spec.prior != "none"


def build(spec: Spec, pretrained: bool = False) -> ShuttleNet:
    """The network of a spec, with fresh weights, or timm's ImageNet ones in the backbone.

    Raises:
        ShuttleError: the ImageNet weights cannot be fetched.
    """
    return ShuttleNet(spec, pretrained)


def save(net: ShuttleNet, model_dir: Path, facts: dict | None = None) -> None:
    """Write model.safetensors (fp16) and version.json, each whole or not at all."""
    model_dir.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    with atomic_write(model_dir / "model.safetensors") as temp:
        save_file(half, temp)
    meta = {**net.spec.as_dict(), "candidates": CANDIDATES, "history": uses_history(net.spec)}
    with atomic_write(model_dir / "version.json") as temp:
        temp.write_text(json.dumps({**meta, **(facts or {})}, indent=2) + "\n")


def load_weights(net: ShuttleNet, model_dir: Path) -> None:
    """Put the weights of a model folder into a network of the same shape.

    Raises:
        ShuttleError: they are missing, damaged, or of another shape.
    """
    path = Path(model_dir) / "model.safetensors"
    if not path.is_file():
        raise ShuttleError(f"{path} is missing; train the version or fetch its weights")
    try:
        state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    except SafetensorError as error:
        raise ShuttleError(f"{path}: damaged ({error}); train the version or fetch it again") from error
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ShuttleError(f"{path}: weights do not fit {net.spec.name}: {reason}") from error


def load(model_dir: Path, device: str = "cpu") -> Deployed:
    """Read a model folder written by `save`, ready to run.

    Raises:
        ShuttleError: a file is missing or damaged, or the weights are not this version's.
    """
    path = Path(model_dir) / "version.json"
    if not path.is_file():
        raise ShuttleError(f"{path} is missing; train the version or fetch its weights")
    try:
        meta = json.loads(path.read_text())
        net = build(Spec.from_dict(meta))
    except (ValueError, TypeError) as error:
        raise ShuttleError(f"{path}: damaged ({error}); train the version or fetch it again") from error
    load_weights(net, model_dir)
    return Deployed(net, int(meta.get("candidates", CANDIDATES))).eval().to(device)


def _backbone(spec: Spec, in_channels: int, pretrained: bool) -> tuple[nn.Module, list[int]]:
    """The timm backbone and the channels of its taps, finest first."""
    probe = timm.create_model(spec.backbone, pretrained=False, features_only=True)
    strides = probe.feature_info.reduction()
    missing = set(spec.taps) - set(strides)
    if missing:
        raise ShuttleError(
            f"version {spec.name}: backbone {spec.backbone} has strides {strides}, not {missing}"
        )
    picks = tuple(strides.index(s) for s in spec.taps)
    try:
        backbone = timm.create_model(
            spec.backbone,
            pretrained=pretrained,
            features_only=True,
            in_chans=in_channels,
            out_indices=picks,
        )
    except Exception as error:
        if not pretrained:
            raise
        raise ShuttleError(
            f"version {spec.name}: ImageNet weights of {spec.backbone} could not be fetched "
            f"({type(error).__name__}); connect to the Hub once, or train without (--no-pretrained)"
        ) from error
    return backbone, backbone.feature_info.channels()


def _visibility(kind: str, channels: int) -> nn.Module | None:
    if kind == "none":
        return None
    return blocks.MaxMeanVisibility() if kind == "max_mean" else blocks.AttendedVisibility(channels)


def _undecided(last: nn.Conv2d, spec: Spec) -> nn.Conv2d:
    """Start with as much probability on "nowhere" as on all cells together, and with small offsets."""
    cells = (spec.input_hw[0] // spec.heatmap_stride) * (spec.input_hw[1] // spec.heatmap_stride)
    nn.init.normal_(last.weight, std=0.01)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([-math.log(cells), 0.0, 0.0]))  # type: ignore[union-attr]
    return last
