"""Bright pixels of a response map, grouped at any threshold and split where they hold several peaks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

SMOOTHING_PIXELS = 1.0
"""Sigma of the Gaussian that a map is smoothed with before its peaks are looked for: single noisy pixels are none."""
DIP = 0.25
"""Two peaks stand apart where every way between them falls by this share of the lower one."""
_SQUARE = np.ones((3, 3), dtype=bool)
HALF_OF_NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Steps (rows, columns) to the right and below; the other four neighbours see this pixel."""


class BrightPixels:
    """The valid pixels of a map at or above a lowest threshold, ready to be grouped at that or any higher one.

    They are sorted by falling response, and so are the pairs of neighbours: what a threshold leaves is the head of both
    lists. Pairs of pixels that belong to different peaks are no pairs. So many thresholds cost little more than one.

    Parameters
    ----------
    response : (H, W) floating
        Probability, signal-to-noise or whatever else is thresholded; what it holds on invalid pixels has no effect.
    valid : (H, W) bool
        True = pixel that counts. Invalid pixels belong to no group and bridge none.
    lowest : float
        Floor above which peaks are told apart: groups depend on it, so it should be the same for a kind of response
        whatever thresholds are asked for, none of them lower.

    Attributes
    ----------
    rows, columns : (N,) int64
    response : (N,) float64
        By falling response.
    beside_invalid : (N,) bool
        Whether an invalid pixel touches it.
    """

    def __init__(self, response: NDArray[np.floating], valid: Flags, *, lowest: float) -> None:
        rows, columns = np.nonzero(valid & (response >= np.float64(lowest)))
        order = np.argsort(-response[rows, columns], kind="stable")
        self.rows, self.columns = rows[order], columns[order]
        self.response: Floats = response[self.rows, self.columns].astype(np.float64)
        first, second = _neighbours(self.rows, self.columns, valid.shape)
        self.beside_invalid: Flags = ndimage.binary_dilation(~valid, _SQUARE)[self.rows, self.columns]
        hill = _hills(_smooth(response, valid)[self.rows, self.columns], first, second)
        within = hill[first] == hill[second]
        self._first, self._second = first[within], second[within]

    def groups(self, threshold: float) -> tuple[Indices, int]:
        """Group the pixels at or above a threshold that touch each other, corners included, and split them by peaks.

        Parameters
        ----------
        threshold : float
            At least the lowest.

        Returns
        -------
        group : (n,) int64
            Number of the group that each of the first n pixels belongs to.
        count : int
            How many groups there are.
        """
        bright = int(np.searchsorted(-self.response, -threshold, side="right"))
        pairs = int(np.searchsorted(self._second, bright))
        links = (np.ones(pairs, dtype=bool), (self._first[:pairs], self._second[:pairs]))
        count, group = connected_components(coo_array(links, shape=(bright, bright)), directed=False)
        return group.astype(np.int64), int(count)


def _smooth(response: NDArray[np.floating], valid: Flags) -> Floats:
    """Smooth over the valid pixels alone: one beside a bad column isn't dimmed by it.

    References
    ----------
    Knutsson and Westin 1993, CVPR, 515, doi:10.1109/CVPR.1993.341081 (normalised convolution)
    """
    summed = ndimage.gaussian_filter(np.where(valid, response, 0).astype(np.float64), SMOOTHING_PIXELS)
    if valid.all():
        return np.asarray(summed)
    weight = ndimage.gaussian_filter(valid.astype(np.float64), SMOOTHING_PIXELS)
    return np.asarray(np.divide(summed, weight, out=np.zeros_like(summed), where=valid))


def _hills(smooth: Floats, first: Indices, second: Indices) -> Indices:
    """Return the peak that each pixel belongs to, (N,): the one that steepest ascent leads to, or what it merged with.

    Two peaks are one where the highest pass between them, by whatever way, is no dip. Passes are taken by falling
    height, as in a watershed.

    References
    ----------
    Vincent and Soille 1991, IEEE TPAMI 13, 583, doi:10.1109/34.87344
    """
    peak = _ascend(smooth, first, second)
    height = np.minimum(smooth[first], smooth[second])
    lower = np.minimum(smooth[peak[first]], smooth[peak[second]])
    passes = np.flatnonzero((peak[first] != peak[second]) & (height > (1 - DIP) * lower))
    merged_with = list(range(len(smooth)))

    def top(pixel: int) -> int:
        while merged_with[pixel] != pixel:
            merged_with[pixel] = pixel = merged_with[merged_with[pixel]]
        return pixel

    for way in passes[np.argsort(-height[passes], kind="stable")].tolist():
        one, other = sorted((top(int(peak[first[way]])), top(int(peak[second[way]]))), key=lambda p: smooth[p])
        if height[way] > (1 - DIP) * smooth[one]:
            merged_with[one] = other
    tops = np.array([top(pixel) for pixel in np.unique(peak).tolist()], dtype=np.int64)
    return tops[np.searchsorted(np.unique(peak), peak)]


def _ascend(smooth: Floats, first: Indices, second: Indices) -> Indices:
    """Return the local maximum to which the steepest way up leads from each pixel, (N,); equal pixels are ranked."""
    order = np.argsort(smooth, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    best = rank.copy()
    np.maximum.at(best, first, rank[second])
    np.maximum.at(best, second, rank[first])
    up = order[best]
    while not np.array_equal(up, up[up]):
        up = up[up]
    return np.asarray(up, dtype=np.int64)


def _neighbours(rows: Indices, columns: Indices, shape: tuple[int, ...]) -> tuple[Indices, Indices]:
    """Return the pairs of touching pixels as (earlier, later) indices, by rising index of the later, (P,) each."""
    number = np.full((shape[0] + 1, shape[1] + 2), -1, dtype=np.int64)  # a rim, so that every step stays inside
    number[rows, columns + 1] = np.arange(len(rows))
    here = np.tile(np.arange(len(rows)), len(HALF_OF_NEIGHBOURS))
    there = np.concatenate([number[rows + down, columns + 1 + right] for down, right in HALF_OF_NEIGHBOURS])
    touching = there >= 0
    first, second = np.minimum(here, there)[touching], np.maximum(here, there)[touching]
    order = np.argsort(second, kind="stable")
    return first[order], second[order]
