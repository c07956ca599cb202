"""From a version's spec to a network; from weights on disk to something that runs.

Follows `samples` and `augment` in the flow, precedes `train`. What differs between rows are the values of
the spec, never a code path named after a version.
"""

import json
import math
from itertools import pairwise
from pathlib import Path
from textwrap import shorten

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shuttlelib import blocks
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import atomic_write, require_fetched, write_json, writing
from shuttlelib.pooled import PooledNet
from shuttlelib.prediction import ALWAYS_VISIBLE, CANDIDATES, Prediction, ShuttleNet, no_track
from shuttlelib.spec import Spec, check
from shuttlelib.unet import UNet

TOLD = ("metrics.json", "README.md", "export.csv")  # of a model's weights, by files beside them


class PyramidNet(ShuttleNet):
    """A backbone, a neck over chosen strides and a heatmap, with offsets where the row decodes them."""

    def __init__(self, spec: Spec, pretrained: bool):
        super().__init__(spec)
        early = spec.fusion == "early"
        self.backbone, channels = _taps(spec, 2 + spec.frames if early else 3, pretrained)
        self.fuse: nn.Module | None = None
        if early:
            self.fuse = blocks.EarlyFusion(spec.normalization, spec.current)
        c, maps = spec.neck_channels, spec.head_maps
        if spec.neck == "bifpn":
            level = spec.taps.index(spec.heatmap_stride)
            self.neck: nn.Module = blocks.BiFPN(channels, c, spec.neck_rounds, level, maps)
        else:
            self.neck = blocks.FPN(channels, c)
        hidden, joined = spec.hidden or (c,), maps if early else maps * spec.frames
        width = c if joined == 1 else hidden[0]
        self.join = nn.Identity() if joined == 1 else blocks.conv(joined * c, width, kernel=1)
        self.film = blocks.Film(width) if spec.film else None
        convs = (blocks.conv(a, b) for a, b in pairwise((width, *hidden)))
        outputs = 3 if spec.decode == "offset" else 1
        self.head = nn.Sequential(*convs, _undecided(nn.Conv2d(hidden[-1], outputs, 1), spec))
        self.prior_gain = nn.Parameter(torch.zeros(())) if spec.prior != "none" else None
        self.visibility = _visibility(spec.visibility, width)

    def forward(self, frames: Tensor, history: Tensor | None = None) -> Prediction:
        """Predict; see `ShuttleNet`."""
        history = no_track(frames, history)
        features = self._features(frames)
        if self.film is not None:
            features = self.film(features, history)
        out = self.head(features).float()
        logits, offset = out[:, 0], out[:, 1:]
        if self.prior_gain is not None:
            logits = logits + F.softplus(self.prior_gain) * self._prior(history, logits)
        if self.spec.decode != "offset":
            offset = torch.zeros_like(out).expand(-1, 2, -1, -1)
        if self.visibility is None:
            visible_logit = torch.full_like(logits[:, 0, 0], ALWAYS_VISIBLE)
        else:
            visible_logit = self.visibility(logits, features.float())
        return Prediction(logits, offset, visible_logit)

    def _features(self, frames: Tensor) -> Tensor:
        if self.fuse is not None:
            pixels = self.fuse(frames)
        else:
            pixels = blocks.normalize(frames, self.spec.normalization).flatten(0, 1)
        maps = self.neck(self.backbone(pixels))[: self.spec.head_maps]
        size = maps[0].shape[-2:]
        coarser = [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps[1:]]
        joined = torch.cat([maps[0], *coarser], 1)
        if self.spec.fusion == "late":
            joined = joined.unflatten(0, frames.shape[:2]).flatten(1, 2)
        return self.join(joined)

    def _prior(self, history: Tensor, logits: Tensor) -> Tensor:
        h, w = logits.shape[-2:]
        if self.spec.prior == "last":
            xy, present = history[:, -1, :2], history[:, -1, 2] > 0.5
        else:
            xy, present = blocks.extrapolate(history)
        cells = torch.stack([xy[:, 0] * w, xy[:, 1] * h], 1)
        return blocks.bump(cells, present, (h, w), self.spec.prior_sigma_cells)


