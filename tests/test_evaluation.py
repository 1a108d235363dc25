"""A finished model judged again: on its own fields it shows what it showed, and elsewhere what is true there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from mirrored_runs import MLFLOW_WARNINGS, client_of, run_of
from planted_models import plant_model
from registered_runs import NAME, tracking_on_copy
from test_judged import SPLIT_ROWS, manifest

from astrid.cli import main
from astrid.config import ConfigError, DataError, RunError, TrackingConfig
from astrid.config.compose import load
from astrid.config.resume import load_config, save_config
from astrid.deployed import load as load_model
from astrid.evaluation import run as module
from astrid.evaluation import run_evaluation
from astrid.metrics.chosen import Chosen
from astrid.tracking import Journal, sync
from astrid.tracking.stored_runs import read_folder

pytestmark = [*MLFLOW_WARNINGS, pytest.mark.usefixtures("mlflow_settings", "in_this_process")]

QUICK = (
    "metrics.figures=false",
    *("metrics.latency_repeats=2", "metrics.throughput_repeats=2", "training.threads=1", "training.device=cpu"),
)
COSTS = ("energy/", "latency/", "throughput/", "objective", "train/", "val/", "carbon/", "cost/")


@pytest.fixture(scope="module")
def trained(
    empty_database: Path, tiny: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrackingConfig]:
    """A finished run, with temperature and a target chosen on validation, and the MLflow that has it as version 1."""
    from astrid.experiment import run_experiment

    folder = tmp_path_factory.mktemp("trained")
    tracking = tracking_on_copy(empty_database, folder)
    chosen = ["metrics.calibration=temperature", "metrics.operating_point=fpr", "metrics.operating_target=1e-2"]
    knobs = [f"tracking.uri={tracking.uri}", "data.test_fields=3", "metrics.figures=false", "metrics.min_pixels=2"]
    run_experiment(load([*tiny, *knobs, *chosen]), run_dir=folder / "run")
    return folder / "run", tracking


@pytest.fixture
def sky(tmp_path: Path) -> list[str]:
    """Overrides of a small sky, the same for model and evaluation."""
    sizes = ["data.train_fields=2", "data.val_fields=2", "data.test_fields=2", "data.field_size=64"]
    return [*sizes, "data.tile_size=32", "data.transients=20", f"data.cache={tmp_path}/cache"]


def results(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(COSTS)}


def test_on_its_own_test_fields_a_model_shows_again_what_its_run_showed(
    trained: tuple[Path, TrackingConfig], tmp_path: Path
) -> None:
    run, tracking = trained
    known = results(json.loads((run / "metrics.json").read_text()))
    assert {"test/auprc_low", "test/ece", "test/completeness", "test/operating_achieved"} <= set(known)
    for name, source in {"folder": str(run), "registry": f"models:/{NAME}@champion"}.items():
        found = run_evaluation(source, [*QUICK, f"tracking.uri={tracking.uri}"], run_dir=tmp_path / name)
        assert results(found) == known
        assert {"latency/p50_ms", "throughput/mpix_per_s"} <= set(found)
        tags = run_of(tracking, tmp_path / name).data.tags
        assert tags["test.fingerprint"] == load_model(run).facts.test_fingerprint
        assert tags["data.fingerprint"] == load_model(run).facts.fingerprint
        assert tags["evaluation.seen"] == "none"


def test_model_and_evaluation_name_each_other(trained: tuple[Path, TrackingConfig], tmp_path: Path) -> None:
    run, tracking = trained
    folder = tmp_path / "elsewhere"
    given = [*QUICK, f"tracking.uri={tracking.uri}", "data.sky_seed=7"]
    found = run_evaluation(f"models:/{NAME}/1", given, run_dir=folder)
    evaluation, training = run_of(tracking, folder), run_of(tracking, run)
    assert evaluation.info.status == "FINISHED"
    tags = evaluation.data.tags
    assert (tags["evaluation.model"], tags["evaluation.model_version"]) == (f"models:/{NAME}/1", "1")
    assert tags["evaluation.model_run"] == training.info.run_id
    told = f"test/auprc {found['test/auprc']:.4g} on 3 fields of simulated sky, seed 7, target transient; run "
    version = client_of(tracking).get_model_version(NAME, "1")
    for back in (version.tags, training.data.tags):
        assert back["evaluated.elsewhere"] == told + evaluation.info.run_id
    (folder / "shipped.json").unlink()
    sync(folder, tracking)  # what is sent twice is there once
    inputs = client_of(tracking).get_run(evaluation.info.run_id).inputs  # a search leaves the models out
    assert [data.dataset.digest for data in inputs.dataset_inputs] == [tags["data.fingerprint"][:36]]
    sent = client_of(tracking).get_run(training.info.run_id).outputs.model_outputs
    assert [used.model_id for used in inputs.model_inputs] == [sent[0].model_id]
    assert len(client_of(tracking).search_model_versions(f"name = '{NAME}'")) == 1  # an evaluation registers nothing


def test_the_run_of_a_folder_is_told_through_its_own_journal(
    trained: tuple[Path, TrackingConfig], tmp_path: Path
) -> None:
    run, tracking = trained
    run_evaluation(str(run), [*QUICK, f"tracking.uri={tracking.uri}"], run_dir=tmp_path / "again")
    assert "evaluated.again" in read_folder(run).tags
    assert "evaluated.again" in run_of(tracking, run).data.tags
    assert read_folder(run).status == "FINISHED"


def test_another_sky_gives_other_numbers_at_the_same_operating_point(
    trained: tuple[Path, TrackingConfig], tmp_path: Path
) -> None:
    run, _ = trained
    known = json.loads((run / "metrics.json").read_text())
    found = run_evaluation(str(run), [*QUICK, "tracking=off", "data.sky_seed=7"], run_dir=tmp_path / "other")
    assert found["test/auprc"] != known["test/auprc"]
    for name in ("test/threshold", "test/detection_threshold", "test/operating_target", "test/operating_validation"):
        assert found[name] == known[name]
    recorded = load_config(tmp_path / "other").metrics
    assert (recorded.calibration, recorded.operating_point, recorded.operating_target) == ("temperature", "fpr", 1e-2)
    assert read_folder(tmp_path / "other").params["metrics.calibration"] == "temperature"
    assert not (tmp_path / "other" / "model.json").exists()
    assert "evaluated.other" not in read_folder(run).tags  # with tracking off nothing is told


def test_an_evaluation_leaves_figures_tables_and_a_card_that_says_what_it_is(
    trained: tuple[Path, TrackingConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = trained
    folder = tmp_path / "evaluation"
    given = [
        "tracking=off",
        "data.sky_seed=7",
        "training.threads=1",
        "training.device=cpu",
        "metrics.latency_repeats=2",
    ]
    run_evaluation(str(run), given, run_dir=folder)
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert figures >= {"roc", "precision_recall", "confusion", "reliability", "completeness", "gallery"}
    assert "training_curves" not in figures
    assert {path.stem for path in (folder / "tables").iterdir()} == {"metrics", "objects", "test_fields"}
    with np.load(folder / "test_fields.npz") as arrays:
        assert len(arrays["names"]) == 3
    card = (folder / "model_card.md").read_text()
    assert "Judged here on 3 fields of simulated sky, seed 7, target transient, split `test`" in card
    assert "The model has seen none of them." in card
    assert "share nothing with training" not in card
    told = json.loads((folder / "evaluation.json").read_text())
    assert (told["model"], told["seen"]) == (str(run), {"train": 0, "val": 0})
    said = capsys.readouterr().out
    assert "3 fields of simulated sky, seed 7" in said
    assert f"model {run}; fields that it has seen: none" in said


def test_fields_of_training_are_no_test_and_that_is_said(
    trained: tuple[Path, TrackingConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, _ = trained
    for split, seen, warning in (
        ("train", "trained on 8 of 8", "this is no test: the model was trained on 8 of these 8 fields"),
        ("val", "chosen by 2 of 2", "its best epoch and its thresholds were chosen on 2 of these 2 fields"),
    ):
        folder = tmp_path / split
        run_evaluation(str(run), [*QUICK, "tracking=off"], run_dir=folder, split=split)  # type: ignore[arg-type]
        assert warning in caplog.text
        assert read_folder(folder).tags["evaluation.seen"] == seen
        card = (folder / "model_card.md").read_text()
        assert f"so this is no test: {seen}." in card
        assert ("on the training fields" in card, "on the test fields" in card) == (split == "train", False)
        assert f'model = load("{run}")' in card


def evaluate(model: Path, *given: str, split: str = "test") -> int:
    folder = model.parent / "evaluation"
    return main(["evaluate", str(model), "--split", split, "--folder", str(folder), *QUICK, "tracking=off", *given])


def test_frames_without_a_catalogue_have_no_object_metrics(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = manifest(tmp_path, SPLIT_ROWS)
    given = ["data=frames", f"data.root={config.root}", f"data.manifest={config.manifest}", f"data.cache={tmp_path}/c"]
    model = plant_model(tmp_path / "run", [*given, "data.tile_size=16"], channels=1)
    with caplog.at_level("INFO"):
        assert evaluate(model, split="all") == 0
    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert "test/auprc" in metrics
    assert not [name for name in metrics if "completeness" in name or "purity" in name]
    table = json.loads((tmp_path / "evaluation/tables/quality.json").read_text())
    assert [row[table["columns"].index("exposure")] for row in table["data"]] == ["a.fits", "b.fits", "c.fits"]
    tags = read_folder(tmp_path / "evaluation").tags
    assert (tags["data.exposures"], tags["data.exposures_skipped"]) == ("3", "0")
    assert "object metrics are left out: the test fields have no catalogue of sources" in caplog.text
    assert "whether these are among them is not known" in caplog.text
    assert read_folder(tmp_path / "evaluation").tags["evaluation.seen"] == "unknown"


def test_in_frames_where_nothing_is_to_be_found_detections_are_false(tmp_path: Path) -> None:
    config = manifest(tmp_path, SPLIT_ROWS.replace("mask", "zeros"))
    fits.PrimaryHDU(np.zeros((30, 40), np.int16)).writeto(tmp_path / "zeros.fits")
    given = ["data=frames", f"data.root={config.root}", f"data.manifest={config.manifest}", f"data.cache={tmp_path}/c"]
    model = plant_model(tmp_path / "run", [*given, "data.tile_size=16"], channels=1, chosen=Chosen(0.5, 0.01))
    assert evaluate(model, "metrics.figures=true", split="all") == 0
    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert metrics["test/false_per_mpix"] > 0
    assert (tmp_path / "evaluation/figures/quality.png").is_file()
    assert (metrics["test/valid_pixels"], metrics["test/positive_pixels"], metrics["test/prevalence"]) == (3600, 0, 0)
    assert not {"test/completeness", "test/auprc"} & set(metrics)


def test_a_model_without_thresholds_is_judged_as_in_training(
    sky: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = plant_model(tmp_path / "run", sky, chosen=Chosen(None, None))
    with caplog.at_level("INFO"):
        assert evaluate(model) == 0
    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert metrics["test/threshold"] == 0.5
    assert "test/completeness" not in metrics
    assert "pixels are judged at probability 0.5" in caplog.text
    assert "validation chose no threshold of detections" in caplog.text


def test_a_truth_of_another_kind_is_said(sky: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = plant_model(tmp_path / "run", sky)
    assert evaluate(model, "data.target=cosmic_ray", "data.cosmic_rays=20") == 0
    assert "the model learned to mark transient; here the truth marks cosmic_ray" in caplog.text
    assert read_folder(tmp_path / "evaluation").tags["evaluation.other_target"] == "cosmic_ray"
    assert "The truth marks `cosmic_ray`" in (tmp_path / "evaluation/model_card.md").read_text()


def change_facts(model: Path, **changes: Any) -> None:
    path = model / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_bad_input_ends_with_exit_code_2_and_claims_nothing(
    sky: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = plant_model(tmp_path / "run", sky)
    frames = manifest(tmp_path, SPLIT_ROWS)
    described = [f"data.root={frames.root}", f"data.manifest={frames.manifest}"]
    for given, message in (
        (["data=frames", *described], "3 channels of the model, got 1; name a reference in every row"),
        (["data.stretch=linear"], "data.stretch must be the model's own, arcsinh, got linear"),
        (["optimizer.lr=1"], "optimizer.lr must be left out"),
        (["data=frames", "data.root=x", "data.manifest=no.csv"], "there is no file no.csv"),
    ):
        assert evaluate(model, *given) == 2
        said = capsys.readouterr().err
        assert message in said
        assert "Traceback" not in said
    change_facts(model, unit="electron")
    assert evaluate(model) == 2
    assert "in the unit of the model, electron, got background sigma" in capsys.readouterr().err
    change_facts(model, unit="background sigma", best_epoch=4)
    assert evaluate(model) == 2
    assert "was resumed and not evaluated since" in capsys.readouterr().err
    assert not (tmp_path / "evaluation").exists()
    assert main(["evaluate", str(tmp_path / "nowhere")]) == 2
    assert main(["evaluate", "data.sky_seed=3"]) == 2
    assert "MODEL must come before the overrides" in capsys.readouterr().err


def test_a_model_is_named_as_the_user_named_it(
    config: TrackingConfig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for model, message in (
        ("models:/nope@champion", "models:/nope@champion must name a registered model, as none, got 'nope'"),
        ("models:/astrid-unet", "as models:/NAME@ALIAS or models:/NAME/VERSION, got 'models:/astrid-unet'; try models"),
    ):
        assert main(["evaluate", model, f"tracking.uri={config.uri}"]) == 2
        assert message in capsys.readouterr().err
    assert main(["evaluate", "models:/a/1", f"tracking.uri=sqlite:///{tmp_path}/no.db"]) == 2
    assert "tracking.uri must be an MLflow that exists" in capsys.readouterr().err


def test_a_group_of_runs_names_its_members_and_the_best(sky: list[str], tmp_path: Path) -> None:
    for name, objective in (("r0", 0.6), ("r1", 0.8)):
        plant_model(tmp_path / "group" / name, sky)
        (tmp_path / "group" / name / "metrics.json").write_text(json.dumps({"objective": objective}))
    save_config(load([*sky, "training.repeats=2"]), tmp_path / "group")
    with pytest.raises(DataError, match=r"give one of r0, r1: try \S+/group/r1, the best by validation"):
        load_model(tmp_path / "group")
    save_config(load([*sky, "data.folds=2", "data.test_fields=4"]), tmp_path / "group")
    with pytest.raises(DataError, match=r"give one of r0, r1: try \S+/group/r0$"):
        load_model(tmp_path / "group")


def test_an_evaluation_is_no_model_and_no_run_to_resume(sky: list[str], tmp_path: Path) -> None:
    model = plant_model(tmp_path / "run", sky)
    assert evaluate(model) == 0
    folder = tmp_path / "evaluation"
    with pytest.raises(DataError, match=f"is an evaluation of {model}; give that"):
        load_model(folder)
    with pytest.raises(ConfigError, match="is an evaluation; start it again"):
        load([f"training.resume={folder}"])
    before = (folder / "metrics.json").read_bytes()
    with pytest.raises(DataError, match=f"--folder must be a new folder, but {folder} already holds a run"):
        run_evaluation("models:/not/looked-for", [*QUICK, "tracking=off"], run_dir=folder)
    assert (folder / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("error", "status", "code"), [(RunError("broken"), "FAILED", 1), (KeyboardInterrupt(), "KILLED", 1)]
)
def test_what_ends_midway_claims_no_success(
    error: BaseException,
    status: str,
    code: int,
    sky: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def judge(*arguments: Any, **knobs: Any) -> None:
        raise error

    model = plant_model(tmp_path / "run", sky)
    monkeypatch.setattr(module, "judge", judge)
    before = (model / "journal.jsonl").read_bytes()
    assert evaluate(model) == code
    if status == "KILLED":
        again = f"interrupted; start it again with: astrid evaluate {model} --split test metrics.figures=false"
        assert again in capsys.readouterr().err
    assert Journal.open(tmp_path / "evaluation").status == status
    assert not (tmp_path / "evaluation/metrics.json").exists()
    assert (model / "journal.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_killed_evaluation_is_ended_as_killed_by_sync(config: TrackingConfig, sky: list[str], tmp_path: Path) -> None:
    model = plant_model(tmp_path / "run", sky)
    folder = tmp_path / "evaluation"
    program = (
        "import os, signal, sys; from pathlib import Path; from astrid.evaluation import run, run_evaluation\n"
        "run.judge = lambda *arguments, **knobs: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run_evaluation(sys.argv[1], sys.argv[3:], run_dir=Path(sys.argv[2]))"
    )
    given = [*QUICK, f"tracking.uri={config.uri}"]
    done = subprocess.run([sys.executable, "-c", program, str(model), str(folder), *given], timeout=120)
    assert done.returncode == -signal.SIGKILL
    sync(folder, config)
    run = run_of(config, folder)
    assert (run.info.status, dict(run.data.metrics)) == ("KILLED", {})
    assert not (folder / "metrics.json").exists()
    assert "evaluated.evaluation" not in read_folder(model).tags


def test_a_model_that_can_not_be_told_keeps_nobody(
    config: TrackingConfig, sky: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = plant_model(tmp_path / "run", [*sky, "tracking=local", "tracking.uri=sqlite:////proc/no/mlflow.db"])
    found = run_evaluation(str(model), [*QUICK, f"tracking.uri={config.uri}"], run_dir=tmp_path / "evaluation")
    assert "test/auprc" in found
    assert Journal.open(tmp_path / "evaluation").status == "FINISHED"
    assert "was not told of this evaluation" in caplog.text


@pytest.mark.slow
def test_a_model_of_real_frames_is_judged_on_its_own_and_on_all(sample_data: Path, tmp_path: Path) -> None:
    from astrid.experiment import run_experiment

    tiny = ["training.epochs=1", "data.crops_per_epoch=16", "training.threads=1", "training.device=cpu"]
    small = ["model=unet_small", "metrics.bins=4096", "tracking=off", f"data.cache={tmp_path}/cache"]
    run = tmp_path / "run"
    run_experiment(load(["experiment=decam_artifacts", *tiny, *small]), run_dir=run)
    known = results(json.loads((run / "metrics.json").read_text()))
    again = run_evaluation(str(run), [*QUICK, "tracking=off"], run_dir=tmp_path / "again")
    assert results(again) == known
    run_evaluation(str(run), [*QUICK, "tracking=off"], run_dir=tmp_path / "all", split="all")
    overlap = json.loads((tmp_path / "all/evaluation.json").read_text())
    seen = json.loads((run / "model.json").read_text())["seen"]
    assert overlap["seen"] == {name: len(own) for name, own in seen.items()}
    assert (
        overlap["fields"] == sum(overlap["seen"].values()) + json.loads((run / "model.json").read_text())["test_fields"]
    )
