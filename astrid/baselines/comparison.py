"""The classical detectors beside the network: thresholds from validation, then the test fields, by the same rules."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from astrid.config import MetricsConfig
from astrid.data.store import FieldStore
from astrid.metrics.intervals import jackknife_intervals, leave_one_out
from astrid.metrics.object_counts import resampled_objects
from astrid.metrics.objects import ObjectTally, object_metrics
from astrid.metrics.recall import Recall, recall_ends, recall_metrics, recalls
from astrid.metrics.revisits import merge_object_visits

from .detectors import DIFFERENCE, Detector, detectors_to_try, look_at

log = logging.getLogger(__name__)

BEST_F1 = "the best object F1"
"""What validation chooses every threshold of a detector for."""


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
    recalls : list of Recall
        What it finds at the rates of `metrics.recall_at_false_per_mpix`.
    """

    name: str
    label: str
    threshold: float
    tally: ObjectTally
    metrics: dict[str, float]
    recalls: list[Recall]


@dataclass(frozen=True)
class Reach:
    """How faint a detector sees at the best threshold that keeps to a number of false detections.

    Attributes
    ----------
    completeness : float
        0 where every threshold makes more of them.
    snr50 : float or None
        None where it is beyond the sources' range.
    """

    completeness: float
    snr50: float | None

    @property
    def sees_fainter(self) -> bool:
        """Whether half are found even of the faintest sources: where `snr50` is None, it lies below them, not above."""
        return self.completeness > 0.5


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
    network_aim : str
        What validation chose that threshold for.
    """

    judged: list[Judged]
    network: ObjectTally
    network_threshold: float
    network_aim: str = BEST_F1

    @property
    def network_false_alarms(self) -> int:
        """False detections of the network on the test fields."""
        return int(self.network.false_alarms[self.network.index(self.network_threshold)])

    @property
    def snr_range(self) -> tuple[float, float]:
        """Signal-to-noise of the faintest and of the brightest source."""
        snr = self.network.at(self.network_threshold).snr
        return float(snr.min(initial=np.inf)), float(snr.max(initial=0.0))

    def rival_reach(self, rival: Judged) -> Reach:
        """Give a detector as many false detections as the network makes, or the next fewer."""
        return reach(rival.tally, self.network_false_alarms)

    def network_reach(self, rival: Judged) -> Reach:
        """Give the network as many false detections as a detector makes at its own threshold, or the next fewer."""
        return reach(self.network, int(rival.tally.false_alarms[rival.tally.index(rival.threshold)]))

    def metrics(self) -> dict[str, float]:
        """Return every number by the name under which it is logged, `DETECTOR/metric`.

        `equal_false_...` is what the detector shows with the network's false detections, `network_equal_false_...` what
        the network shows with the detector's.
        """
        found: dict[str, float] = {}
        for rival in self.judged:
            found |= {f"{rival.name}/{name}": value for name, value in rival.metrics.items()}
            found |= recall_metrics(rival.recalls, rival.name) | recall_ends(rival.recalls, rival.name)
            for who, reached in (("", self.rival_reach(rival)), ("network_", self.network_reach(rival))):
                name = f"{rival.name}/{who}equal_false"
                found[f"{name}_completeness"] = reached.completeness
                if reached.snr50 is not None:
                    found[f"{name}_snr50"] = reached.snr50
        return found


def chosen_thresholds(val: FieldStore, *, config: MetricsConfig) -> dict[str, float]:
    """Return the threshold of the best object F1 of each detector, by its name, in sigma; empty without sources."""
    if val.channels <= DIFFERENCE:
        return {}
    tallies = tally_detectors(val, detectors_to_try(config), config=config)
    best = {name: tally.best_threshold() for name, tally in tallies.items()}
    return {name: threshold for name, threshold in best.items() if threshold is not None}


def compare_detectors(
    test: FieldStore,
    *,
    thresholds: Mapping[str, float],
    network: ObjectTally,
    network_threshold: float,
    config: MetricsConfig,
) -> Comparison | None:
    """Judge every detector on the test fields, at a threshold that other fields chose.

    Parameters
    ----------
    test : FieldStore
        Fields with a catalogue.
    thresholds : mapping of str to float
        In sigma, by name of the detector; those without, or with one that is not among its own, are left out.
    network : ObjectTally
        What the network showed on the test fields.
    network_threshold : float
        Its detection threshold.
    config : MetricsConfig

    Returns
    -------
    Comparison or None
        None where the fields have no difference to search, or no detector has a threshold.
    """
    if test.channels <= DIFFERENCE:
        log.info("no detector is compared: the fields have no difference of science and reference")
        return None
    tried = detectors_to_try(config)
    detectors = [one for one in tried if thresholds.get(one.name) in one.thresholds]
    if not detectors:
        log.info("no detector is compared: none has a threshold that validation fields chose among those it tries")
        return None
    if left_out := [one.label for one in tried if thresholds.get(one.name) not in one.thresholds]:
        log.info("not compared, since validation chose no threshold among those they try: %s", ", ".join(left_out))
    shown = tally_detectors(test, detectors, config=config)
    groups = [entry.group for entry in test.entries]
    judged = [
        judge_detector(
            one,
            shown[one.name],
            threshold=thresholds[one.name],
            rates=config.recall_at_false_per_mpix,
            groups=groups,
        )
        for one in detectors
    ]
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
            found = one.search(searched, one.thresholds, config.min_pixels)
            tallies[one.name].add_detections(found, field.valid, **truth, radius_pixels=radius)
    return tallies


def reach(tally: ObjectTally, false_alarms: int) -> Reach:
    """Return how faint a detector sees at the best threshold that makes no more false alarms than these."""
    threshold = tally.threshold_for(false_alarms)
    if threshold is None:
        return Reach(completeness=0.0, snr50=None)
    metrics = object_metrics(tally, threshold=threshold, announce=False)
    return Reach(metrics.get("completeness", 0.0), metrics.get("snr50"))


def judge_detector(
    detector: Detector, tally: ObjectTally, *, threshold: float, rates: Sequence[float], groups: Sequence[str]
) -> Judged:
    """Measure a detector at its threshold and at rates of false detections, with intervals over patches of sky."""
    metrics = object_metrics(tally, threshold=threshold)
    counts = merge_object_visits(tally.at(threshold), groups)
    fields = len(counts.valid_pixels)
    ends: Mapping[str, float] = {}
    if fields > 1:
        values = resampled_objects(counts, leave_one_out(fields))
        defined = {name: values[name] for name in values if name in metrics}
        ends = jackknife_intervals(defined, what=detector.label)
    return Judged(detector.name, detector.label, threshold, tally, metrics | dict(ends), recalls(tally, rates, groups))
