"""Decisions and their scores agree with scikit-learn wherever it does not invent a number for 0/0."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from histograms import draw, fill
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as referee

from astrid.metrics.confusion import Confusion, best_f1_threshold, class_metrics, confusion, decision_metrics

SCORES = {
    "precision": referee.precision_score,
    "recall": referee.recall_score,
    "f1": referee.f1_score,
}


def expected(target: np.ndarray, called: np.ndarray) -> dict[str, float]:
    """Score with scikit-learn; leave out what it can only define by substituting for 0/0."""
    scores = {"accuracy": referee.accuracy_score(target, called)}
    support = np.array([np.sum(~target), np.sum(target)])
    for name, score in SCORES.items():
        options = {"labels": [0, 1], "zero_division": np.nan}
        undefined = np.isnan(score(target, called, average=None, **options))
        scores[f"{name}_micro"] = score(target, called, average="micro", **options)
        if not undefined.any():
            scores[f"{name}_macro"] = score(target, called, average="macro", **options)
        if not (undefined & (support > 0)).any():
            scores[f"{name}_weighted"] = score(target, called, average="weighted", **options)
    if support.all():
        scores["balanced_accuracy"] = referee.balanced_accuracy_score(target, called)
        if 0 < called.sum() < called.size:
            scores["mcc"] = referee.matthews_corrcoef(target, called)
    return scores


def score(logits: np.ndarray, target: np.ndarray, *, logit_threshold: float) -> dict[str, float]:
    scores = decision_metrics(confusion(fill(logits, target), logit_threshold=logit_threshold))
    return {name: value for name, value in scores.items() if value is not None}


@pytest.mark.parametrize("logit_threshold", [-3.0, 0.0, 2.5, 9.0])
@pytest.mark.parametrize("positives", [1, 40, 300, 399])
def test_random_pixels_score_as_in_scikit_learn(positives: int, logit_threshold: float):
    logits, target = draw(400, positives)
    threshold = round(logit_threshold / 40 * 2**20) * 40 / 2**20
    assert score(logits, target, logit_threshold=threshold) == pytest.approx(expected(target, logits >= threshold))


@pytest.mark.parametrize("present", list(itertools.product([0, 1], repeat=4))[1:])
def test_pixels_of_few_kinds_score_as_in_scikit_learn_or_not_at_all(present: tuple[int, ...]):
    pixels = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], np.multiply(present, [3, 1, 2, 5]), axis=0).astype(bool)
    target, called = pixels.T
    logits = np.where(called, 1.0, -1.0)
    assert score(logits, target, logit_threshold=0.0) == pytest.approx(expected(target, called), abs=1e-12)


def test_no_pixels_score_nothing():
    assert score(np.zeros(0), np.zeros(0, dtype=bool), logit_threshold=0.0) == {}


def test_all_negative_pixels_rightly_called_have_no_macro_average():
    scores = score(np.full(9, -1.0), np.zeros(9, dtype=bool), logit_threshold=0.0)
    assert scores == {"accuracy": 1.0} | {f"{n}_{a}": 1.0 for n in SCORES for a in ("micro", "weighted")}


def test_a_frame_of_nine_pixels_worked_by_hand():
    target = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=bool)
    logits = np.array([[2, -1, 1], [-2, -2, -3], [-1, -4, 3]], dtype=np.float32)
    counts = confusion(fill(logits, target), logit_threshold=0.0)
    assert counts == Confusion(true_positives=2, false_positives=1, false_negatives=1, true_negatives=5)
    scores = decision_metrics(counts)
    assert scores["accuracy"] == pytest.approx(7 / 9)
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 5 / 6) / 2)
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 5 / 6) / 2)
    assert scores["f1_weighted"] == pytest.approx((3 * 2 / 3 + 6 * 5 / 6) / 9)
    assert scores["mcc"] == pytest.approx(9 / 18)


def test_counts_of_a_survey_do_not_overflow():
    counts = Confusion(true_positives=10**9, false_positives=0, false_negatives=0, true_negatives=10**12)
    assert decision_metrics(counts)["mcc"] == pytest.approx(1.0)


@given(seed=st.integers(0, 999), positives=st.sampled_from([1, 10, 50, 60]))
@settings(max_examples=40, deadline=None)
def test_no_threshold_beats_the_best_f1(seed: int, positives: int):
    logits, target = draw(60, positives, spread=12.0, shift=6.0, seed=seed)
    histogram = fill(logits, target, bins=256)

    def f1(logit_threshold: float) -> float:
        counts = confusion(histogram, logit_threshold=logit_threshold)
        wrong = counts.false_positives + counts.false_negatives
        return 2 * counts.true_positives / (2 * counts.true_positives + wrong)

    best = max(f1(histogram.edge(cut)) for cut in range(histogram.bins))
    assert f1(best_f1_threshold(histogram)) == pytest.approx(best)


def test_the_best_threshold_calls_clipped_positives_too():
    histogram = fill([-50.0, -60.0, -30.0], [1, 1, 1])
    assert best_f1_threshold(histogram) == -np.inf
    assert confusion(histogram, logit_threshold=-np.inf).true_positives == 3


def test_without_positives_no_threshold_is_best():
    assert best_f1_threshold(fill([0.3, -2.0], [0, 0])) is None


@pytest.mark.parametrize("logit_threshold", [-3.0, 0.0, 2.5])
@pytest.mark.parametrize("positives", [1, 40, 300])
def test_classes_score_as_in_the_report_of_scikit_learn(positives: int, logit_threshold: float):
    logits, target = draw(400, positives)
    called = logits >= round(logit_threshold / 40 * 2**20) * 40 / 2**20
    report = referee.classification_report(target, called, output_dict=True, zero_division=0)
    scores = class_metrics(confusion(fill(logits, target), logit_threshold=logit_threshold))
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
    for label, which in (("True", "positive"), ("False", "negative")):
        for ours, theirs in names.items():
            assert scores[f"{ours}_{which}"] == pytest.approx(report[label][theirs])
    assert scores["false_positive_rate"] == pytest.approx(1 - report["False"]["recall"])


def test_classes_by_hand():
    scores = class_metrics(Confusion(3, 1, 2, 4))
    assert scores == pytest.approx(
        {
            "precision_positive": 3 / 4,
            "recall_positive": 3 / 5,
            "f1_positive": 6 / 9,
            "precision_negative": 4 / 6,
            "recall_negative": 4 / 5,
            "f1_negative": 8 / 11,
            "false_positive_rate": 1 / 5,
        }
    )
