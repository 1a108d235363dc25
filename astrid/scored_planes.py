"""Score a prediction, ours or another tool's, plane by plane, by the code that scores our networks."""

from __future__ import annotations

import dataclasses
import functools
import logging
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from astrid.config import PIXEL_FAMILIES, DataError, MetricsConfig
from astrid.metrics.calibrators import Calibrator
from astrid.metrics.chosen import Chosen
from astrid.metrics.confusion import Confusion, class_metrics, decision_metrics
from astrid.metrics.intervals import field_intervals
from astrid.metrics.per_field import FieldCounter
from astrid.metrics.pixels import PixelHistogram, coarse_bounds, pixel_metrics
from astrid.metrics.population import population, warn_of_inverted

log = logging.getLogger(__name__)

Numbers = NDArray[Any]
Flags = NDArray[np.bool_]

CHUNK_PIXELS = 2**20
"""Pixels turned into logits at a time, so that a large file needs little memory beside itself."""
ROUNDING = 1e-5
OF_DECISIONS = ("decision", "classes")
"""Families of metrics that follow from what was called positive, not from scores."""


@dataclass(frozen=True)
class Arguments:
    """What the arrays are called where the user gave them."""

    scores: str = "SCORES"
    truth: str = "TRUTH"
    valid: str = "--valid"
    for_logits: str = "give logits with --logits"


AS_FILES = Arguments()


def score(
    scores: Numbers,
    truth: Numbers,
    valid: Numbers | None = None,
    *,
    logits: bool,
    threshold: float,
    families: Iterable[str] = PIXEL_FAMILIES,
    called: Arguments = AS_FILES,
) -> dict[str, float]:
    """Return every pixel metric of a prediction; the undefined are absent, and the log says so.

    Parameters
    ----------
    scores : array of any shape
        Probabilities of the positive class, or their logits.
    truth : array of the same shape
        1 = positive, 0 = negative.
    valid : array of the same shape, optional
        1 = pixel that counts, 0 = pixel that doesn't; all count without it.
    logits : bool
        Whether scores are logits.
    threshold : float
        Probability from which a pixel is called positive.
    families : iterable of str
        Which metrics, as in `metrics.pixel_families`.
    called : Arguments
        What messages call the arrays.

    Raises
    ------
    DataError
        For shapes that differ, and values that are none of the above.
    """
    planes = check_planes(scores, truth, valid, logits=logits, called=called)
    return _score([planes], threshold=threshold, families=families)


def score_fields(fields: Mapping[str, Planes], *, threshold: float) -> dict[str, float]:
    """Return every pixel metric over several fields together, and 95 % intervals from how the fields differ.

    Parameters
    ----------
    fields : mapping of str to Planes
        By name, as `check_planes` returns them.
    threshold : float
        Probability from which a pixel is called positive.

    Returns
    -------
    dict of str to float
        Metrics by name, those with an interval as `NAME_low` and `NAME_high` too; a single field has none.
    """
    metrics = _score(list(fields.values()), threshold=threshold, families=PIXEL_FAMILIES)
    if len(fields) == 1:
        return metrics
    counter = FieldCounter(_count(fields.values()), rules="", chosen=Chosen(0.0, None, Calibrator(), None))
    for name, planes in fields.items():
        counter.add(name, *(torch.from_numpy(plane) for plane in planes.whole()), contents=[])
    counted = counter.counts()
    assert counted.pixels is not None
    decisions = np.array([dataclasses.astuple(planes.decide(threshold)) for planes in fields.values()])
    return metrics | field_intervals(
        dataclasses.replace(counted, pixels=dataclasses.replace(counted.pixels, decisions=decisions))
    )


@dataclass(frozen=True)
class Planes:
    """A prediction that can be scored: all (N,), one for each pixel.

    Attributes
    ----------
    scores : numbers
        Logits or probabilities; those of pixels that don't count may be anything.
    positive, counts : bool
    logits : bool
        Whether scores are logits.
    """

    scores: Numbers
    positive: Flags
    counts: Flags
    logits: bool

    def chunks(self) -> Iterator[tuple[NDArray[np.float64], Flags, Flags]]:
        """Yield logits, truth and whether pixels count, some pixels at a time."""
        limit = MetricsConfig().logit_limit
        for start in range(0, self.scores.size, CHUNK_PIXELS):
            part = slice(start, start + CHUNK_PIXELS)
            chunk = np.where(self.counts[part], self.scores[part], 0.5).astype(np.float64)
            if not self.logits:
                chunk = logit(chunk).clip(-limit, limit)
            yield chunk, self.positive[part], self.counts[part]

    def decide(self, threshold: float) -> Confusion:
        """Count decisions by the scores themselves, not by bins: those at the threshold are called positive."""
        called = self.scores >= (float(logit(threshold)) if self.logits else threshold)
        return count_decisions(self.positive[self.counts], called[self.counts])

    def whole(self) -> tuple[NDArray[np.float64], Flags, Flags]:
        """Return the same of all pixels."""
        logits, positive, counts = zip(*self.chunks(), strict=True)
        return np.concatenate(logits), np.concatenate(positive), np.concatenate(counts)


