"""Claims about the order of the steps: numbers of headers are checked, and a pedestal never counts as light."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from astrid.config import DataError, PreprocessConfig
from astrid.data.reduction.chain import Masters, calibrate
from astrid.data.reduction.detector import as_exposure

HEADER = {"GAIN": 2.0, "RDNOISE": 5.0, "SATURATE": 60_000, "EXPTIME": 10.0}
FROM_HEADER = {"gain": "header", "read_noise": "header", "saturation": "header"}


def exposure(counts: np.ndarray, **header: object) -> CCDData:
    image = as_exposure(counts)
    image.meta = fits.Header(HEADER | header)
    return image


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("GAIN", 0, r"GAIN of the header must be above 0, got 0; mend it, or change data\.preprocess\.gain"),
        ("GAIN", -2.0, r"GAIN of the header must be above 0, got -2"),
        ("RDNOISE", -5.0, r"RDNOISE of the header must be above 0, got -5; .* data\.preprocess\.read_noise"),
        ("SATURATE", 0, r"SATURATE of the header must be above 0, got 0; .* data\.preprocess\.saturation"),
        ("EXPTIME", -30.0, r"EXPTIME of the header must be at least 0, got -30; .* data\.preprocess\.dark"),
    ],
)
def test_a_number_of_a_header_that_cannot_be_is_refused(keyword: str, value: float, message: str) -> None:
    dark = Masters(dark=as_exposure(np.ones((4, 4))))
    with pytest.raises(DataError, match=message):
        calibrate(
            exposure(np.ones((4, 4)), **{keyword: value}), PreprocessConfig(**FROM_HEADER, overscan="[1:1,1:4]"), dark
        )
