"""What astronomers use today, judged by the same code and rules as the networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from astrid.config import MetricsConfig
from astrid.data.store import FieldStore
from astrid.evaluate import Evaluation, has_catalogue
from astrid.metrics.chosen import OperatingPoint
from astrid.metrics.operating import OBJECT_KINDS

from .comparison import Comparison, chosen_thresholds, compare_detectors
from .mask_curve import best_settings, settings_in
from .masks import CONTRAST, MaskRival, chosen_contrast, compare_masks

__all__ = ["Comparison", "MaskRival", "compare", "compare_as_chosen"]


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
    if not (has_catalogue(val) and has_catalogue(test)):
        settings = best_settings(val)
        return compare_masks(test, sigma_clip=chosen_contrast(val), network=evaluation.scores.pixels, settings=settings)
    objects, threshold = evaluation.scores.objects, evaluation.chosen.detection_threshold
    if objects is None or threshold is None:
        return None  # no sources to choose by, which evaluation said
    thresholds = chosen_thresholds(val, config=config)
    met = compare_detectors(test, thresholds=thresholds, network=objects, network_threshold=threshold, config=config)
    return _with_aim(met, evaluation.chosen.operating_point)


def compare_as_chosen(
    evaluation: Evaluation, store: FieldStore, *, chosen: Mapping[str, float], config: MetricsConfig
) -> Comparison | MaskRival | None:
    """Judge what needs no training on the same fields as a network from elsewhere, as the network's own run chose it.

    Parameters
    ----------
    evaluation : Evaluation
        What the network showed.
    store : FieldStore
        The fields that it is judged on.
    chosen : mapping
        Metrics of the network's own run, with what its validation fields chose: thresholds of detectors, or a contrast.
    config : MetricsConfig

    Returns
    -------
    Comparison, MaskRival or None
        None where `metrics.baselines` is off, or nothing that fits these fields was chosen.
    """
    if not config.baselines:
        return None
    if not has_catalogue(store):
        clip, settings = chosen.get(CONTRAST), settings_in(chosen)
        return compare_masks(store, sigma_clip=clip, network=evaluation.scores.pixels, settings=settings)
    objects, threshold = evaluation.scores.objects, evaluation.chosen.detection_threshold
    if objects is None or threshold is None:
        return None
    ending = "/detection_threshold"
    thresholds = {name.removesuffix(ending): value for name, value in chosen.items() if name.endswith(ending)}
    met = compare_detectors(store, thresholds=thresholds, network=objects, network_threshold=threshold, config=config)
    return _with_aim(met, evaluation.chosen.operating_point)


def _with_aim(comparison: Comparison | None, point: OperatingPoint | None) -> Comparison | None:
    """Say what the network's threshold was chosen for, where that is not the best F1 of objects."""
    if comparison is None or point is None or point.kind not in OBJECT_KINDS:
        return comparison
    return dataclasses.replace(comparison, network_aim=f"{point.kind} {point.target:g}")
