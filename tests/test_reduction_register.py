"""Claims about bringing a reference onto the grid of a science frame, and about what is noted of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS

from astrid.config import DataError, PreprocessConfig
from astrid.data.psf import psf_stamp
from astrid.data.reduction.align import measure_stars
from astrid.data.reduction.chain import Record
from astrid.data.reduction.register import register


def pointing(*, x: float, y: float, arcsec_per_pixel: float = 0.5) -> WCS:
    """Return a gnomonic WCS whose reference point lies at (x, y), counted from 0."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [x + 1, y + 1]
    wcs.wcs.cdelt = [-arcsec_per_pixel / 3600, arcsec_per_pixel / 3600]
    return wcs


def star_at(x: float, y: float, *, wcs: WCS | None, fwhm: float, shape: tuple[int, int]) -> CCDData:
    image = np.random.default_rng(0).normal(0, 1, shape)
    where, light = psf_stamp(shape, x=x, y=y, radius=40, fwhm=fwhm, beta=3.5)
    image[where] += 1e5 * light
    sigma = StdDevUncertainty(np.ones(shape, np.float32))
    return CCDData(image.astype(np.float32), mask=np.zeros(shape, bool), unit="", wcs=wcs, uncertainty=sigma)


@pytest.mark.parametrize("conserve_flux", [True, False])
def test_pixels_of_another_size_meet_on_the_sky(conserve_flux: bool) -> None:
    science = star_at(60.0, 50.0, wcs=pointing(x=60.0, y=50.0), fwhm=3.0, shape=(100, 120))
    reference = star_at(80.25, 70.5, wcs=pointing(x=80.25, y=70.5, arcsec_per_pixel=0.4), fwhm=4.0, shape=(150, 170))
    record = Record(reference, reference.shape)
    register(record, science, PreprocessConfig(register="wcs", conserve_flux=conserve_flux), box=64)
    moved = record.frame
    assert moved.shape == science.shape and moved.uncertainty is not None
    (star,) = measure_stars(moved.data, ~moved.mask, fwhm_pixels=3.0)[:1]
    np.testing.assert_allclose(star, (60.0, 50.0), atol=0.05)
    share = 1.0 if conserve_flux else (0.4 / 0.5) ** 2
    assert moved.data[35:66, 45:76].sum() == pytest.approx(share * 1e5, rel=0.02)
    assert record.steps[0].done and "by celestial coordinates; noise of neighbours" in record.steps[0].detail


def test_a_frame_that_is_registered_already_stays_as_it_is() -> None:
    frame = star_at(60.0, 50.0, wcs=None, fwhm=3.0, shape=(100, 120))
    record = Record(frame, frame.shape)
    register(record, frame, PreprocessConfig(), box=64)
    assert record.frame is frame and not record.steps[0].done


def starry(*, bent: float, stars: int = 40) -> CCDData:
    """Expose a field of stars that lie off by a cubic distortion, of so many pixels at the edges."""
    rng, shape = np.random.default_rng(3), (400, 400)
    places, fluxes = rng.uniform(20, 380, (stars, 2)), rng.uniform(3e3, 3e4, stars)
    image = np.random.default_rng(round(100 * bent)).normal(0, 5, shape)
    for place, flux in zip(places, fluxes, strict=True):
        from_middle = (place - 200) / 200
        x, y = place + bent * from_middle * np.hypot(*from_middle) ** 2
        where, light = psf_stamp(shape, x=x, y=y, radius=25, fwhm=3.0, beta=3.5)
        image[where] += flux * light
    return CCDData(image.astype(np.float32), mask=np.zeros(shape, bool), unit="")


def test_a_match_that_a_distortion_loosens_is_warned_of_with_its_rms_and_a_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    knobs = PreprocessConfig(register="stars")
    for bent in (0.0, 6.0):
        reference = Record(starry(bent=bent), (400, 400))
        register(reference, starry(bent=0.01), knobs, box=64, name="ref.fits")
        assert bool(caplog.records) == bool(bent)
    (said,) = caplog.messages
    assert re.match(
        r"reference ref\.fits: its registration by stars is doubtful, they miss by 0\.\d\d pixels rms: "
        r"at least 50% of these stars must agree, within 0\.3 pixels rms; .*register=wcs",
        said,
    )
    assert re.search(r"by \d+ of \d+ stars, rms", reference.steps[0].detail)


@pytest.mark.parametrize("lacking", ["reference", "science"])
def test_a_frame_without_coordinates_is_named(lacking: str) -> None:
    frames = {
        name: star_at(60.0, 50.0, wcs=None if name == lacking else pointing(x=60, y=50), fwhm=3.0, shape=(100, 120))
        for name in ("reference", "science")
    }
    record = Record(frames["reference"], (100, 120))
    with pytest.raises(DataError, match=f"the {lacking}.* has none; solve it, or try data"):
        register(record, frames["science"], PreprocessConfig(register="wcs"), box=64)
