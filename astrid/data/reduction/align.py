"""Register frames by their stars, where there are no celestial coordinates."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass

import astroalign
import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from numpy.typing import NDArray
from photutils.detection import find_peaks
from scipy import ndimage
from scipy.spatial import KDTree

from astrid.config import DataError

from ..difference import background_sigma
from .resample import Coordinates

FEWEST_MATCHES = 4
_MATCH_FWHM = 0.3
"""Distance within which two places are the same star, in widths of the smoothing."""
_CLIP = 4.0
_ROUNDS = 5
_SEARCH_FWHM = (3.0, 6.0, 12.0)
"""Widths of the smoothing that are tried, in pixels; the one that gives the smallest error is taken."""
_SURE_PIXELS = 0.01
"""Error of an undoubted alignment that no other width need improve."""
_AGREEING_SHARE = 0.4
LEAST_SHARE = 0.5
"""Of the stars that both frames should show; fewer agree where frames differ by more than shift, turn and scale."""
MOST_RMS_PIXELS = 0.3
"""Beyond it a difference of the frames shows a pair of light and dark at every star."""
_DETECTION_SIGMA = 6.0
_BRIGHTEST = 60
_WINDOW_SIGMAS = 4.0
_CENTROID_ROUNDS = 30
_CONVERGED_PIXELS = 1e-4


@dataclass(frozen=True)
class Alignment:
    """Shift, turn and scale between two frames; itself the map from one to the other.

    Attributes
    ----------
    factor, shift : complex
        A pixel at x + iy of the target lies at factor * (x + iy) + shift in the source.
    matches : int
        Stars that it rests on.
    rms_pixels : float
        Distance, rms over these stars, between where they are in the source and where it puts them.
    shared : int
        Bright stars that both frames should show: those of a frame that lie on good pixels of the other, in the frame
        with fewer of them; 0 where nobody looked.
    """

    factor: complex
    shift: complex
    matches: int
    rms_pixels: float
    shared: int = 0

    @property
    def doubts(self) -> str:
        """What speaks against it: too few of the stars agree, or too badly; empty where nothing does."""
        few = self.matches < LEAST_SHARE * self.shared
        return " and ".join(
            [
                *([f"{self.matches} of the {self.shared} stars that both frames should show agree"] if few else []),
                *([f"they miss by {self.rms_pixels:.2f} pixels rms"] if self.rms_pixels > MOST_RMS_PIXELS else []),
            ]
        )

    @property
    def error_pixels(self) -> float:
        """Expected error of the shift: the rms over the root of the number of stars."""
        return self.rms_pixels / math.sqrt(self.matches)

    def __call__(self, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        """Return the place in the source of pixels of the target."""
        there = self.factor * (x + 1j * y) + self.shift
        return there.real, there.imag


def align(
    target: NDArray[np.float32],
    source: NDArray[np.float32],
    *,
    target_valid: NDArray[np.bool_],
    source_valid: NDArray[np.bool_],
) -> Alignment:
    """Find where a target's pixels lie in a source, from the stars that both show.

    Stars are matched by a shift that many share, else by the shapes of the triangles between them; then all that agree
    are fitted.

    Parameters
    ----------
    target, source : (H, W) float32
        Background-subtracted frames, of any shapes.
    target_valid, source_valid : (H, W) bool
        True = good pixel.

    Raises
    ------
    DataError
        If the frames don't show the same stars, at least four of them.

    References
    ----------
    Beroiz, Cabral and Sanchez 2020, Astronomy and Computing 32, 100384, doi:10.1016/j.ascom.2020.100384
    """
    found, reasons = [], []
    for fwhm in _SEARCH_FWHM:
        here = measure_stars(target, target_valid, fwhm_pixels=fwhm)
        there = measure_stars(source, source_valid, fwhm_pixels=fwhm)
        try:
            one = match_stars(here, there, tolerance_pixels=_MATCH_FWHM * fwhm)
        except DataError as error:
            reasons.append(str(error))
            continue
        shared = _shared_stars(one, here, there, target_valid=target_valid, source_valid=source_valid)
        found.append(dataclasses.replace(one, shared=shared))
        if found[-1].error_pixels < _SURE_PIXELS and not found[-1].doubts:
            break
    if not found:
        raise DataError(reasons[0])
    return min(found, key=lambda alignment: alignment.error_pixels)


def match_stars(here: NDArray[np.float64], there: NDArray[np.float64], *, tolerance_pixels: float) -> Alignment:
    """Find the map from stars (N, 2) of (x, y) to the same stars elsewhere, which it meets within the tolerance.

    Errors are those of `align`.
    """
    counts = f"{len(here)} and {len(there)}"
    if min(len(here), len(there)) < FEWEST_MATCHES:
        raise DataError(
            f"at least {FEWEST_MATCHES} stars must be bright enough in both frames to align them, got {counts}; "
            "register by WCS, or beforehand"
        )
    places = _complex(here), _complex(there)
    guess = _common_shift(*places, tolerance_pixels=tolerance_pixels) or _common_triangles(here, there)
    return _refined(*places, guess, tolerance_pixels=tolerance_pixels)


def _shared_stars(
    found: Alignment,
    here: NDArray[np.float64],
    there: NDArray[np.float64],
    *,
    target_valid: NDArray[np.bool_],
    source_valid: NDArray[np.bool_],
) -> int:
    """Count the stars of each frame that the other should show, and return the smaller number."""
    back = (_complex(there) - found.shift) / found.factor
    return min(_count_good(*found(*here.T), source_valid), _count_good(back.real, back.imag, target_valid))


def _count_good(x: Coordinates, y: Coordinates, valid: NDArray[np.bool_]) -> int:
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (column >= 0) & (column < valid.shape[1]) & (row >= 0) & (row < valid.shape[0])
    return int(valid[row[inside], column[inside]].sum())


def _complex(stars: NDArray[np.float64]) -> NDArray[np.complex128]:
    return stars[:, 0] + 1j * stars[:, 1]


def _common_shift(
    here: NDArray[np.complex128], there: NDArray[np.complex128], *, tolerance_pixels: float
) -> Alignment | None:
    """Return the shift on which most pairs of stars agree, if that is a good share of them; frames mostly drift."""
    shifts = np.subtract.outer(there, here).ravel()
    places = np.column_stack([shifts.real, shifts.imag])
    tree = KDTree(places)  # distances of all shifts from all would be a matrix of stars to the power of four
    votes = tree.query_ball_point(places, tolerance_pixels, return_length=True)
    best = int(votes.argmax())
    if votes[best] < max(FEWEST_MATCHES, _AGREEING_SHARE * min(len(here), len(there))):
        return None
    near = tree.query_ball_point(places[best], tolerance_pixels, return_sorted=True)
    return Alignment(1 + 0j, complex(shifts[near].mean()), 0, math.inf)


def _common_triangles(here: NDArray[np.float64], there: NDArray[np.float64]) -> Alignment:
    try:
        guess, _ = astroalign.find_transform(here, there)
    except (astroalign.MaxIterError, ValueError) as error:
        raise DataError(
            f"two frames must show the same stars to be aligned, got {len(here)} and {len(there)} that don't match "
            f"({error}); check that they are of one field"
        ) from error
    factor = complex(guess.scale * np.exp(1j * guess.rotation))
    return Alignment(factor, complex(*guess.translation), 0, math.inf)


def measure_stars(image: NDArray[np.float32], valid: NDArray[np.bool_], *, fwhm_pixels: float) -> NDArray[np.float64]:
    """Return the (x, y) of the brightest sources, (N, 2), by falling brightness, as centroids in a Gaussian window.

    Sources are peaks of the frame smoothed to `fwhm_pixels`, whatever their shape: a defocused star is one too.

    References
    ----------
    Bertin and Arnouts 1996, A&AS 117, 393, doi:10.1051/aas:1996164 (as XWIN_IMAGE in the manual of SExtractor)
    """
    blanked = np.where(valid, image, np.float32(0))
    width = fwhm_pixels * gaussian_fwhm_to_sigma
    border = math.ceil(_WINDOW_SIGMAS * width) + 2
    if min(image.shape) <= 2 * border:
        return np.zeros((0, 2))
    smooth = ndimage.gaussian_filter(blanked, width)
    peaks = _peaks(smooth, valid, radius=math.ceil(fwhm_pixels), border=border)
    centres = np.array([_windowed_centroid(blanked, x, y, width) for x, y in peaks]).reshape(-1, 2)
    return np.asarray(centres[np.isfinite(centres[:, 0])])


def _peaks(smooth: NDArray[np.float32], valid: NDArray[np.bool_], *, radius: int, border: int) -> NDArray[np.int64]:
    """Return (x, y) of the brightest maxima that stand out, by falling brightness."""
    threshold = _DETECTION_SIGMA * background_sigma(smooth, valid).sigma
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that none were found is told by the result
        table = find_peaks(
            smooth, threshold, box_size=2 * radius + 1, mask=~valid, n_peaks=_BRIGHTEST, border_width=border
        )
    if table is None:
        return np.zeros((0, 2), np.int64)
    table.sort("peak_value", reverse=True)
    return np.column_stack([table["x_peak"], table["y_peak"]]).astype(np.int64)


def _windowed_centroid(image: NDArray[np.float32], x0: int, y0: int, width: float) -> NDArray[np.float64]:
    """Return the centroid near a peak under a Gaussian window that follows it; NaN where it runs away."""
    offsets = np.arange(-math.ceil(_WINDOW_SIGMAS * width), math.ceil(_WINDOW_SIGMAS * width) + 1)
    stamp = image[y0 + offsets[:, None], x0 + offsets].astype(np.float64)
    place = np.zeros(2)
    for _ in range(_CENTROID_ROUNDS):
        from_x, from_y = offsets - place[0], offsets - place[1]
        light = stamp * np.exp(-(from_x**2 + from_y[:, None] ** 2) / (2 * width**2))
        total = light.sum()
        step = 2 * np.array([(light * from_x).sum(), (light * from_y[:, None]).sum()]) / total
        place += step
        if not (total > 0 and np.abs(place).max() < 2 * width):
            return np.full(2, np.nan)
        if np.abs(step).max() < _CONVERGED_PIXELS:
            break
    return np.asarray(place + np.array([x0, y0]))


def _refined(
    here: NDArray[np.complex128], there: NDArray[np.complex128], guess: Alignment, *, tolerance_pixels: float
) -> Alignment:
    """Fit all stars of the target that the guess puts next to one of the source, without those that stand out."""
    predicted = guess.factor * here + guess.shift
    nearest = np.abs(predicted[:, None] - there).argmin(axis=1)
    there = there[nearest]
    close = np.abs(predicted - there) < tolerance_pixels
    for _ in range(_ROUNDS):
        factor, shift = _fitted(here[close], there[close])
        misses = np.abs(factor * here + shift - there)
        close = misses < max(_CLIP * float(np.median(misses[close])), 0.01)
    factor, shift = _fitted(here[close], there[close])
    misses = np.abs(factor * here[close] + shift - there[close])
    return Alignment(factor, shift, len(misses), float(np.sqrt(np.mean(misses**2))))


def _fitted(here: NDArray[np.complex128], there: NDArray[np.complex128]) -> tuple[complex, complex]:
    """Return factor and shift, by least squares, from stars (N,) to the same stars elsewhere."""
    if len(here) < FEWEST_MATCHES:
        raise DataError(
            f"at least {FEWEST_MATCHES} stars must agree to align two frames, got {len(here)}; check that they show "
            "one field"
        )
    (factor, shift), *_ = np.linalg.lstsq(np.column_stack([here, np.ones(len(here))]), there, rcond=None)
    return complex(factor), complex(shift)
