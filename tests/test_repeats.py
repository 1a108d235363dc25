"""Repeats and folds: ordinary runs each, reported together by statistics that a referee confirms."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from browser import LOOKS, Browser
from hypothesis import given
from hypothesis import strategies as st
from mirrored_runs import MLFLOW_WARNINGS, client_of, run_of
from registered_runs import save_model
from scipy import stats
from sklearn.metrics import average_precision_score

from astrid.card_sections import with_interval
from astrid.config import Config, ConfigError, DataError, RunError, Stopped, TrackingConfig
from astrid.config.command_line import check_command_line
from astrid.config.compose import PROJECT_ROOT, load
from astrid.config.resume import save_config
from astrid.metrics.bootstrap import save_fields
from astrid.metrics.per_field import FieldCounter
from astrid.metrics.pixels import PixelHistogram
from astrid.metrics.resampled import field_metrics
from astrid.repeats import run_group
from astrid.repeats.members import members_of
from astrid.repeats.pooling import load_fold, pool_folds
from astrid.repeats.statistics import bounded_interval, over_folds, over_repeats, student_interval
from astrid.seeds import PURPOSES, derived_seed
from astrid.tracking import Tracker, open_tracker
from astrid.tracking.records import GROUP_TAG, MEMBER_TAG, PARENT_TAG
from astrid.tracking.stored_runs import read_folder

pytestmark = [*MLFLOW_WARNINGS, pytest.mark.usefixtures("in_this_process")]

VALUES = st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=2, max_size=10).filter(lambda v: np.std(v) > 1e-6)


@given(VALUES)
def test_the_interval_of_a_mean_is_that_of_scipy(values: list[float]) -> None:
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = student_interval(values)
    assert found == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)


def test_the_interval_of_three_repeats_worked_by_hand() -> None:
    low, high = student_interval([0.80, 0.82, 0.84]) or (0.0, 0.0)
    half_width = 4.302653 * 0.02 / 3**0.5  # t(2), 97.5 %
    assert (low, high) == (pytest.approx(0.82 - half_width, abs=1e-6), pytest.approx(0.82 + half_width, abs=1e-6))


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(0.8, 0.01, size=(4000, 3))
    intervals = [student_interval(list(values)) for values in draws]
    held = np.mean([low <= 0.8 <= high for low, high in intervals if low is not None])  # type: ignore[misc]
    assert 0.94 < held < 0.96


@pytest.mark.parametrize("values", [[0.5], [1.0, 1.0, 1.0]])
def test_one_value_or_equal_ones_have_no_interval(values: list[float]) -> None:
    assert student_interval(values) is None


@pytest.mark.parametrize(
    ("name", "values", "low", "high"),
    [
        ("test/auroc", [0.55, 0.68], 0.0, 1.0),
        ("test/accuracy", [0.9, 0.99], 0.0, 1.0),
        ("test/tpr_at_fpr_1e-2", [0.1, 0.6], 0.0, 1.0),
        ("test/mcc", [-0.2, 0.6], -1.0, 1.0),
        ("latency/p50_ms", [42.0, 94.0], 0.0, np.inf),
    ],
)
def test_the_interval_of_two_repeats_stays_within_the_range_of_the_metric(
    name: str, values: list[float], low: float, high: float
) -> None:
    assert not low < student_interval(values)[0] < student_interval(values)[1] < high  # type: ignore[index]
    found = bounded_interval(name, values)
    assert found is not None
    assert low < found[0] < min(values) < max(values) < found[1] < high


def test_a_share_that_reaches_its_end_in_one_repeat_has_no_interval() -> None:
    assert bounded_interval("test/purity", [1.0, 0.9]) is None


def test_repeats_give_mean_scatter_and_interval_and_leave_out_what_some_lack(caplog: pytest.LogCaptureFixture) -> None:
    results = [
        {"test/auprc": 0.8, "test/auprc_low": 0.7, "test/auprc_high": 0.9, "test/purity": 1.0, "test/snr50": 4.0},
        {"test/auprc": 0.9, "test/auprc_low": 0.8, "test/auprc_high": 0.95, "test/purity": 1.0},
    ]
    found = over_repeats(results, monitor="val/auprc")
    assert found["test/auprc"] == pytest.approx(0.85)
    assert found["test/auprc_std"] == pytest.approx(0.0707106781)
    assert found["test/auprc_low"] < 0.8 < 0.9 < found["test/auprc_high"]  # of two values Student's t is wide
    assert (found["test/purity"], found["test/purity_std"]) == (1.0, 0.0)
    assert "test/purity_low" not in found
    assert "test/snr50" not in found
    assert "not all of the 2 runs define test/snr50" in caplog.text


def test_folds_keep_the_pooled_numbers_apart_from_the_scatter_of_folds() -> None:
    results = [{"test/auprc": 0.6, "latency/p50_ms": 2.0}, {"test/auprc": 0.8, "latency/p50_ms": 4.0}]
    found = over_folds(results, {"test/auprc": 0.75, "test/auprc_low": 0.7, "test/auprc_high": 0.8})
    assert found == {
        "test/auprc": 0.75,
        "test/auprc_low": 0.7,
        "test/auprc_high": 0.8,
        "test/auprc_fold_mean": pytest.approx(0.7),
        "test/auprc_fold_std": pytest.approx(0.1414213562),
        "latency/p50_ms": 3.0,
    }


SMALL = ["metrics.bins=65536", "training.threads=1"]


def scored_fold(folder: Path, *, names: list[str], scale: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep a fold's fields as a run does, and return all its logits and targets, (F, 40, 40)."""
    draw = np.random.default_rng(seed)
    target = draw.random((len(names) + 1, 40, 40)) < 0.05
    logits = (scale * (draw.normal(size=target.shape) + 2.0 * target - 1.0)).astype(np.float32)
    valid = torch.ones((40, 40), dtype=torch.bool)
    config = load(SMALL).metrics
    seen = PixelHistogram(bins=config.bins, limit=config.logit_limit, device="cpu")
    seen.update(torch.from_numpy(logits[0]), torch.from_numpy(target[0]), valid)
    counter = FieldCounter(seen, rules="")
    for name, field, truth in zip(names, logits[1:], target[1:], strict=True):
        counter.add(name, torch.from_numpy(field), torch.from_numpy(truth), valid, contents=[field])
    folder.mkdir()
    save_fields(folder / "test_fields.npz", counter.counts(), None)
    return logits[1:], target[1:]