class Deployed(nn.Module):
    """A network with everything around it in the graph: uint8 in, places and probabilities out.

    The arithmetic of ONNX, TensorRT and torch deployments is this module, so they agree.
    """

    def __init__(self, net: ShuttleNet, candidates: int = CANDIDATES):
        super().__init__()
        self.net = net
        self.candidates = candidates

    def forward(self, frames: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 RGB (B, T, H, W, 3), oldest first, to xy (B, k, 2) px, score (B, k), visible (B,)."""
        prediction = self.net(self.pixels(frames), history)
        xy, score = self.net.decode(prediction, self.candidates)
        return xy.float(), score.float(), torch.sigmoid(prediction.visible_logit.float())

    def pixels(self, frames: Tensor) -> Tensor:
        """What the network reads of uint8 (B, T, H, W, 3)."""
        # TensorRT takes uint8 only into a cast, so the cast comes before the permutation
        return frames.float().permute(0, 1, 4, 2, 3)


def uses_history(spec: Spec) -> bool:
    """Whether a row looks at the track so far."""
    return spec.film or spec.prior != "none" or spec.trajectory != "none"


def build(spec: Spec, pretrained: bool = False) -> ShuttleNet:
    """The network of a spec, with fresh weights, or timm's ImageNet ones in the backbone.

    Raises:
        UsageError: values of the spec do not go together.
        ShuttleError: the ImageNet weights cannot be fetched.
    """
    check(spec)
    if spec.network == "unet":
        return UNet(spec)
    return PooledNet(spec, pretrained) if spec.network == "pooled" else PyramidNet(spec, pretrained)


def save(net: ShuttleNet, model_dir: Path, facts: dict | None = None) -> None:
    """Write model.safetensors (fp16; fp32 what that cannot hold) and version.json, each whole or not at all.

    Graphs and engines of earlier weights go, and what says how good those were.

    Raises:
        ShuttleError: a weight is not finite; nothing is written.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    if wrong := [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]:
        raise ShuttleError(
            f"{model_dir}: {wrong[0]} is not finite ({len(wrong)} of {len(state)} tensors); nothing was "
            "written; train again from weights that are, at a lower learning rate"
        )
    with writing(model_dir):
        model_dir.mkdir(parents=True, exist_ok=True)
        # in a folder without a model such files are of something else
        told = TOLD if (model_dir / "version.json").is_file() else ()
        # before the weights: a kill between the two leaves none beside others
        for old in (*graphs(model_dir), *(model_dir / name for name in told)):
            old.unlink(missing_ok=True)
    half = {k: _halved(v) if v.is_floating_point() else v for k, v in state.items()}
    with atomic_write(model_dir / "model.safetensors") as temp:
        mode = temp.stat().st_mode
        save_file(half, temp)
        temp.chmod(mode)  # it puts a file there that nobody else may read
    meta = {**net.spec.as_dict(), "candidates": CANDIDATES, "history": uses_history(net.spec)}
    write_json(model_dir / "version.json", {**meta, **(facts or {})})


def graphs(model_dir: Path) -> list[Path]:
    """What export made of the weights in a folder: graphs and engines, wrong beside any others."""
    return [*model_dir.glob("model*.onnx"), *model_dir.glob("*.engine")]


def _halved(value: Tensor) -> Tensor:
    """In half precision, if all of it fits: variances of wide activations may not."""
    half = value.half()
    return half if half.isfinite().all() else value


def start_from(net: ShuttleNet, model_dir: Path) -> None:
    """Put the weights of a model folder into a network that may see other frames around the current one.

    With early fusion each other frame is a channel: those that both know keep their weights, those that
    are new start at zero, so that they change nothing at first.

    Raises:
        ShuttleError: the weights are missing, damaged, or differ otherwise.
    """
    state, known, wanted = _state(model_dir), _channels(_card(model_dir)[0]), _channels(net.spec)
    if known != wanted:
        mine = net.state_dict()
        for name in [n for n, value in state.items() if n in mine and value.shape != mine[n].shape]:
            if state[name].shape[1:2] != (len(known),) or mine[name].shape[1:2] != (len(wanted),):
                continue  # not the first layer: `_fit` will say so
            fresh = torch.zeros_like(mine[name])
            for i, channel in enumerate(wanted):
                if channel in known:
                    fresh[:, i] = state[name][:, known.index(channel)]
            state[name] = fresh
    _fit(net, state, model_dir)


def _channels(spec: Spec) -> list[str | int]:
    """What the first layer sees: colours, then the other frames by how far they are from the current one."""
    if spec.fusion != "early":
        return ["r", "g", "b"]
    return ["r", "g", "b", *(t for t in range(1 + spec.ahead - spec.frames, 1 + spec.ahead) if t)]


def _state(model_dir: Path) -> dict[str, Tensor]:
    path = _part(model_dir, "model.safetensors")
    require_fetched(path)
    try:
        return {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _part(model_dir: Path, name: str) -> Path:
    """A file of a model folder, which must be there."""
    path = Path(model_dir) / name
    if not path.is_file():
        raise ShuttleError(f"{path} is missing; train the version or fetch its weights")
    return path


def _damaged(path: Path, error: Exception) -> ShuttleError:
    return ShuttleError(f"{path}: damaged ({error}); train the version or fetch it again")


def _fit(net: ShuttleNet, state: dict[str, Tensor], model_dir: Path) -> None:
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        path, said = Path(model_dir) / "model.safetensors", str(error)
        reason = shorten(said.partition(":\n")[2] or said, 160, placeholder=" …")  # after torch's headline
        raise ShuttleError(f"{path}: weights do not fit {net.spec.name}: {reason}") from error


def mean(first: Path, second: Path, share: float, out: Path) -> None:
    """Write a model folder whose weights are the mean of two: a network and what fine-tuning made of it.

    Source: Wortsman et al. 2022, arXiv:2109.01903: such a mean often does better on new data than either.

    Args:
        first, second: model folders of one version; confidence curves are of neither, so none are kept.
        share: of the second in the mean, 0 to 1.
        out: the folder to write.

    Raises:
        ShuttleError: a folder is missing or damaged, or the two are of different shapes.
    """
    net, theirs = load(first).net, _state(second)
    mine = {name: value.clone() for name, value in net.state_dict().items()}
    _fit(net, theirs, second)  # refuses other shapes
    floats = [name for name, value in mine.items() if value.is_floating_point()]
    net.load_state_dict(mine | {name: mine[name].lerp(theirs[name], share) for name in floats})
    save(net, out, {"mean_share": share})


def load(model_dir: Path, device: str = "cpu") -> Deployed:
    """Read a model folder written by `save`, ready to run.

    Raises:
        ShuttleError: a file is missing or damaged, or the weights are not this version's.
    """
    spec, meta = _card(model_dir)
    try:
        net = build(spec)
    except (ValueError, TypeError) as error:
        raise _damaged(Path(model_dir) / "version.json", error) from error
    _fit(net, _state(model_dir), model_dir)
    return Deployed(net, int(meta.get("candidates", CANDIDATES))).eval().to(device)


def _card(model_dir: Path) -> tuple[Spec, dict]:
    """A model folder's spec, and all that is written beside it.

    Raises:
        ShuttleError: it is missing or damaged.
    """
    path = _part(model_dir, "version.json")
    try:
        meta = json.loads(path.read_text("utf-8"))
        spec = Spec.from_dict(meta)
        check(spec)
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    return spec, meta


def _taps(spec: Spec, in_channels: int, pretrained: bool) -> tuple[nn.Module, list[int]]:
    """The backbone of a pyramid and the channels of its taps, finest first."""
    strides = blocks.backbone(spec.backbone, False, features_only=True).feature_info.reduction()
    missing = sorted(set(spec.taps) - set(strides))
    if missing:
        raise UsageError(
            f"version {spec.name}: taps {spec.taps} ask for strides {missing} that {spec.backbone} does not "
            f"have; use some of {strides}"
        )
    picks = tuple(strides.index(s) for s in spec.taps)
    backbone = blocks.backbone(
        spec.backbone, pretrained, features_only=True, in_chans=in_channels, out_indices=picks
    )
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
        last.bias.zero_()[0] = -math.log(cells)  # type: ignore[union-attr]
    return last
