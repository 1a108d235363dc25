"""What astronomers use today, judged by the same code as the networks."""

from __future__ import annotations

import numpy as np

from astrid.config import MetricsConfig
from astrid.data.store import FieldStore
from astrid.evaluate import tally
from astrid.metrics.objects import ObjectTally, object_metrics

DIFFERENCE = 2
"""Channel of the PSF-matched difference, in units of its background sigma."""
SIGMAS = 5.0


def difference_threshold(store: FieldStore, *, config: MetricsConfig) -> dict[str, float]:
    """Threshold the difference at five sigma and match what sticks out to the catalogue.

    Returns
    -------
    dict
        Named `difference_5sigma/...`; empty where there is no difference channel or no catalogue.
    """
    entries = store.entries
    if store.channels <= DIFFERENCE or any(entry.sources is None or entry.fwhm_pixels is None for entry in entries):
        return {}
    objects = ObjectTally(np.array([SIGMAS]), min_pixels=config.min_pixels)
    for number in range(len(store)):
        field = store.field(number)
        tally(objects, field, field.image[DIFFERENCE], radius_fwhm=config.match_radius_fwhm)
    metrics = object_metrics(objects, threshold=SIGMAS)
    del metrics["detection_threshold"]
    return {f"difference_5sigma/{name}": value for name, value in metrics.items()}
