"""Knobs of real frames into which transients, trails and cosmic rays are injected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .checks import ConfigError, check, check_range
from .data import FramesData
from .preprocess import Header

_AT_LEAST_ZERO = (
    *("transients_per_mpix", "trails_per_mpix", "cosmic_rays_per_mpix", "injection_seed"),
    "train_stars_per_mpix",
    *("transients_on_galaxies", "fading_fraction", "train_resampled"),
)
_FRACTIONS = ("transients_on_galaxies", "fading_fraction", "train_resampled")


@dataclass
class InjectedData(FramesData):
    """Real frames of a manifest, with things of known place and brightness put into them.

    Densities are mean numbers per million pixels, of which each frame draws its own Poisson number. What a frame's own
    target plane calls positive is real, and therefore not counted.
    """

    target: Literal["transient", "cosmic_ray", "trail"] = "transient"
    """Which of the injected things the network learns to mark; the others are there to be told from it."""
    injection_seed: int = 0
    """Seed of the injections; each frame has its own generator, derived from this and its pixels."""
    copies: int = 4
    """Injections, each of its own, into every training frame; frames that validate or test get one."""
    train_binning: list[int] = field(default_factory=lambda: [1])
    """Factors by which the training copies of a frame are binned, in turn: 2 sums 2x2 pixels, so that the network
    meets stars sharper than those of its own frames. What validates or tests is never binned."""
    train_stars_per_mpix: float = 0.0
    """Mean number of stars per million pixels that training copies get; nothing to be found, but to be told from it.
    Only for rows without a reference, which wouldn't show them."""
    train_star_fwhm: list[float] = field(default_factory=lambda: [1.5, 5.0])
    """Range of the width of these stars in pixels, one for each copy."""
    train_star_flux: list[float] = field(default_factory=lambda: [1e3, 1e6])
    """Log-uniform range of their light in electrons."""
    train_star_beta: list[float] = field(default_factory=lambda: [3.5, 3.5])
    """Range of the exponent of these Moffats, one for each copy; real optics have 2.5 and more."""
    train_star_ellipticity: float = 0.0
    """Most by which the minor axis of these stars is shorter than the major one, as a share of it; each copy has its
    own, uniform from 0 on, and its own direction."""
    train_star_spikes: float = 0.0
    """Most of a star's light that lies in the diffraction spikes of a telescope's spider, as a share; each copy has its
    own, uniform from 0 on, in four or six arms of its own direction."""
    train_star_crowding: float = 1.0
    """Most by which a copy has more or fewer of these stars than the mean, as a factor; log-uniform, each its own."""
    train_resampled: float = 0.0
    """Share of the training copies that are shifted by a fraction of a pixel before anything to be found is put in, so
    that the network meets frames whose noise reprojection has correlated."""
    injection_gain: int | float | Header = "header"
    """Electrons per unit of the image, where the manifest's column `gain` doesn't say; `header`: EGAIN, or GAIN, and of
    a rate times its exposure time."""

    transients_per_mpix: float = 150.0
    """Mean number of transients per million pixels."""
    transient_snr: list[float] = field(default_factory=lambda: [3.0, 40.0])
    """Range of the log-uniform matched-filter signal-to-noise of transients, own photons not counted as noise."""
    transient_magnitude: list[float] | None = None
    """Range of the uniform magnitude of transients, in place of their signal-to-noise; needs zero_point."""
    zero_point: int | float | Header | None = None
    """Magnitude of one count of the whole exposure, of a rate that of its unit; `header`: MAGZERO, MAGZPT, ZEROPNT or
    PHOTZP."""
    transients_on_galaxies: float = 0.3
    """Share of the transients that follow the light of a galaxy, if there is one that hosts none yet."""
    fading_fraction: float = 0.0
    """Share of the transients that fade: their light is in the reference alone. Needs references."""
    target_radius_fwhm: float = 0.75
    """Pixels within this many FWHM of a transient's position are positive."""
    trails_per_mpix: float = 0.0
    """Mean number of satellite trails per million pixels."""
    trail_brightness: list[float] = field(default_factory=lambda: [200.0, 5000.0])
    """Log-uniform range of a trail's light in electrons per pixel of its length."""
    cosmic_rays_per_mpix: float = 0.0
    """Mean number of cosmic rays per million pixels, from `footprints`."""
    footprints: str | None = None
    """FITS table of spans of real cosmic rays: fp_id, x0, y0, pixel_values (electrons)."""
    contamination_sigma: float = 3.0
    """Pixels that a trail or cosmic ray lifts by more than this many sigma of their own noise are positive; those that
    it lifts by less can be seen by nobody, and are not counted."""

    least_stars: int = 5
    """Stars from which the PSF of a frame is measured, at least, where the manifest's column `psf` names none."""
    without_psf: Literal["stop", "skip"] = "stop"
    """What a frame without a PSF does: stop the run, or be left out and named."""
    psf_oversampling: int = 1
    """Pixels of the images in column `psf` per pixel of the frame."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in _AT_LEAST_ZERO:
            value = getattr(self, name)
            check(value >= 0, f"data.{name}", value, "at least 0", f"try data.{name}=0")
        for name in _FRACTIONS:
            value = getattr(self, name)
            check(value <= 1, f"data.{name}", value, "at most 1", f"try data.{name}=0.3")
        for name, least in (("copies", 1), ("least_stars", 3), ("psf_oversampling", 1)):
            value = getattr(self, name)
            check(value >= least, f"data.{name}", value, f"at least {least}", "leave it at its default")
        for name in ("target_radius_fwhm", "contamination_sigma"):
            value = getattr(self, name)
            check(value > 0, f"data.{name}", value, "above 0", "leave it at its default")
        factors = self.train_binning
        rule, remedy = "at least one whole number from 1 to 8", "try data.train_binning=[1,2]"
        check(
            bool(factors) and all(1 <= one <= 8 for one in factors), "data.train_binning", list(factors), rule, remedy
        )
        check_range("data.transient_snr", self.transient_snr, 0.1)
        check_range("data.trail_brightness", self.trail_brightness, 1.0)
        self._check_stars()
        self._check_brightness()
        self._check_target()
        check(self.folds == 1, "data.folds", self.folds, "1 with data=injected", "leave it out")

    def _check_stars(self) -> None:
        check_range("data.train_star_fwhm", self.train_star_fwhm, 0.5)
        check_range("data.train_star_beta", self.train_star_beta, 1.5)
        check_range("data.train_star_flux", self.train_star_flux, 1.0)
        for name, example in (("train_star_ellipticity", 0.2), ("train_star_spikes", 0.02)):
            share = getattr(self, name)
            check(0 <= share < 1, f"data.{name}", share, "at least 0 and below 1", f"try data.{name}={example}")
        crowding = self.train_star_crowding
        check(crowding >= 1, "data.train_star_crowding", crowding, "at least 1", "try data.train_star_crowding=3")

    def _check_brightness(self) -> None:
        given = self.injection_gain
        check(given == "header" or given > 0, "data.injection_gain", given, "above 0, or header", "try header")
        if self.transient_magnitude is not None:
            check_range("data.transient_magnitude", self.transient_magnitude, -30.0)
            rule = "a number or header with data.transient_magnitude"
            check(self.zero_point is not None, "data.zero_point", self.zero_point, rule, "try data.zero_point=header")

    def _check_target(self) -> None:
        """Refuse a target of which nothing is injected, and cosmic rays from nowhere."""
        rates = {
            "transient": "transients_per_mpix",
            "trail": "trails_per_mpix",
            "cosmic_ray": "cosmic_rays_per_mpix",
        }
        name = rates[self.target]
        value = getattr(self, name)
        check(value > 0, f"data.{name}", value, f"above 0 with data.target={self.target}", f"try data.{name}=100")
        if self.cosmic_rays_per_mpix > 0 and self.footprints is None:
            raise ConfigError(
                "data.footprints must name a table of cosmic rays with data.cosmic_rays_per_mpix above 0, got null; "
                "try data.footprints=FILE.fits"
            )

    @property
    def needs_psf(self) -> bool:
        """Whether anything is injected that the optics spread."""
        return self.transients_per_mpix > 0 or self.trails_per_mpix > 0
