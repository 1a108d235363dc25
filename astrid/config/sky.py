"""Knobs of the simulated sky.

The defaults are those of a one-metre survey telescope with pixels of about one arcsecond that looks at intermediate
galactic latitude for half a minute: some eight magnitudes lie between its faintest stars and those that saturate.
They were taken from such surveys and are not tuned to a score. One thing changed after a score was seen: a galaxy
hosts one transient at most, since several in one could not be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .checks import check, check_range
from .data import DataConfig

_LOWEST_OF_RANGE = {
    "science_seeing": 1.0,
    "reference_seeing": 1.0,
    "moffat_beta": 1.5,
    "sky_level": 1.0,
    "gain": 0.01,
    "read_noise": 0.0,
    "star_flux": 1.0,
    "galaxy_flux": 1.0,
    "galaxy_radius": 0.1,
    "galaxy_sersic": 0.3,
    "galaxy_axis_ratio": 0.05,
    "transient_snr": 0.1,
    "cosmic_ray_charge": 1.0,
    "hot_pixel_charge": 1.0,
    "trail_brightness": 1.0,
}
_AT_LEAST_ZERO = (
    "sky_seed",
    "stars",
    "variable_magnitudes",
    "galaxies",
    "transients",
    "cosmic_rays",
    "cosmic_ray_length",
    "cosmic_ray_turn",
    "cosmic_ray_diffusion",
    "hot_pixels",
    "registration_rms",
    "artefact_floor_sigma",
)
_POSITIVE = ("star_slope", "galaxy_slope", "target_radius_fwhm", "residue_sigma")
_FRACTIONS = ("variable_fraction", "transients_on_galaxies", "cosmic_ray_worms", "trail_probability")


@dataclass
class SimulatedData(DataConfig):
    """Pairs of simulated science and reference frames with exact truth.

    Densities are mean numbers per 128×128 pixels, of which each field draws its own Poisson number. Ranges are drawn
    anew for each frame or object: uniformly unless said otherwise. Charge and light are in electrons.
    """

    target: Literal["transient", "cosmic_ray", "trail"] = "transient"
    """Which of the injected things the network learns to mark."""
    train_fields: int = 512
    """Fields to train on."""
    val_fields: int = 64
    """Fields that choose the best epoch and the thresholds."""
    test_fields: int = 64
    """Fields on which the final numbers are measured."""
    field_size: int = 256
    """Edge of a square field in pixels."""
    sky_seed: int = 1
    """Seed of the sky; each field has its own generator, derived from this, its split and its number."""

    science_seeing: list[float] = field(default_factory=lambda: [2.4, 4.0])
    """Range of the science frame's FWHM in pixels."""
    reference_seeing: list[float] = field(default_factory=lambda: [2.2, 3.2])
    """Range of the reference frame's FWHM in pixels; a reference is made of the better nights."""
    moffat_beta: list[float] = field(default_factory=lambda: [3.0, 4.0])
    """Range of the Moffat PSF's exponent, own to each frame; turbulence alone gives 4.8, real optics 2.5 and more."""
    sky_level: list[float] = field(default_factory=lambda: [200.0, 600.0])
    """Range of the sky in electrons per pixel and exposure, from dark to grey."""
    gain: list[float] = field(default_factory=lambda: [1.0, 2.0])
    """Range of the gain in electrons per ADU; frames are digitised with it."""
    read_noise: list[float] = field(default_factory=lambda: [4.0, 10.0])
    """Range of the read noise in electrons rms per exposure."""
    full_well: float = 60000.0
    """Electrons that a pixel holds in one exposure; what exceeds it bleeds along the column."""
    reference_exposures: int = 4
    """Exposures whose mean is the reference."""
    registration_rms: float = 0.15
    """Rms per axis, in pixels, of the normal shift that registration left between reference and science."""

    stars: float = 8.0
    """Mean number of stars in `star_flux`; with the defaults about six are above five sigma."""
    star_flux: list[float] = field(default_factory=lambda: [300.0, 3.0e6])
    """Faintest and brightest star in electrons; the faintest stay below the noise, so that counts have no edge."""
    star_slope: float = 0.5
    """N(brighter than F) falls as F**-slope; 0.5 is 0.2 dex per magnitude, as counted at intermediate latitude."""
    variable_fraction: float = 0.02
    """Share of the stars that changed between the epochs."""
    variable_magnitudes: float = 0.1
    """Rms of their change in magnitudes."""

    galaxies: float = 4.0
    """Mean number of galaxies in `galaxy_flux`."""
    galaxy_flux: list[float] = field(default_factory=lambda: [300.0, 1.0e5])
    """Faintest and brightest galaxy in electrons."""
    galaxy_slope: float = 1.0
    """As `star_slope`; 1.0 is the 0.4 dex per magnitude of galaxy counts in red light at magnitudes 18 to 22."""
    galaxy_radius: list[float] = field(default_factory=lambda: [0.8, 4.0])
    """Log-uniform range of the half-light radius along the major axis, in pixels."""
    galaxy_sersic: list[float] = field(default_factory=lambda: [0.8, 4.0])
    """Log-uniform range of the Sersic index: disks near 1, ellipticals near 4."""
    galaxy_axis_ratio: list[float] = field(default_factory=lambda: [0.3, 1.0])
    """Range of the ratio of minor to major axis, at most 1."""

    transients: float = 2.0
    """Mean number of transients."""
    transient_snr: list[float] = field(default_factory=lambda: [3.0, 40.0])
    """Range of the log-uniform matched-filter signal-to-noise of transients."""
    transients_on_galaxies: float = 0.3
    """Share of the transients that a galaxy hosts, if there is one."""
    target_radius_fwhm: float = 0.75
    """Pixels within this many FWHM of a transient's position are positive."""

    cosmic_rays: float = 3.0
    """Mean number of cosmic-ray hits on the science frame; the mean of several exposures rejects them."""
    cosmic_ray_length: float = 5.0
    """Mean of the exponential length of a track in pixels; the short ones are dots."""
    cosmic_ray_charge: list[float] = field(default_factory=lambda: [300.0, 3000.0])
    """Log-uniform range of electrons per pixel of track; a muon frees about 80 per micrometre of silicon."""
    cosmic_ray_worms: float = 0.2
    """Share of the hits that are slow electrons on a crooked path; the others are straight."""
    cosmic_ray_turn: float = 0.6
    """Rms turn of their path over one pixel, in radians."""
    cosmic_ray_diffusion: float = 0.3
    """Sigma, in pixels, with which the charge spreads sideways before it is collected."""
    hot_pixels: float = 1.0
    """Mean number of hot pixels on the science frame that the calibration missed."""
    hot_pixel_charge: list[float] = field(default_factory=lambda: [100.0, 20000.0])
    """Log-uniform range of their dark charge in electrons."""
    trail_probability: float = 0.1
    """Probability that a satellite trail crosses a field."""
    trail_brightness: list[float] = field(default_factory=lambda: [200.0, 5000.0])
    """Log-uniform range of a trail's light in electrons per pixel of its length."""
    artefact_floor_sigma: float = 0.5
    """Cosmic rays, hot pixels and trails mark the pixels that they lift by more than this many background sigma."""
    residue_sigma: float = 3.0
    """Pixels where the noise-free static sky leaves more than this many sigma in the difference are residue."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_fields", "val_fields", "test_fields", "reference_exposures"):
            self._check(name, getattr(self, name) >= 1, "at least 1", f"try data.{name}=8")
        rule = f"at least data.tile_size = {self.tile_size}"
        self._check("field_size", self.field_size >= self.tile_size, rule, f"try {2 * self.tile_size}")
        self._check_numbers()
        self._check_ranges()

    def _check_ranges(self) -> None:
        for name, lowest in _LOWEST_OF_RANGE.items():
            check_range(f"data.{name}", getattr(self, name), lowest)
        rounder = self.galaxy_axis_ratio[1] <= 1
        self._check("galaxy_axis_ratio", rounder, "at most 1", "try data.galaxy_axis_ratio=[0.3,1.0]")
        enough = 2 * self.sky_level[1]
        self._check("full_well", self.full_well > enough, f"above {enough}, twice the brightest sky", "try 60000")

    def _check_numbers(self) -> None:
        for name in _AT_LEAST_ZERO:
            self._check(name, getattr(self, name) >= 0, "at least 0", f"try data.{name}=1")
        for name in _POSITIVE:
            self._check(name, getattr(self, name) > 0, "positive", f"try data.{name}=1")
        for name in _FRACTIONS:
            self._check(name, 0 <= getattr(self, name) <= 1, "in [0, 1]", f"try data.{name}=0.1")

    def _check(self, name: str, holds: bool, rule: str, remedy: str) -> None:
        check(holds, f"data.{name}", getattr(self, name), rule, remedy)
