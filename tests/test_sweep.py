"""Studies reach their total whatever dies, prune, refuse another space, and end in a summary."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from astrid.config import ConfigError, SweepConfig
from astrid.config.compose import PROJECT_ROOT, load
from astrid.sweep.search import Space, derived_seed, directions, job_overrides, out_of_bounds, tell
from astrid.sweep.study import JOURNAL, StudyLock, open_storage, open_study
from astrid.sweep.summary import ranked, saved_by_pruning, table_of
from astrid.sweep.trial import TrialEnd
from astrid.sweep.workers import place, visible_gpus

SPACE = {
    "model.depth": optuna.distributions.IntDistribution(1, 3),
    "optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
}


def new_study(folder: Path, **changes: object) -> optuna.Study:
    choices = {
        "name": "s",
        "directions": ["maximize"],
        "sampler": optuna.samplers.RandomSampler(seed=0),
        "pruner": optuna.pruners.NopPruner(),
        "space": SPACE,
    } | changes
    storage = open_storage(f"{JOURNAL}{folder}/s.journal", heartbeat_seconds=10)
    return open_study(storage, **choices)  # type: ignore[arg-type]


def test_a_changed_search_space_is_refused_with_the_difference(tmp_path: Path) -> None:
    new_study(tmp_path)
    wider = SPACE | {"model.depth": optuna.distributions.IntDistribution(1, 4)}
    with pytest.raises(
        ConfigError, match=r"must keep its search space; model\.depth: .*'high': 3.* there, .*'high': 4"
    ):
        new_study(tmp_path, space=wider)
    with pytest.raises(ConfigError, match=r"optimizer\.lr: .* there, fixed here"):
        new_study(tmp_path, space={"model.depth": SPACE["model.depth"]})
    assert new_study(tmp_path).trials == []


def test_a_pruner_with_two_objectives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pruner must be nop with 2 objectives, got MedianPruner"):
        new_study(tmp_path, directions=["maximize", "minimize"], pruner=optuna.pruners.MedianPruner())


def test_another_direction_is_refused(tmp_path: Path) -> None:
    new_study(tmp_path)
    with pytest.raises(ConfigError, match=r"direction must be what study 's' was made for, \['maximize'\]"):
        new_study(tmp_path, directions=["minimize"])


def test_every_trial_gets_a_seed_and_a_number_of_its_own(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    jobs = [
        job_overrides(study.ask(SPACE), space=Space(SPACE, ["data=simulated"]), seed=7, study_name="s", parent=None)
        for _ in range(3)
    ]
    seeds = [next(item for item in job if item.startswith("training.seed=")) for job in jobs]
    assert len(set(seeds)) == 3
    assert [job[-2] for job in jobs] == ["sweep.trial=0", "sweep.trial=1", "sweep.trial=2"]
    fixed = job_overrides(study.ask(SPACE), space=Space(SPACE, ["training.seed=3"]), seed=7, study_name="s", parent="p")
    assert [item for item in fixed if item.startswith("training.seed=")] == ["training.seed=3"]
    assert fixed[-1] == "sweep.parent_run=p"


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


def finished(state: TrialState, **attributes: float) -> optuna.trial.FrozenTrial:
    value = 0.5 if state == TrialState.COMPLETE else None
    trial = optuna.trial.create_trial(state=state, value=value)
    for name, attribute in attributes.items():
        trial.set_user_attr(name, attribute)
    return trial


def test_bounds_end_a_study() -> None:
    failed = [finished(TrialState.FAIL)] * 3
    assert out_of_bounds(failed, SweepConfig(max_failures=4)) is None
    assert "3 trials failed" in str(out_of_bounds(failed, SweepConfig(max_failures=3)))
    spent = [finished(TrialState.COMPLETE, seconds=6.0, kwh=0.25)] * 2
    assert out_of_bounds(spent, SweepConfig(max_seconds=13, energy_budget_kwh=0.6)) is None
    assert "12 seconds are spent of 12" in str(out_of_bounds(spent, SweepConfig(max_seconds=12)))
    assert "0.5 kwh are spent of 0.4" in str(out_of_bounds(spent, SweepConfig(energy_budget_kwh=0.4)))


def test_what_pruning_saved_is_counted_at_each_trials_own_pace() -> None:
    trials = [
        finished(TrialState.COMPLETE, epochs=8, seconds=80.0),
        finished(TrialState.PRUNED, epochs=2, seconds=30.0),
        finished(TrialState.FAIL, epochs=1, seconds=5.0),
    ]
    saved = saved_by_pruning(trials, epochs=8)
    assert (saved.epochs, saved.of_epochs, saved.seconds, saved.kwh) == (6, 16, 90.0, None)


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
    table = table_of(study.trials)
    assert table["columns"][:4] == ["trial", "state", "model.depth", "optimizer.lr"]
    assert table["data"][0][:2] == [0, "COMPLETE"]
    json.dumps(table)


def test_workers_are_pinned_to_a_gpu_each_or_to_their_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert visible_gpus(os.environ) == ["GPU-a", "GPU-b"]
    assert [place(number, 3) for number in range(3)] == [
        {"CUDA_VISIBLE_DEVICES": name} for name in ("GPU-a", "GPU-b", "GPU-a")
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cores = len(os.sched_getaffinity(0))
    assert place(0, 2) == {"OMP_NUM_THREADS": str(max(1, cores // 2))}


def test_one_process_at_a_time_holds_the_lock_of_a_study(tmp_path: Path) -> None:
    url = f"{JOURNAL}{tmp_path}/s.journal"
    code = (
        "import sys, time; from pathlib import Path; from astrid.sweep.study import StudyLock;"
        f"lock = StudyLock({url!r}, study_name='s', folder=Path({str(tmp_path)!r}));\n"
        "with lock.hold(): print('held', flush=True); time.sleep(1.5)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    began = time.monotonic()
    with StudyLock(url, study_name="s", folder=tmp_path).hold():
        waited = time.monotonic() - began
    holder.communicate()
    assert waited > 0.5


# The command itself, with tiny runs.


def sweep(*overrides: str, tiny: list[str], cwd: Path) -> list[str]:
    own = ["-m", "tracking=off", "training.epochs=3", f"hydra.sweeper.storage={JOURNAL}{cwd}/study.journal"]
    return [sys.executable, str(PROJECT_ROOT / "train.py"), *tiny, *own, *overrides]


def study_in(cwd: Path, name: str) -> optuna.Study:
    storage = open_storage(f"{JOURNAL}{cwd}/study.journal", heartbeat_seconds=10)
    return optuna.load_study(study_name=name, storage=storage)


def run(command: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)


RECIPES = sorted(path.stem for path in (PROJECT_ROOT / "conf" / "sweep").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_with_tiny_settings(recipe: str, tiny: list[str], tmp_path: Path) -> None:
    small = ["data.train_fields=2", "hydra.sweeper.n_trials=3"]
    done = run(sweep(f"sweep={recipe}", *small, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    states = [trial.state for trial in study_in(tmp_path, recipe).trials]
    assert sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states) == 3
    assert f"astrid compare --sweep {recipe}" in done.stdout
    assert (tmp_path / "outputs/sweeps" / recipe / "trials.json").is_file()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_into_a_run(recipe: str) -> None:
    assert load([f"sweep={recipe}"]).training.epochs < 10


def test_the_sweeper_is_known_where_the_installed_entry_points_are_old() -> None:
    code = (
        "import hydra.core.plugins as plugins; plugins.entry_points = lambda group: [];"
        "from astrid.sweep.plugin import register_sweeper; register_sweeper();"
        "print(*plugins.Plugins.instance().class_name_to_class)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert "astrid.sweep.plugin.StudySweeper" in done.stdout.split()


def test_a_sweep_without_multirun_says_so(tmp_path: Path) -> None:
    done = run([sys.executable, str(PROJECT_ROOT / "train.py"), "sweep=grid"], cwd=tmp_path)
    assert done.returncode == 2
    assert "must be given with -m" in done.stderr


def wait_for_trial(cwd: Path, number: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        journal = cwd / "study.journal"
        if journal.exists():
            try:
                if len(study_in(cwd, "depth_filters").trials) > number:
                    return
            except KeyError:
                pass
        time.sleep(0.2)
    raise AssertionError(f"trial {number} never began")


@pytest.mark.slow
def test_a_killed_study_goes_on_to_exactly_its_total(tiny: list[str], tmp_path: Path) -> None:
    command = sweep("sweep=depth_filters", "hydra.sweeper.n_trials=4", tiny=tiny, cwd=tmp_path)
    killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_trial(tmp_path, 2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = run(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    trials = study_in(tmp_path, "depth_filters").trials
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(ended) == 4
    assert len(failed) <= 1
    assert all(trial.user_attrs["retry_of"] == failed[0].number for trial in trials if "retry_of" in trial.user_attrs)
    folders = [trial.user_attrs["run_dir"] for trial in ended]
    assert len(set(folders)) == 4
    again = run(command, cwd=tmp_path)
    assert again.returncode == 0
    assert len(study_in(tmp_path, "depth_filters").trials) == len(trials)
