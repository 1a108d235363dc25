"""The figure of a set of exposures shows every exposure, its limits and the worst of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from astrid.config import LimitsConfig, QualityConfig
from astrid.data.quality import Assessment, judge
from astrid.data.quality.header import Facts
from astrid.plots import VERMILION
from astrid.quality_plots import Grades, Panel, quality_figure
from astrid.quality_report import Judged, draw_quality, short_names


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


def test_a_set_without_exposures_has_no_figure() -> None:
    mask = Assessment("m.fits", Facts(kind="mask"), (9, 9))
    assert draw_quality([Judged(mask, judge(mask, QualityConfig()))], LimitsConfig()) is None


def test_names_lose_the_folder_that_all_share() -> None:
    assert short_names(["/a/b/c.fits", "/a/b/d/e.fits[1]"]) == ["c.fits", "d/e.fits[1]"]
    assert short_names(["c.fits"]) == ["c.fits"]
    assert short_names(["a/c.fits", "/b/d.fits"]) == ["a/c.fits", "/b/d.fits"]
    assert short_names([]) == []
