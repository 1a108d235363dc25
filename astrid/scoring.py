"""One pass over fields: pixels counted by logit, detections compared with catalogues, a few fields kept to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from astrid.config import MetricsConfig
from astrid.data.frames import Field
from astrid.metrics.calibrators import Calibrator
from astrid.metrics.objects import ObjectTally
from astrid.metrics.per_field import FieldCounter
from astrid.metrics.pixels import PixelHistogram
from astrid.predictor import Predicted


@dataclass
class Scores:
    """What one pass over a split collects, in constant memory.

    Attributes
    ----------
    pixels : PixelHistogram
        Counts of positive and negative pixels by logit.
    objects : ObjectTally or None
        Hits, misses and false alarms; None where the fields have no catalogue.
    """

    pixels: PixelHistogram
    objects: ObjectTally | None


@dataclass(frozen=True)
class Panel:
    """A test field for the gallery; `probability` is (H, W) float32."""

    field: Field
    probability: NDArray[np.float32]


def score(
    fields: Predicted,
    *,
    thresholds: Sequence[float] | None,
    config: MetricsConfig,
    device: torch.device,
    calibrator: Calibrator | None = None,
    counter: FieldCounter | None = None,
) -> Scores:
    """Collect the pixel histogram and, where there are thresholds to try, the detections of all fields.

    Pixels are counted by the network's own logits, detections made of the calibrated probability. A counter, where
    there is one, keeps what each field showed by itself.
    """
    pixels = PixelHistogram(bins=config.bins, limit=config.logit_limit, device=device)
    objects = None if thresholds is None else ObjectTally(thresholds, min_pixels=config.min_pixels)
    calibrator = calibrator or Calibrator()
    for field, logits in fields:
        planes = [torch.from_numpy(plane).to(device) for plane in (field.target, field.valid)]
        pixels.update(logits, *planes)
        if objects is not None:
            tally(objects, field, calibrator.probability(logits).cpu().numpy(), radius_fwhm=config.match_radius_fwhm)
        if counter is not None:
            counter.add(field.name, logits, *planes, contents=contents(field), group=field.group)
    return Scores(pixels, objects)


def tally(objects: ObjectTally, field: Field, response: NDArray[np.float32], *, radius_fwhm: float) -> None:
    """Add a field to a tally; `response` is (H, W), a probability or whatever else is thresholded."""
    assert field.sources is not None
    sources = field.sources
    objects.add(
        response,
        field.valid,
        sources_x=sources.x,
        sources_y=sources.y,
        snr=sources.snr,
        radius_pixels=radius_fwhm * (field.fwhm_pixels or 1.0),  # unknown only where nothing is to be found
    )


def contents(field: Field) -> list[NDArray[Any]]:
    """Return the arrays that a field consists of: pixels, truth and, where there is one, its catalogue."""
    planes = [field.image, field.target, field.valid]
    if field.sources is None:
        return planes
    sources = field.sources
    return [*planes, sources.x, sources.y, sources.snr, np.array(field.fwhm_pixels or np.nan)]


def keep_first(fields: Predicted, kept: list[Panel], *, count: int, calibrator: Calibrator) -> Predicted:
    """Pass fields on, and keep the first few for the gallery."""
    for field, logits in fields:
        if len(kept) < count:
            kept.append(Panel(field, calibrator.probability(logits).cpu().numpy()))
        yield field, logits
