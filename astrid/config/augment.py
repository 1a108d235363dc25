"""Knobs of augmentation: random changes of training tiles."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import check

PHOTOMETRIC = ("blur", "sky", "noise", "defect")
"""Changes of the science frame that a score channel could not follow."""


@dataclass
class AugmentConfig:
    """Random changes of a training tile, drawn once per sample for image, target and valid together.

    A probability is that of a sample to be changed; 0 costs nothing. "Sigma" is the background sigma of the channel.
    """

    flips: bool = True
    """Mirror and turn by quarters, all eight orientations equally likely."""
    flip_probability: float = 1.0
    """Share of the samples that `flips` orients anew."""
    shift_probability: float = 0.0
    """Move by whole pixels, never by none; what enters from outside is 0, no target and not valid."""
    shift_pixels: int = 8
    """Farthest that a sample moves along either axis."""
    flux_probability: float = 0.0
    """Multiply all channels, noise included, by one factor: as if the background sigma had been measured wrong."""
    flux_factor: float = 1.25
    """Largest factor; the smallest is its inverse, in between they are log-uniform."""
    blur_probability: float = 0.0
    """Worse seeing: convolve all channels with a Gaussian and add the noise that this has averaged out. It widens
    cosmic rays as well, which seeing doesn't; leave it off where the network has to tell them from stars."""
    blur_pixels: float = 1.0
    """Largest standard deviation of the Gaussian in pixels, uniform from 0.3 on, below which it does nothing."""
    sky_probability: float = 0.0
    """Sky that was not subtracted: a plane added to the science frame."""
    sky_level: float = 0.5
    """Largest size of its level in sigma, uniform, of either sign."""
    sky_gradient: float = 0.5
    """Largest rise from edge to edge of the tile, in sigma, uniform along each axis and of either sign."""
    noise_probability: float = 0.0
    """A shallower exposure: white noise added to the science frame, which is brought back to sigma 1."""
    noise_sigma: float = 1.0
    """Largest noise that is added, in sigma, uniform from 0 on."""
    defect_probability: float = 0.0
    """Detector defects: dead columns and pixels, which masks know (0, not valid), and hot pixels, which none does."""
    dead_columns: int = 1
    """Most dead columns of a sample; from 1 to so many, equally likely."""
    dead_share: float = 5e-4
    """Share of its pixels that are dead."""
    hot_share: float = 5e-4
    """Share of its pixels that are hot: brighter in the science frame, still valid, and no target."""
    hot_sigma: float = 100.0
    """Brightest of them in sigma; log-uniform from 5 on."""
    difference_share: float = 0.7
    """Sigma of the difference for each sigma in the science frame: 0.7 for a reference as deep, 1 for a far deeper."""

    def __post_init__(self) -> None:
        for name in ("flip", "shift", "flux", "blur", "sky", "noise", "defect"):
            self._check(f"{name}_probability", 0, 1, remedy=f"try data.augment.{name}_probability=0.5")
        self._check("shift_pixels", 1, None, remedy="try data.augment.shift_pixels=8")
        self._check("flux_factor", 1, None, remedy="try data.augment.flux_factor=1.25")
        self._check("hot_sigma", 5, None, remedy="try data.augment.hot_sigma=100")
        for name in ("sky_level", "sky_gradient", "noise_sigma", "dead_columns"):
            self._check(name, 0, None, remedy=f"try data.augment.{name}=1")
        self._check("blur_pixels", 0.3, 10, remedy="try data.augment.blur_pixels=1")
        for name in ("dead_share", "hot_share", "difference_share"):
            self._check(name, 0, 1, remedy="leave it at its default")

    def _check(self, name: str, lowest: float, highest: float | None, *, remedy: str) -> None:
        value = getattr(self, name)
        fits = lowest <= value and (highest is None or value <= highest)
        rule = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        check(fits, f"data.augment.{name}", value, rule, remedy)

    @property
    def photometric(self) -> list[str]:
        """Knobs in use that change the science frame in a way that a score of it could not follow."""
        names = [f"{name}_probability" for name in PHOTOMETRIC]
        return [name for name in names if getattr(self, name) > 0]
