"""Score predictions that are arrays, ours or another tool's, by the code that scores our networks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from astrid.config import PIXEL_FAMILIES, DataError, MetricsConfig
from astrid.metrics.confusion import Confusion, class_metrics, decision_metrics
from astrid.metrics.latency import quantiles_ms
from astrid.metrics.pixels import PixelHistogram, pixel_metrics

log = logging.getLogger(__name__)

Numbers = NDArray[Any]
Flags = NDArray[np.bool_]

CHUNK_PIXELS = 2**20
"""Pixels turned into logits at a time, so that a large file needs little memory beside itself."""
OF_DECISIONS = ("decision", "classes")
"""Families of metrics that follow from what was called positive, not from scores."""


@dataclass(frozen=True)
class Arguments:
    """What the arrays are called where the user gave them."""

    scores: str = "SCORES"
    truth: str = "TRUTH"
    valid: str = "VALID"
    for_logits: str = "give logits with --logits"


AS_FILES = Arguments()
AS_ARRAYS = Arguments("y_scores", "y_true", "leaving them out", "apply the logistic function to logits")


def compute_metrics(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    y_scores: ArrayLike | None = None,
    inference_times: Sequence[float] | None = None,
    batch_size: int | None = None,
) -> dict[str, float]:
    """Compute every metric of a classification that lies in arrays: decisions, ranks, calibration, speed.

    Parameters
    ----------
    y_true : array of any shape
        1 = positive, 0 = negative.
    y_pred : array of the same shape
        1 = called positive, 0 = called negative.
    y_scores : array of the same shape, optional
        Probabilities of the positive class, from 0 to 1; without them there are no ranks and no calibration.
    inference_times : sequence of float, optional
        Seconds of each batch, warm-up left out.
    batch_size : int, optional
        Images of a batch, for the throughput.

    Returns
    -------
    dict of str to float
        By the names of a run's metrics, as ``auprc``, ``mcc``, ``latency/p95_ms``. The undefined are absent, and the
        log says so.

    Raises
    ------
    DataError
        For shapes that differ, labels other than 0 and 1, scores that are no probabilities, and times that are not
        positive.

    Examples
    --------
    >>> compute_metrics([0, 0, 1, 1], [0, 1, 1, 1])["precision_positive"]
    0.6666666666666666
    """
    truth, called = np.asarray(y_true), np.asarray(y_pred)
    everywhere = np.ones(truth.shape, bool)
    positive = _flags("y_true", truth, where=everywhere)
    metrics = _decided(positive, _flags("y_pred", called, where=everywhere))
    if y_scores is not None:
        ranks = [family for family in PIXEL_FAMILIES if family not in OF_DECISIONS]
        scores = np.asarray(y_scores)
        metrics |= score(scores, truth, logits=False, threshold=0.5, families=ranks, called=AS_ARRAYS)
    return metrics if inference_times is None else metrics | _timed(inference_times, batch_size)


def _decided(positive: Flags, called: Flags) -> dict[str, float]:
    counts = Confusion(
        true_positives=int((positive & called).sum()),
        false_positives=int((~positive & called).sum()),
        false_negatives=int((positive & ~called).sum()),
        true_negatives=int((~positive & ~called).sum()),
    )
    values = decision_metrics(counts) | class_metrics(counts)
    if missing := [name for name, value in values.items() if value is None]:
        log.warning("undefined and left out, with %s: %s", counts, ", ".join(missing))
    return {name: value for name, value in values.items() if value is not None}


def _timed(seconds: Sequence[float], batch_size: int | None) -> dict[str, float]:
    times = np.asarray(seconds, float)
    if not (times.size and np.isfinite(times).all() and (times > 0).all()):
        raise DataError(f"inference_times must be positive seconds, one a batch, got {seconds}; time each batch")
    metrics = {f"latency/{name}": value for name, value in quantiles_ms(times).items()}
    if batch_size is not None:
        metrics["throughput/images_per_s"] = batch_size * times.size / float(times.sum())
    return metrics


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
        For shapes that differ, values that are none of the above, and a truth without positives.
    """
    everywhere = np.ones(scores.shape, bool)
    counts = everywhere if valid is None else _flags(called.valid, valid, where=everywhere)
    positive = _flags(called.truth, truth, where=counts)
    _check_scores(scores[counts], called, logits=logits)
    if not positive.any():
        rule, remedy = "have positive pixels that are valid", "give the mask of what is to be found"
        raise DataError(f"{called.truth} must {rule}, got none; {remedy}")
    config = MetricsConfig()
    histogram = PixelHistogram(bins=config.bins, limit=config.logit_limit, device="cpu")
    for start in range(0, scores.size, CHUNK_PIXELS):
        part = slice(start, start + CHUNK_PIXELS)
        chunk = scores.reshape(-1)[part].astype(np.float64)
        if not logits:
            chunk = logit(chunk).clip(-config.logit_limit, config.logit_limit)
        planes = (chunk, positive.reshape(-1)[part], counts.reshape(-1)[part])
        histogram.update(*(torch.from_numpy(plane) for plane in planes))
    return pixel_metrics(histogram, logit_threshold=float(logit(threshold)), families=families)


def _flags(argument: str, values: Numbers, *, where: Flags) -> Flags:
    """Return 0 and 1 as flags; a value where it doesn't count is False, whatever it is."""
    if values.shape != where.shape:
        raise DataError(
            f"{argument} must have the shape of the others, {where.shape}, got {values.shape}; cut all alike"
        )
    odd = values[where & (values != 0) & (values != 1)]
    if odd.size:
        rule, remedy = "0 or 1 in each pixel", "make it a mask, as (plane != 0)"
        raise DataError(f"{argument} must be {rule}, got {odd[0]} and {odd.size - 1} more; {remedy}")
    return np.asarray(where & (values == 1))


def _check_scores(scores: Numbers, called: Arguments, *, logits: bool) -> None:
    """Refuse scores (N,) of valid pixels that are not finite, or no probabilities."""
    if not scores.size:
        remedy = f"check {called.valid}, where 1 is a pixel that counts"
        raise DataError(f"{called.scores} must have valid pixels, got none; {remedy}")
    if broken := int((~np.isfinite(scores)).sum()):
        rule, remedy = "be finite on valid pixels", f"leave them out by {called.valid}"
        raise DataError(f"{called.scores} must {rule}, got {broken} that are not; {remedy}")
    lowest, highest = scores.min(), scores.max()
    if not logits and not (lowest >= 0 and highest <= 1):
        raise DataError(
            f"{called.scores} must be probabilities from 0 to 1, got {lowest:g} to {highest:g}; {called.for_logits}"
        )
