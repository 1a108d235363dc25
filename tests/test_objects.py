"""Completeness, purity and false alarms add up over fields, and snr50 is where half of the sources are found."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from astrid.config import RunError
from astrid.metrics.objects import (
    ObjectTally,
    completeness_by_snr,
    detection_thresholds,
    fit_snr50,
    object_metrics,
)

SOURCE_X = np.array([5.0, 20.0, 30.0])
SOURCE_Y = np.array([5.0, 20.0, 10.0])
SNR = np.array([5.0, 11.0, 40.0])


def field(spots: dict[tuple[int, int], float], size: int = 40) -> np.ndarray:
    """Draw a probability map, 0 but for single pixels given as (x, y)."""
    probability = np.zeros((size, size), dtype=np.float32)
    for (x, y), value in spots.items():
        probability[y, x] = value
    return probability


def add(tally: ObjectTally, probability: np.ndarray, valid: np.ndarray | None = None) -> None:
    good = np.ones(probability.shape, dtype=bool) if valid is None else valid
    tally.add(probability, good, sources_x=SOURCE_X, sources_y=SOURCE_Y, snr=SNR, radius_pixels=2.0)


@pytest.fixture
def tally() -> ObjectTally:
    """Tally two fields: one with hits at 0.3 and 0.7 and a false alarm at 0.4, one with a false alarm at 0.8."""
    tally = ObjectTally([0.1, 0.35, 0.5, 0.9], min_pixels=1)
    add(tally, field({(20, 21): 0.3, (30, 10): 0.7, (12, 33): 0.4}))
    add(tally, field({(35, 35): 0.8}))
    return tally


def test_counts_add_up_over_fields_at_every_threshold(tally: ObjectTally):
    assert tally.hits.tolist() == [2, 1, 1, 0]
    assert tally.misses.tolist() == [4, 5, 5, 6]
    assert tally.false_alarms.tolist() == [2, 2, 1, 0]
    assert tally.valid_pixels == 3200


def test_metrics_are_ratios_of_the_counts(tally: ObjectTally):
    metrics = object_metrics(tally, threshold=0.5)
    assert metrics["completeness"] == pytest.approx(1 / 6)
    assert metrics["purity"] == pytest.approx(1 / 2)
    assert metrics["false_per_mpix"] == pytest.approx(1 / 3200 * 1e6)
    assert metrics["detection_threshold"] == 0.5


def test_the_best_threshold_has_the_greatest_object_f1(tally: ObjectTally):
    assert tally.best_threshold() == 0.1  # F1 of 2/5, 2/9, 1/4, 0


def test_among_equal_thresholds_the_middle_one_is_best():
    tally = ObjectTally([0.1, 0.2, 0.3, 0.4, 0.9], min_pixels=1)
    add(tally, field({(20, 20): 0.6, (1, 38): 0.15}))
    assert tally.best_threshold() == 0.3


def test_small_detections_do_not_count():
    tally = ObjectTally([0.5], min_pixels=2)
    add(tally, field({(20, 20): 0.9, (30, 10): 0.9, (31, 10): 0.9}))
    assert (tally.hits.tolist(), tally.false_alarms.tolist()) == ([1], [0])


def test_masked_sources_are_neither_found_nor_missed():
    valid = np.ones((40, 40), dtype=bool)
    valid[18:23, 18:23] = False
    tally = ObjectTally([0.5], min_pixels=1)
    add(tally, field({(20, 20): 0.9, (30, 10): 0.9}), valid)
    assert (tally.hits.tolist(), tally.misses.tolist(), tally.false_alarms.tolist()) == ([1], [1], [0])
    assert tally.valid_pixels == 1575
    assert tally.sources(0.5)[0].tolist() == [5.0, 40.0]


def test_without_sources_completeness_is_absent_and_said(caplog: pytest.LogCaptureFixture):
    tally = ObjectTally([0.5], min_pixels=1)
    nothing = np.zeros(0)
    tally.add(
        field({(3, 3): 0.9}),
        np.ones((40, 40), bool),
        sources_x=nothing,
        sources_y=nothing,
        snr=nothing,
        radius_pixels=2,
    )
    assert tally.best_threshold() is None
    assert completeness_by_snr(tally, threshold=0.5) is None
    metrics = object_metrics(tally, threshold=0.5)
    assert metrics == {"purity": 0.0, "false_per_mpix": pytest.approx(625.0), "detection_threshold": 0.5}
    assert "undefined at threshold 0.5 and left out" in caplog.text
    assert "completeness, snr50" in caplog.text


def test_without_detections_purity_is_absent(tally: ObjectTally):
    metrics = object_metrics(tally, threshold=0.9)
    assert metrics == {"completeness": 0.0, "false_per_mpix": 0.0, "detection_threshold": 0.9}


def test_an_empty_tally_has_only_its_threshold():
    assert object_metrics(ObjectTally([0.5], min_pixels=1), threshold=0.5) == {"detection_threshold": 0.5}


def test_a_threshold_that_was_not_tallied_is_refused(tally: ObjectTally):
    with pytest.raises(ValueError, match=r"one of those tallied.*got 0\.6"):
        object_metrics(tally, threshold=0.6)


def test_non_finite_probabilities_on_valid_pixels_stop_the_run():
    broken = field({(3, 3): np.nan})
    tally = ObjectTally([0.5], min_pixels=1)
    add(tally, broken, ~np.isnan(broken))
    with pytest.raises(RunError, match="finite on valid pixels, got 1"):
        add(tally, broken)


@given(order=st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_fields_changes_no_metric(order: list[int]):
    fields = [field({(20, 20): 0.6}), field({(5, 5): 0.9, (9, 30): 0.9}), field({}), field({(30, 10): 0.3})]
    plain, shuffled = (ObjectTally([0.2, 0.5], min_pixels=1) for _ in range(2))
    for index in range(4):
        add(plain, fields[index])
        add(shuffled, fields[order[index]])
    expected = object_metrics(plain, threshold=0.2)
    assert object_metrics(shuffled, threshold=0.2) == pytest.approx(expected)


def test_thresholds_are_symmetric_in_logit():
    thresholds = detection_thresholds(25)
    np.testing.assert_allclose(thresholds + thresholds[::-1], 1)
    assert thresholds[12] == 0.5
    assert (np.diff(thresholds) > 0).all()


def test_completeness_by_snr_counts_every_source_once(tally: ObjectTally):
    curve = completeness_by_snr(tally, threshold=0.1, bins=3)
    np.testing.assert_allclose(curve.edges, [5, 10, 20, 40])
    assert curve.total.tolist() == [2, 2, 2]
    assert curve.found.tolist() == [0, 1, 1]


def draw_sources(half: float, slope: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    snr = np.exp(rng.uniform(math.log(3), math.log(40), count))
    return snr, rng.random(count) < expit(slope * np.log(snr / half))


@pytest.mark.parametrize("half", [5.0, 12.0])
@pytest.mark.parametrize("slope", [2.0, 8.0])
def test_snr50_is_recovered_from_a_logistic_curve(half: float, slope: float):
    assert fit_snr50(*draw_sources(half, slope, 20_000)) == pytest.approx(half, rel=0.03)


def test_snr50_equals_that_of_an_unpenalised_logistic_regression():
    snr, found = draw_sources(6.0, 4.0, 300)
    referee = LogisticRegression(C=1e6).fit(np.log(snr)[:, None], found)
    assert fit_snr50(snr, found) == pytest.approx(math.exp(-referee.intercept_[0] / referee.coef_[0, 0]), rel=1e-3)


def test_snr50_is_in_the_middle_of_the_gap_when_all_brighter_sources_are_found():
    snr = np.array([3.0, 4.0, 5.0, 8.0, 10.0, 20.0])
    assert fit_snr50(snr, snr > 6) == pytest.approx(math.sqrt(5 * 8), rel=1e-3)


@pytest.mark.parametrize(
    ("snr", "found"),
    [
        ([], []),
        ([5, 6, 7], [True, True, True]),
        ([5, 6, 7], [False, False, False]),
        ([5, 5, 5], [True, False, True]),
        ([3, 4, 10, 20], [True, True, False, False]),
        ([5, 5.5, 6, 6.5, 7] * 4, [True] * 17 + [False] + [True] * 2),
    ],
    ids=["none", "all found", "all missed", "one brightness", "falling", "beyond the faintest"],
)
def test_snr50_is_undefined_where_the_sources_do_not_tell(snr: list[float], found: list[bool]):
    assert fit_snr50(np.array(snr, dtype=float), np.array(found, dtype=bool)) is None


def test_32_noisy_fields_at_25_thresholds_take_a_few_seconds():
    rng = np.random.default_rng(0)
    tally = ObjectTally(detection_thresholds(25), min_pixels=1)
    x, y = rng.uniform(0, 256, (2, 8))
    probability = expit(rng.normal(-5, 1.5, (256, 256)))
    start = time.process_time()
    for _ in range(8):
        tally.add(probability, np.ones_like(probability, bool), sources_x=x, sources_y=y, snr=x + 1, radius_pixels=3.0)
    assert 4 * (time.process_time() - start) < 6