def count_decisions(positive: Flags, called: Flags) -> Confusion:
    """Count pixels by truth and decision, given as flags of one shape."""
    return Confusion(
        true_positives=int((positive & called).sum()),
        false_positives=int((~positive & called).sum()),
        false_negatives=int((positive & ~called).sum()),
        true_negatives=int((~positive & ~called).sum()),
    )


def defined_decisions(counts: Confusion) -> dict[str, float]:
    """Return the metrics of decisions; the undefined are absent, and the log says so."""
    values = decision_metrics(counts) | class_metrics(counts)
    if missing := [name for name, value in values.items() if value is None]:
        log.warning("undefined and left out, with %s: %s", counts, ", ".join(missing))
    return {name: value for name, value in values.items() if value is not None}


def check_planes(
    scores: Numbers, truth: Numbers, valid: Numbers | None, *, logits: bool, called: Arguments = AS_FILES
) -> Planes:
    """Refuse what can't be scored. Parameters and errors are those of `score`."""
    everywhere = np.ones(scores.shape, bool)
    counts = everywhere if valid is None else check_flags(called.valid, valid, where=everywhere)
    positive = check_flags(called.truth, truth, where=counts)
    _check_scores(scores[counts], called, logits=logits)
    return Planes(scores.reshape(-1), positive.reshape(-1), counts.reshape(-1), logits)


def _score(fields: Sequence[Planes], *, threshold: float, families: Iterable[str]) -> dict[str, float]:
    histogram = _count(fields)
    exact = bool(coarse_bounds(histogram)) and _one_score_a_bin(fields, histogram)
    undecided = [family for family in families if family not in OF_DECISIONS]
    metrics = pixel_metrics(histogram, logit_threshold=0.0, families=undecided, binned=not exact)
    if len(undecided) < len(list(families)):
        counts = functools.reduce(operator.add, (planes.decide(threshold) for planes in fields))
        metrics |= defined_decisions(counts) | {"threshold": threshold}
    metrics = population(histogram) | metrics
    warn_of_inverted(metrics)
    return metrics


def _count(fields: Iterable[Planes]) -> PixelHistogram:
    config = MetricsConfig()
    histogram = PixelHistogram(bins=config.bins, limit=config.logit_limit, device="cpu")
    for planes in fields:
        for chunk in planes.chunks():
            histogram.update(*(torch.from_numpy(plane) for plane in chunk))
    return histogram


def _one_score_a_bin(fields: Iterable[Planes], histogram: PixelHistogram) -> bool:
    """Tell whether pixels of one bin have the same score, as in a mask: their ties are the scores' own."""
    distinct = np.zeros(0)
    for planes in fields:
        for logits, _, counts in planes.chunks():
            distinct = np.union1d(distinct, logits[counts])
            if distinct.size > histogram.occupied.index.size:
                return False
    return True


def check_flags(argument: str, values: Numbers, *, where: Flags) -> Flags:
    """Return 0 and 1 as flags; a value where it doesn't count is False, whatever it is."""
    if values.shape != where.shape:
        same = "reshape one, as by squeeze" if values.size == where.size else "cut all alike"
        raise DataError(f"{argument} must have the shape of the others, {where.shape}, got {values.shape}; {same}")
    odd = values[where & (values != 0) & (values != 1)]
    if odd.size:
        rule, found = "0 or 1 in each pixel", f"{odd[0]} and {odd.size - 1} more"
        raise DataError(f"{argument} must be {rule}, got {found}; {_mask_advice(odd)}")
    return np.asarray(where & (values == 1))


def _mask_advice(odd: Numbers) -> str:
    """Say how values that are neither 0 nor 1 become a mask."""
    if not np.isfinite(odd).all():
        return "leave pixels without truth out by a plane of valid pixels"
    if (odd < 0).any():
        return "make it a mask, as (plane > 0) where negative means none"
    return "make it a mask, as (plane != 0) or of one of its bits"


def _check_scores(scores: Numbers, called: Arguments, *, logits: bool) -> None:
    """Refuse scores (N,) of valid pixels that are not finite, or no probabilities."""
    if not scores.size:
        remedy = f"check {called.valid}, where 1 is a pixel that counts"
        raise DataError(f"{called.scores} must have valid pixels, got none; {remedy}")
    if broken := int((~np.isfinite(scores)).sum()):
        rule, remedy = "be finite on valid pixels", f"leave them out by {called.valid}"
        raise DataError(f"{called.scores} must {rule}, got {broken} that are not; {remedy}")
    lowest, highest = float(scores.min()), float(scores.max())
    if not logits and not (lowest >= 0 and highest <= 1):
        found, remedy = f"{lowest:.9g} to {highest:.9g}", _score_advice(lowest, highest, called)
        raise DataError(f"{called.scores} must be probabilities from 0 to 1, got {found}; {remedy}")


def _score_advice(lowest: float, highest: float, called: Arguments) -> str:
    """Say how scores beyond 0 and 1 become probabilities, by what they look like."""
    if lowest >= -ROUNDING and highest <= 1 + ROUNDING:
        return "clip what rounding left beyond the ends"
    if lowest < 0:
        return called.for_logits
    return "divide by what stands for certainty, as 255 of a byte or 100 of a percentage"
