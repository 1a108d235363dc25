"""The shape of a frame's point sources: how wide they are, how round, and their profile."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm
from numpy.typing import NDArray

from astrid.config import DataError

from ..reduction.align import measure_stars
from ..reduction.star_psf import FEWEST_STARS, fit_moffat, stack_stars

_SEARCH_FWHM = (3.0, 6.0, 12.0)
"""Widths of the smoothing that are tried, in pixels, until one finds enough stars."""
_WIDEST_FOUND = 2.0
"""Widest stars that a search finds well, in units of its own width."""
_SAME_WIDTH = 1.3
"""Ratio of widths within which a source counts as one of the frame's stars."""
_NARROWEST_FWHM, _WIDEST_FWHM = 1.0, 40.0
"""In pixels; what is narrower is a cosmic ray or hot pixel, and what is wider no star that a stamp can hold."""
_FEWEST_WIDE = 5
"""Stars that a search for wide ones must find: three galaxies are of like width by chance."""
_LEAST_SNR = 5.0
"""Peak of a star that may take part, in background sigma."""
_STAMP_FWHM, _STACK_FWHM, _PROFILE_FWHM = 3.0, 2.5, 4.0
"""Half edges, in FWHM, of the stamps for moments, of the stack, and of the profile."""
_MOMENT_ROUNDS = 40


