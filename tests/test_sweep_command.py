"""The sweep command itself, with tiny runs: its recipes, what it refuses, and that it repeats itself."""

from __future__ import annotations

import itertools
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState
from studies import run, study_in, sweep

from astrid.config.compose import CHOICES, PROJECT_ROOT, load
from astrid.sweep.jobs import split_overrides
from astrid.sweep.proposals import values_of

RECIPES = sorted(path.stem for path in (PROJECT_ROOT / "conf" / "sweep").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_with_tiny_settings(recipe: str, tiny: list[str], tmp_path: Path) -> None:
    small = ["data.train_fields=2", "hydra.sweeper.n_trials=3"]
    done = run(sweep(f"sweep={recipe}", *small, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    states = [trial.state for trial in study_in(tmp_path, recipe).trials]
    assert sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states) == 3
    assert "again: python train.py " in done.stdout
    assert "at full size: python train.py " in done.stdout
    assert (tmp_path / "outputs/sweeps" / recipe / "study" / "trials.json").is_file()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_into_a_run(recipe: str) -> None:
    assert load([f"sweep={recipe}"]).training.epochs < 10


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_varies_only_keys_that_every_choice_of_its_groups_has(recipe: str) -> None:
    written = yaml.safe_load((PROJECT_ROOT / "conf" / "sweep" / f"{recipe}.yaml").read_text())
    params = [f"{name}={value}" for name, value in written["hydra"]["sweeper"]["params"].items()]
    space = split_overrides(params, []).searched
    ends = {name: values_of(values) or [values.low, values.high] for name, values in space.items()}
    groups = {name: values for name, values in ends.items() if name in CHOICES}
    for chosen in itertools.product(*groups.values()):
        for end in (0, -1):
            knobs = {name: values[end] for name, values in ends.items()} | dict(zip(groups, chosen, strict=True))
            config = load([f"sweep={recipe}", *(f"{name}={value}" for name, value in knobs.items())])
            for name in knobs.keys() - groups.keys():
                assert str(attrgetter(name)(config)).lower() == str(knobs[name]).lower()


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


def test_a_plain_multirun_stays_hydras_own_and_an_interval_there_says_what_it_needs(tmp_path: Path) -> None:
    plain = [sys.executable, str(PROJECT_ROOT / "train.py"), "-m"]
    done = run([*plain, "model.depth=interval(1,4)"], cwd=tmp_path)
    assert done.returncode == 2
    assert "model.depth=interval(1,4) must be a list of values in a plain multirun; try" in done.stderr
    assert "sweep=..." in done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sweep=grid", "hydra.sweeper.study_name=a/b"], "hydra.sweeper.study_name must be letters, digits"),
        pytest.param(
            ["sweep=grid", "hydra.sweeper.n_trials=0"],
            "hydra.sweeper.n_trials must be at least 1, got 0",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["sweep=grid", "optimizer.lr=interval(0.1,0.2)"],
            "optimizer.lr must be a choice(...) or a range(...) in a grid",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["sweep=grid", "model.deph=choice(1,2)"],
            "model.deph must be a key of the configuration",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["sweep=grid", "hydra.sweeper.n_trialz=4"],
            "hydra.sweeper.n_trialz must be a key of the configuration",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["sweep=wide", "sweep.max_failures=0"],
            "sweep.max_failures must be at least 1, got 0",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["sweep=energy_quality", "hydra/sweeper/pruner=median"],
            "hydra.sweeper.pruner must be nop with 2 objectives",
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_sweep_that_cannot_run_says_so_once_before_any_trial(
    overrides: list[str], message: str, tiny: list[str], tmp_path: Path
) -> None:
    done = run(sweep(*overrides, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_the_same_sweep_gives_the_same_trials_and_values(tiny: list[str], tmp_path: Path) -> None:
    values = []
    for name in ("first", "second"):
        (folder := tmp_path / name).mkdir()
        small = ["data.train_fields=2", "hydra.sweeper.n_trials=6", "training.epochs=2"]
        done = run(sweep("sweep=depth_filters", *small, tiny=tiny, cwd=folder), cwd=folder)
        assert done.returncode == 0, done.stderr[-2000:]
        trials = study_in(folder, "depth_filters").trials
        values.append([(trial.state, trial.params, trial.values, trial.intermediate_values) for trial in trials])
    assert len(values[0]) == 6
    assert values[0] == values[1]


@pytest.mark.slow
def test_trials_that_cannot_run_fail_alone(tiny: list[str], tmp_path: Path) -> None:
    mixed = ["model.depth=choice(3,5)", "data.tile_size=72", "data.field_size=144", "hydra.sweeper.n_trials=4"]
    mixed += ["optimizer.lr=interval(0.001,0.01)", "data.train_fields=2", "training.epochs=1", "sweep.max_failures=50"]
    done = run(sweep("sweep=depth_filters", *mixed, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    trials = study_in(tmp_path, "depth_filters").trials
    for trial in trials:
        failed = trial.params["model.depth"] == 5
        assert (trial.state == TrialState.FAIL) == failed
        assert not failed or "data.tile_size must be a multiple of 2**model.depth" in trial.user_attrs["failure"]
    assert sum(trial.state != TrialState.FAIL for trial in trials) == 4


@pytest.mark.slow
def test_a_hopeless_sweep_ends_at_its_cap_with_exit_code_1(tiny: list[str], tmp_path: Path) -> None:
    hopeless = ["model.depth=choice(5,6)", "data.tile_size=72", "data.field_size=144", "sweep.max_failures=3"]
    done = run(sweep("sweep=depth_filters", *hopeless, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "no trial of study 'depth_filters' came to its end" in done.stderr
    assert len(study_in(tmp_path, "depth_filters").trials) == 3


@pytest.mark.slow
def test_two_workers_reach_the_total_together(tiny: list[str], tmp_path: Path) -> None:
    small = ["sweep.workers=2", "data.train_fields=2", "training.epochs=1", "hydra.sweeper.n_trials=5"]
    done = run(sweep("sweep=grid", *small, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    trials = study_in(tmp_path, "grid").trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5
    assert len({tuple(trial.params.items()) for trial in trials}) == 5
    assert len({trial.user_attrs["owner"]["pid"] for trial in trials}) == 2
