"""Skies of nothing but white noise and point sources, for the matched filter that knows the PSF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from astrid.baselines.detectors import white_noise_score
from astrid.data.psf import point_source
from astrid.metrics.detections import find_detections, judge

SIZE, SPACING = 1024, 32
EVERYWHERE = np.ones((SIZE, SIZE), dtype=bool)


@dataclass(frozen=True)
class Sky:
    """The score of a sky with a source on every node of a grid.

    Attributes
    ----------
    score : (H, W) float64
    x, y : (S,) int64
    snr : (S,) float64
    """

    score: np.ndarray
    x: np.ndarray
    y: np.ndarray
    snr: np.ndarray


def draw_sky(seed: int, *, fwhm: float) -> Sky:
    """Draw a sky whose sources are log-uniform from 2.5 to 8 sigma."""
    rng = np.random.default_rng(seed)
    psf = point_source(fwhm)
    image, reach = rng.normal(size=(SIZE, SIZE)), psf.shape[0] // 2
    y, x = (plane.ravel() for plane in np.mgrid[SPACING // 2 : SIZE : SPACING, SPACING // 2 : SIZE : SPACING])
    snr = np.exp(rng.uniform(np.log(2.5), np.log(8.0), len(x)))
    for column, row, value in zip(x, y, snr, strict=True):
        stamp = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
        stamp += value * psf / np.sqrt((psf**2).sum())
    return Sky(score(image, fwhm=fwhm), x, y, snr)


def draw_noise(seed: int, *, fwhm: float) -> np.ndarray:
    """Return the score of a sky without sources."""
    return score(np.random.default_rng(seed).normal(size=(SIZE, SIZE)), fwhm=fwhm)


def score(image: np.ndarray, *, fwhm: float) -> np.ndarray:
    """Return the matched filter's score where the noise is known to have unit variance."""
    return white_noise_score(image.astype(np.float32), EVERYWHERE, fwhm_pixels=fwhm)


def found_by_peaks(sky: Sky, *, threshold: float, radius_pixels: float) -> np.ndarray:
    """Return which sources have a detection within the radius, (S,) bool."""
    detections = find_detections(sky.score, EVERYWHERE, threshold=threshold, min_pixels=1, floor=threshold)
    places = {"sources_x": sky.x.astype(float), "sources_y": sky.y.astype(float)}
    return judge(detections, EVERYWHERE, **places, radius_pixels=radius_pixels).found


def count_false(noise: np.ndarray, *, threshold: float) -> int:
    """Return the detections in a sky without sources."""
    return len(find_detections(noise, EVERYWHERE, threshold=threshold, min_pixels=1, floor=threshold).x)
