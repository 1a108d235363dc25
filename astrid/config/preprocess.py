"""Knobs of the steps from raw exposures to frames that the network can read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from .checks import ConfigError, check

Header = Literal["header"]
"""Value of a knob that each frame's own header gives."""

_SECTION = re.compile(r"none|header|\[\s*\d+\s*:\s*\d+\s*,\s*\d+\s*:\s*\d+\s*\]")


@dataclass
class PreprocessConfig:
    """Steps between the files and the channels, in this order; one without its frames or numbers is skipped."""

    saturation: int | float | Header | None = None
    """Counts (ADU) from which a pixel is masked; `header`: SATURATE. A frame of which half is beyond it is refused."""
    bad_pixels: str | None = None
    """Map of bad pixels below data.root, of the shape of the raw exposures; any but 0 is masked. HDUs as for bias."""
    overscan: str = "none"
    """Strip without light, outside of what the trim keeps, whose level is subtracted; `header`: BIASSEC. In a shell
    both kinds of quotes are needed: `'data.preprocess.overscan="[141:156,1:120]"'`."""
    trim: str = "none"
    """Part that sees the sky, typed like overscan; `header`: TRIMSEC, or DATASEC. The other planes are cut alike."""
    pedestal: int | float | None = None
    """Counts (ADU) of no light in every raw exposure, after its overscan; subtracted. 0: they are so already."""
    bias: list[str] = field(default_factory=list)
    """Bias exposures below data.root: names or patterns such as bias/*.fits; combined and subtracted. An HDU may stand
    behind, as in `bias/*.fits[CCD2]`; without it, of files with several pictures that of the exposure's EXTNAME, else
    of its HDU number."""
    dark: list[str] = field(default_factory=list)
    """Dark exposures below data.root; combined, scaled by EXPTIME and subtracted. They need bias, overscan or pedestal,
    or must last as long as what they are subtracted from. HDUs as for bias."""
    flat: list[str] = field(default_factory=list)
    """Flat exposures below data.root, of the filter of the frames; combined, normalised and divided by. HDUs as for
    bias."""
    clip_sigma: float = 5.0
    """Distance from the median beyond which a value doesn't enter a master, in sigma."""
    memory_mib: int = 256
    """Memory that combining a set may take, in MiB."""
    gain: int | float | Header | None = None
    """Electrons per ADU; `header`: EGAIN, or GAIN. With it frames are in electrons; BUNIT must not contradict."""
    read_noise: int | float | Header | None = None
    """Electrons; `header`: RDNOISE, or READNOIS. With the gain it gives each pixel its uncertainty."""
    cosmic_rays: bool = False
    """Mask cosmic rays by L.A.Cosmic, stars spared, and the pixels that touch them; needs gain and read_noise."""
    cosmic_ray_sigma: float = 4.5
    """Significance of a pixel's sharpness above which it is a cosmic ray."""
    cosmic_ray_contrast: float = 3.0
    """Ratio of its sharpness to that of smooth structure above which it is one; lower finds more."""
    raw_reference: bool = False
    """References go through the steps above too; otherwise they are taken as reduced."""
    register: Literal["none", "wcs", "stars"] = "none"
    """Bring references onto the grid of the science frame, by celestial coordinates or by the stars in both."""
    conserve_flux: bool = True
    """Registration keeps the flux of a source; otherwise its surface brightness."""
    difference: Literal["matched", "proper"] = "matched"
    """How the reference is subtracted: after matching the seeing, or properly, with white noise."""
    score: bool = False
    """Fourth channel: the corrected score image of proper subtraction, the significance of a point source."""
    registration_rms: float = 0.1
    """Error of the registration in pixels, rms along each axis, that the score allows for."""

    def __post_init__(self) -> None:
        for name in ("overscan", "trim"):
            value = getattr(self, name)
            rule = "none, header or [x1:x2,y1:y2]"
            check(bool(_SECTION.fullmatch(value)), f"data.preprocess.{name}", value, rule, "try none")
        for name in ("saturation", "gain", "read_noise"):
            value = getattr(self, name)
            fits = value in (None, "header") or value > 0
            check(fits, f"data.preprocess.{name}", value, "above 0, header or null", "try header")
        for name, lowest in (("clip_sigma", 1), ("memory_mib", 16), ("cosmic_ray_sigma", 1), ("registration_rms", 0)):
            value = getattr(self, name)
            check(value >= lowest, f"data.preprocess.{name}", value, f"at least {lowest}", "leave it at its default")
        pedestal = self.pedestal
        check(pedestal is None or pedestal >= 0, "data.preprocess.pedestal", pedestal, "at least 0 or null", "try 0")
        contrast = self.cosmic_ray_contrast
        check(contrast > 0, "data.preprocess.cosmic_ray_contrast", contrast, "above 0", "try 3")
        self._check_company()

    @property
    def treats_exposures(self) -> bool:
        """Whether any step of the detector is asked for; without any, frames are taken as reduced."""
        numbers = (self.saturation, self.bad_pixels, self.pedestal, self.gain, self.read_noise)
        sections = (self.overscan, self.trim)
        sets = self.bias or self.dark or self.flat
        return bool(sets) or any(one is not None for one in numbers) or any(one != "none" for one in sections)

    @property
    def knows_pedestal(self) -> bool:
        """Whether the counts of no light are taken away, or said to be."""
        return bool(self.bias) or self.overscan != "none" or self.pedestal is not None

    def _check_pedestal(self) -> None:
        """Refuse steps that would take the counts of no light for light; darks say themselves what they need."""
        noise = self.gain is not None and self.read_noise is not None
        asking = "gain with read_noise" if noise else "flat" if self.flat and not self.dark else None
        if asking is not None and not self.knows_pedestal:
            raise ConfigError(
                f"data.preprocess.{asking} must know the counts of no light, got neither bias nor overscan nor "
                "pedestal; give one of them, data.preprocess.pedestal=0 where they are subtracted already"
            )

    def _check_company(self) -> None:
        """Refuse steps without what they need."""
        self._check_pedestal()
        if self.cosmic_rays and (self.gain is None or self.read_noise is None):
            raise ConfigError(
                "data.preprocess.cosmic_rays must have the noise of each pixel, got no gain or read_noise; give both "
                "in electrons, or header"
            )
        if self.raw_reference and not self.treats_exposures:
            raise ConfigError(
                "data.preprocess.raw_reference must have steps of the detector for the reference, got none; give some, "
                "as data.preprocess.bias=[...], or leave it out"
            )
        if self.score and self.difference != "proper":
            raise ConfigError(
                "data.preprocess.score must come from proper subtraction, got difference=matched; add "
                "data.preprocess.difference=proper"
            )
