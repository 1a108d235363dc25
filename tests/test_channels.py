"""Claims about the channels of a registered pair, from known skies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty

from astrid.config import FramesData, PreprocessConfig
from astrid.data.channels import Subtracted, subtract_reference
from astrid.data.psf import psf_stamp
from astrid.data.reduction.chain import Record
from astrid.data.reduction.resample import resample
from astrid.data.rows import FrameRow, ImageFile

EDGE = 512
SKY_SIGMA = 10.0


def exposed(
    *, seed: int, fwhm: float = 3.0, scale: float = 1.0, offset: float = 0.0, sigma: float = SKY_SIGMA
) -> CCDData:
    """Expose one sky above its level, electrons times `scale`, with the uncertainty that is known of them."""
    places, rng = np.random.default_rng(0), np.random.default_rng(seed)
    light = np.zeros((EDGE, EDGE))
    for x, y, flux in zip(*places.uniform(30, EDGE - 30, (2, 40)), 10 ** places.uniform(3.5, 5.3, 40), strict=True):
        where, share = psf_stamp(light.shape, x=x + offset, y=y + offset, radius=60, fwhm=fwhm, beta=3.5)
        light[where] += flux * share
    variance = light + sigma**2
    image = light + rng.standard_normal(light.shape) * np.sqrt(variance)
    uncertainty = StdDevUncertainty(np.float32(scale * np.sqrt(variance)))
    return CCDData(np.float32(scale * image), mask=np.zeros(light.shape, bool), uncertainty=uncertainty, unit="adu")


def subtracted(science: CCDData, reference: CCDData, **knobs: object) -> tuple[Subtracted, Record]:
    files = {name: ImageFile(Path(f"{name}.fits")) for name in ("science", "reference")}
    row = FrameRow(2, "f", "f", "train", **files)
    config = FramesData(root=".", manifest="m.csv", preprocess=PreprocessConfig(difference="proper", **knobs))
    records = (Record(science, science.shape), Record(reference, reference.shape))
    shown = ~(science.mask | reference.mask)
    return subtract_reference(row, records, shown=shown, config=config), records[0]


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_a_reference_on_another_flux_scale_is_brought_to_that_of_the_science_frame(scale: float) -> None:
    found, record = subtracted(exposed(seed=1), exposed(seed=2, fwhm=3.8, scale=scale), score=True)
    assert found.reference_scale == pytest.approx(1 / scale, rel=0.01)
    assert f"with the reference times {found.reference_scale:.5g}" in record.steps[-1].detail
    assert found.score is not None
    assert np.abs(found.score).max() < 6


@pytest.mark.parametrize("sigma", [SKY_SIGMA, 2 * SKY_SIGMA])
def test_the_score_of_a_resampled_reference_has_unit_variance_over_the_sky(sigma: float) -> None:
    off = exposed(seed=2, offset=0.5, sigma=sigma)
    reference = resample(off, lambda x, y: (x + 0.5, y + 0.5), shape=off.shape)
    found, record = subtracted(exposed(seed=1), reference, score=True, registration_rms=0.0)
    assert found.score is not None
    sky = ~reference.mask & (np.abs(found.science) < 5 * SKY_SIGMA)
    assert found.score[sky].std() == pytest.approx(1, abs=0.03)
    assert found.score_scatter > 1.08  # what it would be without
    assert f"the score divided by its scatter of {found.score_scatter:.3f}" in record.steps[-1].detail
