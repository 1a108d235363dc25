"""Everything that is measured on one exposure, with a reason for each measure that can't be."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.config import DataError

from ..background import above_sky, measure_sky
from ..frames import LARGEST_VALUE
from ..reduction.align import measure_stars
from .astrometry import pixel_arcsec, sky_places
from .header import NO_EXPOSURES, Facts
from .measures import (
    cosmic_ray_fraction,
    count_sources,
    depth,
    noise_ratio,
    pixel_noise,
    saturation_level,
    sky_shape,
)
from .stars import StarShape, measure_shape

MEASURES = {
    "background": "level of the sky, in the image's unit",
    "background_gradient": "its change over the frame, in sigma of its noise",
    "flatness": "its structure beside that, rms in sigma of its noise",
    "noise": "of the sky in a pixel, in the image's unit",
    "noise_ratio": "noise over what photons and readout explain",
    "fwhm_pixels": "width of the stars",
    "fwhm_arcsec": "the same on the sky",
    "ellipticity": "1 - minor axis / major axis of the stars",
    "stars": "stars that width and ellipticity rest on",
    "sources": "sources above five sigma",
    "saturated_fraction": "share of saturated pixels",
    "bad_fraction": "share of pixels that are NaN or masked",
    "cosmic_ray_fraction": "share of good pixels that cosmic rays or hot pixels take",
    "wcs_residual_pixels": "distance of stars from where other exposures have them, rms",
    "depth": "flux of a point source of five sigma, in the image's unit",
    "limiting_magnitude": "its magnitude",
}
"""Names of all measures, in the order in which they are shown."""
_SKY = ("background", "background_gradient", "flatness", "noise", "noise_ratio", "saturated_fraction")
_SHAPE = ("fwhm_pixels", "fwhm_arcsec", "ellipticity", "stars", "cosmic_ray_fraction", "depth", "limiting_magnitude")
_STARS = (*_SHAPE, "sources")
_LEAST_BLANK, _BLANK_SIGMA = 0.005, 10.0
"""Share of the pixels that have the lowest value, and how far that is below the sky, where they may be a border."""
_SMOOTHING = 3.0
"""Width in pixels at which sources are searched where there are too few stars to tell."""
_BRIGHTEST = 25
"""Sources whose places are compared with those of other exposures: the places of faint ones are noise."""
NO_PARTNER = "no other exposure of the set shows the same place with at least four of the same sources"


@dataclass(frozen=True)
class Exposure:
    """An exposure to be assessed.

    Attributes
    ----------
    name : str
    image : (H, W) float
    valid : (H, W) bool
        True = good pixel.
    facts : Facts
    wcs : WCS or None
    spoilt : str
        Why nothing can be measured on it; empty where something can.
    remarks : tuple of str
        What a person should know of it beside what is measured.
    sigma : (H, W) float or None
        Noise to be expected of each pixel, in the image's unit; None takes that of the facts.
    """

    name: str
    image: NDArray[np.floating]
    valid: NDArray[np.bool_]
    facts: Facts
    wcs: WCS | None = None
    spoilt: str = ""
    remarks: tuple[str, ...] = ()
    sigma: NDArray[np.floating] | None = None


@dataclass
class Assessment:
    """What was measured on an exposure.

    Attributes
    ----------
    name : str
    facts : Facts
    shape : (height, width)
    values : dict
        By name, among `MEASURES`.
    absent : dict
        By name, why a measure isn't there.
    places : (N, 2) float64
        Right ascension and declination of its brightest sources in degrees; empty without celestial coordinates.
    pixel_arcsec : float or None
        Edge of a pixel on the sky.
    remarks : list of str
        What a person should know beside that.
    """

    name: str
    facts: Facts
    shape: tuple[int, int]
    values: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    places: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    pixel_arcsec: float | None = None
    remarks: list[str] = field(default_factory=list)

    @contextmanager
    def measuring(self, *names: str) -> Iterator[None]:
        """Note, for measures that turn out to be impossible, why that is."""
        try:
            yield
        except DataError as error:
            self.lack(str(error), *names)

    def lack(self, reason: str, *names: str) -> None:
        """Note why measures aren't there, where nothing else was noted."""
        for name in names:
            if name not in self.values:
                self.absent.setdefault(name, reason)


def assess(exposure: Exposure, *, box: int) -> Assessment:
    """Measure what can be measured on an exposure.

    Parameters
    ----------
    exposure : Exposure
    box : int
        Edge in pixels of the cells in which the sky is measured.
    """
    height, width = exposure.image.shape
    with np.errstate(over="ignore"):  # what is out of range becomes infinite, and bad
        image = exposure.image.astype(np.float32)
    valid = exposure.valid & (np.abs(image) < LARGEST_VALUE)
    arcsec = pixel_arcsec(exposure.wcs)
    found = Assessment(exposure.name, exposure.facts, (height, width), pixel_arcsec=arcsec)
    found.values["bad_fraction"] = 1.0 - float(valid.mean())
    nothing = NO_EXPOSURES.get(exposure.facts.kind, exposure.spoilt)
    if nothing:
        found.lack(nothing, *MEASURES)
        return found
    found.remarks += exposure.remarks
    with warnings.catch_warnings(), found.measuring(*_SKY, *_STARS):
        warnings.simplefilter("ignore")  # of numbers out of range, whose result is not finite and left out
        _measure(found, exposure, image, valid, box=box)
    return _finished(found, wcs=exposure.wcs)


