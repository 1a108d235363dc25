"""The classical detectors beside the network: thresholds from validation, then the test fields, by the same rules."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from astrid.config import MetricsConfig
from astrid.data.store import FieldStore
from astrid.metrics.intervals import jackknife_intervals, leave_one_out
from astrid.metrics.objects import ObjectTally, object_metrics, resampled_objects

from .detectors import DETECTORS, DIFFERENCE, Detector, look_at

log = logging.getLogger(__name__)

EQUAL_FALSE = "equal_false"
"""Prefix of what a detector shows at a threshold at which it makes no more false detections than the network."""


@dataclass(frozen=True)
class Judged:
    """What a detector showed on the test fields.

    Attributes
    ----------
    name, label : str
    threshold : float
        Best object F1 on validation, in sigma.
    tally : ObjectTally
        Test fields, at all thresholds.
    metrics : dict
        At the threshold; bounds included.
    """

    name: str
    label: str
    threshold: float
    tally: ObjectTally
    metrics: dict[str, float]


@dataclass(frozen=True)
class EqualFalse:
    """What a detector shows at the lowest threshold at which it makes no more false detections than the network.

    Attributes
    ----------
    completeness : float
        0 where every threshold makes more.
    snr50 : float
        Where it doesn't find half of the sources at any signal-to-noise, that of the brightest source: a lower bound.
    is_bound : bool
        Whether `snr50` is that bound.
    """

    completeness: float
    snr50: float
    is_bound: bool


@dataclass(frozen=True)
class Comparison:
    """Detectors beside a network.

    Attributes
    ----------
    judged : list of Judged
    network : ObjectTally
        What the network showed on the same fields.
    network_threshold : float
        The network's detection threshold.
    """

    judged: list[Judged]
    network: ObjectTally
    network_threshold: float

    @property
    def network_false_alarms(self) -> int:
        """False detections of the network on the test fields."""
        return int(self.network.false_alarms[self.network.index(self.network_threshold)])

    def equal_false(self, rival: Judged) -> EqualFalse:
        """Give a detector as many false detections as the network makes, or the next fewer."""
        brightest = float(self.network.at(self.network_threshold).snr.max(initial=0.0))
        threshold = rival.tally.threshold_for(self.network_false_alarms)
        if threshold is None:
            return EqualFalse(completeness=0.0, snr50=brightest, is_bound=True)
        metrics = object_metrics(rival.tally, threshold=threshold, announce=False)
        snr50 = metrics.get("snr50")
        return EqualFalse(metrics.get("completeness", 0.0), snr50 or brightest, is_bound=snr50 is None)

    def metrics(self) -> dict[str, float]:
        """Return every number by the name under which it is logged, `DETECTOR/metric`; a bound is no number."""
        found: dict[str, float] = {}
        for rival in self.judged:
            found |= {f"{rival.name}/{name}": value for name, value in rival.metrics.items()}
            equal = self.equal_false(rival)
            found[f"{rival.name}/{EQUAL_FALSE}_completeness"] = equal.completeness
            if not equal.is_bound:
                found[f"{rival.name}/{EQUAL_FALSE}_snr50"] = equal.snr50
        return found


def compare_detectors(
    val: FieldStore, test: FieldStore, *, network: ObjectTally, network_threshold: float, config: MetricsConfig
) -> Comparison | None:
    """Give every detector its best threshold on validation, and judge it on the test fields.

    Parameters
    ----------
    val, test : FieldStore
        Fields with a catalogue.
    network : ObjectTally
        What the network showed on the test fields.
    network_threshold : float
        Its detection threshold.
    config : MetricsConfig

    Returns
    -------
    Comparison or None
        None where the fields have no difference to search.
    """
    if test.channels <= DIFFERENCE:
        log.info("no detector is compared: the fields have no difference of science and reference")
        return None
    chosen, shown = (tally_detectors(store, DETECTORS, config=config) for store in (val, test))
    judged = []
    for detector in DETECTORS:
        threshold = chosen[detector.name].best_threshold()
        if threshold is None:
            log.info("no detector is compared: the validation fields have no sources to choose a threshold by")
            return None
        judged.append(judge_detector(detector, shown[detector.name], threshold=threshold))
    return Comparison(judged, network, network_threshold)


def tally_detectors(
    store: FieldStore, detectors: Sequence[Detector], *, config: MetricsConfig
) -> dict[str, ObjectTally]:
    """Search every field with every detector, at all thresholds, and compare with the true sources."""
    tallies = {one.name: ObjectTally(one.thresholds, min_pixels=config.min_pixels) for one in detectors}
    for number in range(len(store)):
        field = store.field(number)
        assert field.sources is not None and field.fwhm_pixels is not None
        truth = {"sources_x": field.sources.x, "sources_y": field.sources.y, "snr": field.sources.snr}
        radius, searched = config.match_radius_fwhm * field.fwhm_pixels, look_at(field)
        for one in detectors:
            found = one.search(searched, config.min_pixels)
            tallies[one.name].add_detections(found, field.valid, **truth, radius_pixels=radius)
    return tallies


def judge_detector(detector: Detector, tally: ObjectTally, *, threshold: float) -> Judged:
    """Measure a detector at its threshold, with intervals."""
    metrics = object_metrics(tally, threshold=threshold)
    counts = tally.at(threshold)
    fields = len(counts.valid_pixels)
    ends: Mapping[str, float] = {}
    if fields > 1:
        ends = jackknife_intervals(resampled_objects(counts, leave_one_out(fields)), what=detector.name)
    return Judged(detector.name, detector.label, threshold, tally, metrics | dict(ends))
