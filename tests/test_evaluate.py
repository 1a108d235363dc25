"""Thresholds come from validation, numbers from the test fields, and memory doesn't grow with their number."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory import memory_peak
from scipy.special import expit
from sklearn.metrics import average_precision_score, recall_score
from torch import Tensor, nn

from astrid import evaluate as module
from astrid import predictor
from astrid.aims import check_operating_point
from astrid.config import DataError, MetricsConfig, ModelConfig
from astrid.data.frames import Field, Sources
from astrid.data.store import FieldStore, write_fields
from astrid.evaluate import Evaluation, decide, evaluate
from astrid.metrics import per_field
from astrid.metrics.calibrators import Calibrator
from astrid.metrics.histogram import PixelHistogram
from astrid.metrics.objects import ObjectTally
from astrid.predictor import Predictor, build_predictor
from astrid.runtime import Runtime
from astrid.scoring import Scores, score, tally
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


@pytest.mark.parametrize(
    ("logits", "called", "said"), [([-50.0] * 3, 3, "every pixel"), ([50.0] * 100 + [-1.0], 0, "no pixel")]
)
def test_a_threshold_without_end_is_said_and_stays_a_number(
    logits: list[float], called: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    histogram = PixelHistogram(bins=4096, limit=40.0, device="cpu")
    truth = torch.arange(len(logits)) == len(logits) - 1
    histogram.update(torch.tensor(logits), truth, torch.ones(len(logits), dtype=torch.bool))
    knobs = {} if called else {"operating_point": "fpr", "operating_target": 0.5}
    chosen = decide(Scores(histogram, None), Calibrator(), config=MetricsConfig(bins=4096, **knobs))
    assert chosen.logit_threshold is not None and chosen.operating_point is not None
    assert chosen.operating_point.threshold == chosen.logit_threshold
    assert int((torch.tensor(logits) >= chosen.logit_threshold).sum()) == called
    assert f"calls {said} positive" in caplog.text
    assert (
        json.loads(json.dumps(dataclasses.asdict(chosen), allow_nan=False))["logit_threshold"] == chosen.logit_threshold
    )


def test_detections_are_matched_within_a_multiple_of_the_fields_own_width() -> None:
    apart = field(0, logit=3.0)
    probability = np.zeros((40, 40))
    probability[10, 15] = 0.9  # 5 pixels from the source, whose FWHM is 3
    hits = []
    for radius_fwhm in (1.5, 1.8):
        objects = ObjectTally([0.5], min_pixels=1)
        tally(objects, apart, probability, radius_fwhm=radius_fwhm)
        hits.append(int(objects.hits[0]))
    assert hits == [0, 1]


def test_whatever_a_field_is_judged_by_is_in_its_fingerprint(tmp_path: Path) -> None:
    plain = field(0, logit=3.0)
    assert plain.sources is not None
    moved = {
        name: dataclasses.replace(plain.sources, **{name: getattr(plain.sources, name) + 1.0})
        for name in ("x", "y", "snr")
    }
    others = [dataclasses.replace(plain, sources=sources) for sources in moved.values()]
    others += [dataclasses.replace(plain, fwhm_pixels=4.0), dataclasses.replace(plain, group="shared")]
    prints = [fingerprint_of(one, tmp_path / f"{number}", CONFIG) for number, one in enumerate([plain, *others])]
    wider, larger, finer, longer = (
        MetricsConfig(**{"bins": 4096} | knob)
        for knob in ({"match_radius_fwhm": 2.0}, {"min_pixels": 2}, {"bins": 8192}, {"logit_limit": 50.0})
    )
    prints += [
        fingerprint_of(plain, tmp_path / f"knob{number}", config)
        for number, config in enumerate([wider, larger, finer, longer])
    ]
    assert len(set(prints)) == len(prints)


def fingerprint_of(made: Field, folder: Path, config: MetricsConfig) -> str:
    one = store(folder, [made])
    return evaluate(Predictor(Brightness(), CPU, halo=0), val=one, test=one, config=config).fields.fingerprint


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
    config = MetricsConfig(bins=4096, figures=False)
    assert evaluate(Predictor(Brightness(), CPU, halo=0), val=several, test=several, config=config).gallery == []


@pytest.mark.parametrize(
    "shape",
    [{"norm": "batch"}, {"norm": "group"}, {"norm": "instance"}, {"norm": "none"}, {"test_time_augmentation": True}],
)
@pytest.mark.parametrize("size", [(140, 156), (100, 37), (64, 64)])
def test_windows_predict_what_the_whole_frame_does(
    size: tuple[int, int], shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "CORE", 32)
    config = ModelConfig(depth=2, filters=4, **shape)
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
            if number % 10 == 0:
                gc.collect()  # cycles that wait for the collector are nothing that is kept
            made = field(number, logit=2.0, size=128)
            yield made, torch.from_numpy(made.image[0])

    return memory_peak(lambda: score(fields(), thresholds=[0.1, 0.5], config=CONFIG, device=CPU.device))


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_memory_is_flat_from_10_frames_on(count: int) -> None:
    peak_of_scoring(2)  # whatever is imported or cached on first use
    assert peak_of_scoring(count) < peak_of_scoring(10) + 1000 * count  # a frame is 82 kB, what is kept below 1 kB


class Overconfident(nn.Module):
    """A stand-in for a network whose logits are three times what they should be."""

    def forward(self, image: Tensor) -> Tensor:
        return 3 * image[:, :1]


def honest_fields(count: int, *, start: int = 0) -> list[Field]:
    """Fields whose first channel is the logit of the frequency with which a pixel is positive, without a catalogue."""
    made = []
    for number in range(start, start + count):
        rng = np.random.default_rng(number)
        image = rng.normal(-2.0, 2.0, (1, 128, 128)).astype(np.float32)
        target = rng.random((128, 128)) < expit(image[0])
        made.append(Field(f"h{number}", image, target, np.ones((128, 128), bool)))
    return made


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[FieldStore, FieldStore]:
    """Four fields to choose on and four to test on."""
    base = tmp_path_factory.mktemp("honest")
    return store(base / "val", honest_fields(4)), store(base / "test", honest_fields(4, start=4))


def judged(honest: tuple[FieldStore, FieldStore], **knobs: Any) -> Evaluation:
    config = MetricsConfig(bins=2**16, **knobs)
    return evaluate(Predictor(Overconfident(), CPU, halo=0), val=honest[0], test=honest[1], config=config)


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_calibration_at_least_halves_the_error_of_an_overconfident_network(honest, kind) -> None:
    plain, fitted = judged(honest), judged(honest, calibration=kind)
    assert fitted.metrics["test/ece_uncalibrated"] == plain.metrics["test/ece"] > 0.05
    assert fitted.metrics["test/ece"] <= plain.metrics["test/ece"] / 2
    assert fitted.metrics["test/brier"] < plain.metrics["test/brier"]
    assert "test/ece_uncalibrated" not in plain.metrics
    assert fitted.metrics["test/auprc"] == plain.metrics["test/auprc"]
    assert fitted.chosen.logit_threshold == plain.chosen.logit_threshold
    logits = torch.from_numpy(3 * fitted.gallery[0].field.image[0])
    np.testing.assert_array_equal(fitted.gallery[0].probability, fitted.chosen.calibrator.probability(logits))


def test_a_false_positive_rate_holds_on_the_test_half_and_the_report_states_both(honest) -> None:
    found = judged(honest, operating_point="fpr", operating_target=0.02)
    assert found.chosen.operating_point is not None
    assert found.chosen.logit_threshold == found.chosen.operating_point.threshold
    assert found.metrics["test/operating_target"] == 0.02
    assert found.metrics["test/operating_achieved"] == pytest.approx(0.02, rel=0.2)
    assert found.metrics["test/operating_achieved"] == found.metrics["test/false_positive_rate"]
    assert found.metrics["test/operating_validation"] == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("calibration", ["none", "temperature", "isotonic"])
def test_a_purity_is_chosen_among_detections_of_calibrated_probability(
    calibration, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("pure")
    bright, spot = field(0, logit=3.0, size=64), np.s_[0, 50:53, 10:13]
    bright.image[spot] = 1.0  # a false detection, fainter than the source
    several = store(base / "several", [bright])
    config = MetricsConfig(
        bins=4096, calibration=calibration, operating_point="purity", operating_target=1.0, detection_thresholds=50
    )
    found = evaluate(Predictor(Brightness(), CPU, halo=0), val=several, test=several, config=config)
    assert found.chosen.operating_point is not None
    assert found.chosen.detection_threshold == found.chosen.operating_point.threshold
    assert found.metrics["test/purity"] == found.metrics["test/operating_achieved"] == 1.0
    assert found.metrics["test/completeness"] == 1.0
    probability = found.chosen.calibrator.probability(torch.tensor([1.0, 3.0]))
    assert probability[0] < found.chosen.detection_threshold <= probability[1]


def test_detections_are_tallied_at_calibrated_and_not_at_raw_probabilities(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path_factory.mktemp("sharp")
    bright = field(0, logit=3.0, size=64)
    bright.image[0, 50:53, 10:13] = 1.0
    several = store(base / "several", [bright])
    monkeypatch.setattr(module, "fit_calibrator", lambda pixels, kind: Calibrator("temperature", 0.2))
    config = MetricsConfig(bins=4096, calibration="temperature", detection_thresholds=50)
    found = evaluate(Predictor(Brightness(), CPU, halo=0), val=several, test=several, config=config)
    assert expit(1 / 0.2) < found.chosen.detection_threshold  # which no raw probability here reaches
    assert (found.metrics["test/completeness"], found.metrics["test/purity"]) == (1.0, 1.0)


def test_a_target_of_detections_is_refused_for_fields_without_a_catalogue(honest) -> None:
    wanted = MetricsConfig(operating_point="purity", operating_target=0.9)
    with pytest.raises(DataError, match=r"metrics\.operating_point must be f1 or fpr .* got 'purity'"):
        check_operating_point(honest[0], wanted)
    check_operating_point(honest[0], MetricsConfig(operating_point="fpr", operating_target=0.1))


def test_a_rate_that_validation_can_not_resolve_is_refused_with_the_smallest_that_it_can(honest) -> None:
    negatives = sum(entry.valid_pixels - entry.positives for entry in honest[0].entries)
    with pytest.raises(DataError, match=r"operating_target must be at least \S+ here.* got 1e-12; try") as refused:
        check_operating_point(honest[0], MetricsConfig(operating_point="fpr", operating_target=1e-12))
    smallest = float(str(refused.value).partition("metrics.operating_target=")[2].partition(",")[0])
    assert 10 / negatives <= smallest < 1.1 * 10 / negatives
    check_operating_point(honest[0], MetricsConfig(operating_point="fpr", operating_target=smallest))
    with pytest.raises(DataError, match="operating_target must be at least"):
        check_operating_point(honest[0], MetricsConfig(operating_point="fpr", operating_target=9.99 / negatives))


def test_each_field_is_scored_by_itself_with_the_same_threshold_and_calibrator(honest) -> None:
    found = judged(honest, calibration="temperature")
    assert set(found.fields.scores) >= {"auprc", "auroc", "ece", "brier", "precision_positive", "recall_positive"}
    for number in range(4):
        made = honest[1].field(number)
        logits = 3 * made.image[0].ravel()
        exact = average_precision_score(made.target.ravel(), logits)
        assert found.fields.scores["auprc"][number] == pytest.approx(exact, abs=1e-3)
        recall = recall_score(made.target.ravel(), logits >= found.chosen.logit_threshold)
        assert found.fields.scores["recall_positive"][number] == pytest.approx(recall, abs=1e-3)
    pooled = np.average(found.fields.scores["brier"])  # fields of equal size
    assert pooled == pytest.approx(found.metrics["test/brier"], rel=1e-6)
    assert found.fields.pixels.reliability[:, 0].sum() == 4 * 128 * 128


def test_what_is_off_is_not_computed(honest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("this is off")

    monkeypatch.setattr(per_field, "pixel_scores", refuse)
    monkeypatch.setattr(module, "fit_calibrator", refuse)
    found = judged(honest, per_field=False, pixel_families=["ranking"])
    counted = {"test/valid_pixels", "test/positive_pixels", "test/prevalence"}  # they cost nothing
    assert {name for name in found.metrics if "operating" not in name} == {"test/auprc", "test/auroc"} | counted
    assert (found.fields.scores, found.fields.pixels) == ({}, None)