def _measure(
    found: Assessment, exposure: Exposure, image: NDArray[np.float32], valid: NDArray[np.bool_], *, box: int
) -> None:
    facts = exposure.facts
    _check_varied(image[valid])
    sky = measure_sky(image, valid, box=box)
    level = found.values["background"] = float(np.median(sky.level[valid]))
    noise = found.values["noise"] = pixel_noise(image, valid)
    found.remarks += _blank(image[valid], level=level, noise=noise)
    with found.measuring("background_gradient", "flatness"):
        gradient, flatness = sky_shape(image, valid, noise=noise)
        found.values |= {"background_gradient": gradient, "flatness": flatness}
    with found.measuring("noise_ratio"):
        sigma = None if exposure.sigma is None else float(np.median(exposure.sigma[valid]))
        found.values["noise_ratio"] = noise / sigma if sigma else noise_ratio(facts, level=level, noise=noise)
    with found.measuring("saturated_fraction"):
        saturated = image >= saturation_level(image, valid, facts=facts, level=level, noise=noise)
        found.values["saturated_fraction"] = float((saturated & exposure.valid).sum() / valid.size)
        valid = valid & ~saturated
    if facts.kind != "science":
        found.lack(f"a {facts.kind} shows no stars", *_STARS)
    else:
        above = above_sky(image, valid, sky)
        _measure_sources(found, exposure, above, valid)
        with found.measuring("cosmic_ray_fraction"):
            fwhm = _known_fwhm(found)
            found.values["cosmic_ray_fraction"] = cosmic_ray_fraction(
                image, valid, facts, level=level, noise=noise, fwhm=fwhm
            )


def _check_varied(good: NDArray[np.float32]) -> None:
    if good.size and good.min() == good.max():
        rule = f"image must have background noise, got {good[0]:g} in every good pixel"
        raise DataError(f"{rule}; it is saturated, or was never exposed or read out: leave it out")


def _blank(good: NDArray[np.float32], *, level: float, noise: float) -> list[str]:
    """Remark on good pixels that look like a border which was filled in: many of one value, far below the sky."""
    lowest = float(good.min())
    share = float(np.mean(good == lowest))
    if share < _LEAST_BLANK or lowest > level - _BLANK_SIGMA * noise:
        return []
    what = f"{share:.1%} of its good pixels are {lowest:g}, far below the sky"
    return [f"{what}: where they are blank, mask them, or make them NaN"]


def _measure_sources(
    found: Assessment, exposure: Exposure, above: NDArray[np.float32], valid: NDArray[np.bool_]
) -> None:
    """Measure stars and sources on a background-subtracted frame, and where they are on the sky."""
    noise = found.values["noise"]
    with found.measuring(*_SHAPE):
        _note_shape(found, measure_shape(above, valid, sigma=noise), noise=noise)
    width = found.values.get("fwhm_pixels", _SMOOTHING)
    found.values["sources"] = count_sources(above, valid, fwhm_pixels=width)
    places = measure_stars(above, valid, fwhm_pixels=width)[:_BRIGHTEST]
    found.places = sky_places(exposure.wcs, places)


def _note_shape(found: Assessment, shape: StarShape, *, noise: float) -> None:
    flux = depth(shape.profile, noise=noise)
    found.values |= {
        "fwhm_pixels": shape.fwhm_pixels,
        "ellipticity": shape.ellipticity,
        "stars": float(len(shape.places)),
        "depth": flux,
    }
    if found.pixel_arcsec is not None:
        found.values["fwhm_arcsec"] = shape.fwhm_pixels * found.pixel_arcsec
    if found.facts.zero_point is not None:
        found.values["limiting_magnitude"] = found.facts.zero_point - 2.5 * math.log10(flux)


def _known_fwhm(found: Assessment) -> float:
    if "fwhm_pixels" not in found.values:
        raise DataError(found.absent["fwhm_pixels"])
    return found.values["fwhm_pixels"]


def _finished(found: Assessment, *, wcs: WCS | None) -> Assessment:
    """Drop what isn't finite, and say why what is left isn't there."""
    for name in [name for name, value in found.values.items() if not math.isfinite(value)]:
        del found.values[name]
        found.lack("its value is not finite", name)
    found.lack("unknown zero point; give data.quality.zero_point", "limiting_magnitude")
    found.lack("no celestial coordinates", "fwhm_arcsec")
    found.lack("no celestial coordinates" if wcs is None else NO_PARTNER, "wcs_residual_pixels")
    return found
