"""The figures of detections show the network, its rivals and the limit at the numbers that were measured."""

from __future__ import annotations

import numpy as np
import pytest

from astrid.data.frames import Field
from astrid.data.psf import point_source
from astrid.evaluate import Chosen, Evaluation
from astrid.metrics.completeness import completeness_by_snr, fitted_snr
from astrid.metrics.ideal import noise_false_per_mpix
from astrid.metrics.object_counts import ObjectCounts
from astrid.metrics.objects import ObjectTally, _FieldTally, object_metrics
from astrid.object_figures import fitted_line, free_response, ideal_line, place, typical_fwhm
from astrid.scoring import Panel

SIZE = 40


@pytest.fixture
def tally() -> ObjectTally:
    """Two sources, of which the brighter is found up to 0.8; false alarms at 0.5 and 0.3."""
    made = ObjectTally([0.2, 0.4, 0.7], min_pixels=1)
    probability = np.zeros((SIZE, SIZE))
    for (x, y), value in {(5, 5): 0.8, (20, 30): 0.5, (33, 12): 0.3}.items():
        probability[y, x] = value
    position = np.array([5.0, 25.0])
    where = {"sources_x": position, "sources_y": position, "snr": np.array([20.0, 4.0])}
    made.add(probability, np.ones((SIZE, SIZE), bool), **where, radius_pixels=2.0)
    return made


def test_the_free_response_curve_runs_from_strict_to_lenient(tally: ObjectTally) -> None:
    line = free_response(tally)
    np.testing.assert_allclose(line.x, np.array([0, 1, 2]) / SIZE**2 * 1e6)
    np.testing.assert_allclose(line.completeness, 0.5)


def test_the_free_response_curve_never_falls_where_lax_thresholds_merge_groups() -> None:
    merging = ObjectTally([0.1, 0.2, 0.3, 0.4], min_pixels=1)
    found = np.arange(8) < np.array([1, 8, 6, 6])[:, None]
    merging._fields.append(_FieldTally(np.ones(8), np.where(found, 0.0, np.nan), np.array([3, 20, 3, 2]), 1_000_000))
    line = free_response(merging)
    assert line.x.tolist() == [2, 3, 3, 20]
    assert line.completeness.tolist() == [0.75, 0.75, 0.75, 1.0]
    assert place(merging, 0.1) == (3, 0.125)


@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.7])
def test_the_mark_is_where_the_metrics_are(tally: ObjectTally, threshold: float) -> None:
    metrics = object_metrics(tally, threshold=threshold)
    assert place(tally, threshold) == pytest.approx((metrics["false_per_mpix"], metrics["completeness"]))


def counts(snr: np.ndarray, found: np.ndarray, *, false_alarms: int) -> ObjectCounts:
    hits = int(found.sum())
    totals = np.array([[hits, len(snr) - hits, false_alarms]])
    return ObjectCounts(totals, np.array([10**6]), np.zeros(len(snr), int), snr, np.where(found, 0.0, np.nan))


def test_the_fitted_line_passes_one_half_at_snr50() -> None:
    rng = np.random.default_rng(0)
    snr = np.exp(rng.uniform(np.log(3), np.log(40), 500))
    found = rng.random(500) < snr / (snr + 6)
    line = fitted_line(counts(snr, found, false_alarms=0))
    assert line is not None
    assert np.interp(0.5, line.completeness, line.x) == pytest.approx(fitted_snr(snr, found, share=0.5), rel=1e-2)


@pytest.mark.parametrize("found", [True, False])
def test_all_sources_found_or_none_have_no_curve(found: bool) -> None:
    assert fitted_line(counts(np.array([3.0, 9.0]), np.full(2, found), false_alarms=0)) is None


def test_the_ideal_line_is_one_half_where_noise_makes_as_many_false_detections() -> None:
    snr = np.geomspace(3.0, 40.0, 50)
    shown = counts(snr, snr > 5, false_alarms=4)
    bins = completeness_by_snr(shown.snr, shown.found)
    assert bins is not None
    line = ideal_line(shown, bins, fwhm_pixels=3.0)
    assert line is not None
    half = float(np.interp(0.5, line.completeness, line.x))
    assert noise_false_per_mpix(half, psf=point_source(3.0)) == pytest.approx(4.0, rel=0.05)


def test_a_detector_without_false_detections_is_compared_at_the_rate_of_one() -> None:
    snr = np.geomspace(3.0, 40.0, 50)
    none, one = (counts(snr, snr > 5, false_alarms=number) for number in (0, 1))
    bins = completeness_by_snr(none.snr, none.found)
    assert bins is not None
    lines = [ideal_line(shown, bins, fwhm_pixels=3.0) for shown in (none, one)]
    assert lines[0] is not None and lines[1] is not None
    np.testing.assert_array_equal(lines[0].completeness, lines[1].completeness)


def test_the_ideal_line_is_drawn_for_the_median_width() -> None:
    flat = np.zeros((1, 4, 4), np.float32)
    fields = [Field(str(width), flat, flat[0] > 0, flat[0] == 0, None, width) for width in (2.0, 3.0, 9.0, None)]
    gallery = [Panel(field, flat[0]) for field in fields]
    seen = Evaluation({}, None, Chosen(0.0, 0.5), gallery, None)  # type: ignore[arg-type]
    assert typical_fwhm(seen) == 3.0
