"""Tasks of a single frame: astroscrappy's mask of cosmic rays against the network's, pixel by pixel."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from astrid.data.store import FieldStore
from astrid.metrics.confusion import Confusion, class_metrics
from astrid.metrics.histogram import PixelHistogram
from astrid.metrics.ranking import roc_curve

from .cosmic_rays import find_cosmic_rays
from .detectors import SCIENCE

log = logging.getLogger(__name__)

SIGMA_CLIPS = (2.0, 3.0, 4.5, 7.0, 12.0, 25.0)
"""Laplacian contrasts that are tried, around astroscrappy's default of 4.5."""
CONTRAST = "astroscrappy/sigma_clip"
"""Name under which the chosen one is logged."""


@dataclass(frozen=True)
class MaskRival:
    """astroscrappy's mask on the test fields.

    Attributes
    ----------
    sigma_clip : float
        Contrast of the best F1 of pixels on validation.
    tpr, fpr : float
        Shares of the positive and of the negative pixels that it marks.
    network_tpr : float
        Share of the positive pixels that the network marks with no more false ones.
    """

    sigma_clip: float
    tpr: float
    fpr: float
    network_tpr: float

    def metrics(self) -> dict[str, float]:
        """Return the numbers by the names under which they are logged."""
        return {
            "astroscrappy/tpr": self.tpr,
            "astroscrappy/fpr": self.fpr,
            "astroscrappy/network_tpr": self.network_tpr,
            CONTRAST: self.sigma_clip,
        }


def chosen_contrast(val: FieldStore) -> float | None:
    """Return astroscrappy's contrast of the best F1 of pixels; None where it marks no positive pixel."""
    counts = {clip: count_pixels(val, sigma_clip=clip) for clip in SIGMA_CLIPS}
    scores = {clip: class_metrics(one)["f1_positive"] or 0.0 for clip, one in counts.items()}
    best = max(SIGMA_CLIPS, key=lambda clip: scores[clip])
    return best if scores[best] > 0 else None


def compare_masks(test: FieldStore, *, sigma_clip: float | None, network: PixelHistogram) -> MaskRival | None:
    """Let astroscrappy mark the first channel, with a contrast that other fields chose.

    Parameters
    ----------
    test : FieldStore
    sigma_clip : float or None
    network : PixelHistogram
        Logits of the network on the test fields.

    Returns
    -------
    MaskRival or None
        None where no contrast was chosen, or the test fields lack a class.
    """
    curve = roc_curve(network)
    if sigma_clip is None or curve is None:
        log.info("astroscrappy isn't compared: it marks no positive pixel of validation, or testing lacks a class")
        return None
    marked = count_pixels(test, sigma_clip=sigma_clip)
    tpr = marked.true_positives / (marked.true_positives + marked.false_negatives)
    fpr = marked.false_positives / (marked.false_positives + marked.true_negatives)
    return MaskRival(sigma_clip, tpr, fpr, float(curve.tpr[curve.fpr <= fpr].max()))


def count_pixels(store: FieldStore, *, sigma_clip: float) -> Confusion:
    """Compare astroscrappy's mask with the truth over all fields."""
    totals = np.zeros(4, dtype=np.int64)
    for number in range(len(store)):
        field = store.field(number)
        flagged = find_cosmic_rays(field.image[SCIENCE], field.valid, sigma_clip=sigma_clip)
        cells = [side & part & field.valid for side in (flagged, ~flagged) for part in (field.target, ~field.target)]
        totals += [int(cell.sum()) for cell in cells]
    true, false, missed, rejected = totals.tolist()
    return Confusion(true_positives=true, false_positives=false, false_negatives=missed, true_negatives=rejected)
