"""Claims about the figures of detections."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes

from astrid.object_plots import Line, completeness_figure, free_response_figure


def line(axes: Axes, label: str) -> np.ndarray:
    """Return the points of the line with this label, (N, 2)."""
    [found] = [drawn for drawn in axes.lines if drawn.get_label() == label]
    return found.get_xydata()


def test_completeness_draws_shares_with_wilson_intervals_and_leaves_empty_bins_out():
    edges, found, total = np.array([1.0, 4.0, 16.0, 64.0]), np.array([1, 0, 9]), np.array([4, 0, 9])
    (axes,) = completeness_figure(edges, found, total, snr50=5.0).axes
    (bars,) = axes.containers
    points, _, (intervals,) = bars
    np.testing.assert_allclose(np.column_stack(points.get_data()), [[2, 0.25], [32, 1]])
    # z = 1.96, n = 4, p = 1/4: centre (p + z²/2n) / (1 + z²/n), half width z sqrt(pq/n + z²/4n²) / (1 + z²/n)
    np.testing.assert_allclose(intervals.get_segments()[0][:, 1], [0.0456, 0.6994], atol=1e-3)
    assert intervals.get_segments()[1][1, 1] == pytest.approx(1)
    assert (line(axes, "U-Net: half are found at 5.0")[:, 0] == 5).all()


@pytest.mark.parametrize("share", [0, 1])
def test_completeness_is_drawn_for_any_number_of_sources_all_found_or_none(share):
    total = np.arange(1, 400)  # for some, an interval misses 0 or 1 by a rounding
    (axes,) = completeness_figure(np.geomspace(1, 9, 400), share * total, total, snr50=None).axes
    (bars,) = axes.containers
    ends = np.array([segment[:, 1] for segment in bars[2][0].get_segments()])
    assert (ends[:, 0] <= share).all() and (ends[:, 1] >= share - 1e-12).all()


def test_completeness_without_sources_is_drawn():
    figure = completeness_figure(np.array([3.0, 9.0]), np.zeros(1, int), np.zeros(1, int), snr50=None)
    figure.canvas.draw()
    (axes,) = figure.axes
    ((points, *_),) = axes.containers
    assert points.get_xydata().tolist() == []


def test_rivals_and_the_limit_are_lines_of_their_own():
    x = np.array([3.0, 9.0])
    rivals = {"matched filter": Line(x, np.array([0.1, 0.8])), "SEP": Line(x, np.array([0.2, 0.7]))}
    counts = np.array([3]), np.array([4])
    figure = completeness_figure(x, *counts, snr50=None, rivals=rivals, ideal=Line(x, np.array([0.3, 1.0])))
    (axes,) = figure.axes
    assert line(axes, "SEP").tolist() == [[3, 0.2], [9, 0.7]]
    [ideal] = [drawn for drawn in axes.lines if drawn.get_label().startswith("ideal")]
    assert ideal.get_ydata().tolist() == [0.3, 1.0]
    assert "can lie above it" in figure.get_supxlabel()
    assert len({drawn.get_color() for drawn in axes.lines}) == 4  # the network's bars are blue


def test_free_response_leaves_out_what_a_logarithm_cannot_show_and_marks_the_chosen_threshold():
    curve = Line(np.array([0.0, 2.0, 20.0]), np.array([0.3, 0.5, 0.9]))
    (axes,) = free_response_figure({"U-Net": curve}, chosen={"U-Net": (2.0, 0.5)}).axes
    assert line(axes, "U-Net").tolist() == [[2, 0.5], [20, 0.9]]
    assert any(drawn.get_xydata().tolist() == [[2.0, 0.5]] for drawn in axes.lines)
