"""Detections are connected valid pixels, paired one to one with true sources; what cannot count counts for nobody."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from memory import memory_peak

from astrid.metrics.detections import Detections, find_detections, judge, match


def detections_at(x: list[float], y: list[float]) -> Detections:
    places = np.array(x, dtype=float), np.array(y, dtype=float)
    return Detections(
        *places, score=np.ones(len(x)), pixels=np.ones(len(x), dtype=int), beside_invalid=np.zeros(len(x), dtype=bool)
    )


def pairs(detections: Detections, x: list[float], y: list[float], radius_pixels: float) -> list[tuple[int, int]]:
    matches = match(detections, sources_x=np.array(x), sources_y=np.array(y), radius_pixels=radius_pixels)
    return list(zip(matches.detection.tolist(), matches.source.tolist(), strict=True))


MAP = np.array(
    [
        [0.9, 0.1, 0.0, 0.0],
        [0.0, 0.6, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.5],
    ],
    dtype=np.float32,
)
EVERYWHERE = np.ones(MAP.shape, dtype=bool)


def test_pixels_that_touch_at_corners_are_one_detection_with_a_weighted_centroid():
    found = find_detections(MAP, EVERYWHERE, threshold=0.5, min_pixels=1)
    np.testing.assert_allclose(found.x, [0.6 / 1.5, 3])
    np.testing.assert_allclose(found.y, [0.6 / 1.5, 2])
    np.testing.assert_allclose(found.score, [0.9, 0.5])
    assert found.pixels.tolist() == [2, 1]


def test_x_is_the_column_and_y_the_row():
    spot = np.zeros((5, 9))
    spot[1, 7] = 1
    found = find_detections(spot, np.ones((5, 9), dtype=bool), threshold=0.5, min_pixels=1)
    assert (found.x.tolist(), found.y.tolist()) == ([7], [1])


def test_small_groups_are_dropped():
    assert find_detections(MAP, EVERYWHERE, threshold=0.5, min_pixels=2).pixels.tolist() == [2]


def test_invalid_pixels_neither_join_nor_bridge_groups():
    bridge = np.full((1, 5), 0.8)
    valid = np.array([[True, True, False, True, True]])
    found = find_detections(bridge, valid, threshold=0.5, min_pixels=1)
    assert found.x.tolist() == [0.5, 3.5]


def test_nothing_above_the_threshold_is_no_detection():
    assert find_detections(MAP, EVERYWHERE, threshold=0.95, min_pixels=1).x.size == 0


@given(
    probability=arrays(np.float32, (7, 9), elements=st.floats(0, 1, width=32)),
    valid=arrays(np.bool_, (7, 9)),
    junk=st.sampled_from([np.nan, np.inf, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_values_under_the_mask_change_nothing_and_every_bright_valid_pixel_is_in_one_group(
    probability: np.ndarray, valid: np.ndarray, junk: float
):
    found = find_detections(probability, valid, threshold=0.4, min_pixels=1)
    soiled = find_detections(np.where(valid, probability, junk), valid, threshold=0.4, min_pixels=1)
    assert found.pixels.sum() == (valid & (probability >= 0.4)).sum()
    assert np.array_equal(found.x, soiled.x)
    assert np.array_equal(found.score, soiled.score)
    assert np.array_equal(found.beside_invalid, soiled.beside_invalid)


@pytest.mark.parametrize("threshold", [0.0, -0.1, np.nan])
def test_thresholds_that_would_weight_by_nothing_are_refused(threshold: float):
    with pytest.raises(ValueError, match="threshold must be positive"):
        find_detections(MAP, EVERYWHERE, threshold=threshold, min_pixels=1)


def test_two_detections_of_one_source_are_one_pair_the_closer():
    assert pairs(detections_at([1, 2.5], [0, 0]), [2.0], [0.0], 3.0) == [(1, 0)]


def test_more_pairs_are_better_than_closer_ones():
    # Greedily, detection 0 takes source 0 at distance 0 and leaves nothing for detection 1.
    assert pairs(detections_at([0, -2], [0, 0]), [0.0, 2.0], [0.0, 0.0], 2.0) == [(0, 1), (1, 0)]


def test_the_radius_is_inclusive():
    assert pairs(detections_at([3], [4]), [0.0], [0.0], 5.0) == [(0, 0)]
    assert pairs(detections_at([3], [4]), [0.0], [0.0], 4.999) == []


@pytest.mark.parametrize(("x", "sources"), [([], []), ([1.0], []), ([], [1.0])])
def test_nothing_pairs_with_nothing(x: list[float], sources: list[float]):
    assert pairs(detections_at(x, x), sources, sources, 2.0) == []


positions = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=4)


@given(spots=positions, sources=positions, radius=st.sampled_from([1.0, 2.0, 3.5]))
@settings(max_examples=100, deadline=None)
def test_matching_is_one_to_one_and_no_other_pairing_has_more_or_closer_pairs(
    spots: list[tuple[int, int]], sources: list[tuple[int, int]], radius: float
):
    detections = detections_at([x for x, _ in spots], [y for _, y in spots])
    source_x, source_y = np.array(sources, dtype=float).T
    matches = match(detections, sources_x=source_x, sources_y=source_y, radius_pixels=radius)
    assert len(set(matches.detection)) == len(set(matches.source)) == len(matches.detection)
    assert (matches.distance_pixels <= radius).all()

    distance = np.hypot(detections.x[:, None] - source_x, detections.y[:, None] - source_y)
    places = [*range(len(sources)), *[None] * len(spots)]
    scores = []
    for choice in set(itertools.permutations(places, len(spots))):
        chosen = [distance[spot, source] for spot, source in enumerate(choice) if source is not None]
        if all(value <= radius for value in chosen):
            scores.append((-len(chosen), sum(chosen)))
    best = min(scores)
    assert -best[0] == len(matches.detection)
    assert best[1] == pytest.approx(matches.distance_pixels.sum())


def test_radius_must_be_positive():
    with pytest.raises(ValueError, match="radius_pixels must be positive"):
        pairs(detections_at([1], [1]), [1.0], [1.0], 0.0)


def verdict_of(detections: Detections, valid: np.ndarray, x: list[float], y: list[float]) -> tuple[list, list, list]:
    verdict = judge(detections, valid, sources_x=np.array(x), sources_y=np.array(y), radius_pixels=2.0)
    return verdict.countable.tolist(), verdict.found.tolist(), verdict.false_alarm.tolist()


def test_hits_misses_and_false_alarms_are_told_apart():
    detections = detections_at([2, 15], [2, 15])
    result = verdict_of(detections, np.ones((20, 20), dtype=bool), [2.5, 10.0], [2.0, 10.0])
    assert result == ([True, True], [True, False], [False, True])


def test_sources_on_invalid_pixels_and_their_detections_count_for_nobody():
    valid = np.ones((20, 20), dtype=bool)
    valid[5, :8] = False
    result = verdict_of(detections_at([5, 5, 12], [4, 6.5, 5]), valid, [5.4, 13.0], [5.4, 5.0])
    assert result == ([False, True], [False, True], [False, False, False])


def test_a_countable_source_keeps_its_detection_beside_one_that_does_not_count():
    valid = np.ones((20, 20), dtype=bool)
    valid[5, 5] = False
    result = verdict_of(detections_at([6], [5]), valid, [5.0, 7.0], [5.0, 5.0])
    assert result == ([False, True], [False, True], [False])


@pytest.mark.parametrize(
    ("x", "countable"), [(-0.51, False), (-0.49, False), (0.0, True), (19.0, True), (19.49, False), (1e9, False)]
)
def test_a_source_counts_where_the_field_shows_more_than_half_of_it(x: float, countable: bool):
    result = verdict_of(detections_at([], []), np.ones((20, 20), dtype=bool), [x], [10.0])
    assert result == ([countable], [False], [])


def test_a_source_on_the_only_valid_pixel_around_does_not_count():
    valid = np.zeros((20, 20), dtype=bool)
    valid[10, 10] = True
    assert verdict_of(detections_at([], []), valid, [10.0], [10.0])[0] == [False]


@pytest.mark.parametrize("offset", [0.6, 1.0, 1.5, 2.0])
def test_a_source_that_a_bad_column_cuts_in_two_is_found_and_makes_no_false_alarm(offset: float):
    rows, columns = np.mgrid[:40, :40]
    valid = np.ones((40, 40), dtype=bool)
    valid[:, 20] = False
    spot = 0.95 * np.exp(-((columns - 20 - offset) ** 2 + (rows - 20) ** 2) / 8)
    found = find_detections(spot, valid, threshold=0.2, min_pixels=1)
    verdict = judge(found, valid, sources_x=np.array([20 + offset]), sources_y=np.array([20.0]), radius_pixels=4.0)
    assert len(found.x) == 2 and found.beside_invalid.all()
    assert (verdict.found.tolist(), verdict.false_alarm.any()) == ([True], False)


def test_a_second_detection_of_a_source_away_from_bad_pixels_is_a_false_alarm():
    assert verdict_of(detections_at([9, 11], [10, 10]), np.ones((20, 20), dtype=bool), [10.2], [10.0])[2] == [
        True,
        False,
    ]


def test_a_detection_beyond_the_radius_of_a_source_that_does_not_count_is_a_false_alarm():
    valid = np.ones((20, 20), dtype=bool)
    valid[5, 5] = False
    near, far = (verdict_of(detections_at([5], [y]), valid, [5.0], [5.0])[2] for y in (6.9, 7.5))
    assert (near, far) == ([False], [True])


def test_many_detections_and_sources_are_matched_in_little_memory():
    rng = np.random.default_rng(0)
    spots = detections_at(rng.uniform(0, 4000, 60_000).tolist(), rng.uniform(0, 4000, 60_000).tolist())
    x, y = rng.uniform(0, 4000, (2, 1000))
    peak = memory_peak(lambda: match(spots, sources_x=x, sources_y=y, radius_pixels=3.0))
    assert peak < 50e6  # all distances take 480 MB
