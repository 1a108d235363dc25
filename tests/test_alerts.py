"""Each rule tells once what a person should know: what, how much, against which threshold, and what to do."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from astrid.alerts.rules import Edge, EpochRules, SampleRules, Window
from astrid.config import AlertsConfig, ConfigError, TrainingConfig
from astrid.config.compose import PROJECT_ROOT, load
from astrid.config.resume import save_config

QUIET = AlertsConfig(
    diverging_factor=None, stale_epochs=None, gpu_idle_percent=None, memory_percent=None, retries_per_minute=None
)
TRAINING = TrainingConfig(monitor="val/loss")


def only(**knobs: Any) -> AlertsConfig:
    """Switch all rules off but one."""
    return dataclasses.replace(QUIET, **knobs)


def told_at(config: AlertsConfig, losses: list[float], *, kwh: list[float] | None = None) -> dict[int, str]:
    """Return the epochs in which something was told of these losses, with what."""
    rules = EpochRules(config, TRAINING)
    told: dict[int, str] = {}
    for epoch, loss in enumerate(losses, start=1):
        used = None if kwh is None else kwh[epoch - 1]
        for alert in rules.judge({"epoch": epoch, "train/loss": loss, "val/loss": loss}, kwh=used):
            told[epoch] = alert.message
    return told


def told_of_samples(config: AlertsConfig, samples: list[dict[str, float]], *, seconds: float) -> list[int]:
    """Return which samples, taken at that interval while training, made somebody speak."""
    rules = SampleRules(config)
    numbered = enumerate(samples)
    return [i for i, values in numbered if list(rules.judge(values, now=100 + i * seconds, training=True))]


def test_an_edge_is_told_once_and_again_only_after_the_value_came_back_by_a_margin() -> None:
    edge = Edge(100.0)
    values = [99, 101, 150, 99, 101, 96, 101, 94, 101, 90]
    assert [value for value in values if edge.crossed(value)] == [101, 101]
    below = Edge(20.0, below=True)
    assert [below.crossed(value) for value in (25, 19, 15, 20.5, 19, 22, 19)] == [
        False, True, False, False, False, False, True,
    ]  # fmt: skip
    assert not any(Edge(None).crossed(value) for value in (-1e9, 0, 1e9, math.inf))


@pytest.mark.parametrize(("losses", "epochs"), [([1, 0.5, 1.6, 1.7, 2, 0.4, 1.3, 1.3], [4, 8]), ([1, 3, 1, 3, 1], [])])
def test_divergence_is_a_loss_far_above_its_best_for_several_epochs(losses: list[float], epochs: list[int]) -> None:
    told = told_at(only(diverging_factor=3.0, diverging_epochs=2), losses)
    assert list(told) == epochs
    if told:
        assert "train/loss is 1.7, 3.4 times its best, after 2 epochs above 3 times; try a smaller" in told[4]


def test_no_improvement_is_told_once_for_each_standstill() -> None:
    losses = [1.0, 0.9, 0.9, 0.95, 0.9, 0.91, 0.8, 0.8, 0.8, 0.8]
    told = told_at(only(stale_epochs=3), losses)
    assert list(told) == [5, 10]
    assert "val/loss has not improved for 3 epochs, since 0.9 in epoch 2; stop the run" in told[5]


def test_a_loss_that_is_not_finite_is_always_told() -> None:
    told = told_at(QUIET, [1.0, math.nan, math.inf, 1.0, -math.inf])
    assert list(told) == [2, 5]
    assert "train/loss is nan in epoch 2, and must be finite; try a smaller optimizer.lr" in told[2]


def test_the_energy_budget_is_told_when_it_is_exceeded() -> None:
    told = told_at(only(energy_kwh=0.5), [1.0] * 4, kwh=[0.2, 0.5, 0.6, 0.8])
    assert list(told) == [3]
    assert "has used 0.6 kWh, more than 0.5 kWh; stop it" in told[3]


def test_an_idle_gpu_is_told_after_the_whole_time_and_only_while_training() -> None:
    config = only(gpu_idle_percent=20.0, gpu_idle_minutes=1.0)
    idle, busy = {"system/gpu_percent": 5.0}, {"system/gpu_percent": 80.0}
    assert told_of_samples(config, [idle] * 20, seconds=10) == [6]
    assert told_of_samples(config, [idle] * 5 + [busy] * 5 + [idle] * 10, seconds=10) == [15]
    assert told_of_samples(config, [{}] * 20, seconds=10) == []  # no GPU, no alert
    rules = SampleRules(config)
    assert not [i for i in range(60) for _ in rules.judge(idle, now=10.0 * i, training=False)]


def test_memory_near_its_limit_is_told_for_machine_and_gpu() -> None:
    rules = SampleRules(only(memory_percent=90.0))
    host, gpu = {"system/memory_percent": 93.0}, {"system/gpu_memory_percent": 97.0}
    alerts = list(rules.judge(host | gpu, now=0, training=False))
    assert [alert.rule for alert in alerts] == ["memory", "gpu_memory"]
    assert alerts[0].message.startswith("93 % of the memory of the machine or of the run's control group is in use")
    assert alerts[1].message.startswith("97 % of the memory of a GPU is in use, more than 90 %; try a smaller")
    assert not list(rules.judge(host | gpu, now=10, training=False))


def test_many_failed_uploads_are_told_and_a_few_are_not() -> None:
    config = only(retries_per_minute=1.0)
    many = [{"errors/retried_uploads": float(n)} for n in range(12)]
    assert told_of_samples(config, many, seconds=20) == [6]  # more than five in five minutes
    assert told_of_samples(config, many, seconds=70) == []


def test_a_window_forgets_what_is_too_old() -> None:
    window = Window(60)
    for now, value in ((0, 100), (30, 50), (60, 10), (90, 10), (120, 10)):
        window.add(now, value)
    assert window.is_full
    assert window.mean == 10
    assert window.rise == 0


def test_null_switches_each_rule_off() -> None:
    assert told_at(QUIET, [1.0, 50.0, 50.0, 50.0] + [60.0] * 20, kwh=[9e9] * 24) == {}
    everything = {
        "system/gpu_percent": 0.0,
        "system/memory_percent": 100.0,
        "system/gpu_memory_percent": 100.0,
    }
    samples = [everything | {"errors/retried_uploads": 100.0 * i} for i in range(50)]
    assert told_of_samples(QUIET, samples, seconds=60) == []


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("diverging_factor", 1.0),
        ("diverging_epochs", 0),
        ("stale_epochs", 0),
        ("gpu_idle_percent", 101.0),
        ("gpu_idle_minutes", 0.0),
        ("memory_percent", 0.0),
        ("energy_kwh", 0.0),
        ("retries_per_minute", -1.0),
        ("webhook_env", "not a name"),
    ],
)
def test_a_threshold_out_of_its_range_is_refused_by_name(knob: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"tracking\.alerts\.{knob} must be .*, got "):
        AlertsConfig(**{knob: value})


def test_a_url_given_for_the_name_of_a_variable_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="got 'something with a colon'"):
        AlertsConfig(webhook_env="https://hooks.example/very-secret")


def test_a_mistyped_rule_is_refused_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean tracking\.alerts\.memory_percent"):
        load(["tracking.alerts.memry_percent=80"])


def test_a_resumed_run_may_change_a_rule(tmp_path: Path) -> None:
    save_config(load(["tracking.alerts.stale_epochs=4"]), tmp_path)
    config = load([f"training.resume={tmp_path}", "tracking.alerts.memory_percent=80"])
    assert config.tracking.alerts == AlertsConfig(memory_percent=80.0, stale_epochs=4)


@pytest.mark.parametrize("knob", [field.name for field in dataclasses.fields(AlertsConfig)])
def test_every_knob_of_the_alerts_is_read_and_explained(knob: str) -> None:
    code = "\n".join(path.read_text() for path in (PROJECT_ROOT / "astrid" / "alerts").glob("*.py"))
    assert re.search(rf"config\.{knob}\b|chosen\.{knob}\b", code), f"nothing reads {knob}"
    body = ast.parse(textwrap.dedent(inspect.getsource(AlertsConfig))).body[0].body  # type: ignore[attr-defined]
    explained = {
        field.target.id
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    assert knob in explained
