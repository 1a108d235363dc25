"""Judge a trained network: thresholds from validation, then the test fields, once."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from astrid.config import MetricsConfig
from astrid.data.store import FieldEntry, FieldStore
from astrid.inspection.cutouts import ObjectLog, keep_objects
from astrid.inspection.objects import Rules
from astrid.metrics.calibrators import Calibrator, fit_calibrator
from astrid.metrics.chosen import Aim, Chosen
from astrid.metrics.histogram import Counts
from astrid.metrics.object_counts import ObjectCounts
from astrid.metrics.objects import detection_thresholds, object_metrics
from astrid.metrics.operating import OBJECT_KINDS, choose_operating_point, operating_metrics
from astrid.metrics.per_field import FieldCounter, FieldCounts
from astrid.metrics.pixels import PixelHistogram, best_f1_threshold, pixel_metrics
from astrid.metrics.population import population, warn_of_inverted
from astrid.metrics.recall import Recall, recall_metrics, recalls
from astrid.predictor import Predicted, Predictor, predicted
from astrid.scoring import Panel, Scores, keep_first, score

log = logging.getLogger(__name__)

JUDGED_BY = ("bins", "logit_limit", "min_pixels", "match_radius_fwhm")
"""Knobs on which the numbers of the same network on the same fields depend."""
ASKED_FOR = ("pixel_families", "per_field", "detection_thresholds")
"""Knobs that say what is computed."""
FARTHEST_LOGIT = float(np.finfo(np.float32).max)
"""Threshold that stands for an infinite one, which JSON can't say: no logit lies beyond it."""
SUMMED = {"decision", "classes", "calibration"}
"""Families of pixel metrics whose intervals need sums over the pixels of each field."""


@dataclass(frozen=True)
class Evaluation:
    """What the test fields showed, at the thresholds that validation chose.

    Attributes
    ----------
    metrics : dict
        By name, `test/...`; the undefined are absent.
    chosen : Chosen
        What validation decided.
    fields : FieldCounts
        What each test field showed by itself.
    objects : ObjectLog or None
        What became of each object, with cutouts; None where nobody will report them.
    recalls : list of Recall
        What is found at the rates of `metrics.recall_at_false_per_mpix`.
    """

    metrics: dict[str, float]
    scores: Scores
    chosen: Chosen
    gallery: list[Panel]
    fields: FieldCounts
    objects: ObjectLog | None = None
    recalls: list[Recall] = dataclasses.field(default_factory=list)


def evaluate(predictor: Predictor, *, val: FieldStore, test: FieldStore, config: MetricsConfig) -> Evaluation:
    """Choose thresholds on the validation fields, then go over the test fields, once."""
    chosen, seen = choose(predictor, val, config=config)
    return judge(predictor, test, chosen=chosen, seen=seen.pixels, config=config)


def choose(predictor: Predictor, val: FieldStore, *, config: MetricsConfig) -> tuple[Chosen, Scores]:
    """Decide on the validation fields all that has to be decided before testing; return what they showed, too.

    Detections are made of calibrated probabilities, so that a calibrator takes a pass of its own.
    """
    device = predictor.runtime.device
    calibrator = Calibrator()
    if config.calibration != "none":
        counted = score(predicted(predictor, val), thresholds=None, config=config, device=device)
        calibrator = fit_calibrator(counted.pixels, kind=config.calibration)
    seen = score(
        predicted(predictor, val),
        thresholds=thresholds_to_try(val, config),
        config=config,
        device=device,
        calibrator=calibrator,
    )
    return decide(seen, calibrator, config=config), seen


def decide(seen: Scores, calibrator: Calibrator, *, config: MetricsConfig) -> Chosen:
    """Choose the thresholds: one for the target of the configuration, the other for the best F1."""
    point = choose_operating_point(seen.pixels, seen.objects, config=config)
    pixel = best_f1_threshold(seen.pixels)
    detection = seen.objects.best_threshold() if seen.objects is not None else None
    if point is not None and point.kind in OBJECT_KINDS:
        detection = point.threshold
    elif point is not None:
        pixel = point.threshold
    if pixel is not None and np.isinf(pixel):
        every = "every pixel" if pixel < 0 else "no pixel"
        log.warning(
            "the threshold that validation chose calls %s positive: its logits tell the classes apart badly", every
        )
        pixel = float(np.copysign(FARTHEST_LOGIT, pixel))
        point = point if point is None or point.kind in OBJECT_KINDS else dataclasses.replace(point, threshold=pixel)
    missed = Aim(config.operating_point, config.operating_target) if point is None else None
    return Chosen(pixel, detection, calibrator, point, missed)


