"""Detectors that need no training: what they search a field with, at a list of thresholds in sigma.

All of them see the difference of science and PSF-matched reference, in units of its background sigma.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from astrid.config import MetricsConfig
from astrid.data.difference import background_sigma
from astrid.data.frames import Field
from astrid.data.psf import point_source
from astrid.metrics.detections import Detections, threshold_detections

from .cosmic_rays import find_cosmic_rays, grown

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SCIENCE, DIFFERENCE = 0, 2
"""Channels of a field."""
SIGMAS = np.concatenate([np.geomspace(2.5, 10.0, 16), np.geomspace(12.0, 4000.0, 9)])
"""Thresholds that are tried, closely where transients are; cosmic rays are as bright as the highest."""
SEP_SIGMAS = np.concatenate([np.geomspace(0.7, 4.0, 16), np.geomspace(6.0, 2000.0, 5)])
"""Lower ones, since SEP smooths the noise but counts in sigma of the image before."""
FINE_PARTS = 8
"""Parts of each step between thresholds where it matters to come close to a rate of false detections."""
SEP_KERNEL_RADIUS = 2
"""Of the PSF that SEP filters with, in pixels; larger ones found less on validation fields and take longer."""
SEP_LEAST_PIXELS = 3
"""Fewest pixels above the threshold of a SEP detection."""
SEP_BUFFER_PIXELS = 300_000
SEP_SUBOBJECTS = 8192
"""Room for SEP, at least; its own number of sub-objects gives up on a trail across a frame."""


@dataclass(frozen=True)
class Searched:
    """A field and the pixels that are searched.

    Attributes
    ----------
    field : Field
    clean : (H, W) bool
        True = valid and neither a cosmic ray in the eyes of astroscrappy nor beside one.
    """

    field: Field
    clean: Flags

    @property
    def difference(self) -> NDArray[np.float32]:
        """The PSF-matched difference, (H, W) float32, in sigma."""
        return np.array(self.field.image[DIFFERENCE])  # a copy: SEP refuses the read-only file

    @property
    def fwhm_pixels(self) -> float:
        """Full width at half maximum of the PSF."""
        assert self.field.fwhm_pixels is not None
        return self.field.fwhm_pixels


Search = Callable[[Searched, Floats, int], list[Detections]]


@dataclass(frozen=True)
class Detector:
    """A classical way to find transients.

    Attributes
    ----------
    name : str
        Under which its metrics are logged.
    label : str
        For people.
    thresholds : (T,) float64
        In sigma.
    search : callable
        Takes a `Searched`, thresholds and the fewest pixels of a detection, returns the detections at each threshold.
    """

    name: str
    label: str
    thresholds: Floats
    search: Search

    def refined(self, parts: int) -> Detector:
        """Return the detector with each step between its thresholds divided into so many, evenly in logarithm."""
        steps = np.geomspace(self.thresholds[:-1], self.thresholds[1:], parts, endpoint=False)
        steps[0] = self.thresholds[:-1]  # to the last bit, since thresholds are known by their value
        return replace(self, thresholds=np.append(steps.T.ravel(), self.thresholds[-1]))


def look_at(field: Field) -> Searched:
    """Flag cosmic rays, once for all detectors."""
    return Searched(field, field.valid & ~grown(find_cosmic_rays(field.image[SCIENCE], field.valid)))


def threshold_difference(searched: Searched, thresholds: Floats, min_pixels: int) -> list[Detections]:
    """Threshold the difference itself."""
    return _threshold(searched.difference, searched.field.valid, thresholds, min_pixels)


def threshold_score(searched: Searched, thresholds: Floats, min_pixels: int) -> list[Detections]:
    """Threshold the matched filter's score."""
    return _threshold_score(searched, searched.field.valid, thresholds, min_pixels)


def threshold_clean_score(searched: Searched, thresholds: Floats, min_pixels: int) -> list[Detections]:
    """Threshold the matched filter's score without what astroscrappy calls cosmic rays."""
    return _threshold_score(searched, searched.clean, thresholds, min_pixels)


def extract_sources(searched: Searched, thresholds: Floats, min_pixels: int) -> list[Detections]:
    """Let SEP, the library of SExtractor, segment the difference."""
    return _extract(searched, searched.field.valid, thresholds, min_pixels)


def extract_clean_sources(searched: Searched, thresholds: Floats, min_pixels: int) -> list[Detections]:
    """Let SEP segment the difference without what astroscrappy calls cosmic rays."""
    return _extract(searched, searched.clean, thresholds, min_pixels)


DETECTORS = (
    Detector("difference", "difference", SIGMAS, threshold_difference),
    Detector("matched_filter", "matched filter", SIGMAS, threshold_score),
    Detector("sep", "SEP", SEP_SIGMAS, extract_sources),
    Detector("astroscrappy_matched_filter", "astroscrappy, matched filter", SIGMAS, threshold_clean_score),
    Detector("astroscrappy_sep", "astroscrappy, SEP", SEP_SIGMAS, extract_clean_sources),
)


