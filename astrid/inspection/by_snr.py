"""Are probabilities right for faint and for bright things alike?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from astropy.stats import binom_conf_interval
from numpy.typing import NDArray

from astrid.data.frames import Field
from astrid.metrics.detections import find_detections, judge, match

from .objects import Flags, Probability, Rules, light

Floats = NDArray[np.float64]

PIXEL_EDGES = np.array([-np.inf, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0, np.inf])
DETECTION_EDGES = np.array([-np.inf, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0, np.inf])
"""Bins of signal-to-noise."""
CANDIDATE = 0.05
"""Probability from which a group of pixels is looked at, far below any threshold that is worked with."""


@dataclass(frozen=True)
class SnrBins:
    """What was predicted and what was true, by measured signal-to-noise.

    Attributes
    ----------
    what : str
        What was counted.
    edges : (B + 1,) float64
    count : (B,) int64
        How many; a bin without any says nothing.
    predicted : (B,) float64
        Mean probability; NaN in an empty bin.
    observed : (B,) float64
        Share that is real; NaN in an empty bin.
    bounds : (2, B) float64 or None
        95 % interval of that share (Wilson 1927, doi:10.1080/01621459.1927.10502953); None for pixels, which are not
        independent.
    """

    what: str
    edges: Floats
    count: NDArray[np.int64]
    predicted: Floats
    observed: Floats
    bounds: Floats | None

    def names(self) -> list[str]:
        """Return what each bin is called."""
        inner = [f"{low:g} to {high:g}" for low, high in zip(self.edges[1:-2], self.edges[2:-1], strict=True)]
        return [f"below {self.edges[1]:g}", *inner, f"above {self.edges[-2]:g}"]


def bin_by_snr(snr: Floats, probability: Floats, *, real: Flags, edges: Floats, what: str, sure: bool) -> SnrBins:
    """Sort things into bins of signal-to-noise.

    Parameters
    ----------
    snr, probability : (N,) float64
    real : (N,) bool
    edges : (B + 1,) float64
    what : str
    sure : bool
        Whether the things are independent, so that an interval can be given.
    """
    at, places = np.digitize(snr, edges[1:-1]), np.arange(len(edges))
    predicted, observed = (np.histogram(at, places, weights=weights)[0] for weights in (probability, 1.0 * real))
    return _summed(np.bincount(at, minlength=len(edges) - 1), predicted, observed, edges=edges, what=what, sure=sure)


def _summed(
    count: NDArray[np.int64], predicted: Floats, observed: Floats, *, edges: Floats, what: str, sure: bool
) -> SnrBins:
    with np.errstate(invalid="ignore"):
        mean, share = predicted / count, observed / count
    bounds = None
    if sure:
        bounds = np.full((2, len(count)), np.nan)
        some = count > 0
        bounds[:, some] = binom_conf_interval(observed[some], count[some], confidence_level=0.95, interval="wilson")
    return SnrBins(what, edges, count, mean, share, bounds)


@dataclass
class SnrTally:
    """Pixels and detections of all fields, by what their light or a matched filter says."""

    _pixels: list[Floats] = field(default_factory=list)
    _snr: list[Floats] = field(default_factory=list)
    _probability: list[Floats] = field(default_factory=list)
    _real: list[Flags] = field(default_factory=list)
    _lowest: float = CANDIDATE

    def add_pixels(self, source: Field, probability: Probability) -> None:
        """Count the valid pixels of a field by their own light, which is in background sigma."""
        at = np.digitize(light(source)[source.valid], PIXEL_EDGES[1:-1])
        bins = len(PIXEL_EDGES) - 1
        weights = (None, probability[source.valid], source.target[source.valid].astype(float))
        self._pixels.append(np.array([np.bincount(at, weights=one, minlength=bins) for one in weights]))

    def add_detections(self, source: Field, probability: Probability, rules: Rules, *, score: Floats) -> None:
        """Count the candidates of a field with a catalogue by the matched filter's score, (H, W), at their place.

        A candidate at a source that isn't counted is left out.
        """
        sources, radius = source.sources, rules.radius_pixels(source)
        assert sources is not None
        threshold = min(CANDIDATE, rules.threshold(source))
        self._lowest = min(self._lowest, threshold)
        found = find_detections(probability, source.valid, threshold=threshold, min_pixels=rules.min_pixels)
        where = {"sources_x": sources.x, "sources_y": sources.y}
        verdict = judge(found, source.valid, **where, radius_pixels=radius)
        counted = {name: values[verdict.countable] for name, values in where.items()}
        real = np.zeros(len(found.x), dtype=bool)
        real[match(found, **counted, radius_pixels=radius).detection] = True
        kept = real | verdict.false_alarm
        rows, columns = np.rint(found.y[kept]).astype(int), np.rint(found.x[kept]).astype(int)
        self._snr.append(score[rows, columns])
        self._probability.append(found.score[kept])
        self._real.append(real[kept])

    def bins(self) -> list[SnrBins]:
        """Return what was counted: pixels, and detections where there is a catalogue and at least one."""
        tables = []
        if self._pixels:
            count, predicted, observed = np.sum(self._pixels, axis=0)
            what = "pixels, by their light in background sigma"
            counted = count.astype(np.int64)
            tables.append(_summed(counted, predicted, observed, edges=PIXEL_EDGES, what=what, sure=False))
        if any(len(part) for part in self._snr):
            what = f"detections from probability {self._lowest:.2g} on, by the matched filter's signal-to-noise"
            snr, probability = (np.concatenate(parts) for parts in (self._snr, self._probability))
            real = np.concatenate(self._real)
            tables.append(bin_by_snr(snr, probability, real=real, edges=DETECTION_EDGES, what=what, sure=True))
        return tables
