"""All metrics of a classification that lies in arrays, by the code that scores our networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from astrid.config import PIXEL_FAMILIES, DataError
from astrid.metrics.latency import quantiles_ms
from astrid.scored_planes import OF_DECISIONS, Arguments, check_flags, count_decisions, defined_decisions, score

AS_ARRAYS = Arguments("y_scores", "y_true", "leaving pixels out", "apply the logistic function to logits")


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
    positive = check_flags("y_true", truth, where=everywhere)
    metrics = defined_decisions(count_decisions(positive, check_flags("y_pred", called, where=everywhere)))
    if y_scores is not None:
        ranks = [family for family in PIXEL_FAMILIES if family not in OF_DECISIONS]
        scores = np.asarray(y_scores)
        metrics |= score(scores, truth, logits=False, threshold=0.5, families=ranks, called=AS_ARRAYS)
    return metrics if inference_times is None else metrics | _timed(inference_times, batch_size)


def _timed(seconds: Sequence[float], batch_size: int | None) -> dict[str, float]:
    times = np.asarray(seconds, float)
    if not (times.size and np.isfinite(times).all() and (times > 0).all()):
        raise DataError(f"inference_times must be positive seconds, one a batch, got {seconds}; time each batch")
    metrics = {f"latency/{name}": value for name, value in quantiles_ms(times).items()}
    if batch_size is not None:
        metrics["throughput/images_per_s"] = batch_size * times.size / float(times.sum())
    return metrics
