"""All metrics of arrays are scikit-learn's, by the names of a run's metrics."""

from __future__ import annotations

import numpy as np
import pytest
from histograms import draw
from scipy.special import expit
from sklearn import metrics as referee

from astrid.array_scores import compute_metrics
from astrid.config import DataError

LOGITS, TRUTH = (plane.reshape(100, 50) for plane in draw(5000, 500))
SCORES = expit(LOGITS.astype(np.float64))

CALLED = SCORES >= 0.3


def test_all_metrics_of_arrays_are_those_of_scikit_learn() -> None:
    found = compute_metrics(TRUTH, CALLED, y_scores=SCORES)
    truth, called = TRUTH.ravel(), CALLED.ravel()
    assert found["mcc"] == pytest.approx(referee.matthews_corrcoef(truth, called))
    assert found["balanced_accuracy"] == pytest.approx(referee.balanced_accuracy_score(truth, called))
    assert found["precision_weighted"] == pytest.approx(referee.precision_score(truth, called, average="weighted"))
    assert found["f1_positive"] == pytest.approx(referee.f1_score(truth, called))
    assert found["auroc"] == pytest.approx(referee.roc_auc_score(truth, SCORES.ravel()), abs=1e-5)
    assert found["brier"] == pytest.approx(referee.brier_score_loss(truth, SCORES.ravel()), abs=1e-6)


def test_decisions_are_those_given_and_not_those_of_a_threshold_on_the_scores() -> None:
    found = compute_metrics(TRUTH, 1 - TRUTH, y_scores=SCORES)
    assert (found["accuracy"], found["mcc"]) == (0.0, -1.0)
    assert found["auroc"] > 0.5 and "threshold" not in found


def test_times_of_batches_become_latency_and_throughput() -> None:
    found = compute_metrics([0, 1], [0, 1], inference_times=[0.1, 0.2, 0.3], batch_size=8)
    assert (found["latency/p50_ms"], found["latency/p95_ms"]) == pytest.approx((200, 290))
    assert "latency/p99_ms" not in found
    assert found["throughput/images_per_s"] == pytest.approx(8 * 3 / 0.6)
    assert "auroc" not in found


def test_a_decision_without_positives_leaves_out_what_is_undefined(caplog: pytest.LogCaptureFixture) -> None:
    found = compute_metrics([0, 1, 1], [0, 0, 0])
    assert "precision_positive" not in found and found["recall_positive"] == 0
    assert "precision_positive" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y_pred": [0, 1, 1]}, r"y_pred must have the shape of the others, \(2,\), got \(3,\)"),
        ({"y_true": [0, 2]}, "y_true must be 0 or 1 in each pixel, got 2"),
        ({"y_pred": [0.2, 0.7]}, "y_pred must be 0 or 1 in each pixel, got 0.2"),
        ({"y_scores": [-0.1, 1.5]}, "y_scores must be probabilities from 0 to 1, got -0.1 to 1.5; apply the logistic"),
        ({"y_scores": [0.1, np.nan]}, "y_scores must be finite"),
        ({"inference_times": [0.1, 0.0]}, "inference_times must be positive seconds"),
        ({"inference_times": []}, "inference_times must be positive seconds"),
    ],
)
def test_odd_arrays_are_refused_by_name(arguments: dict[str, list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compute_metrics(**{"y_true": [0, 1], "y_pred": [0, 1]} | arguments)