def test_the_pooled_auprc_of_folds_is_that_of_all_their_pixels_together(tmp_path: Path) -> None:
    scored = [
        scored_fold(tmp_path / f"f{fold}", names=[f"{fold}-{number}" for number in range(3)], scale=scale, seed=fold)
        for fold, scale in enumerate((1.0, 1.5, 3.0))
    ]
    pooled = pool_folds([load_fold(tmp_path / f"f{fold}", load(SMALL).metrics) for fold in range(3)])
    logits, target = (np.concatenate([part[which] for part in scored]) for which in (0, 1))
    expected = average_precision_score(target.ravel(), logits.ravel())
    assert field_metrics(pooled)["auprc"] == pytest.approx(expected, abs=1e-3)
    assert len(pooled.names) == 9
    assert pooled.positives.sum(axis=1).tolist() == target.sum(axis=(1, 2)).tolist()
    assert (pooled.positives + pooled.negatives).sum(axis=1).tolist() == [1600] * 9
    folds_alone = [average_precision_score(part[1].ravel(), part[0].ravel()) for part in scored]
    assert abs(np.mean(folds_alone) - expected) > 0.01  # pooling is another number, as it should be here


def test_a_field_that_two_folds_tested_is_refused(tmp_path: Path) -> None:
    for fold in range(2):
        scored_fold(tmp_path / f"f{fold}", names=["a", f"b{fold}"], scale=1.0, seed=fold)
    with pytest.raises(RunError, match="tested in one fold, but a is in several"):
        pool_folds([load_fold(tmp_path / f"f{fold}", load(SMALL).metrics) for fold in range(2)])


def test_no_two_purposes_share_a_seed() -> None:
    seeds = {purpose: {derived_seed(0, number, purpose=purpose) for number in range(500)} for purpose in PURPOSES}
    assert len(set().union(*seeds.values())) == 500 * len(PURPOSES)
    assert derived_seed(0, 1, purpose="repeat") == 1118087826  # of numpy's SeedSequence, which never changes