@dataclass(frozen=True)
class StarShape:
    """What the stars of a frame look like.

    Attributes
    ----------
    places : (N, 2) float64
        Positions (x, y) of the stars that it was measured on, by falling brightness; 0-based pixels.
    fwhm_pixels : float
        Full width at half maximum, the geometric mean of those along both axes; the pixel's response is part of it.
    ellipticity : float
        1 - minor axis / major axis.
    profile : (K, K) float64
        Model of the point-spread function, of sum 1; K is odd.
    """

    places: NDArray[np.float64]
    fwhm_pixels: float
    ellipticity: float
    profile: NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Second moments of sources under an elliptical Gaussian that fits each of them: arrays (N,) in pixels squared."""

    xx: NDArray[np.float64]
    yy: NDArray[np.float64]
    xy: NDArray[np.float64]

    @property
    def fwhm_pixels(self) -> NDArray[np.float64]:
        """Width of a Gaussian with these moments; NaN where they are none of a source."""
        determinant = self.xx * self.yy - self.xy**2
        return np.asarray(gaussian_sigma_to_fwhm * np.where(determinant > 0, determinant, np.nan) ** 0.25)

    def part(self, chosen: NDArray[np.bool_]) -> Moments:
        """Return the moments of some of the sources."""
        return Moments(self.xx[chosen], self.yy[chosen], self.xy[chosen])


def measure_shape(image: NDArray[np.float32], valid: NDArray[np.bool_], *, sigma: float) -> StarShape:
    """Measure the point-spread function of a frame on its stars.

    Sources that stand out are measured by adaptive moments; the width that most of them share is that of stars, since
    galaxies are wider by all kinds of factors, and cosmic rays narrower. The stars are averaged and an elliptical
    Moffat is fitted to the average; where fewer than three are lonely enough for that, the moments themselves count.

    Parameters
    ----------
    image : (H, W) float32
        Background-subtracted frame.
    valid : (H, W) bool
        True = good pixel; saturated ones are none.
    sigma : float
        Noise of the background, in the unit of the frame.

    Raises
    ------
    DataError
        If fewer than three stars can be measured.

    References
    ----------
    Bernstein and Jarvis 2002, AJ 123, 583, doi:10.1086/338085 (adaptive moments)
    """
    places, moments = _find_stars(image, valid, sigma=sigma)
    fwhm = float(np.median(moments.fwhm_pixels))
    try:
        stack = stack_stars(image, valid, stars=places, radius=max(6, round(_STACK_FWHM * fwhm)))
    except DataError:  # a crowded frame, or a small one: its moments are less exact, and still right
        return _of_moments(places, moments)
    shape = fit_moffat(stack, fwhm_pixels=fwhm)
    return StarShape(places, *_mean_and_ellipticity(*shape.widths), shape.profile(_profile_radius(fwhm)))


def _profile_radius(fwhm: float) -> int:
    return max(6, round(_PROFILE_FWHM * fwhm))


def _mean_and_ellipticity(major: float, minor: float) -> tuple[float, float]:
    return math.sqrt(major * minor), 1 - minor / major


def _of_moments(places: NDArray[np.float64], moments: Moments) -> StarShape:
    """Return the shape of Gaussians with the median moments of the stars."""
    xx, yy, xy = (float(np.median(moment)) for moment in (moments.xx, moments.yy, moments.xy))
    minor, major = gaussian_sigma_to_fwhm * np.sqrt(np.linalg.eigvalsh([[xx, xy], [xy, yy]]))
    fwhm, ellipticity = _mean_and_ellipticity(float(major), float(minor))
    radius = _profile_radius(fwhm)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    light = np.exp(-(yy * x**2 + xx * y**2 - 2 * xy * x * y) / (2 * (xx * yy - xy**2)))
    return StarShape(places, fwhm, ellipticity, light / light.sum())


def _find_stars(
    image: NDArray[np.float32], valid: NDArray[np.bool_], *, sigma: float
) -> tuple[NDArray[np.float64], Moments]:
    """Find the sources of one width, searching with that of the stars once it is known."""
    reasons = []
    for width in _SEARCH_FWHM:
        try:
            return _alike(*_measured(image, valid, fwhm=width, sigma=sigma), searched=width)
        except DataError as error:
            reasons.append(error)
    raise reasons[0]


def _alike(places: NDArray[np.float64], moments: Moments, *, searched: float) -> tuple[NDArray[np.float64], Moments]:
    """Keep the sources of the width that most share, and refuse a width that the search was too narrow for."""
    shared = _shared_width(moments.fwhm_pixels)
    alike = np.abs(np.log(moments.fwhm_pixels / shared)) < math.log(_SAME_WIDTH)
    fewest = FEWEST_STARS if searched == _SEARCH_FWHM[0] else _FEWEST_WIDE
    if alike.sum() < fewest or shared > _WIDEST_FOUND * searched:
        raise _too_few(int(alike.sum()), fewest=fewest, among=f"of one width, {shared:.1f} pixels, among {len(places)}")
    return places[alike], moments.part(alike)


def _too_few(count: int, *, fewest: int, among: str) -> DataError:
    return DataError(
        f"at least {fewest} stars must stand alone in view to measure their shape, got {count} {among}; others are "
        "blends, galaxies, hits or beside bad pixels"
    )


def _measured(
    image: NDArray[np.float32], valid: NDArray[np.bool_], *, fwhm: float, sigma: float
) -> tuple[NDArray[np.float64], Moments]:
    """Return places and moments of the sources that stand out, are whole and are neither hits nor without bound."""
    places = measure_stars(image, valid, fwhm_pixels=fwhm)
    radius = math.ceil(_STAMP_FWHM * fwhm)
    x, y = np.rint(places).astype(int).T
    rows, columns = (
        y[:, None, None] + np.arange(-radius, radius + 1)[:, None],
        x[:, None, None] + np.arange(-radius, radius + 1),
    )
    stamps = np.pad(image, radius)[rows + radius, columns + radius].astype(np.float64)
    good = np.pad(valid, radius)[rows + radius, columns + radius]
    moments = adaptive_moments(np.where(good, stamps, 0.0), places - np.column_stack([x, y]), sigma=fwhm / 2.355)
    inner = slice(radius - round(fwhm), radius + round(fwhm) + 1)
    usable = good[:, inner, inner].all(axis=(1, 2)) & (stamps[:, radius, radius] > _LEAST_SNR * sigma)
    width = moments.fwhm_pixels
    usable &= (width > _NARROWEST_FWHM) & (width < min(_WIDEST_FWHM, _STAMP_FWHM * fwhm))
    if usable.sum() < FEWEST_STARS:
        raise _too_few(int(usable.sum()), fewest=FEWEST_STARS, among=f"clean ones among {len(places)} sources")
    return places[usable], moments.part(usable)


def adaptive_moments(stamps: NDArray[np.float64], centres: NDArray[np.float64], *, sigma: float) -> Moments:
    """Measure second moments of sources under the Gaussian that has these moments itself.

    A weight that fits halves the moments of a Gaussian, so each round doubles what it measured; the fixed point is the
    source's own. Light far from it, of neighbours and noise, hardly weighs.

    Parameters
    ----------
    stamps : (N, S, S) float64
        Background-subtracted; S is odd.
    centres : (N, 2) float64
        Places (x, y) of the sources relative to the middle of their stamps.
    sigma : float
        Width in pixels to begin with.
    """
    offsets = np.arange(stamps.shape[1]) - stamps.shape[1] // 2
    x = offsets[None, None, :] - centres[:, 0, None, None]
    y = offsets[None, :, None] - centres[:, 1, None, None]
    xx, yy, xy = (np.full(len(stamps), value) for value in (sigma**2, sigma**2, 0.0))
    with np.errstate(all="ignore"):  # what runs away becomes NaN, and is told by that
        for _ in range(_MOMENT_ROUNDS):
            determinant = (xx * yy - xy**2)[:, None, None]
            exponent = yy[:, None, None] * x**2 + xx[:, None, None] * y**2 - 2 * xy[:, None, None] * x * y
            light = stamps * np.exp(-exponent / (2 * determinant))
            total = light.sum(axis=(1, 2))
            xx, yy, xy = (2 * (light * part).sum(axis=(1, 2)) / total for part in (x**2, y**2, x * y))
    return Moments(xx, yy, xy)


def _shared_width(widths: NDArray[np.float64]) -> float:
    """Return the width at which most lie close together: the mode of their logarithms, by halving samples.

    References
    ----------
    Bickel and Frühwirth 2006, CSDA 50, 3500, doi:10.1016/j.csda.2005.07.011
    """
    ordered = np.sort(np.log(widths))
    while ordered.size > 2:
        half = math.ceil(ordered.size / 2)
        spans = ordered[half - 1 :] - ordered[: ordered.size - half + 1]
        first = int(spans.argmin())
        ordered = ordered[first : first + half]
    return float(np.exp(ordered.mean()))
