"""How sure a reliability diagram is, with the fields as the units that are independent of each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bootstrap import draw_weights, percentile_levels

RESAMPLES, SEED = 1000, 0


def reliability_bars(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 95 % intervals of the observed frequency in each bin that holds pixels, from resampled fields.

    Pixels of one field share its sky and its seeing, so an interval that takes them as independent is far too short.

    Parameters
    ----------
    counts : (F, 3, B) float64
        Pixels and positive pixels of each field by bin of probability, and what isn't needed here.

    Returns
    -------
    (2, K) float64
        Lower and upper ends for the K bins that hold pixels; NaN where less than two fields do.
    """
    fields, _, bins = counts.shape
    weights = draw_weights(fields, resamples=RESAMPLES, seed=SEED)
    pixels, positives = np.einsum("rf,fcb->crb", weights, counts[:, :2])
    bars = np.full((2, bins), np.nan)
    for number in np.flatnonzero((counts[:, 0] > 0).sum(axis=0) >= 2):
        held = pixels[:, number] > 0
        shares = positives[held, number] / pixels[held, number]
        bars[:, number] = np.percentile(shares, percentile_levels(fields))
    return bars[:, counts[:, 0].any(axis=0)]
