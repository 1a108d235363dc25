"""How bright and how sharp a sample is, and how noisy.

Channels are in units of their own background sigma, which training must not unlearn: what adds noise brings the channel
back to sigma 1, what averages noise out adds as much again. Only `scale_flux` does not: it scales light and noise
alike, as where sigma was measured wrong, by at most `data.augment.flux_factor`. The difference of a pair is the science
frame minus the reference, so in its own sigma it shows the share `data.augment.difference_share` of what happens to the
science frame. Pixels that hold nothing (0 in every channel and not valid) hold nothing afterwards.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from astrid.config import AugmentConfig
from astrid.data.dataset import Batch

from .draws import Draws

REACH_SIGMA = 3.0
"""Standard deviations at which the kernel of a blur is cut."""
SHARPEST_PIXELS = 0.3
"""Standard deviation of the slightest blur; a Gaussian below it stays within its pixel."""


def science_shares(channels: int, config: AugmentConfig) -> list[float]:
    """Return how much of a change of the science frame each channel shows, each in its own sigma.

    Raises
    ------
    ValueError
        For channels that are neither a science frame alone nor science, reference and difference.
    """
    if channels not in (1, 3):
        raise ValueError(f"changes of the science frame are defined for 1 or 3 channels, got {channels}")
    return [1.0] if channels == 1 else [1.0, 0.0, config.difference_share]


def held(batch: Batch) -> Tensor:
    """Return the pixels that hold something, (B, 1, T, T) bool; some that don't count are seen all the same."""
    return batch["valid"] | (batch["image"] != 0).any(dim=1, keepdim=True)


def spread(change: Tensor, batch: Batch, config: AugmentConfig) -> Tensor:
    """Return what a change of the science frame, (B, 1, T, T) in its sigma, does to every channel, (B, C, T, T)."""
    shares = science_shares(batch["image"].shape[1], config)
    parts = [change * share for share in shares]
    return torch.where(held(batch), torch.cat(parts, dim=1), 0.0)


def scale_flux(batch: Batch, draws: Draws, config: AugmentConfig) -> Batch:
    """Multiply all channels of each sample by one factor, their noise with them: its sigma is the factor, then."""
    reach = math.log(config.flux_factor)
    factor = np.exp(draws.host.uniform(-reach, reach, size=batch["image"].shape[0]))
    return batch | {"image": batch["image"] * draws.per_sample(factor)}


def add_sky(batch: Batch, draws: Draws, config: AugmentConfig) -> Batch:
    """Add a plane to the science frame, and its share to the difference."""
    image = batch["image"]
    level, rise_y, rise_x = (
        draws.per_sample(draws.host.uniform(-most, most, size=image.shape[0]))
        for most in (config.sky_level, config.sky_gradient, config.sky_gradient)
    )
    y, x = (torch.linspace(-0.5, 0.5, size, device=image.device) for size in image.shape[-2:])
    plane = level + rise_y * y[:, None] + rise_x * x  # (B, 1, T, T)
    return batch | {"image": image + spread(plane, batch, config)}


def add_noise(batch: Batch, draws: Draws, config: AugmentConfig) -> Batch:
    """Make each science frame shallower: white noise is added, and frame and difference are scaled back to sigma 1."""
    image = batch["image"]
    sigma = draws.per_sample(draws.host.uniform(0, config.noise_sigma, size=image.shape[0]))
    noise = sigma * draws.normal_like(image[:, :1])
    shares = draws.to_device(torch.tensor(science_shares(image.shape[1], config))).view(1, -1, 1, 1)
    return batch | {"image": (image + spread(noise, batch, config)) / torch.sqrt(1 + (shares * sigma) ** 2)}


def blur(batch: Batch, draws: Draws, config: AugmentConfig) -> Batch:
    """Make the seeing worse: every channel is convolved alike, and the noise is brought back to sigma 1.

    Convolution is linear, so that the difference stays what the frames' difference would be.
    """
    image, seen = batch["image"], held(batch)
    sigma = draws.host.uniform(SHARPEST_PIXELS, config.blur_pixels, size=image.shape[0])
    kernel = gaussian_kernels(draws.per_sample(sigma).flatten(), longest=config.blur_pixels)
    kept = (kernel**2).sum(dim=1).view(-1, 1, 1, 1)  # share of the noise's sigma that is left: the square of one axis
    noise = fresh_noise(image, draws, config) * torch.sqrt(1 - kept**2)
    return batch | {"image": torch.where(seen, convolve(image, seen, kernel) + noise, 0.0)}


def fresh_noise(image: Tensor, draws: Draws, config: AugmentConfig) -> Tensor:
    """Return noise of unit variance for every channel; that of a difference is what the frames' noise makes of it."""
    science_shares(image.shape[1], config)
    if image.shape[1] == 1:
        return draws.normal_like(image)
    frames, share = draws.normal_like(image[:, :2]), config.difference_share
    difference = share * frames[:, :1] - math.sqrt(1 - share**2) * frames[:, 1:]
    return torch.cat([frames, difference], dim=1)


def gaussian_kernels(sigma: Tensor, *, longest: float) -> Tensor:
    """Return normalised Gaussians along an axis, (B, K); K is odd and spans the longest sigma.

    Parameters
    ----------
    sigma : (B,) float32
        Standard deviations in pixels.
    longest : float
        Largest of them that may occur.
    """
    reach = max(1, math.ceil(REACH_SIGMA * longest))
    x = torch.arange(-reach, reach + 1, device=sigma.device)
    kernel = torch.exp(-0.5 * (x / sigma[:, None]) ** 2)
    return kernel / kernel.sum(dim=1, keepdim=True)


def convolve(image: Tensor, seen: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each sample with its own kernel along both axes, as a mean over the pixels that hold something.

    Parameters
    ----------
    image : (B, C, T, T) float32
    seen : (B, 1, T, T) bool
        The others' values are never read; neither is there anything beyond the edges.
    kernel : (B, K) float32
    """
    known = _along_both_axes(seen.to(image.dtype), kernel)
    smooth = _along_both_axes(torch.where(seen, image, 0.0), kernel)
    return torch.where(seen, smooth / torch.where(seen, known, 1.0), 0.0)


def _along_both_axes(planes: Tensor, kernel: Tensor) -> Tensor:
    """Convolve along y and x, zero beyond the edges; a sum of shifted planes, since a GPU's own rounds to TF32."""
    reach, taps = kernel.shape[1] // 2, kernel.T.reshape(-1, len(kernel), 1, 1, 1)
    for axis, pad in ((-2, (0, 0, reach, reach)), (-1, (reach, reach, 0, 0))):
        size, padded = planes.shape[axis], functional.pad(planes, pad)
        planes = torch.stack([tap * padded.narrow(axis, k, size) for k, tap in enumerate(taps)]).sum(dim=0)
    return planes
