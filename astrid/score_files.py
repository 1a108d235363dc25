"""Score a prediction that lies in files, ours or another tool's, by the code that scores our networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from astrid.config import DataError, MetricsConfig
from astrid.data.frames import read_image
from astrid.data.rows import ImageFile
from astrid.metrics.pixels import PixelHistogram, pixel_metrics

Numbers = NDArray[Any]
Flags = NDArray[np.bool_]

CHUNK_PIXELS = 2**20
"""Pixels turned into logits at a time, so that a large file needs little memory beside itself."""


def read_numbers(file: str, *, argument: str) -> Numbers:
    """Read an array of numbers of any shape from `.npy`, or a picture (H, W) from FITS, as `frame.fits[SCI]` too.

    Raises
    ------
    DataError
        Naming the argument, where the file is missing, damaged or holds no numbers.
    """
    if not file.endswith(".npy"):
        source = ImageFile.parse(file, Path())
        return np.asarray(read_image(source.path, hdu=source.hdu).data)
    try:
        values = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{argument} must be a FITS or .npy file, got {file}: {error}; check its name") from error
    if values.dtype.kind not in "biuf":
        raise DataError(f"{argument} must hold numbers, got {file} of {values.dtype}; save it as float32")
    return np.asarray(values)


def score(
    scores: Numbers, truth: Numbers, valid: Numbers | None = None, *, logits: bool, threshold: float
) -> dict[str, float]:
    """Return every pixel metric of a prediction; the undefined are absent, and the log says so.

    Parameters
    ----------
    scores : array of any shape
        Probabilities of the positive class, or their logits.
    truth : array of the same shape
        1 = positive, 0 = negative.
    valid : array of the same shape, optional
        1 = pixel that counts, 0 = pixel that doesn't; all count without it.
    logits : bool
        Whether scores are logits.
    threshold : float
        Probability from which a pixel is called positive.

    Raises
    ------
    DataError
        For shapes that differ, values that are none of the above, and a truth without positives.
    """
    counts = np.ones(scores.shape, bool) if valid is None else _flags("VALID", valid, like=scores)
    positive = _flags("TRUTH", truth, like=scores, where=counts)
    _check_scores(scores[counts], logits=logits)
    if not positive.any():
        raise DataError(
            "TRUTH must have positive pixels that are valid, got none; give the mask of what is to be found"
        )
    config = MetricsConfig()
    histogram = PixelHistogram(bins=config.bins, limit=config.logit_limit, device="cpu")
    for start in range(0, scores.size, CHUNK_PIXELS):
        part = slice(start, start + CHUNK_PIXELS)
        chunk = scores.reshape(-1)[part].astype(np.float64)
        if not logits:
            chunk = logit(chunk).clip(-config.logit_limit, config.logit_limit)
        planes = (chunk, positive.reshape(-1)[part], counts.reshape(-1)[part])
        histogram.update(*(torch.from_numpy(plane) for plane in planes))
    return pixel_metrics(histogram, logit_threshold=float(logit(threshold)))


def _flags(argument: str, values: Numbers, *, like: Numbers, where: Flags | None = None) -> Flags:
    """Return 0 and 1 as flags; a value where it doesn't count is False, whatever it is."""
    if values.shape != like.shape:
        raise DataError(f"{argument} must have the shape of SCORES, {like.shape}, got {values.shape}; cut both alike")
    counts = np.ones(values.shape, bool) if where is None else where
    odd = values[counts & (values != 0) & (values != 1)]
    if odd.size:
        rule, remedy = "0 or 1 in each pixel", "make it a mask, as (plane != 0)"
        raise DataError(f"{argument} must be {rule}, got {odd[0]} and {odd.size - 1} more; {remedy}")
    return np.asarray(counts & (values == 1))


def _check_scores(scores: Numbers, *, logits: bool) -> None:
    """Refuse scores (N,) of valid pixels that are not finite, or no probabilities."""
    if not scores.size:
        raise DataError("SCORES must have valid pixels, got none; check VALID, where 1 is a pixel that counts")
    if broken := int((~np.isfinite(scores)).sum()):
        raise DataError(
            f"SCORES must be finite on valid pixels, got {broken} that are not; leave them out with --valid"
        )
    lowest, highest = scores.min(), scores.max()
    if not logits and not (lowest >= 0 and highest <= 1):
        raise DataError(
            f"SCORES must be probabilities from 0 to 1, got {lowest:g} to {highest:g}; give logits with --logits"
        )
