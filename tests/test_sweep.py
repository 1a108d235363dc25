"""Studies keep their space, count what is finished, say how trials ended, and share themselves between processes."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus
from mirrored_runs import wait_until
from optuna.trial import TrialState
from studies import SETTINGS, SPACE, new_study

from astrid.config import Config, ConfigError, RunError, Stopped, SweepConfig
from astrid.config.compose import PROJECT_ROOT, load
from astrid.seeds import derived_seed
from astrid.sweep.asking import Asker
from astrid.sweep.bounds import finished, out_of_bounds
from astrid.sweep.figures import draw_study
from astrid.sweep.jobs import Split, end_of, link_overrides, own_overrides, split_overrides, tell
from astrid.sweep.living import reap, release
from astrid.sweep.search import check_objectives, check_options, directions, named_failures
from astrid.sweep.study import JOURNAL, StudyLock, open_storage, refuse_used_folder
from astrid.sweep.summary import objective_names, ranked, saved_by_pruning, table_of
from astrid.sweep.trial import COST_UNIT, Trial, TrialEnd, note_cost, run_trial
from astrid.sweep.workers import place, run_workers, visible_gpus
from astrid.tracking.owner import this_process


def test_a_changed_search_space_is_refused_with_the_difference(tmp_path: Path) -> None:
    new_study(tmp_path)
    wider = SPACE | {"model.depth": optuna.distributions.IntDistribution(1, 4)}
    with pytest.raises(ConfigError, match=r"search space; model\.depth: range\(1,4\) there, range\(1,5\) here; choose"):
        new_study(tmp_path, space=wider)
    with pytest.raises(ConfigError, match=r"optimizer\.lr: tag\(log,interval\(0\.0001,0\.01\)\) there, fixed here"):
        new_study(tmp_path, space={"model.depth": SPACE["model.depth"]})
    assert new_study(tmp_path).trials == []


def test_changed_settings_are_refused_unless_they_change_no_value(tmp_path: Path) -> None:
    new_study(tmp_path)
    with pytest.raises(ConfigError, match=r"must keep its settings; training\.epochs: 6 there, 9 here; choose another"):
        new_study(tmp_path, settings=SETTINGS | {"training.epochs": "9"})
    new_study(tmp_path, settings=SETTINGS | {"training.seed": "2", "sweep.workers": "3", "tracking.uri": "x"})


def test_a_pruner_with_two_objectives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pruner must be nop with 2 objectives, got MedianPruner"):
        new_study(tmp_path, directions=["maximize", "minimize"], pruner=optuna.pruners.MedianPruner())


def test_another_direction_is_refused(tmp_path: Path) -> None:
    new_study(tmp_path)
    with pytest.raises(ConfigError, match=r"direction must be what study 's' was made for, \['maximize'\]"):
        new_study(tmp_path, directions=["minimize"])


def test_a_journal_whose_last_line_was_cut_short_is_read_up_to_it(tmp_path: Path) -> None:
    tell(study := new_study(tmp_path), study.ask(SPACE), TrialEnd("complete", [0.5]))
    with (tmp_path / "s.journal").open("ab") as file:
        file.write(b'{"op_code":5,"wor')
    tell(again := new_study(tmp_path), again.ask(SPACE), TrialEnd("complete", [0.7]))
    assert [trial.value for trial in new_study(tmp_path).trials] == [0.5, 0.7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study_name": "a/b"}, r"study_name must be letters, digits and _ - \. only.*got 'a/b'"),
        ({"study_name": "../x"}, "study_name must be letters"),
        ({"n_trials": 0}, "n_trials must be at least 1, got 0"),
        ({"n_jobs": 0}, "n_jobs must be at least 1, got 0"),
    ],
)
def test_what_cannot_name_or_size_a_study_is_refused(changes: dict[str, object], message: str) -> None:
    check_options({"study_name": "depth_filters-2.b", "n_trials": 1, "n_jobs": 1})
    with pytest.raises(ConfigError, match=message):
        check_options({"study_name": "s", "n_trials": 12, "n_jobs": 1} | changes)


def test_the_command_line_goes_before_the_recipe_and_something_must_be_searched() -> None:
    recipe = ["model.depth=range(1,5)", "model.filters=choice(4,8)"]
    split = split_overrides(recipe, ["model.depth=3", "data=simulated", "optimizer.lr=tag(log,interval(1e-4,1e-2))"])
    assert list(split.searched) == ["model.filters", "optimizer.lr"]
    assert split.fixed == ["model.depth=3", "data=simulated"]
    again = split_overrides(recipe, ["model.depth=3", "model.depth=choice(2,4)", "model.filters=8"])
    assert (list(again.searched), again.fixed) == (["model.depth"], ["model.filters=8"])
    narrower = split_overrides(recipe, ["model.depth=range(2,4)"])
    assert narrower.searched["model.depth"] == optuna.distributions.IntDistribution(2, 3)
    with pytest.raises(ConfigError, match="a sweep must search something"):
        split_overrides(recipe[:1], ["model.depth=3"])
    with pytest.raises(ConfigError, match=r"must be a choice, range or interval: .* at least one value"):
        split_overrides(["model.depth=range(5,1)"], [])


def test_every_trial_gets_a_seed_and_a_number_of_its_own(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    split = Split(SPACE, ["data=simulated"])
    trials = [study.ask(SPACE) for _ in range(3)]
    seeds = [own_overrides(trial, split, seed=7)[-1] for trial in trials]
    assert len(set(seeds)) == 3
    assert all(seed.startswith("training.seed=") for seed in seeds)
    assert own_overrides(study.trials[1], split, seed=7)[-1] == seeds[1] != own_overrides(trials[1], split, seed=8)[-1]
    given = own_overrides(trials[1], Split(SPACE, ["training.seed=7", "data=simulated"]), seed=7)
    assert given == own_overrides(trials[1], split, seed=7)
    searched = study.ask({"training.seed": optuna.distributions.IntDistribution(5, 5)})
    assert own_overrides(searched, split, seed=7) == ["training.seed=5", "data=simulated"]
    links = link_overrides(trials[2], study_name="s", parent=None)
    assert links == ["sweep.study=s", "sweep.trial=2", "sweep.parent_run=null"]


def test_derived_seeds_differ_and_repeat() -> None:
    assert len({derived_seed(1, number) for number in range(1000)}) == 1000
    assert derived_seed(1, 5) == derived_seed(1, 5) != derived_seed(2, 5)


@pytest.mark.parametrize(
    ("option", "expected"),
    [("maximize", ["maximize"]), (["maximize", "minimize"], ["maximize", "minimize"])],
)
def test_directions_are_read_however_they_are_written(option: str | Sequence[str], expected: list[str]) -> None:
    assert directions(option) == expected


def test_a_failed_trial_says_why_and_a_pruned_one_is_pruned(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trials = [study.ask(SPACE) for _ in range(3)]
    for trial, end in zip(
        trials, (TrialEnd("complete", [0.5]), TrialEnd("pruned"), TrialEnd("failed", reason="boom")), strict=True
    ):
        tell(study, trial, end)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert study.trials[2].user_attrs["failure"] == "boom"


def ended(state: TrialState, **attributes: float) -> optuna.trial.FrozenTrial:
    value = 0.5 if state == TrialState.COMPLETE else None
    trial = optuna.trial.create_trial(state=state, value=value)
    for name, attribute in attributes.items():
        trial.set_user_attr(name, attribute)
    return trial


def test_bounds_end_a_study() -> None:
    failed = [ended(TrialState.FAIL)] * 3
    assert out_of_bounds(failed, SweepConfig(max_failures=4)) is None
    bound = out_of_bounds(failed, SweepConfig(max_failures=3))
    assert bound is not None and bound.failed and "3 trials failed" in bound.text
    spent = [ended(TrialState.COMPLETE, seconds=6.0, kwh=0.25)] * 2
    assert out_of_bounds(spent, SweepConfig(max_seconds=13, energy_budget_kwh=0.6)) is None
    assert "12 seconds are spent, and sweep.max_seconds is 12" in out_of_bounds(spent, SweepConfig(max_seconds=12)).text
    assert "0.5 kwh are spent" in out_of_bounds(spent, SweepConfig(energy_budget_kwh=0.4)).text


def test_trials_that_somebody_stopped_are_tried_again_and_count_as_no_failure(tmp_path: Path) -> None:
    study, config = new_study(tmp_path), load(["sweep.max_failures=1", "sweep.max_retries=0"])
    for _ in range(3):
        trial = study.ask(SPACE)
        first = study.trials[0].params
        release(study, [trial], config=config.sweep, lost=False)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 3 + [TrialState.WAITING]
    assert all(trial.params == first for trial in study.trials[:3])
    assert study.trials[3].user_attrs["retry_of"] == 2
    assert out_of_bounds(study.trials, config.sweep) is None
    assert finished(study.trials) == []


def test_what_pruning_saved_is_counted_at_each_trials_own_pace() -> None:
    trials = [
        ended(TrialState.COMPLETE, epochs=8, seconds=80.0, kwh=1.0),
        ended(TrialState.PRUNED, epochs=2, seconds=30.0, kwh=0.5),
        ended(TrialState.FAIL, epochs=1, seconds=5.0),
    ]
    saved = saved_by_pruning(trials, epochs=8)
    assert (saved.epochs, saved.of_epochs, saved.seconds, saved.kwh) == (6, 16, 90.0, 1.5)
    assert str(saved) == "6 of 16 epochs (38 %), about 90 s and 1.5 kWh"
    unmeasured = saved_by_pruning([*trials, ended(TrialState.PRUNED, epochs=4, seconds=1.0)], epochs=8)
    assert unmeasured.kwh is None


def test_the_best_trial_comes_first_and_two_objectives_give_the_pareto_front(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    for value in (0.2, 0.9, 0.5):
        tell(study, study.ask(SPACE), TrialEnd("complete", [value]))
    assert [trial.values[0] for trial in ranked(study)] == [0.9, 0.5, 0.2]
    both = new_study(tmp_path, name="both", directions=["maximize", "minimize"])
    points = [(0.9, 5.0), (0.8, 6.0), (0.5, 1.0), (0.9, 4.0), (0.4, 1.0)]
    for point in points:
        tell(both, both.ask(SPACE), TrialEnd("complete", list(point)))
    front = [p for p in points if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in points)]
    assert [tuple(trial.values) for trial in ranked(both)] == sorted(front, reverse=True)


def test_the_table_has_a_row_a_trial(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    tell(study, study.ask(SPACE), TrialEnd("complete", [0.2]))
    tell(study, study.ask(SPACE), TrialEnd("failed", reason="boom"))
    table = json.loads(json.dumps(table_of(study.trials, ["val/auprc"])))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["trial"], row["state"], row["val/auprc"], row["failure"]) for row in rows] == [
        (0, "COMPLETE", 0.2, None),
        (1, "FAIL", None, "boom"),
    ]
    assert set(SPACE) < set(rows[0])


def with_metrics(folder: Path, **metrics: float) -> Path:
    (folder / "metrics.json").write_text(json.dumps({name.replace("__", "/"): v for name, v in metrics.items()}))
    return folder


def test_the_first_trial_decides_what_the_second_objective_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = new_study(tmp_path, directions=["maximize", "minimize"])
    config = SweepConfig(second_objective="energy", energy_budget_kwh=1.0)
    first, second = (Trial(study, study.ask(SPACE).number, run_dir=tmp_path) for _ in range(2))
    with caplog.at_level(logging.WARNING):
        first.report(0.5, values={"epoch": 1, "train/seconds": 2.0, "val/seconds": 1.0})
        assert note_cost(first, config, run_dir=with_metrics(tmp_path)) == [3.0]
    assert "the second objective is the seconds of training" in caplog.text
    assert "energy_budget_kwh bounds nothing" in caplog.text
    second.report(0.5, values={"epoch": 1, "train/seconds": 4.0, "val/seconds": 1.0})
    assert note_cost(second, config, run_dir=with_metrics(tmp_path, energy__total_kwh=0.25)) == [5.0]
    assert objective_names(study, load()) == ["val/auprc", "seconds"]
    study.set_user_attr(COST_UNIT, "kWh")
    assert note_cost(second, config, run_dir=with_metrics(tmp_path, energy__total_kwh=0.25)) == [0.25]
    with pytest.raises(RunError, match="second objective is energy in kWh, and this run measured none"):
        note_cost(second, config, run_dir=with_metrics(tmp_path))
    assert note_cost(second, dataclasses.replace(config, second_objective=None), run_dir=tmp_path) == []


def raising(error: BaseException) -> Callable[..., float]:
    def run(config: Config, *, run_dir: Path, after_epoch: Callable[[dict[str, float]], None]) -> float:
        after_epoch({"epoch": 1, "train/seconds": 1.0, "val/seconds": 0.5, "val/auprc": 0.5})
        raise error

    return run


def returning(value: float) -> Callable[..., float]:
    def run(config: Config, *, run_dir: Path, after_epoch: Callable[[dict[str, float]], None]) -> float:
        with_metrics(run_dir)
        return value

    return run


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (raising(ValueError("bad shape")), "ValueError: bad shape"),
        (raising(ConfigError("model.depth must be less")), "ConfigError: model.depth must be less"),
        (raising(MemoryError("no more")), "MemoryError: no more"),
        (raising(torch.OutOfMemoryError("CUDA is full")), "OutOfMemoryError: CUDA is full"),
        (raising(SystemExit(3)), "the trial left the process with code 3"),
        (returning(math.nan), r"the objective is [nan], which is no number"),
        (returning(math.inf), r"the objective is [inf], which is no number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_becomes_of_a_trial_fails_that_trial_and_says_why(
    run: Callable[..., float], reason: str, tmp_path: Path
) -> None:
    study = new_study(tmp_path)
    trial = study.ask(SPACE)
    config = load(["sweep.study=s", f"sweep.trial={trial.number}"])
    job = JobReturn()
    job.status, job.return_value = (
        JobStatus.COMPLETED,
        run_trial(run, config, run_dir=tmp_path, sweeper=sweeper(tmp_path)),
    )
    tell(study, trial, end_of(job))
    (told,) = study.trials
    assert (told.state, told.user_attrs["failure"]) == (TrialState.FAIL, reason)
    assert told.user_attrs["run_dir"] == str(tmp_path)


def sweeper(folder: Path) -> dict[str, object]:
    pruner = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1}
    return {"storage": f"{JOURNAL}{folder}/s.journal", "pruner": pruner}


def test_a_job_that_never_came_to_its_trial_fails_it() -> None:
    job = JobReturn()
    job.status, job.return_value = JobStatus.FAILED, ConfigError("no such key")
    assert end_of(job) == TrialEnd("failed", reason="ConfigError: no such key")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Stopped])
def test_what_stops_the_sweep_is_no_failure_of_the_trial(stop: type[BaseException], tmp_path: Path) -> None:
    config = load(["sweep.study=s", f"sweep.trial={new_study(tmp_path).ask(SPACE).number}"])
    with pytest.raises(stop):
        run_trial(raising(stop()), config, run_dir=tmp_path, sweeper=sweeper(tmp_path))


def test_a_trial_worse_than_the_others_is_pruned_where_it_stands(tmp_path: Path) -> None:
    study = new_study(tmp_path)

    def run(config: Config, *, run_dir: Path, after_epoch: Callable[[dict[str, float]], None]) -> float:
        for epoch in (1, 2, 3):
            values = {"epoch": epoch, "train/seconds": 1.0, "val/seconds": 0.0}
            after_epoch(values | {"val/auprc": 0.9 - 0.1 * config.sweep.trial * epoch})
        return float(with_metrics(run_dir).exists())

    ends = []
    for number in range(2):
        trial = study.ask(SPACE)
        config = load(["sweep.study=s", f"sweep.trial={number}"])
        ends.append(run_trial(run, config, run_dir=tmp_path, sweeper=sweeper(tmp_path)))
        tell(study, trial, ends[-1])
    assert [end.state for end in ends] == ["complete", "pruned"]
    assert ends[1].reason == "pruned after epoch 1 at 0.8000"
    assert [trial.user_attrs["epochs"] for trial in study.trials] == [3, 1]


def test_a_trial_knows_what_it_has_spent_before_it_is_finished(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trial = Trial(study, study.ask(SPACE).number, run_dir=tmp_path)
    for epoch in (1, 2):
        trial.report(0.5, values={"train/seconds": 2.0, "val/seconds": 1.0, "epoch": epoch})
    facts = study.trials[0].user_attrs
    assert (facts["epochs"], facts["seconds"]) == (2, 6.0)
    assert study.trials[0].intermediate_values == {1: 0.5, 2: 0.5}


def ledger_line(span: int, joules: float | None) -> str:
    label = "unavailable" if joules is None else "measured"
    gpu = {"joules": joules, "label": label, "source": "s", "reason": None}
    cpu = {"joules": None, "label": "unavailable", "source": "none", "reason": "no counters"}
    about = {"session": 1, "span": span, "finished": True, "phase": "train", "epoch": span, "seconds": 1.0}
    return json.dumps(about | {"gpu": gpu, "cpu": cpu}) + "\n"


@pytest.mark.parametrize(("joules", "kwh"), [(1.8e6, 1.0), (None, None)])
def test_a_trial_cut_short_keeps_its_energy_too(joules: float | None, kwh: float | None, tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trial = Trial(study, study.ask(SPACE).number, run_dir=tmp_path)
    (tmp_path / "energy.jsonl").write_text(ledger_line(1, joules) + ledger_line(2, joules))
    trial.close(None)
    assert study.trials[0].user_attrs.get("kwh") == kwh


def asker(study: optuna.Study, *overrides: str, n_trials: int = 4, n_jobs: int = 1) -> Asker:
    options = {"sampler": {"_target_": "optuna.samplers.TPESampler", "seed": None, "n_startup_trials": 2}}
    return Asker(options | {"n_trials": n_trials, "n_jobs": n_jobs}, Split(SPACE, []), load(list(overrides)))


def test_trials_are_asked_for_until_the_total_counting_those_that_run(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    first = asker(study, n_jobs=3).ask(study)
    assert [trial.number for trial in first] == [0, 1, 2]
    tell(study, first[0], TrialEnd("failed", reason="boom"))
    tell(study, first[1], TrialEnd("pruned"))
    assert [trial.number for trial in asker(study, n_jobs=3).ask(study)] == [3, 4]
    assert asker(study, n_jobs=3).ask(study) == []
    assert len(asker(study, n_trials=6, n_jobs=9).ask(study)) == 2


@pytest.mark.parametrize("bound", ["sweep.max_failures=1", "sweep.max_seconds=5", "sweep.energy_budget_kwh=0.5"])
def test_no_trial_is_asked_for_beyond_a_bound(bound: str, tmp_path: Path) -> None:
    study = new_study(tmp_path)
    (trial,) = asker(study).ask(study)
    trial.set_user_attr("seconds", 6.0)
    trial.set_user_attr("kwh", 0.5)
    tell(study, trial, TrialEnd("failed", reason="boom"))
    assert asker(study, bound).ask(study) == []
    assert len(asker(study).ask(study)) == 1


def test_a_sampler_that_keeps_its_state_in_the_study_repeats_no_point_either(tmp_path: Path) -> None:
    space = {"model.depth": optuna.distributions.IntDistribution(1, 2), "model.norm": choice("batch", "group")}
    sampler = optuna.samplers.NSGAIISampler(seed=0)
    study = new_study(tmp_path, space=space, sampler=sampler)
    options = {"sampler": {"_target_": "optuna.samplers.NSGAIISampler", "seed": None}, "n_trials": 12, "n_jobs": 1}
    one = Asker(options, Split(space, []), load())
    while trials := one.ask(study):
        tell(study, trials[0], TrialEnd("complete", [0.5]))
    done = finished(study.trials)
    assert len(done) == 4
    assert len({tuple(sorted(trial.params.items())) for trial in done}) == 4
    assert out_of_bounds(study.trials, SweepConfig(max_failures=1)) is None


def choice(*values: str) -> optuna.distributions.CategoricalDistribution:
    return optuna.distributions.CategoricalDistribution(values)


def dead_owner() -> dict[str, object]:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return dataclasses.asdict(this_process()) | {"pid": gone.pid}


@pytest.mark.parametrize("retries", [0, 2])
def test_the_point_of_a_dead_trial_is_tried_again_so_many_times(retries: int, tmp_path: Path) -> None:
    study, config = new_study(tmp_path), SweepConfig(max_retries=retries)
    study.ask(SPACE).set_user_attr("owner", dead_owner())
    for _ in range(retries):
        assert len(reap(study, config)) == 1
        again = study.ask(SPACE)
        assert again.params == study.trials[0].params
        again.set_user_attr("owner", dead_owner())
    assert len(reap(study, config)) == 1
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * (retries + 1)


def test_what_a_dead_sweep_had_seen_to_its_end_counts(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    for end in (TrialEnd("complete", [0.7]), TrialEnd("pruned", reason="worse"), None):
        trial = study.ask(SPACE)
        trial.set_user_attr("owner", dead_owner())
        if end is not None:
            Trial(study, trial.number, run_dir=tmp_path).close(end)
    assert [trial.number for trial in reap(study, SweepConfig())] == [2]
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING]
    assert study.trials[0].value == 0.7


def test_a_trial_that_was_asked_for_by_nobody_who_lives_is_given_up(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    study.ask(SPACE)  # killed before it could say who asked
    assert [trial.number for trial in reap(study, SweepConfig())] == [0]


def test_a_trial_that_somebody_else_gave_up_stays_given_up(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    for end in (TrialEnd("complete", [0.5]), TrialEnd("pruned"), TrialEnd("failed", reason="boom")):
        trial = study.ask(SPACE)
        study.tell(trial.number, state=TrialState.FAIL)
        tell(study, trial, end)
        late = run_trial(
            returning(0.5),
            load(["sweep.study=s", f"sweep.trial={trial.number}"]),
            run_dir=tmp_path,
            sweeper=sweeper(tmp_path),
        )
        assert late == TrialEnd("failed", reason="it was given up before it began")
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 3
    assert all("failure" not in trial.user_attrs for trial in study.trials)


def test_the_reason_of_a_failure_holds_no_password(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trial = study.ask(SPACE)
    config = load(["sweep.study=s", f"sweep.trial={trial.number}"])
    error = ValueError("no postgresql://me:hidden12@host/db")
    tell(study, trial, run_trial(raising(error), config, run_dir=tmp_path, sweeper=sweeper(tmp_path)))
    assert "no postgresql://" in study.trials[0].user_attrs["failure"]
    assert "hidden12" not in (tmp_path / "s.journal").read_text()


def test_a_new_study_keeps_out_of_a_folder_with_the_trials_of_another(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    refuse_used_folder(study, tmp_path / "absent")
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    refuse_used_folder(study, tmp_path / "sweep")
    (tmp_path / "sweep" / "0" / "journal.jsonl").touch()
    with pytest.raises(ConfigError, match=r"hydra\.sweep\.dir must be a folder without trials, since study 's' is new"):
        refuse_used_folder(study, tmp_path / "sweep")
    study.ask(SPACE)
    refuse_used_folder(study, tmp_path / "sweep")


@pytest.mark.parametrize(
    ("wanted", "overrides", "message"),
    [
        (["maximize"], ["training.monitor=val/loss"], "must be minimize first, since training.monitor is val/loss"),
        (["minimize"], [], "must be maximize first, since training.monitor is val/auprc"),
        (["maximize"], ["sweep.second_objective=energy"], "try sweep.second_objective=null"),
        (["maximize", "minimize"], [], "try sweep.second_objective=energy"),
        (["maximize", "maximize"], ["sweep.second_objective=energy"], "must be ['maximize', 'minimize']"),
    ],
)
def test_directions_must_be_those_of_the_objectives(wanted: list[Any], overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_objectives(wanted, load(overrides))


@pytest.mark.parametrize(
    ("fit", "overrides"),
    [
        (["maximize"], []),
        (["minimize"], ["training.monitor=val/loss"]),
        (["maximize", "minimize"], ["sweep.second_objective=energy"]),
    ],
)
def test_directions_that_fit_are_taken_and_their_opposites_refused(fit: list[Any], overrides: list[str]) -> None:
    check_objectives(fit, load(overrides))
    opposite = {"maximize": "minimize", "minimize": "maximize"}
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.direction"):
        check_objectives([opposite[one] for one in fit], load(overrides))


def test_a_point_that_is_tried_again_keeps_its_seed_and_the_next_ones_theirs(tmp_path: Path) -> None:
    whole, cut = (new_study(tmp_path, name=name) for name in ("whole", "cut"))
    split = Split(SPACE, [])
    seeds: dict[str, list[str]] = {"whole": [], "cut": []}
    for study in (whole, cut):
        while trials := asker(study).ask(study):
            if study is cut and trials[0].number in (1, 3):
                release(study, trials, config=SweepConfig(), lost=False)
                continue
            seeds[study.study_name].append(own_overrides(trials[0], split, seed=7)[-1])
            tell(study, trials[0], TrialEnd("complete", [trials[0].params["optimizer.lr"]]))
    assert len(cut.trials) == 6
    assert seeds["cut"] == seeds["whole"]
    assert [trial.params for trial in finished(cut.trials)] == [trial.params for trial in whole.trials]


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", "storage must be journal:///path/study.journal or a URL of a database, .* got nonsense"),
        ("nosuch://me:hidden12@h/db", "storage must be journal:///path/study.journal or a URL of a database"),
        ("journal:///proc/none/s.journal", "storage must be a file in a folder that can be written"),
    ],
)
def test_a_storage_that_cannot_be_is_a_mistake_of_the_configuration(storage: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_storage(storage, heartbeat_seconds=10)
    assert "hidden12" not in str(caught.value)


def test_every_figure_of_a_study_is_drawn_that_it_has_the_trials_for(tmp_path: Path) -> None:
    space = SPACE | {"model.filters": optuna.distributions.CategoricalDistribution((4, 8))}
    study = new_study(tmp_path, space=space)
    assert draw_study(study, tmp_path / "none", objectives=["val/auprc"]) == []
    for number in range(6):
        trial = study.ask(space)
        trial.report(0.1 * number, 1)
        tell(study, trial, TrialEnd("complete", [0.1 * number]))
    names = {path.stem for path in draw_study(study, tmp_path / "one", objectives=["val/auprc"])}
    single = {"history", "slice", "parallel_coordinates", "timeline", "intermediate_values", "contour", "importances"}
    assert names == single
    both = new_study(tmp_path, name="both", directions=["maximize", "minimize"])
    tell(both, both.ask(SPACE), TrialEnd("complete", [0.5, 2.0]))
    drawn = draw_study(both, tmp_path / "two", objectives=["val/auprc", "seconds"])
    assert {path.stem for path in drawn} == {"pareto", "timeline"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_a_database_that_is_gone_is_one_message_without_its_password() -> None:
    storage = "postgresql://me:hidden12@nowhere.invalid/db"
    with (
        pytest.raises(
            RunError, match=r"storage postgresql://\S*nowhere\.invalid/db must answer: .*run the same"
        ) as caught,
        named_failures(storage),
    ):
        open_storage(storage, heartbeat_seconds=10)
    assert "hidden12" not in str(caught.value)


def test_workers_are_pinned_to_a_gpu_each_or_to_their_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert visible_gpus(os.environ) == ["GPU-a", "GPU-b"]
    assert [place(number, 3)["CUDA_VISIBLE_DEVICES"] for number in range(3)] == ["GPU-a", "GPU-b", "GPU-a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cores = len(os.sched_getaffinity(0))
    assert place(0, 2) == {"OMP_NUM_THREADS": str(max(1, cores // 2)), "TTY_COMPATIBLE": "0"}
    assert place(0, 1) == {}


def worker(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = folder / "worker.py"
    script.write_text(code)
    monkeypatch.setattr(sys, "argv", [str(script), "sweep.workers=2", "hydra.sweep.dir=old"])


def test_a_killed_worker_is_started_again_a_number_of_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(
        tmp_path,
        "import os, sys; from pathlib import Path; folder = Path(sys.argv[-1].partition('=')[2])\n"
        "(folder / f'{os.getpid()}.started').write_text(' '.join(sys.argv[1:]))\n"
        "if len(list(folder.glob('*.started'))) < 4: os.kill(os.getpid(), 9)",
        monkeypatch,
    )
    run_workers(1, folder=tmp_path, restarts=3)
    started = [path.read_text() for path in tmp_path.glob("*.started")]
    assert started == [f"sweep.workers=2 sweep.worker=0 hydra.sweep.dir={tmp_path}"] * 4
    for path in tmp_path.glob("*.started"):
        path.unlink()
    with pytest.raises(RunError, match=r"workers ended with errors .*\{0: -9\}"):
        run_workers(1, folder=tmp_path, restarts=2)


def test_no_worker_outlives_a_command_that_is_killed(tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text(
        "import os, sys, time; open(sys.argv[-1].partition('=')[2] + '/pid', 'w').write(str(os.getpid()));"
        "time.sleep(600)"
    )
    code = (
        "import sys; from pathlib import Path; from astrid.sweep.workers import run_workers;"
        f"sys.argv = [{str(sleeper)!r}]; run_workers(1, folder=Path({str(tmp_path)!r}), restarts=9)"
    )
    command = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT)
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text() != "")
    command.kill()
    command.wait()
    wait_until(lambda: not is_running(int(pid.read_text())))
    assert not is_running(int(pid.read_text()))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_process_at_a_time_holds_the_lock_of_a_study(tmp_path: Path) -> None:
    url = f"{JOURNAL}{tmp_path}/s.journal"
    code = (
        "import time; from pathlib import Path; from astrid.sweep.study import StudyLock;"
        f"lock = StudyLock({url!r}, study_name='s', folder=Path({str(tmp_path)!r}));\n"
        f"with lock.hold(): print('held', flush=True); time.sleep(1); Path({str(tmp_path / 'let go')!r}).touch()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with StudyLock(url, study_name="s", folder=tmp_path).hold():
        assert (tmp_path / "let go").exists()
    holder.communicate()
