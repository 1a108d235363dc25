"""Claims about what stars tell of a frame."""

from __future__ import annotations

import numpy as np
import pytest

from astrid.config import DataError
from astrid.data.stars import measure_flux_ratio

STARS = np.array([[20.0 + 30 * number, 20.0] for number in range(7)])
WIDTHS = {"science_fwhm": 3.0, "reference_fwhm": 5.0}


def starry(*, fwhm: float, flux: float) -> np.ndarray:
    """Return Gaussians at STARS, (40, 220) float32."""
    y, x = np.mgrid[:40, :220]
    variance = (fwhm / 2.3548) ** 2
    squared = [(x - at[0]) ** 2 + (y - at[1]) ** 2 for at in STARS]
    light = sum(np.exp(-one / (2 * variance)) for one in squared)
    return np.asarray(flux / (2 * np.pi * variance) * light, dtype=np.float32)


def ratio(valid: np.ndarray) -> float:
    science, reference = starry(fwhm=3.0, flux=2e4), starry(fwhm=5.0, flux=1e4)
    return measure_flux_ratio(science, reference, valid, stars=STARS, **WIDTHS)


def test_stars_with_a_bad_pixel_tell_nothing_of_the_ratio_of_fluxes() -> None:
    """A core that is bad takes more from the sharper frame: most stars are spoilt here, and the ratio isn't."""
    valid = np.ones((40, 220), dtype=bool)
    assert ratio(valid) == pytest.approx(2.0, rel=0.01)
    valid[20, [20, 50, 80, 110]] = False
    assert ratio(valid) == pytest.approx(2.0, rel=0.01)
    valid[20, 140] = False
    with pytest.raises(DataError, match=r"at least 3 stars must be clean .* got 2; give .* reference_scale"):
        ratio(valid)