def test_members_are_single_runs_with_seeds_and_folds_of_their_own(tmp_path: Path) -> None:
    config = load(["training.repeats=2", "data.folds=3", "training.seed=5"])
    members = members_of(config, tmp_path)
    assert [member.run_dir.name for member in members] == ["r0-f0", "r0-f1", "r0-f2", "r1-f0", "r1-f1", "r1-f2"]
    assert not any(member.config.is_several for member in members)
    assert [member.config.data.fold for member in members] == [0, 1, 2, 0, 1, 2]
    seeds = [member.config.training.seed for member in members]
    assert seeds == [derived_seed(5, repeat, purpose="repeat") for repeat in (0, 0, 0, 1, 1, 1)]
    alone = members_of(load(["data.folds=2", "training.seed=5"]), tmp_path)
    assert [(member.name, member.config.training.seed) for member in alone] == [("fold 0", 5), ("fold 1", 5)]
    pinned = members_of(load(["training.repeats=2", "data.folds=3", "data.fold=1"]), tmp_path)
    assert [(member.run_dir.name, member.config.data.fold) for member in pinned] == [("r0", 1), ("r1", 1)]


@pytest.mark.parametrize("key", ["training.repeats=3", "data.folds=3"])
def test_a_sweep_of_several_runs_a_trial_is_refused_before_it_begins(key: str) -> None:
    name = key.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{name} must be 1.* in a sweep, where a trial is one run, got 3"):
        check_command_line(["-m", "sweep=depth_filters", key])
    with pytest.raises(ConfigError, match=rf"{name} must be 1"):
        load([key, "sweep.trial=0"])
    check_command_line(["-m", "sweep=depth_filters", "data.folds=3", "data.fold=0"])


def test_repeats_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.repeats must be at least 1, got 0"):
        load(["training.repeats=0"])


class Played:
    """A run that trains nothing: it reports a value for each seed, or fails as it is told to."""

    def __init__(
        self, ends: Mapping[str, Exception | KeyboardInterrupt] | None = None, *, network: Path | None = None
    ) -> None:
        self.ends = dict(ends or {})
        self.network = network
        self.seen: list[tuple[str, bool]] = []

    def __call__(self, config: Config, *, run_dir: Path, links: Callable[[], Mapping[str, str]] = dict) -> float:
        resume = config.training.resume is not None
        self.seen.append((run_dir.name, resume))
        if isinstance(self.ends.get(run_dir.name), DataError):
            raise self.ends[run_dir.name]
        tags = links()
        named = {"name": run_dir.name, "params": {}, "tags": tags}
        with open_tracker(config.tracking, run_dir, **named, resume=resume) as tracker:  # type: ignore[arg-type]
            save_config(config, run_dir)
            if run_dir.name in self.ends:
                raise self.ends[run_dir.name]
            value = config.training.seed % 1000 / 1000
            (run_dir / "metrics.json").write_text(json.dumps({"objective": value, "test/auprc": value / 2}))
            if self.network is not None:
                tracker.journal.write_model(save_model(run_dir, self.network, quality=12.0), step=1)
        return value


def group_of(*overrides: str) -> Config:
    return load(["tracking=off", "training.repeats=3", *overrides])


SEEDS = [derived_seed(0, number, purpose="repeat") % 1000 / 1000 for number in range(3)]


def test_a_group_reports_the_mean_of_its_members_and_a_row_for_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = run_group(Played(), group_of(), run_dir=tmp_path)
    assert objective == pytest.approx(np.mean(SEEDS))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["test/auprc_low"], metrics["test/auprc_high"]) == bounded_interval(
        "test/auprc", [seed / 2 for seed in SEEDS]
    )
    card = (tmp_path / "model_card.md").read_text()
    assert f"| auprc | {with_interval(metrics, 'test/auprc')} | {metrics['test/auprc_std']:.2g} |" in card
    assert f'load("{tmp_path}/r{int(np.argmax(SEEDS))}")  # the best by validation' in card
    members = pd.read_parquet(tmp_path / "tables/members.parquet")
    assert members["objective"].tolist() == SEEDS
    assert members["status"].tolist() == ["FINISHED"] * 3
    assert (tmp_path / "figures/members.png").stat().st_size > 1000
    parent = read_folder(tmp_path)
    assert parent.status == "FINISHED"
    assert parent.metrics["test/auprc"] == pytest.approx(np.mean(SEEDS) / 2)
    assert "Student" in parent.tags["statistics"]
    for number in range(3):
        tags = read_folder(tmp_path / f"r{number}").tags
        assert (tags[GROUP_TAG], tags[MEMBER_TAG]) == (parent.name, f"repeat {number}")
    assert "mean over 3 seeds, data and test fields the same" in " ".join(capsys.readouterr().out.split())