def detectors_to_try(config: MetricsConfig) -> list[Detector]:
    """Return every detector, with closer thresholds where recall at a rate of false detections is asked for."""
    parts = FINE_PARTS if config.recall_at_false_per_mpix else 1
    return [one.refined(parts) for one in DETECTORS]


def _threshold_score(searched: Searched, pixels: Flags, thresholds: Floats, min_pixels: int) -> list[Detections]:
    score = matched_filter(searched.difference, pixels, fwhm_pixels=searched.fwhm_pixels)
    return _threshold(score, pixels, thresholds, min_pixels)


def _threshold(response: NDArray[np.floating], pixels: Flags, thresholds: Floats, min_pixels: int) -> list[Detections]:
    return threshold_detections(response, pixels, thresholds=thresholds, min_pixels=min_pixels, floor=SIGMAS[0])


def matched_filter(image: NDArray[np.float32], pixels: Flags, *, fwhm_pixels: float) -> Floats:
    """Return how significant a point source on each pixel would be, (H, W) in sigma of the score's own background.

    Matching the PSFs leaves correlated noise, whose part in the score is divided out like this. Arguments as in
    `white_noise_score`.
    """
    score = white_noise_score(image, pixels, fwhm_pixels=fwhm_pixels)
    return np.asarray(score / background_sigma(score.astype(np.float32), pixels).sigma, dtype=np.float64)


def white_noise_score(image: NDArray[np.float32], pixels: Flags, *, fwhm_pixels: float) -> Floats:
    """Return the score of a matched filter, (H, W), of unit variance where the noise is white and of unit variance.

    It is the sum of PSF times image over the root of the sum of squared PSF, both over good pixels.

    Parameters
    ----------
    image : (H, W) float32
        In units of its background sigma.
    pixels : (H, W) bool
        True = good pixel; the others' values are never read.
    fwhm_pixels : float
        Full width at half maximum of the PSF, a Moffat.

    References
    ----------
    Zackay and Ofek 2017, ApJ 836, 187, doi:10.3847/1538-4357/836/2/187
    """
    kernel = point_source(fwhm_pixels)
    projected = _convolve(np.where(pixels, image, 0.0), kernel)
    information = _convolve(pixels.astype(np.float64), kernel**2)
    least = 1e-3 * float((kernel**2).sum())  # rounding of the transforms where no good pixel is near
    return np.asarray(projected / np.sqrt(np.maximum(information, least)), dtype=np.float64)


def _convolve(image: Floats, kernel: Floats) -> Floats:
    """Convolve with a symmetric kernel; the image is zero beyond its edges."""
    radius = kernel.shape[0] // 2
    shape = [scipy.fft.next_fast_len(size + 2 * radius, real=True) for size in image.shape]
    spectrum = scipy.fft.rfft2(image, s=shape) * scipy.fft.rfft2(kernel, s=shape)
    whole = scipy.fft.irfft2(spectrum, s=shape)
    return np.asarray(whole[radius : radius + image.shape[0], radius : radius + image.shape[1]])


def _extract(searched: Searched, pixels: Flags, thresholds: Floats, min_pixels: int) -> list[Detections]:
    """Segment at each threshold, with the PSF as filter and the deblending of SExtractor.

    References
    ----------
    Barbary 2016, JOSS 1, 58, doi:10.21105/joss.00058; Bertin and Arnouts 1996, A&AS 117, 393, doi:10.1051/aas:1996164
    """
    import sep

    sep.set_extract_pixstack(max(SEP_BUFFER_PIXELS, pixels.size))
    sep.set_sub_object_limit(SEP_SUBOBJECTS)
    image, mask, kernel = searched.difference, ~pixels, point_source(searched.fwhm_pixels)
    middle = slice(kernel.shape[0] // 2 - SEP_KERNEL_RADIUS, kernel.shape[0] // 2 + SEP_KERNEL_RADIUS + 1)
    settings = {"mask": mask, "minarea": max(min_pixels, SEP_LEAST_PIXELS), "filter_type": "conv"}
    settings["filter_kernel"] = np.ascontiguousarray(kernel[middle, middle])
    found = [sep.extract(image, threshold, segmentation_map=True, **settings) for threshold in thresholds]
    rim = pixels & ndimage.binary_dilation(~pixels, np.ones((3, 3), dtype=bool))
    return [
        Detections(
            x=table["x"],
            y=table["y"],
            score=table["cpeak"],
            pixels=table["npix"].astype(np.int64),
            beside_invalid=np.isin(np.arange(1, len(table) + 1), segments[rim]),
        )
        for table, segments in found
    ]
