"""Completeness, purity and false alarms add up over fields, whatever made the detections."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_fields import draw_fields
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.config import RunError
from astrid.metrics.detections import find_detections
from astrid.metrics.object_counts import ObjectCounts, resampled_objects, stack_objects
from astrid.metrics.objects import ObjectTally, _FieldTally, detection_thresholds, object_metrics

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
    assert tally.at(0.5).snr.tolist() == [5.0, 40.0]


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
    metrics = object_metrics(tally, threshold=0.5)
    assert metrics == {"purity": 0.0, "false_per_mpix": pytest.approx(625.0), "detection_threshold": 0.5}
    assert "undefined at threshold 0.5 and left out" in caplog.text
    assert "completeness, centroid_error_pixels, snr50, snr90" in caplog.text


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


def test_each_field_keeps_its_own_counts_at_every_threshold(tally: ObjectTally):
    counts = tally.at(0.35)
    assert counts.counts.tolist() == [[1, 2, 1], [0, 3, 1]]
    assert counts.valid_pixels.tolist() == [1600, 1600]
    assert counts.field.tolist() == [0, 0, 0, 1, 1, 1]
    assert counts.found.tolist() == [False, False, True, False, False, False]
    assert counts.distance_pixels[2] == 0.0


def test_the_centroid_error_is_the_mean_distance_of_the_found(tally: ObjectTally):
    assert object_metrics(tally, threshold=0.1)["centroid_error_pixels"] == pytest.approx(0.5)  # distances 1 and 0


def test_metrics_are_the_resampled_ones_of_fields_that_count_once(tally: ObjectTally):
    resampled = resampled_objects(tally.at(0.5), np.ones((1, 2)))
    for name, value in object_metrics(tally, threshold=0.5).items():
        assert name == "detection_threshold" or resampled[name][0] == pytest.approx(value)


def test_a_field_that_counts_twice_is_a_field_added_twice(tally: ObjectTally):
    doubled = ObjectTally(tally.thresholds, min_pixels=1)
    for _ in range(2):
        add(doubled, field({(20, 21): 0.3, (30, 10): 0.7, (12, 33): 0.4}))
    add(doubled, field({(35, 35): 0.8}))
    resampled, metrics = (
        resampled_objects(tally.at(0.1), np.array([[2.0, 1.0]])),
        object_metrics(doubled, threshold=0.1),
    )
    for name in ("completeness", "purity", "false_per_mpix", "centroid_error_pixels"):
        assert resampled[name][0] == pytest.approx(metrics[name])


def test_the_threshold_for_so_many_false_alarms_is_the_one_of_most_hits_that_keeps_to_it(tally: ObjectTally):
    assert [tally.threshold_for(count) for count in (2, 1, 0)] == [0.1, 0.5, 0.9]
    loud = ObjectTally([0.1], min_pixels=1)
    add(loud, field({(35, 35): 0.8}))
    assert loud.threshold_for(0) is None


def test_of_an_even_number_of_equal_thresholds_the_upper_middle_is_best():
    equal = ObjectTally([0.1, 0.2, 0.3, 0.4], min_pixels=1)
    equal._fields.append(_FieldTally(np.ones(2), np.zeros((4, 2)), np.zeros(4, int), 1000))
    assert equal.best_threshold() == 0.3


def test_a_lax_threshold_at_which_groups_merge_is_not_taken_for_a_good_one():
    merging = ObjectTally([0.1, 0.2, 0.3, 0.4], min_pixels=1)
    found = np.arange(8) < np.array([1, 8, 6, 6])[:, None]
    merging._fields.append(_FieldTally(np.ones(8), np.where(found, 0.0, np.nan), np.array([3, 20, 3, 2]), 1_000_000))
    assert [merging.threshold_for(count) for count in (1, 2, 3, 20)] == [None, 0.4, 0.4, 0.2]


def test_detections_of_another_tool_are_judged_like_our_own():
    made = field({(20, 21): 0.9, (12, 33): 0.9})
    ours, theirs = (ObjectTally([0.5], min_pixels=1) for _ in range(2))
    add(ours, made)
    found = find_detections(made, made >= 0, threshold=0.5, min_pixels=1)
    truth = {"sources_x": SOURCE_X, "sources_y": SOURCE_Y, "snr": SNR}
    theirs.add_detections([found], made >= 0, **truth, radius_pixels=2.0)
    assert object_metrics(theirs, threshold=0.5) == object_metrics(ours, threshold=0.5)


def test_a_field_left_out_of_stacked_sets_is_the_field_left_out_of_its_own_set() -> None:
    one, other = (draw_fields(np.random.default_rng(seed), 5).objects for seed in (1, 2))
    assert one is not None and other is not None
    without_first = np.array([[0.0, 1, 1, 1, 1]])  # of the other set
    both = resampled_objects(stack_objects([one, other]), np.hstack([np.ones((1, 5)), without_first]))
    hits, misses, false_alarms = one.counts.sum(axis=0) + other.counts[1:].sum(axis=0)
    assert both["completeness"] == pytest.approx(hits / (hits + misses))
    assert both["purity"] == pytest.approx(hits / (hits + false_alarms))
    nothing = ObjectCounts(
        np.zeros((5, 3), int), np.zeros(5, int), *(np.zeros(0, kind) for kind in (int, float, float))
    )
    alone = resampled_objects(other, without_first)
    beside_nothing = resampled_objects(stack_objects([nothing, other]), np.hstack([np.ones((1, 5)), without_first]))
    np.testing.assert_equal(beside_nothing, alone)