def test_a_member_that_fails_is_named_and_the_others_still_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Played({"r1": RunError("the loss must be finite")})
    with pytest.raises(RunError, match=r"1 of 3 runs failed \(repeat 1: the loss must be finite\); try them again"):
        run_group(run, group_of(), run_dir=tmp_path)
    assert [name for name, _ in run.seen] == ["r0", "r1", "r2"]
    assert json.loads((tmp_path / "metrics.json").read_text())["objective"] == pytest.approx((SEEDS[0] + SEEDS[2]) / 2)
    members = pd.read_parquet(tmp_path / "tables/members.parquet").set_index("member")
    assert members.loc["repeat 1", ["status", "reason"]].tolist() == ["FAILED", "the loss must be finite"]
    assert read_folder(tmp_path).status == "FAILED"
    assert "2 of 3 repeats are complete" in caplog.text


def test_resuming_goes_on_with_every_member_that_had_begun_and_starts_the_others(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match=rf"repeat 1 was stopped; .* python train\.py training\.resume={tmp_path}$"):
        run_group(Played({"r1": Stopped("stopped by SIGTERM")}), group_of(), run_dir=tmp_path)
    assert read_folder(tmp_path).status == "KILLED"
    run = Played()
    assert run_group(run, load([f"training.resume={tmp_path}"]), run_dir=tmp_path) == pytest.approx(np.mean(SEEDS))
    assert run.seen == [("r0", True), ("r1", True), ("r2", False)]
    assert read_folder(tmp_path).status == "FINISHED"


def test_a_resumed_group_hands_on_what_may_change_and_refuses_the_rest(tmp_path: Path) -> None:
    run_group(Played(), group_of("training.epochs=2"), run_dir=tmp_path)
    members = members_of(load([f"training.resume={tmp_path}", "training.epochs=5"]), tmp_path)
    assert [member.config.training.epochs for member in members] == [5, 5, 5]
    assert [member.config.training.seed % 1000 / 1000 for member in members] == SEEDS
    with pytest.raises(ConfigError, match=r"training\.repeats must stay as it was"):
        load([f"training.resume={tmp_path}", "training.repeats=4"])


def test_bad_data_is_found_before_anything_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        run_group(Played({"r0": DataError("no such file")}), group_of(), run_dir=tmp_path / "group")
    assert not (tmp_path / "group").exists()


def test_a_fold_that_nothing_can_be_learned_from_is_found_before_the_first_is_trained(tmp_path: Path) -> None:
    sky = ["data.field_size=64", "data.tile_size=32", "data.transients=0", f"data.cache={tmp_path}/cache"]
    sizes = ["data.train_fields=3", "data.val_fields=1", "data.test_fields=1", "data.folds=2"]
    run = Played()
    with pytest.raises(DataError, match="fold 0 of 2: the train split must have positive pixels"):
        run_group(run, load(["tracking=off", *sky, *sizes]), run_dir=tmp_path / "group")
    assert run.seen == []


def test_members_lie_under_the_groups_run_in_mlflow(config: TrackingConfig, tmp_path: Path) -> None:
    run_group(Played(), group_of("tracking=local", f"tracking.uri={config.uri}"), run_dir=tmp_path / "group")
    parent = run_of(config, tmp_path / "group")
    assert (parent.info.status, parent.data.tags["members"]) == ("FINISHED", "3 of 3 finished")
    assert parent.data.metrics["test/auprc_std"] == pytest.approx(np.std(SEEDS, ddof=1) / 2)
    for number in range(3):
        tags = run_of(config, tmp_path / f"group/r{number}").data.tags
        assert tags[PARENT_TAG] == parent.info.run_id
    held = {file.path for file in client_of(config).list_artifacts(parent.info.run_id, "tables")}
    assert held >= {"tables/members.json", "tables/members.parquet", "tables/metrics.parquet"}


def test_only_the_best_repeat_is_registered(config: TrackingConfig, saved_network: Path, tmp_path: Path) -> None:
    group = tmp_path / "group"
    run_group(Played(network=saved_network), group_of("tracking=local", f"tracking.uri={config.uri}"), run_dir=group)
    versions = client_of(config).search_model_versions("name = 'astrid-unet'")
    best = int(np.argmax(SEEDS))
    assert [version.run_id for version in versions] == [run_of(config, group / f"r{best}").info.run_id]


