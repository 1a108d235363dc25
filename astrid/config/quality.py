"""Knobs of the quality of exposures: what each measure may be, and what becomes of an exposure that isn't good."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from .checks import check
from .preprocess import Header


@dataclass
class LimitsConfig:
    """Two values a measure: up to the first it is good (grade 1), from the second on useless (grade 0).

    Between them the grade falls evenly. null leaves a measure out of the score.
    """

    background_gradient: list[float] | None = field(default_factory=lambda: [5.0, 100.0])
    """Change of the sky over the frame, in sigma of its noise."""
    flatness: list[float] | None = field(default_factory=lambda: [2.0, 50.0])
    """Structure of the sky that is left without that gradient, rms in sigma of the noise."""
    noise_ratio: list[float] | None = field(default_factory=lambda: [1.3, 3.0])
    """Noise, in units of what photons and readout explain."""
    fwhm_pixels: list[float] | None = field(default_factory=lambda: [6.0, 15.0])
    """Width of the stars, in pixels."""
    ellipticity: list[float] | None = field(default_factory=lambda: [0.25, 0.7])
    """1 - minor axis / major axis of the stars."""
    sources: list[float] | None = field(default_factory=lambda: [3.0, 0.0])
    """Sources above five sigma: the fewer, the worse."""
    saturated_fraction: list[float] | None = field(default_factory=lambda: [0.005, 0.2])
    """Share of saturated pixels."""
    bad_fraction: list[float] | None = field(default_factory=lambda: [0.1, 0.9])
    """Share of pixels that are NaN or masked."""
    cosmic_ray_fraction: list[float] | None = field(default_factory=lambda: [0.005, 0.05])
    """Share of pixels that cosmic rays hit."""
    wcs_residual_pixels: list[float] | None = field(default_factory=lambda: [1.0, 5.0])
    """Distance of stars from where other exposures of the set have them, rms in pixels."""
    limiting_magnitude: list[float] | None = None
    """Magnitude of a point source of five sigma: the brighter, the worse; as [22, 20]."""

    def __post_init__(self) -> None:
        for knob in fields(self):
            pair = getattr(self, knob.name)
            falls = knob.name in ("sources", "limiting_magnitude")
            key = f"data.quality.limits.{knob.name}"
            rule = f"null, or [good, useless] with good {'above' if falls else 'below'} useless, both finite"
            remedy = f"try {'[3,0]' if knob.name == 'sources' else '[22,20]' if falls else '[1,5]'}"
            fits = pair is None or (len(pair) == 2 and all(math.isfinite(value) for value in pair))
            ordered = fits and (pair is None or (pair[0] > pair[1] if falls else pair[0] < pair[1]))
            check(ordered, key, None if pair is None else list(pair), rule, remedy)


@dataclass
class QualityConfig:
    """How exposures are assessed, and what becomes of those that aren't good."""

    policy: Literal["stop", "skip", "keep"] = "keep"
    """An exposure below min_score stops the run, is left out (counted and named), or is kept with a warning."""
    min_score: float = 0.2
    """Score, from 0 to 1, that an exposure must have: the product of the grades of its measures."""
    gain: int | float | Header | None = "header"
    """Electrons per unit of the image; `header`: EGAIN, GAIN, or the mean of GAINA and GAINB, where it is there."""
    read_noise: int | float | Header | None = "header"
    """Electrons; `header`: RDNOISE, READNOIS, or the mean of RDNOISEA and RDNOISEB, where it is there."""
    pedestal: int | float | Header | None = "header"
    """Counts of no light in the image; `header`: minus PEDESTAL, which is what must be added to reach zero, or the
    strip BIASSEC; 0 where the unit is electrons."""
    saturation: int | float | Header | None = "header"
    """Value from which a pixel is saturated; `header`: SATURATE, or where values pile up at the highest."""
    zero_point: int | float | Header | None = "header"
    """Magnitude of a flux of 1 in the image's unit; `header`: MAGZERO or MAGZP, where it is there."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """What each measure may be."""

    def __post_init__(self) -> None:
        score = self.min_score
        check(0 <= score <= 1, "data.quality.min_score", score, "from 0 to 1", "try data.quality.min_score=0.2")
        for name in ("gain", "saturation"):
            value = getattr(self, name)
            above = value in (None, "header") or value > 0
            check(above, f"data.quality.{name}", value, "above 0, header or null", "try header")
        noise = self.read_noise
        fits = noise is None or noise == "header" or noise >= 0
        check(fits, "data.quality.read_noise", noise, "at least 0, header or null", "try header")
