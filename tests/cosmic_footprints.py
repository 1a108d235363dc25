"""Real cosmic rays, cut from long dark exposures, and stars to drop them among."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty

from astrid.data.psf import psf_stamp

SKY_ELECTRONS, READ_NOISE, FULL_WELL = 400.0, 6.0, 60_000.0


def read_footprints(sample_data: Path) -> list[np.ndarray]:
    """Return each footprint as rows of (y, x, electrons), whose corner is at (0, 0)."""
    path = sample_data / "itl_cosmic_rays/cosmic_rays_itl_2017_even.fits.gz"
    if not path.is_file():
        pytest.skip(f"{path} is needed")
    with fits.open(path) as hdus:
        spans = [
            (int(row["fp_id"]), int(row["y0"]), int(row["x0"]), np.array(row["pixel_values"])) for row in hdus[1].data
        ]
    found: dict[int, list[tuple[int, int, int]]] = {}
    for number, y, x, values in spans:
        found.setdefault(number, []).extend((y, x + step, value) for step, value in enumerate(values))
    footprints = [np.array(pixels, dtype=float) for pixels in found.values()]
    return [pixels - [*pixels[:, :2].min(axis=0), 0] for pixels in footprints]


@dataclass
class Scene:
    """An exposure in electrons with stars and cosmic rays, and what was put where."""

    exposure: CCDData
    sky_and_stars: np.ndarray
    hits: np.ndarray
    labels: np.ndarray
    stars: np.ndarray
    sky: float = SKY_ELECTRONS
    read_noise: float = READ_NOISE

    @property
    def noise(self) -> np.ndarray:
        return np.sqrt(self.sky_and_stars + self.read_noise**2)


def make_scene(
    footprints: list[np.ndarray],
    *,
    fwhm: float,
    beta: float = 3.5,
    seed: int = 0,
    edge: int = 1024,
    sky: float = SKY_ELECTRONS,
    read_noise: float = READ_NOISE,
    gain: float = 0.0,
) -> Scene:
    """Draw 400 stars and 200 cosmic rays a square of 1024 pixels; with a gain, in whole counts of so many electrons."""
    rng = np.random.default_rng(seed)
    light = np.full((edge, edge), sky)
    stars = rng.uniform(20, edge - 20, (400 * edge**2 // 1024**2, 2))
    for x, y in stars:
        where, share = psf_stamp(light.shape, x=x, y=y, radius=40, fwhm=fwhm, beta=beta)
        light[where] += 10 ** rng.uniform(3, 5.8) * share
    hits, labels = np.zeros(light.shape), np.zeros(light.shape, int)
    count = 200 * edge**2 // 1024**2 if footprints else 0
    for number, choice in enumerate(rng.integers(len(footprints) or 1, size=count), start=1):
        pixels = footprints[choice]
        corner = [rng.integers(5, edge - 5 - int(size)) for size in pixels[:, :2].max(axis=0)]
        y, x = (pixels[:, :2] + corner).astype(int).T
        np.add.at(hits, (y, x), pixels[:, 2])
        labels[y, x] = number
    counts = rng.poisson(light + hits) + rng.normal(0, read_noise, light.shape)
    counts = np.rint(counts / gain) * gain if gain else counts
    sigma = np.sqrt(np.maximum(counts, 0) + read_noise**2).astype(np.float32)
    exposure = CCDData(
        counts.astype(np.float32), mask=counts > FULL_WELL, unit="electron", uncertainty=StdDevUncertainty(sigma)
    )
    return Scene(exposure, light, hits, labels, stars, sky, read_noise)
