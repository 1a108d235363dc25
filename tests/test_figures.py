"""The figures of a run show what its evaluation counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from astrid.config import MetricsConfig
from astrid.data.frames import Field, Sources
from astrid.data.store import FieldStore, write_fields
from astrid.evaluate import Evaluation, evaluate
from astrid.figures import draw_figures, draw_reliability, gallery_panel
from astrid.predictor import Predictor
from astrid.runtime import Runtime

CONFIG = MetricsConfig(bins=4096)


class Brightness(nn.Module):
    """A stand-in for a network: the logit is the first channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1]


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """A field with a bright source at (10, 10), one that stays dark at (30, 12), and a bright artefact at (20, 30)."""
    image = np.full((1, 40, 40), -5.0, np.float32)
    target = np.zeros((40, 40), bool)
    target[9:12, 9:12] = target[11:14, 29:32] = True
    image[0, 9:12, 9:12] = image[0, 29:32, 19:22] = 3.0
    x, y = np.array([10.0, 30.0]), np.array([10.0, 12.0])
    sources = Sources(x, y, x, np.array([20.0, 4.0]), ["transient"] * 2)
    write_fields(tmp_path / "one", [Field("f", image, target, np.ones((40, 40), bool), sources, 3.0)])
    store = FieldStore(tmp_path / "one")
    runtime = Runtime(torch.device("cpu"), "fp32", threads=1, channels_last=False)
    return evaluate(Predictor(Brightness(), runtime, halo=0), val=store, test=store, config=CONFIG)


def test_the_gallery_marks_hits_misses_and_false_alarms_where_they_are(evaluation: Evaluation) -> None:
    panel = gallery_panel(evaluation.gallery[0], evaluation, CONFIG)
    np.testing.assert_allclose(panel.hits, [[10, 10]])
    np.testing.assert_allclose(panel.misses, [[30, 12]])
    np.testing.assert_allclose(panel.false_alarms, [[20, 30]])


def test_the_reliability_diagram_shows_before_and_after_with_a_bar_where_fields_say_how_sure(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fields = []
    for number in range(8):  # the fewest that have bars
        image = rng.normal(-1.0, 2.0, (1, 64, 64)).astype(np.float32)
        target = rng.random((64, 64)) < 1 / (1 + np.exp(-image[0] / 3))
        fields.append(Field(f"f{number}", image, target, np.ones((64, 64), bool)))
    write_fields(tmp_path / "eight", fields)
    store = FieldStore(tmp_path / "eight")
    runtime = Runtime(torch.device("cpu"), "fp32", threads=1, channels_last=False)
    config = MetricsConfig(bins=4096, calibration="temperature")
    found = evaluate(Predictor(Brightness(), runtime, halo=0), val=store, test=store, config=config)
    axes = draw_reliability(found).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    ece = found.metrics["test/ece"]
    assert {"before calibration", f"ECE {ece:.2g}"} <= set(lines)
    [bars] = [drawn for drawn in axes.collections if drawn.get_label() == "95 % interval over fields"]
    predicted, observed = lines[f"ECE {ece:.2g}"].get_data()
    segments = bars.get_segments()
    assert len(segments) == len(predicted)
    told = [place for place in zip(predicted, observed, segments, strict=True) if len(place[2])]
    assert len(told) > 8
    for at, share, ((x, low), (_, high)) in told:
        assert x == at
        assert low <= share <= high


def test_the_figures_carry_the_numbers_of_the_evaluation(evaluation: Evaluation) -> None:
    history = [{"epoch": 1.0, "train/loss": 0.5, "val/loss": 0.4, "val/auprc": 0.6}]
    figures = draw_figures(history, evaluation, best_epoch=1, monitor="val/auprc", config=CONFIG)
    assert set(figures) == {
        "training_curves",
        "confusion",
        "reliability",
        "gallery",
        "roc",
        "precision_recall",
        "completeness",
        "free_response",
    }
    [axes] = [axes for axes in figures["precision_recall"].axes if axes.get_xlabel().lower().startswith("recall")]
    recall = 9 / 18  # nine of eighteen positive pixels are bright, and so are nine negative ones
    points = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) == 1]
    assert any(np.allclose(point, [[recall, 0.5]]) for point in points), points
