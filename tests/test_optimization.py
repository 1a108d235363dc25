"""Claims about optimizers and learning-rate schedules."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

from astrid.config import (
    AdamConfig,
    AdamWConfig,
    ConstantSchedule,
    CosineSchedule,
    ModelConfig,
    OneCycleSchedule,
    OptimizerConfig,
    PlateauSchedule,
    ScheduleConfig,
    SGDConfig,
)
from astrid.optimization import Schedule, build_optimizer, build_schedule
from astrid.unet import build_unet

OPTIMIZERS = [AdamConfig(weight_decay=0.02), AdamWConfig(), SGDConfig(weight_decay=0.1, nesterov=True)]
SCHEDULES = [ConstantSchedule(warmup_epochs=1), CosineSchedule(), OneCycleSchedule(), PlateauSchedule(patience=1)]
every_schedule = pytest.mark.parametrize("config", SCHEDULES, ids=lambda config: type(config).__name__)

LR = 0.4


def optimizer() -> torch.optim.Optimizer:
    return build_optimizer(nn.Linear(2, 1), SGDConfig(lr=LR, momentum=0))


def schedule(config: ScheduleConfig, *, steps_per_epoch: int = 10, epochs: int = 4) -> Schedule:
    return build_schedule(optimizer(), config, steps_per_epoch=steps_per_epoch, epochs=epochs)


def fractions(schedule: Schedule, steps: int) -> list[float]:
    """Rates of the next steps as fractions of the peak."""
    rates = []
    for _ in range(steps):
        rates.append(schedule.rate / LR)
        schedule.step()
    return rates


@pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda config: type(config).__name__)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_weight_decay_shrinks_weights_but_neither_biases_nor_norms(config, norm):
    model = build_unet(ModelConfig(depth=1, filters=4, norm=norm), channels=1, stretch="linear", prior=0.1)
    built = build_optimizer(model, config)
    decayed, free = (set(group["params"]) for group in built.param_groups)
    assert (built.param_groups[0]["weight_decay"], built.param_groups[1]["weight_decay"]) == (config.weight_decay, 0)
    assert decayed | free == set(model.parameters())
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            assert own["weight"] in decayed
            assert own.get("bias") in free | {None}
        else:
            assert set(own.values()) <= free


@pytest.mark.parametrize(
    ("config", "kind", "settings"),
    [
        (AdamConfig(lr=0.1, betas=[0.8, 0.9], eps=1e-3), torch.optim.Adam, {"betas": (0.8, 0.9), "eps": 1e-3}),
        (AdamWConfig(lr=0.1, betas=[0.8, 0.9], eps=1e-3), torch.optim.AdamW, {"betas": (0.8, 0.9), "eps": 1e-3}),
        (SGDConfig(lr=0.1, momentum=0.5, nesterov=True), torch.optim.SGD, {"momentum": 0.5, "nesterov": True}),
    ],
)
def test_every_knob_reaches_the_optimizer(config, kind, settings):
    built = build_optimizer(nn.Linear(2, 1), config)
    assert type(built) is kind
    for group in built.param_groups:
        assert {name: group[name] for name in settings} == settings
        assert group["lr"] == 0.1


def test_bases_name_nothing():
    with pytest.raises(TypeError, match="no optimizer for OptimizerConfig"):
        build_optimizer(nn.Linear(2, 1), OptimizerConfig())
    with pytest.raises(TypeError, match="no schedule for ScheduleConfig"):
        schedule(ScheduleConfig())


def test_constant_rises_to_the_peak_and_stays():
    rates = fractions(schedule(ConstantSchedule(warmup_epochs=0.4)), 40)
    assert rates == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 37)


def test_cosine_passes_its_middle_halfway_and_ends_on_its_final_fraction():
    rates = fractions(schedule(CosineSchedule(warmup_epochs=0.5, final_fraction=0.2), steps_per_epoch=6, epochs=1), 6)
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 0.2 + 0.8 * 0.75, 0.2 + 0.8 * 0.25, 0.2])


def test_one_cycle_starts_peaks_and_ends_where_it_says():
    config = OneCycleSchedule(warmup_epochs=0.5, start_fraction=0.2, final_fraction=0.01)
    rates = fractions(schedule(config, steps_per_epoch=10, epochs=1), 10)
    assert (rates[0], rates[2], rates[4], rates[9]) == pytest.approx((0.2, 0.6, 1.0, 0.01))
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)


def test_plateau_cuts_after_patience_and_again():
    built = schedule(PlateauSchedule(warmup_epochs=0, factor=0.5, patience=1))
    seen = []
    for value in (0.5, 0.6, 0.6, 0.5, 0.7, 0.1, 0.1, 0.1, 0.1):
        built.epoch(value, mode="max")
        seen.append(built.rate / LR)
    assert seen == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125])


def test_plateau_cuts_last_through_later_steps_and_warm_up():
    built = schedule(PlateauSchedule(warmup_epochs=1, factor=0.1, patience=0), steps_per_epoch=4)
    built.epoch(1.0, mode="min")
    built.epoch(2.0, mode="min")
    assert fractions(built, 6) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_an_undefined_monitor_counts_neither_way():
    built = schedule(PlateauSchedule(warmup_epochs=0, patience=0))
    for value in (0.5, None, None, None):
        built.epoch(value, mode="max")
    assert built.rate == LR


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_cuts_as_torch_does(mode):
    values = torch.randn(60, generator=torch.Generator().manual_seed(0)).tolist()
    built = schedule(PlateauSchedule(warmup_epochs=0, factor=0.7, patience=2))
    referee = optimizer()
    theirs = ReduceLROnPlateau(referee, mode, factor=0.7, patience=2, threshold=0, threshold_mode="abs", eps=0)
    for value in values:
        built.epoch(value, mode=mode)
        theirs.step(value)
        assert built.rate == pytest.approx(referee.param_groups[0]["lr"])
    assert built.rate < LR / 10


def test_one_cycle_is_torchs():
    config = OneCycleSchedule(warmup_epochs=1, start_fraction=0.05, final_fraction=1e-3)
    referee = optimizer()
    theirs = OneCycleLR(
        referee, LR, total_steps=40, pct_start=0.25, div_factor=20, final_div_factor=50, cycle_momentum=False
    )
    expected = []
    for _ in range(39):
        expected.append(referee.param_groups[0]["lr"] / LR)
        referee.step()
        theirs.step()
    assert fractions(schedule(config), 39) == pytest.approx(expected)


def test_cosine_without_warm_up_is_torchs():
    referee = optimizer()
    theirs = CosineAnnealingLR(referee, T_max=39, eta_min=0.01 * LR)
    expected = []
    for _ in range(40):
        expected.append(referee.param_groups[0]["lr"] / LR)
        referee.step()
        theirs.step()
    assert fractions(schedule(CosineSchedule(warmup_epochs=0)), 40) == pytest.approx(expected)


@every_schedule
@pytest.mark.parametrize("steps_per_epoch", [1, 2, 7])
@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("warmup", [None, 0.0, 0.01, 1.0, 2.0, 50.0])
def test_the_shortest_runs_have_sound_rates(config, steps_per_epoch, epochs, warmup):
    config = copy.copy(config)
    config.warmup_epochs = config.warmup_epochs if warmup is None else warmup
    total = steps_per_epoch * epochs
    rates = fractions(schedule(config, steps_per_epoch=steps_per_epoch, epochs=epochs), total + 3)
    assert all(0 < rate <= 1 for rate in rates)
    if config.warmup_epochs <= epochs:
        assert rates[total:] == [rates[total - 1]] * 3


@every_schedule
def test_a_run_of_one_step_takes_it_at_full_rate(config):
    config = copy.copy(config)
    config.warmup_epochs = min(config.warmup_epochs, 1)
    assert fractions(schedule(config, steps_per_epoch=1, epochs=1), 1) == [1.0]


@every_schedule
@pytest.mark.parametrize("stop", [0, 3, 8, 17])
def test_a_resumed_schedule_goes_on_as_if_never_stopped(config, stop):
    whole = schedule(config)
    play(whole, range(stop))
    state = copy.deepcopy(whole.state_dict())
    resumed = schedule(config)
    resumed.optimizer.load_state_dict(copy.deepcopy(whole.optimizer.state_dict()))
    resumed.load_state_dict(state)
    assert resumed.rate == whole.rate
    assert play(resumed, range(stop, 40)) == play(whole, range(stop, 40))


def play(schedule: Schedule, steps: range) -> list[float]:
    """Rates of steps, with an epoch that ends on every third of them and never improves."""
    rates = []
    for step in steps:
        rates.append(schedule.rate)
        schedule.step()
        if step % 3 == 2:
            schedule.epoch(1.0 + step, mode="min")
    return rates


@pytest.mark.parametrize("built_before_the_optimizer_is_loaded", [True, False])
@pytest.mark.parametrize("epochs", [2, 8])
def test_a_run_resumed_with_other_epochs_follows_the_curve_of_the_new_total(
    epochs, built_before_the_optimizer_is_loaded
):
    before, expected = schedule(CosineSchedule()), schedule(CosineSchedule(), epochs=epochs)
    for built in (before, expected):
        fractions(built, 15)
    saved, fresh = before.optimizer.state_dict(), optimizer()
    if built_before_the_optimizer_is_loaded:
        resumed = build_schedule(fresh, CosineSchedule(), steps_per_epoch=10, epochs=epochs)
        fresh.load_state_dict(saved)
    else:
        fresh.load_state_dict(saved)
        resumed = build_schedule(fresh, CosineSchedule(), steps_per_epoch=10, epochs=epochs)
    resumed.load_state_dict(before.state_dict())
    assert fractions(resumed, 10) == fractions(expected, 10)
    assert before.rate != resumed.rate


def test_the_state_survives_a_weights_only_checkpoint(tmp_path):
    built = schedule(PlateauSchedule())
    torch.save(built.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == built.state_dict()
    assert built.best == -math.inf
