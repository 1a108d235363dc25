"""A model taken into use computes what its run did, and says what it is."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from mirrored_runs import MLFLOW_WARNINGS, client_of, run_of
from registered_runs import (
    NAME,
    facts,
    finish_run,
)

from astrid.config import DataError, ModelConfig, TrackingConfig
from astrid.config.compose import load as load_config
from astrid.config.gate import GateConfig
from astrid.config.resume import save_config
from astrid.deployed import AsRun, load
from astrid.evaluation.subject import configure
from astrid.metrics.calibrators import Calibrator
from astrid.metrics.chosen import Aim, Chosen, OperatingPoint
from astrid.model_card import model_card
from astrid.predictor import Predictor
from astrid.runtime import Runtime
from astrid.tracking import open_tracker
from astrid.unet import build_unet

pytestmark = [*MLFLOW_WARNINGS, pytest.mark.usefixtures("mlflow_settings")]


def registered_network(config: TrackingConfig, folder: Path) -> np.ndarray:
    """Register a network that computes in bf16, keep an image, and return the probabilities that its run sees."""
    torch.manual_seed(0)
    network = build_unet(ModelConfig(depth=2, filters=4), channels=3, stretch="arcsinh", prior=0.1)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parameter in network.heads[0].parameters():
        torch.nn.init.normal_(parameter)  # so that probabilities differ from pixel to pixel
    runtime = Runtime(torch.device("cpu"), "bf16", torch.get_num_threads(), channels_last=True)
    image = np.random.default_rng(0).normal(size=(3, 45, 70)).astype(np.float32)
    wanted = torch.sigmoid(Predictor(network, runtime, halo=16).logits(image)).numpy()
    assert np.ptp(wanted) > 0.1
    np.save(folder / "image.npy", image)
    told = facts().save(folder / "model.json")
    tracker = open_tracker(config, folder / "run", name="unet", params={}, tags={})
    tracker.model(AsRun(network, "bf16"), torch.from_numpy(image[None]), step=1, extras=[told])
    assert tracker.close("FINISHED", wait_seconds=60)
    return wanted


def test_a_registered_model_has_the_probabilities_of_its_run(config: TrackingConfig, tmp_path: Path) -> None:
    wanted, image = registered_network(config, tmp_path), np.load(tmp_path / "image.npy")
    model = load(f"models:/{NAME}@challenger", uri=config.uri, device="cpu")
    np.testing.assert_allclose(model.probabilities(image), wanted, rtol=0, atol=1e-6)
    with torch.inference_mode():  # as who loads the network alone does, in no precision of its own
        alone = torch.sigmoid(model.predictor.model(torch.from_numpy(image[None])))[0, 0].numpy()
    np.testing.assert_allclose(alone, wanted, rtol=0, atol=1e-6)
    assert (model.logit_threshold, model.detection_threshold) == (0.25, 0.6)


@pytest.mark.slow
def test_a_model_computes_in_a_fresh_process_what_its_run_did(config: TrackingConfig, tmp_path: Path) -> None:
    wanted = registered_network(config, tmp_path)
    program = f"""
        import numpy as np, torch
        from astrid.deployed import load
        image = np.load("image.npy")
        model = load("models:/{NAME}@champion", uri="{config.uri}", device="cpu")
        assert (model.logit_threshold, model.detection_threshold) == (0.25, 0.6)
        import mlflow
        mlflow.set_tracking_uri("{config.uri}")
        bare = mlflow.pytorch.load_model("models:/{NAME}@champion")
        with torch.inference_mode():
            alone = torch.sigmoid(bare(torch.from_numpy(image[None])))[0, 0].numpy()
        np.savez("answers.npz", ours=model.probabilities(image), alone=alone)
        print(mlflow.models.get_model_info("models:/{NAME}@champion").signature)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, timeout=120, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Tensor('float32', (-1, 3, -1, -1))" in done.stdout
    answers = np.load(tmp_path / "answers.npz")
    np.testing.assert_allclose(answers["ours"], wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(answers["alone"], wanted, rtol=0, atol=1e-6)


def test_what_is_no_model_is_refused_by_name(config: TrackingConfig, tmp_path: Path, saved_network: Path) -> None:
    with pytest.raises(DataError, match=r"holds no model of AstrID: model\.json is missing"):
        load(tmp_path)
    finish_run(config, tmp_path / "run", saved_network, quality=9.0)
    with pytest.raises(DataError, match=r"which are challenger \(1\), champion \(1\); choose one"):
        load(f"models:/{NAME}@winner", uri=config.uri)
    with pytest.raises(DataError, match="which are 1, got '2'"):
        load(f"models:/{NAME}/2", uri=config.uri)
    model = load(f"models:/{NAME}/1", uri=config.uri, device="cpu")
    with pytest.raises(DataError, match=r"shape \(3, height, width\), got \(2, 8, 8\)"):
        model.probabilities(np.zeros((2, 8, 8), np.float32))
    (tmp_path / "run/model.json").write_text('{"format": "astrid-model-9"}')
    with pytest.raises(DataError, match="must have format astrid-model-1, got 'astrid-model-9'"):
        load(tmp_path / "run")
    (tmp_path / "run/model.json").write_text("{")
    with pytest.raises(DataError, match=r"model\.json is damaged: .*; load the model from the registry"):
        load(tmp_path / "run")
    facts().save(tmp_path / "run/model.json")
    save_config(load_config([]), tmp_path / "run")
    with pytest.raises(DataError, match=r"has no checkpoints/best\.pt, its weights"):
        load(tmp_path / "run")
    (tmp_path / "run/model-1").mkdir(exist_ok=True)
    (tmp_path / "run/model.json").rename(tmp_path / "run/model-1/model.json")  # the model's own folder is no member
    with pytest.raises(DataError, match=r"holds no model of AstrID: model\.json is missing"):
        load(tmp_path / "run")


def test_the_card_says_how_sure_and_what_is_not_known() -> None:
    sure = facts(metrics=facts().metrics | {"test/auprc_low": 0.77, "test/auprc_high": 0.83}, chosen=Chosen(None, 0.6))
    card = model_card(sure, run="unet-1", energy="energy: GPU unavailable (no GPU)", address="runs/unet-1")
    assert "| auprc | 0.8 [0.77, 0.83] |" in card
    assert "auprc_low" not in card
    assert "undefined, since validation had no positives" in card
    assert "Energy: GPU unavailable (no GPU)." in card
    assert "Too few test fields" not in card
    assert "Too few test fields" in model_card(facts(), run="unet-1", energy="energy: none", address="runs/unet-1")


def test_the_card_lists_the_operating_point_and_the_calibration() -> None:
    point = OperatingPoint("fpr", 1e-3, threshold=0.25, achieved=0.00099)
    told = facts(
        chosen=Chosen(0.25, 0.6, Calibrator("temperature", 2.5), point),
        metrics=facts().metrics
        | {"test/operating_achieved": 0.00105, "test/ece_uncalibrated": 0.01}
        | {"test/operating_achieved_low": 0.0009, "test/operating_achieved_high": 0.0012},
    )
    card = model_card(told, run="unet-1", energy="energy: none", address="runs/unet-1")
    aim = "The aim was a false positive rate of pixels of at most 0.001: 0.00099 on validation, 0.00105 "
    assert f"{aim}[0.0009, 0.0012] on the test fields, 5% above the target, which the interval holds." in card
    assert "calibrated on validation by the temperature 2.5" in card
    assert "| ece_uncalibrated | 0.01 |" in card
    assert "not calibrated" in model_card(facts(), run="unet-1", energy="energy: none", address="runs/unet-1")
    curve = facts(chosen=Chosen(0.25, 0.6, Calibrator("isotonic", knots=(0.0, 1.0), calibrated=(0.0, 2.0))))
    assert "an isotonic curve through 2 points" in model_card(
        curve, run="unet-1", energy="energy: none", address="runs/unet-1"
    )


def test_the_card_tells_of_rivals_speed_tile_and_fields_what_was_measured() -> None:
    rival = {"completeness": 0.5, "completeness_low": 0.4, "completeness_high": 0.6, "detection_threshold": 4.0}
    measured = {f"matched_filter/{name}": value for name, value in rival.items()}
    measured |= {"matched_filter/equal_false_snr50": 6.25, "test/detection_threshold": 0.6, "test/snr50": 4.1}
    measured |= {"throughput/best/batch": 16.0, "throughput/mpix_per_s": 2.5, "memory/peak_mib": 12.0}
    told = facts(
        metrics=facts().metrics | measured,
        preprocessing={"choice": "SimulatedData", "tile_size": 128},
        seen={"train": ["a", "b", "c"], "val": ["d"]},
    )
    card = model_card(told, run="unet-1", energy="energy: none", address="runs/unet-1")
    assert "| matched filter | 0.5 [0.4, 0.6] | – | – | – | 6.25 | – |" in card
    assert "| U-Net | – | – | – | 4.1 | – | – |" in card
    for row in ("throughput/best/batch | 16 |", "throughput/mpix_per_s | 2.5 | Mpix/s |", "memory/peak_mib | 12 |"):
        assert f"| {row}" in card
    assert "Latency for one tile of 128x128 pixels on" in card
    assert "Trained on 3 training fields and 1 validation field of simulated sky" in card
    assert 'model = load("runs/unet-1")' in card
    assert "Without training" not in model_card(facts(), run="unet-1", energy="energy: none", address="x")


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (
            Chosen(0.25, 0.6, operating_point=OperatingPoint("purity", 0.9, threshold=0.6, achieved=0.7)),
            "0.7 on validation, undefined on the test fields; validation did not reach it, and the threshold that",
        ),
        (
            Chosen(0.25, 0.6, missed=Aim("false_per_mpix", 3.0)),
            "at most 3 false detections per megapixel, and was not reached: the validation fields hold too little to "
            "choose a threshold for it, and that of the best F1 of detections is used.",
        ),
        (Chosen(None, None, missed=Aim("f1", None)), "and probability 0.5 is used"),
    ],
)
def test_the_card_says_of_a_target_that_was_missed_what_is_used_instead(chosen: Chosen, said: str) -> None:
    assert said in model_card(facts(chosen=chosen), run="unet-1", energy="energy: none", address="runs/unet-1")


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
def test_a_calibrator_and_a_point_go_with_the_model_from_the_run_to_its_use(
    calibration: str, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from astrid.experiment import run_experiment

    run_dir = tmp_path / "run"
    knobs = [f"metrics.calibration={calibration}", "metrics.operating_point=fpr", "metrics.operating_target=0.01"]
    run_experiment(load_config([*tiny, *knobs, "tracking=off", "training.epochs=1"]), run_dir=run_dir)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert {"test/ece", "test/ece_uncalibrated", "test/operating_target", "test/operating_achieved"} <= set(metrics)
    model = load(run_dir, device="cpu")
    assert model.facts.chosen.calibrator.kind == calibration
    assert model.facts.chosen.operating_point == OperatingPoint(
        "fpr", 0.01, threshold=model.logit_threshold, achieved=metrics["test/operating_validation"]
    )
    image = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    logits = model.predictor.logits(image)
    found = model.probabilities(image)
    np.testing.assert_array_equal(found, model.facts.chosen.calibrator.probability(logits).numpy())
    assert np.abs(found - torch.sigmoid(logits).numpy()).max() > 1e-4
    called = logits.numpy() >= model.logit_threshold
    assert ((found >= model.pixel_threshold) == called).mean() > 0.999  # equal but for the last bit of float32
    said = "a false positive rate of pixels of at most 0.01"
    assert said in (run_dir / "model_card.md").read_text()
    assert f"operating point: the aim was {said}" in capsys.readouterr().out


def test_a_model_that_averages_over_orientations_does_so_in_use_and_says_so(tiny: list[str], tmp_path: Path) -> None:
    from astrid.experiment import run_experiment

    knobs = ["model.test_time_augmentation=true", "tracking=off", "training.epochs=1", "metrics.baselines=false"]
    run_experiment(load_config([*tiny, *knobs]), run_dir=tmp_path / "run")
    model = load(tmp_path / "run", device="cpu")
    image = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    found, turned = model.probabilities(image), model.probabilities(np.rot90(image, axes=(1, 2)).copy())
    np.testing.assert_allclose(turned, np.rot90(found), atol=1e-5)
    assert np.abs(found - np.rot90(found)).max() > 1e-3
    assert model.facts.orientations == 8
    assert configure(model.facts, []).model.test_time_augmentation
    assert "averaged over 8 flips and turns" in (tmp_path / "run/model_card.md").read_text()


@pytest.mark.slow
def test_a_target_of_detections_without_a_catalogue_stops_before_the_first_step(
    tiny: list[str], tmp_path: Path
) -> None:
    from astrid.experiment import run_experiment

    knobs = ["data.target=cosmic_ray", "metrics.operating_point=purity", "metrics.operating_target=0.9"]
    with pytest.raises(DataError, match=r"metrics\.operating_point must be f1 or fpr .* got 'purity'"):
        run_experiment(load_config([*tiny, *knobs, "tracking=off"]), run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_a_whole_run_is_registered_with_all_that_belongs_to_it(
    config: TrackingConfig, tiny: list[str], tmp_path: Path
) -> None:
    from astrid.experiment import run_experiment

    run_dir = tmp_path / "run"
    run_experiment(load_config([*tiny, f"tracking.uri={config.uri}", "data.test_fields=3"]), run_dir=run_dir)
    run = run_of(config, run_dir)
    metrics = run.data.metrics
    assert metrics["test/auprc_low"] < metrics["test/auprc"] < metrics["test/auprc_high"]
    assert run.data.tags["gate.decision"] == "promoted"
    client = client_of(config)
    held = {
        file.path for folder in ("", "checkpoints", "tables") for file in client.list_artifacts(run.info.run_id, folder)
    }
    assert held >= {"checkpoints/best.pt", "checkpoints/last.pt", "energy.jsonl", "model_card.md", "test_fields.npz"}
    assert held >= {"tables/epochs.json", "tables/metrics.json", "tables/test_fields.json"}
    registered, local = load(f"models:/{NAME}@champion", uri=config.uri), load(run_dir)
    assert registered.facts == local.facts
    image = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(registered.probabilities(image), local.probabilities(image), rtol=0, atol=1e-6)
    assert GateConfig().metric in local.facts.metrics
