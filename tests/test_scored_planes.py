"""Planes of any origin get the numbers of our own predictions, and odd ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from histograms import draw
from scipy.special import expit, logit
from sklearn import metrics as referee

from astrid import scored_planes
from astrid.config import DataError
from astrid.scored_planes import check_planes, score, score_fields

LOGITS, TRUTH = (plane.reshape(100, 50) for plane in draw(5000, 500))
SCORES = expit(LOGITS.astype(np.float64))


def scored(scores: np.ndarray = SCORES, truth: np.ndarray = TRUTH, **options) -> dict[str, float]:
    return score(scores, truth, **{"logits": False, "threshold": 0.5} | options)


def test_numbers_are_those_of_scikit_learn() -> None:
    found = scored(threshold=0.3)
    truth, scores = TRUTH.ravel(), SCORES.ravel()
    assert found["auroc"] == pytest.approx(referee.roc_auc_score(truth, scores), abs=1e-5)
    assert found["auprc"] == pytest.approx(referee.average_precision_score(truth, scores), abs=1e-3)
    assert found["brier"] == pytest.approx(referee.brier_score_loss(truth, scores), abs=1e-6)
    assert found["f1_positive"] == pytest.approx(referee.f1_score(truth, scores >= 0.3), abs=1e-6)
    assert found["threshold"] == pytest.approx(0.3, abs=1e-5)


def test_logits_and_probabilities_score_alike() -> None:
    assert scored(LOGITS, logits=True) == pytest.approx(scored(), rel=1e-4)


def test_a_three_by_three_frame_by_hand() -> None:
    scores = np.array([[0.9, 0.2, 0.1], [0.8, 0.6, 0.3], [0.4, 0.0, 1.0]])
    truth = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1]])
    valid = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1]])
    found = scored(scores, truth, valid=valid)
    assert (found["auroc"], found["auprc"]) == (1.0, 1.0)
    assert found["precision_positive"] == 3 / 4  # 0.6 is a false positive
    assert found["recall_positive"] == 1.0
    assert found["accuracy"] == 7 / 8
    errors = [0.1, 0.2, 0.1, 0.2, 0.6, 0.3, 0.0, 0.0]
    assert found["brier"] == pytest.approx(np.mean(np.square(errors)), abs=1e-5)


def test_what_is_not_valid_does_not_count_whatever_it_holds() -> None:
    valid = np.random.default_rng(0).random(SCORES.shape) < 0.6
    soiled, scribbled = np.where(valid, SCORES, np.nan), np.where(valid, TRUTH, 7)
    assert scored(soiled, scribbled, valid=valid) == scored(SCORES[valid], TRUTH[valid])


def test_long_files_are_scored_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scored()
    monkeypatch.setattr(scored_planes, "CHUNK_PIXELS", 7)
    assert scored() == whole


def test_without_negatives_ranks_are_absent_with_their_reason(caplog: pytest.LogCaptureFixture) -> None:
    found = scored(SCORES, np.ones_like(TRUTH))
    assert "auroc" not in found
    assert found["auprc"] == 1.0
    assert "5000 positive and 0 negative pixels: auroc" in caplog.text


def test_logits_that_are_infinite_are_refused() -> None:
    with pytest.raises(DataError, match="finite on valid pixels"):
        scored(logit(np.round(SCORES)), logits=True)


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.35, 0.5, 0.6, 0.95])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_score_at_the_threshold_is_called_positive(threshold: float, kind: type) -> None:
    scores = np.array([threshold, threshold, 0.99, 0.01], dtype=kind)
    found = scored(scores, np.array([1, 1, 1, 0]), threshold=threshold)
    assert (found["recall_positive"], found["precision_positive"]) == (1.0, 1.0)
    assert found["threshold"] == threshold


def test_a_mask_as_scores_is_ranked_exactly_and_not_doubted(caplog: pytest.LogCaptureFixture) -> None:
    mask = (SCORES > 0.4).astype(np.uint8)
    found = scored(mask)
    assert found["auroc"] == pytest.approx(referee.roc_auc_score(TRUTH.ravel(), mask.ravel()), abs=1e-12)
    assert found["auprc"] == pytest.approx(referee.average_precision_score(TRUTH.ravel(), mask.ravel()), abs=1e-12)
    assert "may be off" not in caplog.text


def test_scores_that_bins_cannot_tell_apart_are_doubted(caplog: pytest.LogCaptureFixture) -> None:
    close = 0.5 + 1e-9 * np.arange(100)
    scored(close, np.arange(100) % 2)
    assert "auroc may be off by up to 5.0e-01 where scores within a bin differ" in caplog.text


def test_pixels_positives_and_prevalence_are_stated() -> None:
    found = scored(valid=np.arange(TRUTH.size).reshape(TRUTH.shape) % 2)
    half = TRUTH.ravel()[1::2]
    assert (found["valid_pixels"], found["positive_pixels"]) == (half.size, half.sum())
    assert found["prevalence"] == half.mean()


@pytest.mark.parametrize(
    ("scores", "truth", "doubt"),
    [
        (SCORES, ~TRUTH, "90.0 % of the pixels are positive: is the mask inverted"),
        (1 - SCORES, TRUTH, "worse than chance"),
        (np.array([0.1, 0.9, 0.8]), np.array([1, 0, 0]), None),  # too few to tell
        (SCORES, TRUTH, None),
    ],
)
def test_a_truth_that_seems_inverted_is_doubted(
    scores: np.ndarray, truth: np.ndarray, doubt: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    scored(scores, truth)
    assert ("inverted" in caplog.text or "chance" in caplog.text) == (doubt is not None)
    assert doubt is None or doubt in caplog.text


def test_without_positives_what_needs_them_is_absent_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    found = scored(SCORES, np.zeros_like(TRUTH))
    assert "auroc" not in found and "auprc" not in found and "recall_positive" not in found
    assert found["brier"] == pytest.approx(np.mean(SCORES**2), abs=1e-6)
    assert "0 positive and 5000 negative pixels: auprc, auroc" in caplog.text


def fields_of(count: int) -> dict[str, scored_planes.Planes]:
    return {
        str(number): check_planes(SCORES[number::count], TRUTH[number::count], None, logits=False)
        for number in range(count)
    }


def test_fields_are_pooled_and_their_differences_become_intervals() -> None:
    together, pooled = scored(threshold=0.3), score_fields(fields_of(25), threshold=0.3)
    assert {name: pooled[name] for name in together} == together
    for name in ("auprc", "auroc", "brier", "ece", "mcc", "balanced_accuracy"):
        assert pooled[f"{name}_low"] < pooled[name] < pooled[f"{name}_high"]
    few = score_fields(fields_of(3), threshold=0.3)
    assert few["auprc_high"] - few["auprc_low"] > pooled["auprc_high"] - pooled["auprc_low"]


def test_a_single_field_has_no_intervals() -> None:
    assert score_fields(fields_of(1), threshold=0.5) == scored()
