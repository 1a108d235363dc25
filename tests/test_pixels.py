"""Pixel metrics come by their contracted names; the undefined is absent and said, coarse bins are announced."""

from __future__ import annotations

import logging
import math
import re

import numpy as np
import pytest
from histograms import draw, fill, on_centres
from scipy.special import expit
from sklearn import metrics as referee

from astrid.config import RunError
from astrid.metrics.pixels import epoch_metrics, pixel_metrics

AVERAGED = {f"{name}_{average}" for name in ("precision", "recall", "f1") for average in ("macro", "micro", "weighted")}
RANKED = {"auroc", "auprc", "ece", "brier"}
ALL = RANKED | AVERAGED | {"tpr_at_fpr_1e-3", "accuracy", "balanced_accuracy", "mcc", "threshold"}


def test_every_metric_is_there_when_it_is_defined(caplog: pytest.LogCaptureFixture):
    histogram = fill(*draw(5000, 500))
    assert set(pixel_metrics(histogram, logit_threshold=0.0)) == ALL
    assert set(epoch_metrics(histogram)) == RANKED
    assert not caplog.records


def test_epoch_metrics_are_the_pixel_metrics_that_need_no_threshold():
    histogram = fill(*draw(5000, 500))
    assert epoch_metrics(histogram).items() <= pixel_metrics(histogram, logit_threshold=1.0).items()


def test_mlflow_takes_every_name():
    assert all(re.fullmatch(r"[\w\-. :/]+", f"test/{name}") for name in ALL)


def test_metrics_equal_scikit_learn_on_bin_centres():
    logits, target = draw(5000, 500)
    scores = on_centres(logits)
    metrics = pixel_metrics(fill(scores, target), logit_threshold=0.0)
    assert metrics["auroc"] == pytest.approx(referee.roc_auc_score(target, scores), abs=1e-6)
    assert metrics["auprc"] == pytest.approx(referee.average_precision_score(target, scores), abs=1e-6)
    assert metrics["brier"] == pytest.approx(referee.brier_score_loss(target, expit(scores)), abs=1e-6)
    assert metrics["f1_macro"] == pytest.approx(referee.f1_score(target, scores >= 0, average="macro"), abs=1e-6)
    assert metrics["mcc"] == pytest.approx(referee.matthews_corrcoef(target, scores >= 0), abs=1e-6)


def test_the_threshold_is_reported_as_the_probability_of_the_edge_where_decisions_were_counted():
    histogram = fill([0.1, 0.6], [0, 1], bins=8, limit=2.0)
    assert pixel_metrics(histogram, logit_threshold=0.3)["threshold"] == pytest.approx(expit(0.5))
    assert pixel_metrics(histogram, logit_threshold=-math.inf)["threshold"] == 0.0


@pytest.mark.parametrize(
    ("target", "called", "absent"),
    [
        ([0, 0], [0, 0], {"auroc", "auprc", "tpr_at_fpr_1e-3", "balanced_accuracy", "mcc"}),
        ([1, 1], [1, 1], {"auroc", "tpr_at_fpr_1e-3", "balanced_accuracy", "mcc"}),
        ([0, 1], [0, 0], {"tpr_at_fpr_1e-3", "mcc", "precision_macro", "precision_weighted"}),
        ([1], [0], {"auroc", "tpr_at_fpr_1e-3", "balanced_accuracy", "mcc", "precision_weighted"}),
        ([], [], ALL - {"threshold"}),
    ],
)
def test_the_undefined_is_absent_and_said(
    target: list[int], called: list[int], absent: set[str], caplog: pytest.LogCaptureFixture
):
    metrics = pixel_metrics(fill(np.where(called, 2.0, -2.0), target), logit_threshold=0.0)
    assert absent <= ALL - set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    reasons = [record.getMessage() for record in caplog.records if "undefined" in record.getMessage()]
    assert len(reasons) == 1
    assert f"{sum(target)} positive and {len(target) - sum(target)} negative pixels" in reasons[0]
    assert all(name in reasons[0] for name in ALL - set(metrics))


@pytest.mark.parametrize("metrics", [epoch_metrics, lambda histogram: pixel_metrics(histogram, logit_threshold=0.0)])
def test_bins_too_coarse_for_the_promised_accuracy_are_announced(metrics, caplog: pytest.LogCaptureFixture):
    metrics(fill(*draw(5000, 500, spread=1e-4, shift=1e-5)))
    announced = {record.getMessage().split()[0] for record in caplog.records if "may be off" in record.getMessage()}
    assert announced == {"auroc", "auprc"}
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_non_finite_logits_stop_the_run():
    with pytest.raises(RunError, match="finite"):
        epoch_metrics(fill([0.0, math.nan], [0, 1]))
