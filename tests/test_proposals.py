"""No point is tried twice, whatever the sampler, and a space that is used up is known to be."""

from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from astrid.config import ConfigError
from astrid.sweep.proposals import (
    ask_at,
    cells,
    check_countable,
    point_of,
    rehearse,
    same_point,
    untried,
    values_of,
)

SMALL = {"depth": IntDistribution(1, 3), "filters": CategoricalDistribution((4, 8))}
EVERY = {point_of({"depth": depth, "filters": filters}) for depth in (1, 2, 3) for filters in (4, 8)}


def test_values_are_those_of_the_command_line() -> None:
    assert values_of(IntDistribution(2, 8, step=3)) == [2, 5, 8]
    assert values_of(CategoricalDistribution(("a", None))) == ["a", None]
    assert values_of(CategoricalDistribution((4, 4, 8))) == [4, 8]
    assert values_of(FloatDistribution(0.0, 0.3, step=0.1)) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert values_of(FloatDistribution(1e-4, 1e-2, log=True)) is None
    assert cells(SMALL) == 6
    assert cells(SMALL | {"lr": FloatDistribution(0.1, 0.2)}) is None


def test_a_grid_needs_values_that_can_be_counted() -> None:
    check_countable(SMALL)
    with pytest.raises(ConfigError, match=r"lr must be a choice\(\.\.\.\) or a range\(\.\.\.\) in a grid"):
        check_countable(SMALL | {"lr": FloatDistribution(0.1, 0.2)})


@given(st.integers(0, 2**32 - 1))
def test_a_grid_is_walked_through_whole_and_once(seed: int) -> None:
    study = optuna.create_study(sampler=RandomSampler(0))
    met = []
    while (point := untried(SMALL, study.trials, generator=np.random.default_rng([seed, len(met)]))) is not None:
        met.append(point_of(ask_at(study, SMALL, point).params))
    assert len(met) == 6
    assert set(met) == EVERY


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"]])
def test_a_sampler_is_asked_until_its_point_is_new_and_left_out_when_all_are_tried(directions: list[str]) -> None:
    study = optuna.create_study(directions=directions)
    for number in range(6):
        point = rehearse(study, SMALL, sampler=TPESampler(seed=number, n_startup_trials=2, constant_liar=True))
        assert point is not None
        study.tell(ask_at(study, SMALL, point), [float(point["depth"])] * len(directions))
    assert {point_of(trial.params) for trial in study.trials} == EVERY
    assert rehearse(study, SMALL, sampler=TPESampler(seed=9)) is None


def test_a_rehearsal_is_what_the_sampler_would_have_said_and_leaves_the_study_alone() -> None:
    space = {"lr": FloatDistribution(1e-4, 1e-2, log=True), "depth": IntDistribution(1, 9)}
    study = optuna.create_study(study_name="s", direction="maximize", pruner=optuna.pruners.HyperbandPruner(1, 9))
    for number in range(12):
        sampler = TPESampler(seed=number, multivariate=True, n_startup_trials=4)
        trial = ask_at(study, space, rehearse(study, space, sampler=sampler) or {})
        trial.report(trial.params["lr"], 1)
        study.tell(trial, trial.params["lr"])
    before = len(study.trials)
    rehearsed = rehearse(study, space, sampler=TPESampler(seed=99, multivariate=True, n_startup_trials=4))
    assert len(study.trials) == before
    study.sampler = TPESampler(seed=99, multivariate=True, n_startup_trials=4)
    assert study.ask(space).params == rehearsed


def test_a_point_that_runs_or_has_failed_is_tried_too() -> None:
    study = optuna.create_study()
    ask_at(study, SMALL, {"depth": 1, "filters": 4})
    study.tell(ask_at(study, SMALL, {"depth": 1, "filters": 8}), state=TrialState.FAIL)
    points = [untried(SMALL, study.trials, generator=np.random.default_rng(seed)) for seed in range(50)]
    assert {point_of(point or {}) for point in points} == {
        point_of({"depth": depth, "filters": filters}) for depth, filters in itertools.product((2, 3), (4, 8))
    }


def test_a_point_is_known_whatever_became_of_its_trial() -> None:
    study = optuna.create_study()
    study.tell(ask_at(study, SMALL, {"depth": 1, "filters": 4}), 0.25)
    study.tell(ask_at(study, SMALL, {"depth": 2, "filters": 4}), state=TrialState.PRUNED)
    for depth, known in ((1, True), (2, True), (3, False)):
        trial = ask_at(study, SMALL, {"depth": depth, "filters": 4})
        assert same_point(trial, study.trials) == known
