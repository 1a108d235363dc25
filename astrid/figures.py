"""The figures of a finished run, drawn from what its evaluation collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from astrid.baselines import Comparison
from astrid.config import MetricsConfig
from astrid.evaluate import Evaluation
from astrid.metrics.calibration import expected_calibration_error, forecast, reliability
from astrid.metrics.confusion import Confusion, confusion
from astrid.metrics.detections import find_detections, judge
from astrid.metrics.ranking import precision_recall_curve, roc_curve
from astrid.metrics.reliability_bars import reliability_bars
from astrid.metrics.revisits import merge_visits
from astrid.object_figures import draw_objects
from astrid.plots import (
    GalleryPanel,
    confusion_figure,
    gallery_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    training_curves,
)
from astrid.scoring import Panel

NOTHING = np.empty((0, 2))


def draw_figures(
    history: Sequence[Mapping[str, float]],
    evaluation: Evaluation,
    *,
    best_epoch: int,
    monitor: str,
    config: MetricsConfig,
    comparison: Comparison | None = None,
) -> dict[str, Figure]:
    """Return every figure of a run by name; one whose quantity is undefined is absent."""
    curves = {"training_curves": training_curves(history, score=monitor, best_epoch=best_epoch)}
    return curves | draw_evaluation(evaluation, config, comparison=comparison)


def draw_evaluation(
    evaluation: Evaluation, config: MetricsConfig, *, comparison: Comparison | None
) -> dict[str, Figure]:
    """Return the figures of what the test fields showed."""
    pixels = evaluation.scores.pixels
    counts = confusion(pixels, logit_threshold=evaluation.chosen.cut)
    figures = {
        "confusion": confusion_figure(
            np.array([[counts.true_negatives, counts.false_positives], [counts.false_negatives, counts.true_positives]])
        ),
        "reliability": draw_reliability(evaluation),
        "gallery": gallery_figure([gallery_panel(panel, evaluation, config) for panel in evaluation.gallery]),
    }
    return figures | draw_curves(evaluation, counts) | draw_objects(evaluation, comparison)


def draw_reliability(evaluation: Evaluation) -> Figure:
    """Draw observed frequency against predicted probability, and what it was before calibration."""
    pixels, calibrator, sums = (
        evaluation.scores.pixels,
        evaluation.chosen.calibrator,
        merge_visits(evaluation.fields).pixels,
    )
    after, before = reliability(forecast(pixels, calibrator)), reliability(forecast(pixels))
    return reliability_figure(
        after.predicted,
        after.observed,
        after.count,
        ece=expected_calibration_error(after),
        bars=None if sums is None else reliability_bars(sums.reliability),
        before=None if calibrator.kind == "none" else (before.predicted, before.observed),
    )


def draw_curves(evaluation: Evaluation, counts: Confusion) -> dict[str, Figure]:
    """Draw ROC and precision against recall; absent where a class is."""
    pixels, metrics = evaluation.scores.pixels, evaluation.metrics
    roc, precision_recall = roc_curve(pixels), precision_recall_curve(pixels)
    if roc is None or precision_recall is None:
        return {}
    positives, negatives = (
        counts.true_positives + counts.false_negatives,
        counts.false_positives + counts.true_negatives,
    )
    recall = counts.true_positives / positives
    precision = (
        counts.true_positives / (counts.true_positives + counts.false_positives)
        if counts.true_positives + counts.false_positives
        else None
    )
    return {
        "roc": roc_figure(
            roc.fpr,
            roc.tpr,
            auroc=metrics.get("test/auroc"),
            operating_point=(counts.false_positives / negatives, recall),
        ),
        "precision_recall": precision_recall_figure(
            precision_recall.recall,
            precision_recall.precision,
            auprc=metrics.get("test/auprc"),
            prevalence=positives / (positives + negatives),
            operating_point=None if precision is None else (recall, precision),
        ),
    }


def gallery_panel(panel: Panel, evaluation: Evaluation, config: MetricsConfig) -> GalleryPanel:
    """Tell hits, misses and false alarms of a field apart, where it has a catalogue."""
    field, threshold = panel.field, evaluation.chosen.detection_threshold
    hits = misses = false_alarms = NOTHING
    marked_from = evaluation.chosen.pixel_threshold
    if field.sources is not None and field.fwhm_pixels is not None and threshold is not None:
        marked_from = threshold
        detections = find_detections(panel.probability, field.valid, threshold=threshold, min_pixels=config.min_pixels)
        positions = np.stack([field.sources.x, field.sources.y], axis=1)
        verdict = judge(
            detections,
            field.valid,
            sources_x=field.sources.x,
            sources_y=field.sources.y,
            radius_pixels=config.match_radius_fwhm * field.fwhm_pixels,
        )
        hits = positions[verdict.countable & verdict.found]
        misses = positions[verdict.countable & ~verdict.found]
        false_alarms = np.stack([detections.x, detections.y], axis=1)[verdict.false_alarm]
    return GalleryPanel(
        name=field.name,
        science=field.image[0],
        target=field.target,
        probability=panel.probability,
        hits=hits,
        misses=misses,
        false_alarms=false_alarms,
        threshold=marked_from,
    )
