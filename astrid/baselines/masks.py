"""Tasks of a single frame: astroscrappy's mask of cosmic rays against the network's, pixel by pixel."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from astrid.data.store import FieldStore
from astrid.metrics.confusion import Confusion, class_metrics
from astrid.metrics.histogram import PixelHistogram
from astrid.metrics.ranking import roc_curve

from .cosmic_rays import find_cosmic_rays
from .detectors import SCIENCE
from .mask_curve import compare_at_rates

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
    at_rates : dict
        Both at given false positive rates, as of `mask_curve.compare_at_rates`.
    """

    sigma_clip: float
    tpr: float
    fpr: float
    network_tpr: float
    at_rates: Mapping[str, float] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Return the numbers by the names under which they are logged."""
        own = {"tpr": self.tpr, "fpr": self.fpr, "network_tpr": self.network_tpr, "sigma_clip": self.sigma_clip}
        return {f"astroscrappy/{name}": value for name, value in (own | dict(self.at_rates)).items()}


def chosen_contrast(val: FieldStore) -> float | None:
    """Return astroscrappy's contrast of the best F1 of pixels; None where it marks no positive pixel."""
    counts = {clip: count_pixels(val, sigma_clip=clip) for clip in SIGMA_CLIPS}
    scores = {clip: class_metrics(one)["f1_positive"] or 0.0 for clip, one in counts.items()}
    best = max(SIGMA_CLIPS, key=lambda clip: scores[clip])
    return best if scores[best] > 0 else None


def compare_masks(
    test: FieldStore, *, sigma_clip: float | None, network: PixelHistogram, settings: Mapping[str, int] | None = None
) -> MaskRival | None:
    """Let astroscrappy mark the first channel, with a contrast that other fields chose.

    Parameters
    ----------
    test : FieldStore
    sigma_clip : float or None
    network : PixelHistogram
        Logits of the network on the test fields.
    settings : mapping, optional
        Of astroscrappy, that other fields chose for each rate at which both are compared.

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
    at_rates = compare_at_rates(test, chosen=settings or {}, network=network)
    return MaskRival(sigma_clip, tpr, fpr, float(curve.tpr[curve.fpr <= fpr].max()), at_rates)


def count_pixels(store: FieldStore, *, sigma_clip: float) -> Confusion:
    """Compare astroscrappy's mask with the truth over all fields."""
    totals = np.zeros(4, dtype=np.int64)
    for number in range(len(store)):
        one = store.field(number)
        flagged = find_cosmic_rays(one.image[SCIENCE], one.valid, sigma_clip=sigma_clip)
        cells = [side & part & one.valid for side in (flagged, ~flagged) for part in (one.target, ~one.target)]
        totals += [int(cell.sum()) for cell in cells]
    true, false, missed, rejected = totals.tolist()
    return Confusion(true_positives=true, false_positives=false, false_negatives=missed, true_negatives=rejected)
