"""The figure of a set of exposures shows every exposure, its limits and the worst of them."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from astrid.config import LimitsConfig, QualityConfig
from astrid.data.quality import Assessment, judge
from astrid.data.quality.header import Facts
from astrid.plots import VERMILION
from astrid.quality_plots import Grades, Panel, quality_figure
from astrid.quality_report import PANELS, Judged, draw_quality, short_names


def drawn(count: int) -> Figure:
    rng = np.random.default_rng(0)
    scores = np.linspace(1, 0, count)
    grades = Grades(
        [f"night/exposure_{number:03d}.fits.gz" for number in range(count)],
        scores,
        {"fwhm_pixels": scores},
        {"fwhm_pixels": [f"{value:.1f}" for value in scores]},
    )
    panels = [Panel("FWHM", rng.uniform(2, 9, count), (6.0, 8.0)), Panel("empty", np.full(count, np.nan))]
    return quality_figure(panels, grades, passed=scores > 0.2)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels())]


@pytest.mark.parametrize("count", [1, 5, 400])
def test_every_exposure_is_a_point_and_the_worst_have_a_row(count: int) -> None:
    figure = drawn(count)
    points = {line.get_color(): len(line.get_xdata()) for line in figure.axes[0].lines}
    assert sum(points.values()) == count
    assert points[VERMILION] == (np.linspace(1, 0, count) <= 0.2).sum()
    rows = [text for text in texts(figure) if text.startswith("night/")]
    assert len(rows) == min(count, 16) and rows[0].endswith(f"{count - 1:03d}  {count}")
    stream = io.BytesIO()
    figure.savefig(stream)
    assert len(stream.getvalue()) < 300_000


def test_a_measure_that_no_exposure_has_gets_no_panel() -> None:
    assert "empty" not in [axes.get_title("left") for axes in drawn(5).axes]


def alike(number: int, **values: float) -> Judged:
    """Return an exposure that differs from others of a set by less than means anything."""
    measured = {"noise": 14.2, "fwhm_pixels": 2.94, "saturated_fraction": 0.0, "background": 123456.0}
    measured |= {"wcs_residual_pixels": 10.0 ** (number - 14), "limiting_magnitude": 22.0, **values}
    shaken = {name: value * (1 + 1e-8 * number) for name, value in measured.items()}
    found = Assessment(f"{number}.fits", Facts(), (99, 99), values=shaken)
    return Judged(found, judge(found, QualityConfig()))


def axis_of(figure: Figure, title: str) -> tuple[float, float]:
    return next(axes.get_ylim() for axes in figure.axes if axes.get_title("left") == title)


def test_axes_show_no_differences_that_mean_nothing() -> None:
    figure = draw_quality([alike(number) for number in range(8)], LimitsConfig())
    assert axis_of(figure, "score") == pytest.approx((0, 1), abs=0.05)
    assert np.ptp(axis_of(figure, "FWHM (pixels)")) >= 0.5
    assert np.ptp(axis_of(figure, "sky (image unit)")) >= 0.05 * 123456
    assert axis_of(figure, "saturated share") == pytest.approx((0, 1e-3), abs=1e-4)
    assert axis_of(figure, "WCS residual (pix)") == pytest.approx((0, 0.1), abs=0.01)


def test_axes_hold_every_value_and_scores_are_from_0_to_1() -> None:
    bad = {"fwhm_pixels": 14.5, "wcs_residual_pixels": 4.0, "saturated_fraction": 0.1}
    figure = draw_quality([alike(0), alike(1, **bad)], LimitsConfig())
    assert axis_of(figure, "score") == pytest.approx((0, 1), abs=0.05)
    for title, value in (("FWHM (pixels)", 14.5), ("WCS residual (pix)", 4.0), ("saturated share", 0.1)):
        bottom, top = axis_of(figure, title)
        assert bottom < value < top
    assert 1e-4 < axis_of(figure, "WCS residual (pix)")[0] < 1e-3


@pytest.mark.parametrize("last", ["wcs_residual_pixels", "limiting_magnitude", "depth", "background_gradient"])
def test_titles_end_before_the_edge(last: str) -> None:
    """Each of the long ones in the last column, with ticks as wide as they get."""
    title, scale = PANELS[last]
    panels = [Panel("sky (image unit)", np.array([1.2e-4, 9.8e-4])) for _ in range(3)]
    panels.append(
        Panel(title, np.array([1.2e-4, 9.8e-4]), scale=dataclasses.replace(scale, span=0, start=None, floor=0))
    )
    scores = np.ones(2)
    table = Grades(["a", "b"], scores, {"noise": scores}, {"noise": ["1", "1"]})
    figure = quality_figure(panels, table, passed=scores > 0)
    figure.savefig(io.BytesIO())  # which lays it out
    titles = [text for text in figure.axes[3].get_children() if isinstance(text, Text) and text.get_text() == title]
    assert [text.get_window_extent().x1 <= figure.bbox.x1 for text in titles] == [True]


def test_a_set_without_exposures_has_no_figure() -> None:
    mask = Assessment("m.fits", Facts(kind="mask"), (9, 9))
    assert draw_quality([Judged(mask, judge(mask, QualityConfig()))], LimitsConfig()) is None


def test_names_lose_the_folder_that_all_share() -> None:
    assert short_names(["/a/b/c.fits", "/a/b/d/e.fits[1]"]) == ["c.fits", "d/e.fits[1]"]
    assert short_names(["c.fits"]) == ["c.fits"]
    assert short_names(["a/c.fits", "/b/d.fits"]) == ["a/c.fits", "/b/d.fits"]
    assert short_names([]) == []
