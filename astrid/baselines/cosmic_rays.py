"""astroscrappy, the fast L.A.Cosmic: what it calls a cosmic ray, and how well it does so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Flags = NDArray[np.bool_]

SIGMA_CLIP = 4.5
"""Laplacian contrast in sigma of a cosmic ray, astroscrappy's default."""
NEIGHBOURS, OBJECT_LIMIT = 0.3, 5.0
"""astroscrappy's defaults of `sigfrac` and `objlim`."""
ELECTRONS_PER_SIGMA = 20.0
"""Background noise in electrons, which channels don't tell: it sets the photon noise of stars."""
ROUNDS = 1
"""Further rounds flagged no pixel more that mattered, and took as long again."""


def find_cosmic_rays(
    image: NDArray[np.float32],
    valid: Flags,
    *,
    sigma_clip: float = SIGMA_CLIP,
    neighbours: float = NEIGHBOURS,
    object_limit: float = OBJECT_LIMIT,
) -> Flags:
    """Return the pixels that astroscrappy calls cosmic rays, (H, W) bool.

    Parameters
    ----------
    image : (H, W) float32
        A single exposure in units of its background sigma above the background.
    valid : (H, W) bool
        True = pixel that counts. One that doesn't count but holds a value is seen all the same: pixels beside a masked
        one are never flagged, and the rims of labelled cosmic rays often don't count.
    sigma_clip : float
        Laplacian contrast, in sigma, from which a pixel is one.
    neighbours : float
        Share of that contrast from which a neighbour of one is another.
    object_limit : float
        Least ratio of a pixel's sharpness to the smooth structure around it, which spares the cores of stars.

    References
    ----------
    van Dokkum 2001, PASP 113, 1420, doi:10.1086/323894; McCully et al. 2018, astroscrappy, doi:10.5281/zenodo.1482019
    """
    import astroscrappy

    flagged, _ = astroscrappy.detect_cosmics(
        np.array(image),
        inmask=~valid & (image == 0),  # where there is nothing to see, fields hold 0
        sigclip=sigma_clip,
        sigfrac=neighbours,
        objlim=object_limit,
        gain=ELECTRONS_PER_SIGMA,
        readnoise=ELECTRONS_PER_SIGMA,
        satlevel=np.inf,
        niter=ROUNDS,
    )
    return np.asarray(flagged & valid)


def grown(flags: Flags) -> Flags:
    """Return flags with their eight neighbours, since the rim of a cosmic ray is fainter than what gives it away."""
    return np.asarray(ndimage.binary_dilation(flags, np.ones((3, 3), dtype=bool)))