@pytest.mark.slow
def test_members_that_began_without_mlflow_are_put_under_the_groups_run_later(
    config: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracker, "connect", lambda tracker: None)  # as where MLflow doesn't answer at the start
    group = tmp_path / "group"
    run_group(Played(), group_of("tracking=local", f"tracking.uri={config.uri}"), run_dir=group)
    run_group(Played(), load([f"training.resume={group}"]), run_dir=group)
    parent = run_of(config, group)
    assert {run_of(config, group / f"r{number}").data.tags[PARENT_TAG] for number in range(3)} == {parent.info.run_id}


@pytest.fixture(scope="module")
def folded(drawn: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cross-validation of three tiny runs, the second of which was cut short and taken up again."""
    from astrid.experiment import run_experiment

    run_dir = tmp_path_factory.mktemp("folds") / "group"

    def cut_short(config: Config, *, run_dir: Path, **more: Any) -> float:
        if run_dir.name == "f1":
            more["after_epoch"] = stop
        return run_experiment(config, run_dir=run_dir, **more)

    def stop(values: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_group(cut_short, load([*drawn, "tracking=off", "data.folds=3"]), run_dir=run_dir)
    run_group(run_experiment, load([f"training.resume={run_dir}"]), run_dir=run_dir)
    return run_dir


@pytest.mark.slow
def test_a_cross_validation_tests_every_field_once(folded: Path) -> None:
    names = [
        name for fold in range(3) for name in pd.read_parquet(folded / f"f{fold}/tables/test_fields.parquet").field
    ]
    splits = {"train": 8, "val": 2, "test": 2}
    assert sorted(names) == sorted(f"{split}-{index:05d}" for split, count in splits.items() for index in range(count))
    metrics = json.loads((folded / "metrics.json").read_text())
    objects = sum(np.load(folded / f"f{fold}/test_fields.npz")["objects_counts"].sum(axis=0) for fold in range(3))
    assert metrics["test/completeness"] == pytest.approx(objects[0] / (objects[0] + objects[1]))
    assert metrics["test/auprc_low"] < metrics["test/auprc"] < metrics["test/auprc_high"]
    assert read_folder(folded).status == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_a_browser_shows_the_report_of_a_group_whole(look: str, folded: Path, browser: Browser) -> None:
    opened = browser.open(folded / "report.html", **LOOKS[look])
    assert opened.complaints == []
    assert "Members of the group" in opened.dom
    assert "Each member's page has its energy." in opened.dom
    assert "All fields, each tested once by the network of the one in 3 folds" in opened.dom


@pytest.mark.slow
def test_a_fold_is_the_run_that_its_number_alone_gives(folded: Path, tiny: list[str], tmp_path: Path) -> None:
    from astrid.experiment import run_experiment

    run_experiment(load([*tiny, "tracking=off", "data.folds=3", "data.fold=1"]), run_dir=tmp_path / "run")
    ours, theirs = weights_of(tmp_path / "run"), weights_of(folded / "f1")
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(folder / "checkpoints/last.pt", weights_only=True)["model"]
    return weights


@pytest.mark.slow
def test_a_group_killed_in_its_second_run_goes_on_to_the_same_numbers(tiny: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT_ROOT / "train.py")]
    several = [*tiny, "training.epochs=6", "tracking=off", "training.repeats=3"]
    folders = {}
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
        folders[name] = tmp_path / name / "group"
        process = subprocess.Popen(
            [*command, *several, f"hydra.run.dir={folders[name]}"], cwd=tmp_path / name, stdout=subprocess.DEVNULL
        )
        if name == "killed":
            while not (folders[name] / "r1/checkpoints/last.pt").exists():
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=240)
    done = subprocess.run(
        [*command, f"training.resume={folders['killed']}"], cwd=tmp_path / "killed", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads((folders[name] / "metrics.json").read_text()) for name in ("killed", "straight"))
    tested = [name for name in theirs if name.startswith(("test/", "objective"))]
    assert {name: ours[name] for name in tested} == {name: theirs[name] for name in tested}
    for member in ("r0", "r1", "r2"):
        one, two = weights_of(folders["killed"] / member), weights_of(folders["straight"] / member)
        assert all(torch.equal(weight, two[name]) for name, weight in one.items())
