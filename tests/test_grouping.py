"""Bright pixels are grouped at any threshold as connected components are, and split where there are two peaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from astrid.metrics.detections import find_detections, threshold_detections
from astrid.metrics.grouping import DIP, BrightPixels, _hills, _smooth

SIGMA = 1.5


def sources(*places: tuple[float, float, float], size: int = 40) -> np.ndarray:
    """Return a map of Gaussian peaks given as (x, y, height)."""
    rows, columns = np.mgrid[:size, :size]
    spots = [height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * SIGMA**2)) for x, y, height in places]
    return np.asarray(np.sum(spots, axis=0))


def found_in(response: np.ndarray, threshold: float) -> np.ndarray:
    """Return (x, y) of the detections, by rising x."""
    detections = find_detections(response, np.ones(response.shape, bool), threshold=threshold, min_pixels=1)
    return np.sort(np.stack([detections.x, detections.y], axis=1), axis=0)


def test_two_sources_that_touch_are_two_detections_near_their_centres() -> None:
    pair = sources((15, 20, 10.0), (21, 20, 8.0))
    assert ndimage.label(pair >= 1.0)[1] == 1
    np.testing.assert_allclose(found_in(pair, 1.0), [[15, 20], [21, 20]], atol=0.3)


def test_two_sources_closer_than_a_dip_are_one_detection() -> None:
    assert len(found_in(sources((15, 20, 10.0), (17, 20, 10.0)), 1.0)) == 1


@pytest.mark.parametrize("dip", [DIP - 0.1, DIP + 0.1])
def test_a_plateau_with_a_dip_is_split_only_if_it_is_deep_enough(dip: float) -> None:
    bridge = np.zeros((20, 60))
    bridge[5:15, 5:55] = 10.0
    bridge[5:15, 25:35] = 10.0 * (1 - dip)
    assert len(found_in(bridge, 1.0)) == (2 if dip > DIP else 1)


@pytest.mark.parametrize(("pass_height", "hills"), [(2.9, 2), (3.1, 1)])
def test_the_pass_between_two_peaks_is_the_lowest_point_of_the_way(pass_height: float, hills: int) -> None:
    along = np.array([4.0, pass_height, 4.0])  # a quarter below 4 is 3
    assert len(set(_hills(along, np.array([0, 1]), np.array([1, 2])))) == hills


def test_noise_on_one_bright_source_does_not_split_it() -> None:
    noisy = sources((20, 20, 100.0)) + np.random.default_rng(0).normal(size=(40, 40))
    assert len(found_in(noisy, 8.0)) == 1


def test_a_single_peak_keeps_its_centroid_to_a_fraction_of_a_pixel() -> None:
    [[x, y]] = found_in(sources((15.3, 20.8, 10.0)), 0.5)
    assert (x, y) == pytest.approx((15.3, 20.8), abs=0.05)


maps = arrays(np.float64, (9, 11), elements=st.floats(0, 1))


@given(response=maps, valid=arrays(np.bool_, (9, 11)), threshold=st.sampled_from([0.2, 0.5, 0.8]))
@settings(max_examples=80, deadline=None)
def test_groups_are_connected_components_or_parts_of_them(
    response: np.ndarray, valid: np.ndarray, threshold: float
) -> None:
    bright = BrightPixels(response, valid, lowest=0.1)
    group, count = bright.groups(threshold)
    labels, components = ndimage.label(valid & (response >= threshold), structure=np.ones((3, 3)))
    assert count >= components
    rows, columns = bright.rows[: len(group)], bright.columns[: len(group)]
    assert sorted(zip(rows, columns, strict=True)) == sorted(zip(*np.nonzero(labels), strict=True))
    for number in range(count):
        assert len(set(labels[rows[group == number], columns[group == number]])) == 1


@given(response=maps)
@settings(max_examples=40, deadline=None)
def test_several_thresholds_give_what_each_gives_alone(response: np.ndarray) -> None:
    valid = np.ones(response.shape, bool)
    together = threshold_detections(response, valid, thresholds=[0.3, 0.6, 0.9], min_pixels=1)
    for threshold, found in zip([0.3, 0.6, 0.9], together, strict=True):
        alone = find_detections(response, valid, threshold=threshold, min_pixels=1)
        assert np.array_equal(found.x, alone.x) and np.array_equal(found.y, alone.y)
    assert [len(found.x) == 0 for found in together] == [not (response >= t).any() for t in (0.3, 0.6, 0.9)]


@pytest.mark.parametrize("seed", range(10))
def test_the_lowest_threshold_that_is_tried_does_not_change_what_others_find(seed: int) -> None:
    response = np.random.default_rng(seed).random((9, 11))
    few, many = (
        threshold_detections(response, response >= 0, thresholds=[*lax, 0.6], min_pixels=1)[-1]
        for lax in ([], [0.01, 0.3])
    )
    assert np.array_equal(few.x, many.x) and np.array_equal(few.pixels, many.pixels)


def test_a_flat_map_stays_flat_beside_bad_pixels() -> None:
    flat, valid = np.full((9, 9), 0.3), np.ones((9, 9), bool)
    valid[:, 4] = False
    np.testing.assert_allclose(_smooth(flat, valid)[valid], 0.3)


def test_bad_pixels_that_narrow_a_bridge_dig_no_dip_into_it() -> None:
    bar, valid = np.zeros((20, 60)), np.ones((20, 60), bool)
    bar[17:20, 5:55] = 0.9
    valid[17:19, 28:33] = False  # one row of three is left, that at the edge
    found = find_detections(bar, valid, threshold=0.5, min_pixels=1)
    assert found.pixels.tolist() == [140]
    assert found.beside_invalid.tolist() == [True]


def test_isolated_components_are_left_as_they_are() -> None:
    rng = np.random.default_rng(1)
    response = np.zeros((60, 60))
    response[::6, ::6] = rng.uniform(0.2, 1.0, (10, 10))
    found = find_detections(response, response >= 0, threshold=0.5, min_pixels=1)
    _labels, components = ndimage.label(response >= 0.5)
    assert len(found.x) == components
