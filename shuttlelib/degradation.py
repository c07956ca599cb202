"""Footage of poor quality: what a lens and a codec do to pictures; used by augment and batches."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shuttlelib.draws import Draws

BLOCK = 8  # px, side of a codec's transform
ROUNDING = 1 / 3  # of an encoder: what is less than two thirds of a step is not sent
REACH_PX = 5  # of the defocus
RED, GREEN, BLUE = 0.299, 0.587, 0.114  # their shares of brightness (ITU-R BT.601)


class Degradation(NamedTuple):
    """What happens to the B samples of a batch.

    Attributes:
        sigma_px: (B,) of the defocus, input px; 0 is sharp.
        gain, offset: (B,) of the exposure: grey levels become gain * level + offset.
        noise: (B,) standard deviation of the sensor noise, grey levels.
        step: (B,) of the codec's quantizer, grey levels; 0 compresses nothing.
        corner: (B, 2) input px, where its blocks begin, x and y.
    """

    sigma_px: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    noise: np.ndarray
    step: np.ndarray
    corner: np.ndarray


def draw(draws: Draws, share: float) -> Degradation:
    """A degradation of a share of the samples, each of at least one kind."""
    chosen, kinds = draws.chance(share), draws.uniform(size=(4,)) < 0.5
    kinds[~kinds.any(1), 3] = True
    blurred, exposed, noisy, coded = (kinds & chosen[:, None]).T
    return Degradation(
        np.where(blurred, draws.uniform(0.4, 2.0), 0.0),
        np.where(exposed, 2 ** draws.uniform(-1.3, 0.8), 1.0),
        np.where(exposed, draws.uniform(-10, 15), 0.0),
        np.where(noisy, draws.uniform(2, 16), 0.0),
        np.where(coded, 2 ** draws.uniform(3.5, 6.8), 0.0),
        draws.below(BLOCK, (2,)),
    )


def on_pictures(images: np.ndarray, effect: Callable[..., Tensor], *values: np.ndarray) -> np.ndarray:
    """Pictures uint8 (T, H, W, 3) of one sample after `defocus` or `compress`, by values (1, ...)."""
    frames = torch.from_numpy(images).permute(0, 3, 1, 2)[None].float()
    frames = effect(frames, *(torch.from_numpy(value) for value in values))
    return frames[0].permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()


def defocus(frames: Tensor, sigma_px: Tensor) -> Tensor:
    """Frames (B, T, 3, H, W) through Gaussians of (B,) px; 0 leaves a sample as it is."""
    along = torch.arange(-REACH_PX, REACH_PX + 1, device=frames.device)
    kernel = torch.exp(-0.5 * (along / sigma_px.to(frames)[:, None].clamp(min=0.05)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None, None]  # (B, 1, 1, 2 * REACH_PX + 1)
    images = frames.flatten(1, 2).transpose(0, 1)  # a channel a sample
    images = F.pad(images, [REACH_PX] * 4, mode="replicate")
    images = F.conv2d(F.conv2d(images, kernel, groups=len(kernel)), kernel.mT, groups=len(kernel))
    return images.transpose(0, 1).unflatten(1, frames.shape[1:3]).round_()


def compress(frames: Tensor, step: Tensor, corner: Tensor) -> Tensor:
    """Frames (B, T, 3, H, W) as a codec gives them back, whose camera stands still.

    A picture is sent as its difference from the one that the decoder has, in blocks of a cosine transform
    whose coefficients are rounded towards zero: what rests gets better, faint motion is lost or lags.
    Motion compensation and the filter between blocks are left out.

    Args:
        step: (B,) of brightness, grey levels; that of colour is twice as large.
        corner: (B, 2) int64 px, where blocks begin, x and y.

    Source: the hybrid coder of ITU-T H.264 in outline, whose step is 0.625 at QP 0 and doubles every 6.
    """
    h, w = frames.shape[-2:]
    red, green, blue = frames.unbind(2)
    luma = RED * red + GREEN * green + BLUE * blue
    chroma = (blue - luma) / (2 - 2 * BLUE), (red - luma) / (2 - 2 * RED)
    images = torch.stack([luma, *chroma], 2).flatten(1, 2)
    images = F.pad(images, (0, BLOCK + -w % BLOCK, 0, BLOCK + -h % BLOCK), mode="replicate")
    size_hw = images.shape[-2:]
    y, x = (
        (torch.arange(n, device=frames.device) + corner[:, 1 - i, None]) % n for i, n in enumerate(size_hw)
    )
    sample = torch.arange(len(step), device=frames.device)[:, None, None]
    images = images[sample, :, y[:, :, None], x[:, None]].permute(0, 3, 1, 2)  # blocks begin at 0
    coded = _coded(images.unflatten(1, frames.shape[1:3]), step.to(frames))
    back_y, back_x = y.argsort(1)[:, :h, None], x.argsort(1)[:, None, :w]
    coded = coded.flatten(1, 2)[sample, :, back_y, back_x].permute(0, 3, 1, 2)
    luma, *chroma = coded.unflatten(1, frames.shape[1:3]).unbind(2)
    blue, red = luma + chroma[0] * (2 - 2 * BLUE), luma + chroma[1] * (2 - 2 * RED)
    green = (luma - RED * red - BLUE * blue) / GREEN
    return torch.stack([red, green, blue], 2).round_().clamp_(0, 255)


def _coded(images: Tensor, step: Tensor) -> Tensor:
    """YCbCr images (B, T, 3, H, W), sides whole blocks, after the coder."""
    steps = torch.stack([step, 2 * step, 2 * step], 1)[:, :, None, None, None, None]
    cells = torch.arange(BLOCK, device=images.device)
    basis = torch.cos(torch.pi / BLOCK * (cells + 0.5) * cells[:, None]) * (2 / BLOCK) ** 0.5
    basis[0] /= 2**0.5
    blocks = images.unflatten(4, (-1, BLOCK)).unflatten(3, (-1, BLOCK)).transpose(4, 5)
    sent = basis @ blocks @ basis.T  # (B, T, 3, rows, columns, 8, 8), linear: differences may be taken here
    known, decoded = torch.zeros_like(sent[:, 0]), []
    for t in range(images.shape[1]):
        rest = (sent[:, t] - known) / steps
        known = known + rest.sign() * (rest.abs() + ROUNDING).floor() * steps
        decoded.append(known)
    blocks = basis.T @ torch.stack(decoded, 1) @ basis
    return blocks.transpose(4, 5).flatten(5, 6).flatten(3, 4)
