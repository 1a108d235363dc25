"""An operating point keeps to its target on validation, and elsewhere as far as chance allows."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from histograms import draw, fill
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from astrid.config import MetricsConfig
from astrid.metrics.chosen import OperatingPoint
from astrid.metrics.objects import ObjectTally, _FieldTally
from astrid.metrics.operating import choose_operating_point, detection_threshold, operating_metrics


def config(kind: Any, target: float | None = None) -> MetricsConfig:
    return MetricsConfig(operating_point=kind, operating_target=target)


def tally(hits: list[int], false_alarms: list[int], *, pixels: int = 1_000_000) -> ObjectTally:
    """Counts at thresholds 0.1, 0.2, ..."""
    made = ObjectTally([(1 + number) / 10 for number in range(len(hits))], min_pixels=1)
    found = np.arange(max(hits)) < np.array(hits)[:, None]
    field = _FieldTally(np.ones(max(hits)), np.where(found, 0.0, np.nan), np.array(false_alarms), pixels)
    made._fields.append(field)
    return made


@pytest.mark.parametrize("fpr", [1e-2, 1e-3])
def test_the_rate_on_the_test_half_is_within_a_fifth_of_the_target(fpr: float):
    logits, target = draw(1_000_000, 10_000)
    point = choose_operating_point(fill(logits[::2], target[::2]), None, config=config("fpr", fpr))
    assert point is not None
    found = operating_metrics(point, fill(logits[1::2], target[1::2]), None)
    assert found["operating_target"] == fpr
    assert found["operating_validation"] == pytest.approx(fpr, rel=0.02)
    assert found["operating_validation"] <= fpr
    assert found["operating_achieved"] == pytest.approx(fpr, rel=0.2)
    above = (logits[1::2] >= point.threshold)[~target[1::2]]
    assert found["operating_achieved"] == pytest.approx(above.mean(), rel=1e-3)


def test_the_best_f1_is_the_point_without_a_target():
    logits, target = draw(5000, 500)
    point = choose_operating_point(fill(logits, target), None, config=config("f1"))
    assert point is not None
    assert point.target is None
    assert point.achieved == pytest.approx(f1_score(target, logits >= point.threshold))
    assert set(operating_metrics(point, fill(logits, target), None)) == {"operating_validation", "operating_achieved"}


def test_of_the_thresholds_that_keep_to_a_purity_the_one_of_most_hits_is_taken():
    objects = tally([50, 48, 48, 30], [100, 4, 2, 0])
    point = choose_operating_point(fill([0.0], [1]), objects, config=config("purity", 0.9))
    assert point == OperatingPoint("purity", 0.9, threshold=0.3, achieved=0.96)  # 0.2 finds as many, less strictly


def test_a_threshold_that_meets_its_target_exactly_keeps_to_it():
    assert detection_threshold(tally([50, 48, 30], [100, 2, 0]), "purity", target=0.96) == 0.2


def test_false_detections_are_kept_below_their_number_per_megapixel():
    objects = tally([50, 48, 40, 30], [100, 4, 2, 0], pixels=500_000)
    point = choose_operating_point(fill([0.0], [1]), objects, config=config("false_per_mpix", 5.0))
    assert point == OperatingPoint("false_per_mpix", 5.0, threshold=0.3, achieved=4.0)


@pytest.mark.parametrize(("kind", "target", "closest"), [("purity", 0.99, 0.3), ("false_per_mpix", 1.0, 0.3)])
def test_a_target_out_of_reach_gives_the_closest_and_says_so(
    kind: Any, target: float, closest: float, caplog: pytest.LogCaptureFixture
):
    assert detection_threshold(tally([50, 40, 30], [90, 9, 3]), kind, target=target) == closest
    assert f"no threshold keeps {kind} to {target:g}" in caplog.text


@given(
    counts=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=8),
    target=st.floats(0.1, 1.0),
)
@settings(deadline=None)
def test_no_threshold_that_keeps_to_the_target_finds_more(counts: list[tuple[int, int]], target: float):
    hits, false_alarms = ([pair[place] for pair in counts] for place in (0, 1))
    chosen = detection_threshold(tally(hits, false_alarms), "purity", target=target)
    kept = [h for h, f in counts if h + f and h / (h + f) >= target]
    if kept:
        assert hits[round(chosen * 10) - 1] == max(kept)
    elif chosen is not None:
        purity = [h / (h + f) for h, f in counts if h + f]
        place = round(chosen * 10) - 1
        assert hits[place] / (hits[place] + false_alarms[place]) == max(purity)


@pytest.mark.parametrize(
    ("kind", "target", "pixels", "objects"),
    [
        ("f1", None, fill([1.0], [0]), None),
        ("fpr", 1e-3, fill(np.zeros(9999), np.zeros(9999)), None),
        ("purity", 0.9, fill([1.0], [0]), tally([0, 0], [0, 0])),
        ("false_per_mpix", 9.0, fill([1.0], [0]), tally([0, 0], [0, 0], pixels=0)),
        ("purity", 0.9, fill([1.0], [0]), None),
    ],
)
def test_where_validation_cannot_tell_there_is_none_and_that_is_said(
    kind: Any, target: float | None, pixels: Any, objects: ObjectTally | None, caplog: pytest.LogCaptureFixture
):
    assert choose_operating_point(pixels, objects, config=config(kind, target)) is None
    assert f"to choose a threshold for {kind}" in caplog.text


def test_a_threshold_that_finds_nothing_is_warned_of(caplog: pytest.LogCaptureFixture):
    pixels = fill(np.append(np.ones(10_000), -1.0), np.append(np.zeros(10_000), 1.0))  # every negative above
    point = choose_operating_point(pixels, None, config=config("fpr", 1e-2))
    assert point is not None
    assert "the threshold for fpr finds no positive pixel of the validation fields" in caplog.text
    caplog.clear()
    choose_operating_point(fill([0.0], [1]), tally([0, 0], [9, 1]), config=config("false_per_mpix", 5.0))
    assert "the threshold for false_per_mpix finds no source" in caplog.text
    caplog.clear()
    choose_operating_point(fill([0.0], [1]), tally([3, 2], [9, 1]), config=config("false_per_mpix", 5.0))
    assert "finds no" not in caplog.text


@pytest.mark.parametrize(
    ("kind", "target", "achieved", "reached"),
    [("fpr", 1e-3, 1e-3, True), ("fpr", 1e-3, 2e-3, False), ("purity", 0.9, 0.8, False), ("f1", None, 0.1, True)],
)
def test_a_point_tells_whether_validation_kept_to_its_target(kind: Any, target: Any, achieved: float, reached: bool):
    assert OperatingPoint(kind, target, threshold=0.0, achieved=achieved).reached is reached


def test_what_the_test_fields_do_not_define_is_absent_and_said(caplog: pytest.LogCaptureFixture):
    point = OperatingPoint("purity", 0.9, threshold=0.1, achieved=0.93)
    found = operating_metrics(point, fill([1.0], [0]), tally([0], [0]))
    assert found == {"operating_target": 0.9, "operating_validation": 0.93}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "operating_achieved is undefined" in caplog.text