def judge(
    predictor: Predictor,
    test: FieldStore,
    *,
    chosen: Chosen,
    seen: PixelHistogram,
    config: MetricsConfig,
    starts: Counts | None = None,
    show: Callable[[Predicted], Predicted] = iter,
) -> Evaluation:
    """Go over the test fields, once, with what was decided on other fields.

    Parameters
    ----------
    chosen : Chosen
    seen : PixelHistogram
        Logits of the same network on other fields: where the bins that are kept of each field lie.
    starts : (B,) int64 or None
        Those bins where they were decided before, as in `FieldCounts`.
    show : callable
        Passes the fields on and shows how far it has come.
    """
    gallery: list[Panel] = []
    counter = FieldCounter(
        seen,
        rules=json.dumps(judged_by(config)),
        chosen=chosen if SUMMED & set(config.pixel_families) else None,
        score_each=config.per_field,
        starts=starts,
    )
    objects = ObjectLog(Rules.of(chosen, config)) if config.report else None
    shown = keep_objects(show(predicted(predictor, test)), objects, calibrator=chosen.calibrator)
    tested = score(
        keep_first(shown, gallery, count=config.gallery_size if config.figures else 0, calibrator=chosen.calibrator),
        thresholds=thresholds_to_judge(test, chosen, config),
        config=config,
        device=predictor.runtime.device,
        calibrator=chosen.calibrator,
        counter=counter,
    )
    named = {f"test/{name}": value for name, value in metrics_at(tested, chosen, config=config).items()}
    groups = [entry.group for entry in test.entries]
    found = [] if tested.objects is None else recalls(tested.objects, config.recall_at_false_per_mpix, groups)
    counts = counter.counts(detected(tested, chosen))
    return Evaluation(named | recall_metrics(found, "test"), tested, chosen, gallery, counts, objects, found)


def judged_by(config: MetricsConfig) -> dict[str, float]:
    """Return the knobs on which the numbers of the same network on the same fields depend."""
    return {name: getattr(config, name) for name in JUDGED_BY}


def asked_for(config: MetricsConfig) -> dict[str, Any]:
    """Return the knobs that say what is computed."""
    return {name: getattr(config, name) for name in ASKED_FOR}


def thresholds_to_judge(store: FieldStore, chosen: Chosen, config: MetricsConfig) -> list[float] | None:
    """Return the threshold of detections, among those of a curve where one is drawn or compared with.

    None where there is no threshold, or no catalogue to compare with.
    """
    catalogue, threshold = has_catalogue(store), chosen.detection_threshold
    if catalogue and threshold is not None:
        drawn = config.figures or config.baselines or config.recall_at_false_per_mpix
        curve = thresholds_to_try(store, config) if drawn else None
        return sorted({threshold, *(curve or [])})
    if threshold is not None:
        log.info("object metrics are left out: the test fields have no catalogue of sources")
    if catalogue:
        log.info("object metrics are left out: validation chose no threshold of detections")
    return None


def has_catalogue(store: FieldStore) -> bool:
    """Tell whether every field lists its sources, if any, and has the width by which detections are matched to them."""
    return all(_is_listed(entry) for entry in store.entries)


def _is_listed(entry: FieldEntry) -> bool:
    """Tell whether detections in a field can be told true from false; where nothing is to be found, all are false."""
    return entry.sources is not None and (entry.fwhm_pixels is not None or not entry.sources["x"])


def thresholds_to_try(store: FieldStore, config: MetricsConfig) -> Sequence[float] | None:
    """Return detection thresholds, or None where the fields have no catalogue to compare with."""
    if not has_catalogue(store):
        log.info("object metrics are left out: the fields have no catalogue of sources")
        return None
    return [float(threshold) for threshold in detection_thresholds(config.detection_thresholds)]


def detected(scores: Scores, chosen: Chosen) -> ObjectCounts | None:
    """Return what each field showed at the chosen detection threshold; None without a catalogue."""
    if scores.objects is None or chosen.detection_threshold is None:
        return None
    return scores.objects.at(chosen.detection_threshold)


def metrics_at(scores: Scores, chosen: Chosen, *, config: MetricsConfig) -> dict[str, float]:
    """Return pixel and object metrics with a calibrator and at thresholds that were chosen elsewhere."""
    if chosen.logit_threshold is None:
        log.warning("validation has no positives to choose a threshold by: pixels are judged at probability 0.5")
    metrics = population(scores.pixels) | pixel_metrics(
        scores.pixels,
        logit_threshold=chosen.cut,
        calibrator=chosen.calibrator,
        families=config.pixel_families,
    )
    if scores.objects is not None and chosen.detection_threshold is not None:
        metrics |= object_metrics(scores.objects, threshold=chosen.detection_threshold)
    if chosen.operating_point is not None:
        metrics |= operating_metrics(chosen.operating_point, scores.pixels, scores.objects)
    warn_of_inverted(metrics)
    return metrics
