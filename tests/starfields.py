"""Exposures whose sky, noise, stars and depth are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from astrid.data.quality import Assessment, Exposure, assess
from astrid.data.quality.header import Facts

BETA = 3.5


@dataclass(frozen=True)
class Starfield:
    """What a simulated exposure is made of; counts in ADU, widths in pixels.

    `gradient` is the change of the sky from corner to corner, `brightest` the flux of the brightest star.
    """

    fwhm: float = 3.0
    ellipticity: float = 0.0
    angle: float = 0.5
    sky: float = 400.0
    gradient: float = 0.0
    gain: float = 2.0
    read_noise: float = 6.0
    stars: int = 60
    brightest: float = 3e4
    shape: tuple[int, int] = (384, 384)
    seed: int = 0

    @property
    def noise(self) -> float:
        """Of a pixel of the sky in ADU."""
        return float(np.sqrt(self.sky * self.gain + self.read_noise**2) / self.gain)

    @property
    def facts(self) -> Facts:
        """All that a header may tell."""
        return Facts(gain=self.gain, read_noise=self.read_noise, pedestal=0.0, saturation=1e6, zero_point=25.0)

    def profile(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the share of a star's light per pixel at offsets from it."""
        root = np.sqrt(1 - self.ellipticity)
        major, minor = (width / (2 * np.sqrt(2 ** (1 / BETA) - 1)) for width in (self.fwhm / root, self.fwhm * root))
        along = x * np.cos(self.angle) + y * np.sin(self.angle)
        across = -x * np.sin(self.angle) + y * np.cos(self.angle)
        squared = (along / major) ** 2 + (across / minor) ** 2
        return (BETA - 1) / (np.pi * major * minor) * (1 + squared) ** -BETA

    def places(self) -> np.ndarray:
        """Return (x, y) of the stars, by falling brightness."""
        rng = np.random.default_rng([self.seed, 1])
        return rng.uniform(5, np.array(self.shape[::-1]) - 5, (self.stars, 2))

    def image(self, *, extra: list[tuple[float, float, float]] | None = None) -> np.ndarray:
        """Expose it, with further stars of (x, y, flux)."""
        rng = np.random.default_rng([self.seed, 2])
        fluxes = self.brightest * np.linspace(1, 0.02, self.stars)
        stars = [(*place, flux) for place, flux in zip(self.places(), fluxes, strict=True)] + (extra or [])
        y, x = np.mgrid[: self.shape[0], : self.shape[1]].astype(float)
        light = self.sky + self.gradient * (x + y) / (sum(self.shape) - 2)
        for x0, y0, flux in stars:
            rows, columns = (slice(max(0, int(c) - 40), int(c) + 41) for c in (y0, x0))
            light[rows, columns] += flux * self.profile(x[rows, columns] - x0, y[rows, columns] - y0)
        electrons = rng.poisson(light * self.gain) + rng.normal(0, self.read_noise, self.shape)
        return (electrons / self.gain).astype(np.float32)

    def assessed(self, **given: object) -> Assessment:
        """Expose it and assess that."""
        image = self.image()
        valid = np.ones(self.shape, dtype=bool)
        parts = {"name": "one", "image": image, "valid": valid, "facts": self.facts} | given
        return assess(Exposure(**parts), box=64)

    def write(self, path: Path, image: np.ndarray | None = None, **cards: object) -> Path:
        """Write it as FITS, with what its header tells."""
        hdu = fits.PrimaryHDU(self.image() if image is None else image)
        told = {"GAIN": self.gain, "RDNOISE": self.read_noise, "PEDESTAL": 0, "SATURATE": 1e6, "EXPTIME": 30.0}
        for key, value in (told | cards).items():
            hdu.header[key] = value
        hdu.writeto(path)
        return path


def sky_cards(*, ra: float = 150.0, dec: float = 2.0, shift: float = 0.0) -> dict[str, object]:
    """Return the cards of coordinates with pixels of 0.5 arcseconds, off by so many pixels along x."""
    scale = 0.5 / 3600
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec, "CRPIX1": 192.0 + shift}
    return cards | {"CRPIX2": 192.0, "CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale}
