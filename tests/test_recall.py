"""Recall at a rate of false detections: the lowest threshold that keeps to it decides, in every resample anew."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.config import ConfigError, MetricsConfig
from astrid.metrics.detections import Detections
from astrid.metrics.objects import ObjectTally
from astrid.metrics.recall import Recall, recall_ends, recall_metrics, recall_of_mixes, recalls

EDGE, SPACING = 100, 10.0
RATE_OF_ONE = 1e6 / EDGE**2


def tally_of(*fields: tuple[list[float], list[float]], thresholds: tuple[float, ...] = (1, 2, 3, 4, 5)) -> ObjectTally:
    """Tally fields given as the scores of their sources and those of their false alarms."""
    tally = ObjectTally(thresholds, min_pixels=1)
    for sources, false in fields:
        x, score = SPACING * np.arange(1, 1 + len(sources) + len(false)), np.array([*sources, *false], dtype=float)
        found = [
            Detections(
                x=x[score >= t],
                y=x[score >= t],
                score=score[score >= t],
                pixels=np.ones(int((score >= t).sum()), int),
                beside_invalid=np.zeros(int((score >= t).sum()), bool),
            )
            for t in thresholds
        ]
        where = x[: len(sources)]
        truth = {"sources_x": where, "sources_y": where, "snr": np.ones(len(where))}
        tally.add_detections(found, np.ones((EDGE, EDGE), bool), **truth, radius_pixels=2.0)
    return tally


def recalled(tally: ObjectTally, rates: list[float]) -> list[Recall]:
    """Return recalls where each field is a patch of sky of its own."""
    return recalls(tally, rates, [str(number) for number in range(len(tally.sources_by_field))])


def test_recall_by_hand() -> None:
    """False alarms at thresholds 1 to 5 are 3, 2, 2, 1, 0; found are 4, 3, 2, 1, 0."""
    tally = tally_of(([1, 2, 3, 4], [1, 3, 4]))
    assert tally.false_alarms.tolist() == [3, 2, 2, 1, 0]
    rates = [0.5 * RATE_OF_ONE, RATE_OF_ONE, 2 * RATE_OF_ONE, 2.9 * RATE_OF_ONE, 3 * RATE_OF_ONE]
    assert [one.value for one in recalled(tally, rates)] == [0.0, 0.25, 0.75, 0.75, 1.0]


def test_where_every_threshold_makes_more_nothing_is_found() -> None:
    assert recalled(tally_of(([9, 9], [9])), [0.5 * RATE_OF_ONE])[0].value == 0.0


def test_without_sources_recall_is_undefined_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert recalled(tally_of(([], [3])), [10.0]) == []
    assert "there are no sources" in caplog.text
    assert recalled(tally_of(([3], [3])), []) == []


scores = st.lists(st.floats(0, 6), max_size=5)


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=6), st.floats(0.1, 10))
def test_it_is_what_the_tally_finds_at_the_threshold_for_so_many(
    fields: list[tuple[list[float], list[float]]], false_alarms: float
) -> None:
    tally = tally_of(*fields)
    if not (tally.hits + tally.misses).any():
        return
    threshold = tally.threshold_for(int(false_alarms))
    expected = 0.0 if threshold is None else float(tally.hits[tally.index(threshold)] / tally.sources_by_field.sum())
    rate = false_alarms * 1e6 / tally.valid_pixels
    assert recalled(tally, [rate])[0].value == pytest.approx(expected)


def test_a_mix_of_fields_is_the_tally_of_that_mix() -> None:
    fields = [([1, 4], [2]), ([3], [1, 5]), ([2, 5, 5], [])]
    weights = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0]])
    mixed = recall_of_mixes(tally_of(*fields), 0.4 * RATE_OF_ONE, weights)
    for value, row in zip(mixed, weights, strict=True):
        repeated = [field for field, count in zip(fields, row, strict=True) for _ in range(int(count))]
        assert value == pytest.approx(recalled(tally_of(*repeated), [0.4 * RATE_OF_ONE])[0].value)


@pytest.mark.slow
def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Half of all sources are brighter than 3.5, below which false alarms abound."""
    rng, held, repeats = np.random.default_rng(5), 0, 120
    for _ in range(repeats):
        fields = [
            ([float(rng.uniform(2, 5))], [float(s) for s in rng.uniform(0, 3.5, rng.poisson(4))]) for _ in range(60)
        ]
        (one,) = recalled(tally_of(*fields, thresholds=(1, 2, 3.5, 5)), [0.5 * RATE_OF_ONE])
        assert one.interval is not None
        held += one.interval[0] <= 0.5 <= one.interval[1]
    assert held / repeats > 0.88


def test_where_all_or_none_are_found_or_a_field_is_alone_there_is_no_interval() -> None:
    rate = [100 * RATE_OF_ONE]
    assert recalled(tally_of(([5], []), ([5], [])), rate)[0].interval is None
    assert recalled(tally_of(([0], []), ([0], [])), rate)[0].interval is None
    assert recalled(tally_of(([5, 0], [])), rate)[0].interval is None
    assert recalled(tally_of(([5], []), ([0], [])), rate)[0].interval is not None


def test_it_is_logged_by_rate_and_owner() -> None:
    found = [Recall(10.0, 0.9, (0.8, 0.95)), Recall(0.5, 1.0)]
    assert recall_metrics(found, "test") == {"test/recall_at_10_per_mpix": 0.9, "test/recall_at_0.5_per_mpix": 1.0}
    ends = {"sep/recall_at_10_per_mpix_low": 0.8, "sep/recall_at_10_per_mpix_high": 0.95}
    assert recall_ends(found, "sep") == ends


@pytest.mark.parametrize("rates", [[0.0], [-1.0], [10.0, 10.0]])
def test_rates_that_make_no_sense_are_refused(rates: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"metrics\.recall_at_false_per_mpix must be a list of positive rates"):
        MetricsConfig(recall_at_false_per_mpix=rates)


def test_visits_of_one_patch_are_no_independent_looks() -> None:
    fields = ([([5.0, 0.0], [3.0])] * 5 + [([5.0, 5.0], [])] * 5) * 2
    tally, rate = tally_of(*fields), [0.5 * RATE_OF_ONE]
    (apart,) = recalled(tally, rate)
    (visits,) = recalls(tally, rate, [str(number // 5) for number in range(20)])
    (one,) = recalls(tally, rate, ["a"] * 20)
    assert apart.value == visits.value == one.value and one.interval is None
    assert visits.interval is not None and apart.interval is not None
    assert np.ptp(visits.interval) > np.ptp(apart.interval)
