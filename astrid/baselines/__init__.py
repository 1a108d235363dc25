"""What astronomers use today, judged by the same code and rules as the networks."""

from __future__ import annotations

from astrid.config import MetricsConfig
from astrid.data.store import FieldStore
from astrid.evaluate import Evaluation

from .comparison import Comparison, compare_detectors
from .masks import MaskRival, compare_masks

__all__ = ["Comparison", "MaskRival", "compare"]


def compare(
    evaluation: Evaluation, *, val: FieldStore, test: FieldStore, config: MetricsConfig
) -> Comparison | MaskRival | None:
    """Judge what needs no training on the same fields as the network: detectors, or a mask where there is no catalogue.

    Parameters
    ----------
    evaluation : Evaluation
        What the network showed on the test fields.
    val, test : FieldStore
        Fields that choose every threshold, and those that it is judged on.
    config : MetricsConfig

    Returns
    -------
    Comparison, MaskRival or None
        None where `metrics.baselines` is off or there is nothing to compare, and the log says so.
    """
    if not config.baselines:
        return None
    if any(entry.sources is None or entry.fwhm_pixels is None for entry in (*val.entries, *test.entries)):
        return compare_masks(val, test, network=evaluation.scores.pixels)
    objects, threshold = evaluation.scores.objects, evaluation.chosen.detection_threshold
    if objects is None or threshold is None:
        return None  # no sources to choose by, which evaluation said
    return compare_detectors(val, test, network=objects, network_threshold=threshold, config=config)
