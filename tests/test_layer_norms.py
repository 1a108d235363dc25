"""Norms by layer: what they are of, and that looking changes nothing."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from learners import PLAIN, Bench, spots

from astrid.config import ConfigError, SGDConfig, TrainingConfig
from astrid.config.compose import load
from astrid.data.store import FieldStore
from astrid.layer_norms import EpochNorms, NormLog, read_norms
from astrid.optimization import build_optimizer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FieldStore:
    return spots(tmp_path_factory.mktemp("spots") / "fields")


def test_an_update_of_plain_descent_is_the_rate_times_the_gradient(store: FieldStore, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=1, device="cpu", precision="fp32", clip_norm=None, log_gradients=3)
    bench = Bench(store, tmp_path)
    learner = bench.learner(config, **PLAIN)
    learner.optimizer = build_optimizer(learner.model, SGDConfig(lr=0.1, momentum=0.0, weight_decay=0.0))
    learner.schedule.optimizer = learner.optimizer
    for group in learner.optimizer.param_groups:
        group["initial_lr"] = 0.1
    norms = bench.fit(learner, config)[0].norms
    assert norms is not None
    for name, gradients in norms.gradient.items():
        assert len(gradients) >= 3
        assert norms.update[name] == pytest.approx([0.1 * gradient for gradient in gradients], rel=1e-3, abs=1e-7)


def test_a_frozen_parameter_has_no_gradient_and_no_update() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
    model[0].requires_grad_(False)
    log = NormLog(model, samples=1, steps=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(2, 3)).sum().backward()
    log.before_step()
    optimizer.step()
    log.after_step()
    norms = log.settle(1)
    assert norms is not None
    assert norms.gradient["0.weight"] == [None]
    assert norms.update["0.weight"] == [0.0]
    assert norms.update["1.weight"][0] > 0
    assert norms.gradient["1.bias"] == [2.0]


@pytest.mark.parametrize(("steps", "samples"), [(7, 4), (8, 4), (3, 4), (100, 7), (5, 1), (5, 0)])
def test_as_many_steps_are_looked_at_as_were_asked_for_and_evenly(steps: int, samples: int) -> None:
    model = torch.nn.Linear(1, 1)
    log = NormLog(model, samples=samples, steps=steps)
    for step in range(steps):
        model.bias.grad = torch.full((1,), float(step + 1))
        log.before_step()
        log.after_step()
    norms = log.settle(1)
    seen = [] if norms is None else [int(value) - 1 for value in norms.gradient["bias"] if value is not None]
    assert len(seen) == min(steps, samples)
    gaps = {after - before for before, after in itertools.pairwise(seen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_the_steps_that_are_looked_at_reach_to_the_end_of_the_epoch() -> None:
    network = torch.nn.Linear(1, 1)
    assert NormLog(network, samples=4, steps=11).looked_at == {0, 2, 5, 8}
    assert NormLog(network, samples=4, steps=4).looked_at == {0, 1, 2, 3}
    assert NormLog(network, samples=4, steps=2).looked_at == {0, 1}
    assert NormLog(network, samples=0, steps=9).looked_at == set()


def test_a_gradient_that_is_no_number_is_told_from_one_that_is_missing(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    model.weight.grad = torch.full((1, 1), torch.nan)
    log = NormLog(model, samples=1, steps=1)
    log.before_step()
    log.after_step()
    norms = log.settle(1)
    assert norms is not None
    norms.append_to(tmp_path / "norms.jsonl")
    (read,) = read_norms(tmp_path / "norms.jsonl")
    assert math.isnan(read.gradient["weight"][0] or 0.0)
    assert read.gradient["bias"] == [None]


def test_looking_at_norms_changes_no_bit_of_the_weights(store: FieldStore, tmp_path: Path) -> None:
    weights = []
    for samples in (0, 4):
        config = TrainingConfig(epochs=2, device="cpu", log_gradients=samples)
        bench = Bench(store, tmp_path / str(samples))
        learner = bench.learner(config)
        records = bench.fit(learner, config)
        assert (records[0].norms is None) == (samples == 0)
        weights.append(learner.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_norms_come_back_from_the_file_and_a_repeated_epoch_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "norms.jsonl"
    for epoch, value in ((1, 0.5), (2, 0.25), (2, 0.125)):
        EpochNorms(epoch, {"a": [value]}, {"a": [1.0]}, {"a": [math.pi]}).append_to(path)
    with path.open("a") as file:
        file.write('{"epoch": 3, "gra')
    found = read_norms(path)
    assert [norms.epoch for norms in found] == [1, 2]
    assert found[1].gradient == {"a": [0.125]}
    assert found[0].update == {"a": [3.142]}


def test_a_run_without_norms_has_none(tmp_path: Path) -> None:
    assert read_norms(tmp_path / "absent") == []


def test_a_negative_number_of_samples_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.log_gradients must be at least 0, got -1"):
        load(["training.log_gradients=-1"])
