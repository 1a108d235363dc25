"""Intervals of the test metrics say how sure they are, with the test fields as the units that differ."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
from drawn_fields import draw_fields
from scipy.stats import t as student

from astrid.metrics.intervals import field_intervals, jackknife_intervals, leave_one_out
from astrid.metrics.object_counts import ObjectCounts
from astrid.metrics.resampled import field_metrics, resampled_metrics

HEADLINE = {
    *("precision_positive", "recall_positive", "f1_positive", "false_positive_rate", "accuracy"),
    *("auprc", "auroc", "brier", "ece", "mcc", "balanced_accuracy"),
    *("completeness", "purity", "false_per_mpix", "centroid_error_pixels", "snr50", "snr90"),
}


def test_the_interval_of_a_mean_of_logarithms_is_students() -> None:
    values = np.random.default_rng(0).lognormal(2.0, 0.5, 7)
    weights = leave_one_out(7)
    geometric = np.exp(weights @ np.log(values) / weights.sum(axis=1))
    low, high = jackknife_intervals({"amount": geometric}, what="test").values()
    expected = student.interval(0.95, 6, loc=np.log(values).mean(), scale=np.log(values).std(ddof=1) / np.sqrt(7))
    np.testing.assert_allclose([low, high], np.exp(expected))


def test_every_headline_metric_has_an_interval_around_it() -> None:
    counts = draw_fields(np.random.default_rng(3), 64)
    whole = resampled_metrics(counts, np.ones((1, 64)))
    ends = field_intervals(counts)
    assert set(whole) == HEADLINE
    assert set(ends) == {f"{name}_{end}" for name in HEADLINE for end in ("low", "high")}
    for name in HEADLINE:
        assert ends[f"{name}_low"] < whole[name][0] < ends[f"{name}_high"]


def test_shares_stay_within_0_and_1_however_few_fields_there_are() -> None:
    few, many = (field_intervals(draw_fields(np.random.default_rng(2), fields)) for fields in (2, 64))
    assert 0 < few["auprc_low"] < few["auprc_high"] < 1
    assert few["auprc_high"] - few["auprc_low"] > 3 * (many["auprc_high"] - many["auprc_low"])


@pytest.mark.parametrize("name", ["auprc", "auroc", "balanced_accuracy", "completeness", "purity", "brier", "ece"])
def test_what_lies_between_0_and_1_has_ends_that_do_however_much_fields_differ(name: str) -> None:
    low, high = jackknife_intervals({name: np.array([0.3, 0.02, 0.8])}, what="test").values()
    assert 0 < low < 0.3 < high < 1


def test_the_interval_of_mcc_is_students_on_the_scale_of_fisher() -> None:
    values = np.array([-0.2, -0.3, 0.1, 0.05, -0.15])
    left_out = np.tanh(leave_one_out(5) @ np.arctanh(values) / leave_one_out(5).sum(axis=1))
    ends = jackknife_intervals({"mcc": left_out}, what="test")
    z = np.arctanh(values)
    expected = student.interval(0.95, 4, loc=z.mean(), scale=z.std(ddof=1) / np.sqrt(5))
    np.testing.assert_allclose([ends["mcc_low"], ends["mcc_high"]], np.tanh(expected))


def test_a_single_field_has_no_interval_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert field_intervals(draw_fields(np.random.default_rng(0), 1)) == {}
    assert "have no intervals: 1 test field" in caplog.text


def test_a_metric_at_its_limit_without_variation_or_undefined_has_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    values = {
        "purity": np.array([0.9, 1.0, 0.9, 0.8]),  # one field holds every false alarm
        "brier": np.full(4, 0.1),
        "snr50": np.array([5.0, 5.1, np.inf, 4.9]),
        "snr90": np.full(4, np.nan),
        "auprc": np.array([0.5, 0.4, 0.5, 0.6]),
    }
    assert set(jackknife_intervals(values, what="test")) == {"auprc_low", "auprc_high"}
    assert [record.getMessage() for record in caplog.records] == [
        "no interval for these metrics of test: purity (at the end of its range); brier (the same whichever field is "
        "left out); snr50 (undefined without one of the fields)"
    ]
    assert "snr90" not in caplog.text  # it has no value either, which was said before


def test_snr90_has_no_interval_below_20_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    few, enough = (field_intervals(draw_fields(np.random.default_rng(8), fields)) for fields in (19, 20))
    assert "snr90_low" not in few and "snr50_low" in few
    assert "snr90 (needs 20 fields)" in caplog.text
    assert "snr90_low" in enough


def test_what_lies_beyond_the_sources_has_neither_a_value_nor_bounds() -> None:
    counts = draw_fields(np.random.default_rng(5), 24)
    assert counts.objects is not None
    bright = counts.objects.snr > 6  # half are found near 4
    counts = dataclasses.replace(counts, objects=_only(counts.objects, bright))
    assert "snr50" not in field_metrics(counts)
    assert "completeness_low" in field_intervals(counts) and "snr50_low" not in field_intervals(counts)


def _only(objects: ObjectCounts, which: np.ndarray) -> ObjectCounts:
    return dataclasses.replace(
        objects, field=objects.field[which], snr=objects.snr[which], distance_pixels=objects.distance_pixels[which]
    )


def coverage(fields: int, *, trials: int, seed: int) -> dict[str, float]:
    """Return how often the interval of each metric holds the truth, where there is one."""
    rng = np.random.default_rng(seed)
    population = [resampled_metrics(draw_fields(rng, 2000), np.ones((1, 2000))) for _ in range(3)]
    held: dict[str, list[bool]] = {name: [] for name in population[0]}
    for _ in range(trials):
        ends = field_intervals(draw_fields(rng, fields))
        for name in held:
            if f"{name}_low" in ends:
                truth = np.mean([part[name][0] for part in population])
                held[name].append(ends[f"{name}_low"] <= truth <= ends[f"{name}_high"])
    return {name: float(np.mean(inside)) for name, inside in held.items()}


def test_intervals_of_24_fields_hold_the_truth_mostly() -> None:
    for name, share in coverage(24, trials=60, seed=2).items():
        assert share >= 0.85, name


@pytest.mark.slow
@pytest.mark.parametrize("fields", [20, 64])
def test_intervals_of_20_and_more_fields_hold_the_truth_in_90_to_99_percent(fields: int) -> None:
    for name, share in coverage(fields, trials=1000, seed=fields).items():
        assert 0.90 <= share <= 0.995, name
