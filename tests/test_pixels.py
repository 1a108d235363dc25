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

from astrid.config import PIXEL_FAMILIES, RunError
from astrid.metrics import pixels as module
from astrid.metrics.calibrators import Calibrator
from astrid.metrics.pixels import FAMILIES, coarse_bounds, epoch_metrics, pixel_metrics, pixel_scores

AVERAGED = {f"{name}_{average}" for name in ("precision", "recall", "f1") for average in ("macro", "micro", "weighted")}
NAMES = {
    "ranking": {"auroc", "auprc"},
    "low_fpr": {"tpr_at_fpr_1e-2", "tpr_at_fpr_1e-3", "tpr_at_fpr_1e-4", "tpr_at_fpr_1e-5", "auroc_to_fpr_1e-2"},
    "recall": {f"precision_at_recall_{recall}" for recall in ("0.5", "0.8", "0.9", "0.95")},
    "decision": AVERAGED | {"accuracy", "balanced_accuracy", "mcc", "threshold"},
    "classes": {f"{name}_{which}" for name in ("precision", "recall", "f1") for which in ("positive", "negative")}
    | {"false_positive_rate"},
    "calibration": {"ece", "brier"},
    "reliability": {"ece_equal_mass", "ece_classwise"}
    | {f"murphy_{part}" for part in ("reliability", "resolution", "uncertainty", "within_bins")},
}
RANKED = NAMES["ranking"] | NAMES["calibration"]
ALL = set().union(*NAMES.values())
LOW_FPR = NAMES["low_fpr"]


def test_every_metric_is_there_when_it_is_defined(caplog: pytest.LogCaptureFixture):
    histogram = fill(*draw(1_100_000, 500))
    assert set(pixel_metrics(histogram, logit_threshold=0.0)) == ALL
    assert set(epoch_metrics(histogram)) == RANKED
    assert not caplog.records


@pytest.mark.parametrize("family", PIXEL_FAMILIES)
def test_a_family_alone_has_its_names_and_no_other_is_called(family: str, monkeypatch: pytest.MonkeyPatch):
    def refuse(judged: object) -> dict[str, float | None]:
        raise AssertionError("a family that is off was computed")

    monkeypatch.setattr(module, "FAMILIES", dict.fromkeys(FAMILIES, refuse) | {family: FAMILIES[family]})
    monkeypatch.setattr(module, "auroc_bound", refuse) if family != "ranking" else None
    found = pixel_scores(fill(*draw(5000, 500)), logit_threshold=0.0, calibrator=None, families=[family])
    assert set(found) == NAMES[family]


def test_the_families_are_those_of_the_configuration():
    assert tuple(FAMILIES) == PIXEL_FAMILIES


def test_a_calibrator_changes_probabilities_and_neither_ranks_nor_decisions():
    histogram, half = fill(*draw(5000, 500)), Calibrator("temperature", 2.0)
    plain = pixel_scores(histogram, logit_threshold=1.0, calibrator=None, families=PIXEL_FAMILIES)
    cooled = pixel_scores(histogram, logit_threshold=1.0, calibrator=half, families=PIXEL_FAMILIES)
    changed = NAMES["calibration"] | NAMES["reliability"] | {"threshold"}
    assert {name for name in ALL if plain[name] != cooled[name]} == changed - {"murphy_uncertainty"}
    assert cooled["threshold"] == pytest.approx(expit(0.5), abs=1e-5)
    assert cooled["ece_uncalibrated"] == plain["ece"] != cooled["ece"]
    assert cooled["brier_uncalibrated"] == plain["brier"]


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
        ([0, 0], [0, 0], LOW_FPR | {"auroc", "auprc", "balanced_accuracy", "mcc"}),
        ([1, 1], [1, 1], LOW_FPR | {"auroc", "balanced_accuracy", "mcc"}),
        ([0, 1], [0, 0], LOW_FPR | {"mcc", "precision_macro", "precision_weighted"}),
        ([1], [0], LOW_FPR | {"auroc", "balanced_accuracy", "mcc", "precision_weighted"}),
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
    assert "1e-5 needs 1,000,000 negative pixels" in reasons[0]


@pytest.mark.parametrize("metrics", [epoch_metrics, lambda histogram: pixel_metrics(histogram, logit_threshold=0.0)])
def test_bins_too_coarse_for_the_promised_accuracy_are_announced(metrics, caplog: pytest.LogCaptureFixture):
    metrics(fill(*draw(5000, 500, spread=1e-4, shift=1e-5)))
    announced = {record.getMessage().split()[0] for record in caplog.records if "may be off" in record.getMessage()}
    assert announced == {"auroc", "auprc"}
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_non_finite_logits_stop_the_run():
    with pytest.raises(RunError, match="finite"):
        epoch_metrics(fill([0.0, math.nan], [0, 1]))


def test_bins_that_put_auroc_off_by_a_thousandth_are_announced():
    logits, target = draw(20_000, 400)
    found = coarse_bounds(fill(logits, target, bins=4096))
    assert 1e-5 < found["auroc"] < 1e-2
