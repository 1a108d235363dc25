"""Claims about the figures."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import image as plot_image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astrid.plots import (
    GalleryPanel,
    confusion_figure,
    gallery_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    training_curves,
)

NOWHERE = np.empty((0, 2))
NONE = np.empty(0)


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def line(axes: Axes, label: str) -> np.ndarray:
    """Data of the one line whose label starts so, (N, 2)."""
    (found,) = (line for line in axes.lines if str(line.get_label()).startswith(label))
    return np.column_stack(found.get_data())


def history(epochs: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": float(epoch),
            "train/loss": 1 / epoch,
            "val/loss": 2 / epoch,
            "val/auprc": 1 - 1 / epoch,
            "train/learning_rate": 0.1 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def panel(*, size: int = 40, sources: np.ndarray = NOWHERE) -> GalleryPanel:
    sky = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    target = np.zeros((size, size), dtype=bool)
    target[size // 3, size - 1] = True
    return GalleryPanel(
        "test-0",
        sky,
        target,
        np.where(target, 0.9, np.abs(sky) / 1000).astype(np.float32),
        sources,
        sources + 1,
        sources + 2,
    )


def test_training_curves_show_every_epoch_that_has_the_measure():
    records = history(5)
    del records[2]["val/auprc"]  # undefined in that epoch
    losses, scores, rates = training_curves(records, best_epoch=4).axes
    np.testing.assert_allclose(line(losses, "train/loss"), [(epoch, 1 / epoch) for epoch in range(1, 6)])
    np.testing.assert_allclose(line(losses, "val/loss"), [(epoch, 2 / epoch) for epoch in range(1, 6)])
    np.testing.assert_allclose(line(scores, "val/auprc"), [(epoch, 1 - 1 / epoch) for epoch in (1, 2, 4, 5)])
    np.testing.assert_allclose(line(rates, "train/learning_rate")[:, 1], [0.1 / epoch for epoch in range(1, 6)])
    assert (line(losses, "best, epoch 4")[:, 0] == 4).all()


def test_training_curves_follow_another_score():
    records = [{"epoch": 1.0, "val/brier": 0.25}]
    _, scores, _ = training_curves(records, score="val/brier").axes
    assert line(scores, "val/brier").tolist() == [[1.0, 0.25]]
    assert scores.get_title(loc="left") == "val/brier"


def test_roc_draws_its_points_on_logarithmic_false_positive_rates():
    fpr, tpr = np.array([0, 2e-5, 0.1, 1]), np.array([0, 0.5, 0.9, 1])
    (axes,) = roc_figure(fpr, tpr, auroc=0.95, operating_point=(0.1, 0.9)).axes
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(line(axes, "AUROC 0.9500"), np.column_stack([fpr, tpr]))
    assert line(axes, "chosen threshold: true 0.9, false 0.1").tolist() == [[0.1, 0.9]]
    assert axes.get_xlim() == pytest.approx((1e-5, 1))


def test_precision_recall_draws_the_steps_that_average_precision_sums():
    recall, precision = np.array([0.25, 0.5, 1.0]), np.array([1.0, 0.8, 0.1])
    figure = precision_recall_figure(recall, precision, auprc=0.5, prevalence=0.1, operating_point=(0.5, 0.8))
    (axes,) = figure.axes
    np.testing.assert_array_equal(line(axes, "AUPRC 0.5000"), np.column_stack([recall, precision]))
    (curve,) = (line for line in axes.lines if str(line.get_label()).startswith("AUPRC"))
    assert curve.get_drawstyle() == "steps-pre"  # each precision holds from the recall before to its own
    (first,) = axes.collections
    assert first.get_segments()[0].tolist() == [[0, 1], [0.25, 1]]
    assert (line(axes, "prevalence 0.1")[:, 1] == 0.1).all()
    assert line(axes, "chosen threshold: recall 0.5, precision 0.8").tolist() == [[0.5, 0.8]]


def test_confusion_says_counts_and_shares_of_the_true_class():
    axes, _ = confusion_figure(np.array([[1_234_000, 6_000], [10, 30]])).axes
    texts = {text.get_position(): text.get_text() for text in axes.texts}  # (answer, truth)
    assert texts[0, 0] == "1,234,000\n99.52%"
    assert texts[1, 0] == "6,000\n0.48%"
    assert texts[0, 1] == "10\n25.00%"
    assert texts[1, 1] == "30\n75.00%"
    np.testing.assert_allclose(axes.images[0].get_array()[1], [0.25, 0.75])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer", "truth")


def test_reliability_draws_observed_by_predicted_and_the_pixels_behind_each():
    predicted, observed, count = np.array([0.01, 0.4, 0.9]), np.array([0.02, 0.3, 0.95]), np.array([10**6, 100, 1])
    axes, counts = reliability_figure(predicted, observed, count, ece=6.6e-5).axes
    np.testing.assert_array_equal(line(axes, "ECE 6.6e-05"), np.column_stack([predicted, observed]))
    assert [bar.get_height() for bar in counts.patches] == count.tolist()
    assert counts.get_yscale() == "log"


def test_gallery_shows_images_and_objects_in_pixel_coordinates():
    shown = panel(sources=np.array([[5.0, 7.0], [8.0, 2.0]]))
    science, truth, probability = gallery_figure([shown]).axes
    np.testing.assert_array_equal(science.images[0].get_array(), shown.science)
    np.testing.assert_array_equal(truth.images[0].get_array(), shown.target)
    np.testing.assert_array_equal(probability.images[0].get_array(), shown.probability)
    assert science.get_xlim() == science.get_ylim() == (-0.5, 39.5)
    for axes in (science, probability):
        places = {marks.get_label(): marks.get_offsets().tolist() for marks in axes.collections}
        assert places == {
            "hit": [[5, 7], [8, 2]],
            "miss": [[6, 8], [9, 3]],
            "false alarm": [[7, 9], [10, 4]],
        }


def test_gallery_without_a_catalogue_outlines_what_is_above_the_threshold():
    shown = dataclasses.replace(panel(), threshold=0.01)
    figure = gallery_figure([shown])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["probability 0.01, the chosen threshold"]
    probability = figure.axes[2]
    assert probability.images[0].norm(0.01) == pytest.approx(0.5)
    (outline,) = probability.collections
    rows = outline.get_paths()[0].vertices[:, 1]
    assert len(rows) and abs(rows - 40 // 3).max() <= 1  # the one pixel of the target


def test_gallery_bins_large_fields_without_losing_a_positive_pixel_or_their_coordinates():
    science, truth, _ = gallery_figure([panel(size=800)]).axes
    assert science.images[0].get_array().shape == (115, 115)  # bins of 7
    assert science.get_xlim() == (-0.5, 799.5)
    assert truth.images[0].get_array().sum() == 1


@pytest.mark.parametrize("count", [1, 3])
def test_gallery_cuts_no_title(count: int):
    figure = gallery_figure([panel(sources=np.array([[5.0, 7.0]]))] * count)
    drawn = plot_image.imread(io.BytesIO(png(figure)))
    assert (drawn[0] == 1).all(), "the row at the edge is white"


@pytest.mark.parametrize("shape", [(300, 100), (100, 100), (100, 200)])
def test_gallery_gives_a_field_of_any_shape_the_width_of_a_column(shape: tuple[int, int]):
    blank = np.zeros(shape, np.float32)
    shown = dataclasses.replace(panel(), science=blank, target=blank > 0, probability=blank)
    figure = gallery_figure([panel(), shown])
    figure.draw_without_rendering()
    square, odd = (figure.axes[number].get_window_extent() for number in (0, 3))
    assert odd.width == pytest.approx(square.width, rel=0.03)
    assert odd.height / odd.width == pytest.approx(shape[0] / shape[1], rel=0.01)


NO_PIXELS = np.zeros((2, 2), dtype=np.int64)
DEGENERATE = {
    "no epoch": lambda: training_curves([]),
    "one epoch": lambda: training_curves(history(1), best_epoch=1),
    "a hundred epochs": lambda: training_curves(history(100), best_epoch=50),
    "roc of one class": lambda: roc_figure(np.array([0.0, 0.0]), np.array([0.0, 1.0]), auroc=None),
    "roc of nothing": lambda: roc_figure(NONE, NONE, auroc=None),
    "precision of nothing": lambda: precision_recall_figure(NONE, NONE, auprc=None, prevalence=0.0),
    "one threshold": lambda: precision_recall_figure(np.ones(1), np.full(1, 0.01), auprc=0.01, prevalence=0.01),
    "no pixels": lambda: confusion_figure(NO_PIXELS),
    "no bins": lambda: reliability_figure(NONE, NONE, NONE, ece=None),
    "one bin": lambda: reliability_figure(np.full(1, 0.01), np.zeros(1), np.full(1, 4), ece=0.01),
    "no field": lambda: gallery_figure([]),
    "no sources": lambda: gallery_figure([panel()]),
    "one pixel": lambda: gallery_figure([panel(size=1)]),
}


@pytest.mark.parametrize("draw", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_input_is_drawn(draw):
    assert png(draw()).startswith(b"\x89PNG")


def test_a_figure_is_1000_pixels_wide_and_its_file_modest():
    figure = gallery_figure([panel(size=256, sources=np.full((2, 2), 9.0))] * 4)
    assert figure.get_size_inches()[0] * figure.dpi == 1000
    assert len(png(figure)) < 250_000


def test_drawing_leaves_the_style_of_others_alone():
    before = dict(mpl.rcParams)
    training_curves(history(2))
    assert dict(mpl.rcParams) == before


def test_drawing_needs_no_pyplot():
    code = "import sys, astrid.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
