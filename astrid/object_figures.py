"""What the figures of detections show: the network beside its classical rivals and the physical limit."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from astrid.baselines import Comparison
from astrid.data.psf import point_source
from astrid.evaluate import Evaluation
from astrid.metrics.completeness import SnrCompleteness, completeness_by_snr, fit_curve
from astrid.metrics.detections import Floats
from astrid.metrics.ideal import ideal_completeness, ideal_threshold
from astrid.metrics.object_counts import ObjectCounts
from astrid.metrics.objects import ObjectTally
from astrid.object_plots import Line, completeness_figure, free_response_figure

NETWORK = "U-Net"
CURVE_POINTS = 200


def draw_objects(evaluation: Evaluation, comparison: Comparison | None) -> dict[str, Figure]:
    """Draw completeness by signal-to-noise and free-response curves; absent without a catalogue."""
    objects, threshold = evaluation.scores.objects, evaluation.chosen.detection_threshold
    if objects is None or threshold is None:
        return {}
    counts = objects.at(threshold)
    bins = completeness_by_snr(counts.snr, counts.found)
    if bins is None:
        return {}
    rivals = {} if comparison is None else {rival.label: rival for rival in comparison.judged}
    lines = {
        f"{label}, {place(rival.tally, rival.threshold)[0]:.3g} false/Mpix": line
        for label, rival in rivals.items()
        if (line := fitted_line(rival.tally.at(rival.threshold)))
    }
    return {
        "completeness": completeness_figure(
            bins.edges,
            bins.found,
            bins.total,
            snr50=evaluation.metrics.get("test/snr50"),
            false_per_mpix=place(objects, threshold)[0],
            fit=fitted_line(counts),
            rivals=lines,
            ideal=ideal_line(counts, bins, fwhm_pixels=typical_fwhm(evaluation)),
        ),
        "free_response": free_response_figure(
            {NETWORK: free_response(objects)} | {label: free_response(rival.tally) for label, rival in rivals.items()},
            chosen={NETWORK: place(objects, threshold)}
            | {label: place(rival.tally, rival.threshold) for label, rival in rivals.items()},
        ),
    }


def fitted_line(counts: ObjectCounts) -> Line | None:
    """Return the fitted curve of completeness; None where all sources are found, or none."""
    snr, found = counts.snr[counts.snr > 0], counts.found[counts.snr > 0]
    if not found.any() or found.all() or np.ptp(snr) == 0:
        return None
    x = np.geomspace(snr.min(), snr.max(), CURVE_POINTS)
    return Line(x, fit_curve(snr, found=found[None].astype(float), total=np.ones((1, len(snr))))(x)[0])


def ideal_line(counts: ObjectCounts, bins: SnrCompleteness, *, fwhm_pixels: float) -> Line | None:
    """Return what a matched filter finds in noise alone with as many false detections, at the true positions.

    A network without false detections is given one, since its rate is below that of one. The catalogue's
    signal-to-noise counts the noise of the reference in full: who averages that out can lie above the line, and so does
    who looks for a peak near the position instead of at it.
    """
    false_per_mpix = max(1, int(counts.counts[:, 2].sum())) / counts.valid_pixels.sum() * 1e6
    threshold = ideal_threshold(false_per_mpix, psf=point_source(fwhm_pixels))
    if threshold is None:
        return None
    x = np.geomspace(bins.edges[0], bins.edges[-1], CURVE_POINTS)
    return Line(x, ideal_completeness(x, threshold=threshold))


def typical_fwhm(evaluation: Evaluation) -> float:
    """Return the median width of the PSF in the fields of the gallery, in pixels."""
    widths = [panel.field.fwhm_pixels for panel in evaluation.gallery if panel.field.fwhm_pixels is not None]
    return float(np.median(widths))


def free_response(tally: ObjectTally) -> Line:
    """Return the most that is found against false detections per megapixel, by rising number of these.

    Each threshold is a point, and the line is what the best one with no more false detections finds.
    """
    order = np.lexsort([tally.hits, tally.false_alarms])
    completeness = tally.hits / np.maximum(1, tally.hits + tally.misses)
    return Line(_per_mpix(tally)[order], np.maximum.accumulate(completeness[order]))


def place(tally: ObjectTally, threshold: float) -> tuple[float, float]:
    """Return where a detector works, on its curve or, where a stricter threshold finds more, below it."""
    at = tally.index(threshold)
    return float(_per_mpix(tally)[at]), float(tally.hits[at] / max(1, tally.hits[at] + tally.misses[at]))


def _per_mpix(tally: ObjectTally) -> Floats:
    return np.asarray(tally.false_alarms / max(1, tally.valid_pixels) * 1e6, dtype=np.float64)
