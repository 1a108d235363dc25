"""Thresholds come from validation, numbers from the test fields, and memory doesn't grow with their number."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from astrid import evaluate as module
from astrid.config import MetricsConfig, ModelConfig
from astrid.data.frames import Field, Sources
from astrid.data.store import FieldStore, write_fields
from astrid.evaluate import Predictor, build_predictor, evaluate, score, tally
from astrid.metrics.objects import ObjectTally
from astrid.runtime import Runtime
from astrid.unet import build_unet

CPU = Runtime(torch.device("cpu"), "fp32", threads=1, channels_last=False)
CONFIG = MetricsConfig(bins=4096)


class Brightness(nn.Module):
    """A stand-in for a network: the logit is the first channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1]


def field(number: int, *, logit: float, size: int = 40, catalogue: bool = True) -> Field:
    """Two sources, three pixels wide, at the given logit on a background of -5; one of them lies on bad pixels."""
    image = np.full((1, size, size), -5.0, np.float32)
    target = np.zeros((size, size), bool)
    target[9:12, 9:12] = True
    image[0, target] = logit
    valid = np.ones((size, size), bool)
    valid[28:32, 28:32] = False
    position = np.array([10.0, 30.0])
    sources = Sources(position, position, position, np.array([8.0, 9.0]), ["transient"] * 2)
    return Field(f"f{number}", image, target, valid, sources if catalogue else None, 3.0 if catalogue else None)


def store(folder: object, fields: list[Field]) -> FieldStore:
    write_fields(folder, fields)  # type: ignore[arg-type]
    return FieldStore(folder)  # type: ignore[arg-type]


def test_thresholds_that_validation_chose_are_applied_to_test(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("evaluate")
    val = store(base / "val", [field(0, logit=3.0)])
    same, fainter = store(base / "same", [field(0, logit=3.0)]), store(base / "fainter", [field(0, logit=-4.9)])
    predictor = Predictor(Brightness(), CPU, halo=0)
    good = evaluate(predictor, val=val, test=same, config=CONFIG)
    assert good.metrics["test/completeness"] == 1.0
    assert good.metrics["test/purity"] == 1.0
    assert good.metrics["test/f1_macro"] == 1.0
    assert good.chosen.logit_threshold is not None
    assert -5.0 < good.chosen.logit_threshold <= 3.0
    missed = evaluate(predictor, val=val, test=fainter, config=CONFIG)
    assert missed.chosen.logit_threshold == good.chosen.logit_threshold
    assert missed.metrics["test/completeness"] == 0.0
    assert missed.metrics["test/threshold"] == good.metrics["test/threshold"]
    assert missed.metrics["test/recall_macro"] == 0.5  # all negatives, and no positive, below validation's threshold


def test_a_source_on_bad_pixels_counts_for_nobody() -> None:
    objects = ObjectTally([0.5], min_pixels=1)
    tally(
        objects,
        field(0, logit=3.0),
        torch.sigmoid(torch.from_numpy(field(0, logit=3.0).image[0])).numpy(),
        radius_fwhm=1,
    )
    assert (objects.hits[0], objects.misses[0]) == (1, 0)


def test_fields_without_a_catalogue_have_no_object_metrics(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("bare")
    bare = store(base / "bare", [field(0, logit=2.0, catalogue=False)])
    found = evaluate(Predictor(Brightness(), CPU, halo=0), val=bare, test=bare, config=CONFIG)
    assert found.chosen.detection_threshold is None
    assert not [name for name in found.metrics if "completeness" in name or "purity" in name]
    assert found.metrics["test/auprc"] == pytest.approx(1.0)


def test_the_gallery_holds_the_first_test_fields(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("gallery")
    several = store(base / "several", [field(number, logit=1.0 + number) for number in range(4)])
    config = MetricsConfig(bins=4096, gallery_size=2)
    found = evaluate(Predictor(Brightness(), CPU, halo=0), val=several, test=several, config=config)
    assert [panel.field.name for panel in found.gallery] == ["f0", "f1"]
    assert found.gallery[1].probability.max() == pytest.approx(1 / (1 + np.exp(-2.0)))


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize("size", [(140, 156), (100, 37), (64, 64)])
def test_windows_predict_what_the_whole_frame_does(
    size: tuple[int, int], norm: Literal["batch", "group", "instance", "none"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CORE", 32)
    config = ModelConfig(depth=2, filters=4, norm=norm)
    torch.manual_seed(0)
    network = build_unet(config, channels=1, stretch="linear", prior=0.1)
    network.heads[0].weight.data *= 100.0  # or the bias would hide what the windows do
    image = np.random.default_rng(0).normal(size=(1, *size)).astype(np.float32)
    image[:, :20, :20] += 50.0
    predicted = build_predictor(network, CPU, config).logits(image)
    with torch.inference_mode():
        whole = network.eval()(torch.from_numpy(image)[None])[0, 0]
    assert whole.std() > 0.2
    torch.testing.assert_close(predicted, whole, atol=1e-4, rtol=1e-4)


def peak_of_scoring(count: int) -> int:
    def fields() -> Iterator[tuple[Field, Tensor]]:
        for number in range(count):
            made = field(number, logit=2.0, size=128)
            yield made, torch.from_numpy(made.image[0])

    tracemalloc.start()
    score(fields(), thresholds=[0.1, 0.5], config=CONFIG, device=CPU.device)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_is_flat_from_10_to_500_frames() -> None:
    peak_of_scoring(2)  # whatever is imported or cached on first use
    assert peak_of_scoring(500) < peak_of_scoring(10) + 500_000  # a frame is 82 kB, what is kept of each below 1 kB
