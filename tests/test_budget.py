"""A budget warns at 80 %, ends a run cleanly when it is spent, and is refused where nobody could keep it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from learners import METRICS, Bench, spots
from metered import ScriptedClock, fail_after, scripted_meter

from astrid.alerts import Alert
from astrid.budget import Budget, check_measured, in_phase
from astrid.config import BudgetSpent, ConfigError, EnergyConfig, Stopped, TrackingConfig, TrainingConfig
from astrid.config.command_line import one_message
from astrid.config.resume import may_change
from astrid.energy import Meter, build_meter, find_factors
from astrid.energy.channel import Channel
from astrid.energy.ledger import Ledger
from astrid.energy.sources import Counter, SourceError
from astrid.learner import Progress
from astrid.runtime import StopSignals
from astrid.tracking import open_tracker
from astrid.training import fit

KILOWATT = 1000.0


class Kept:
    """A budget on a scripted clock, with a machine that uses a kilowatt."""

    def __init__(self, config: EnergyConfig, *, watts: Callable[[], float] | None = None) -> None:
        self.clock, self.stop, self.told = ScriptedClock(), StopSignals(), list[Alert]()
        counter = Counter("c", watts or (lambda: KILOWATT * self.clock.now))
        self.meter = scripted_meter(counter, self.clock)
        self.meter.start("train", epoch=1)
        self.budget = Budget(
            config,
            find_factors(config),
            meter=self.meter,
            stop=self.stop,
            tell=self.told.append,
            clock=self.clock,
        )

    def look_at(self, hours: float) -> str | None:
        """Look after so many hours, and return what the loop is asked."""
        self.clock.now = 3600 * hours
        self.budget.look()
        return self.stop.received


@pytest.mark.parametrize(
    ("knobs", "spent"),
    [
        ({"budget_kwh": 1.0}, "energy.budget_kwh=1 is spent: 1.001 kWh are used"),
        ({"budget_g_co2e": 480.0, "grams_co2e_per_kwh": 400.0, "pue": 1.2}, "budget_g_co2e=480 is spent: 480.5 g CO2e"),
        ({"budget_usd": 0.25, "usd_per_kwh": 0.25}, "energy.budget_usd=0.25 is spent: 0.2502 USD are used"),
    ],
)
def test_a_budget_warns_once_at_80_percent_and_asks_for_a_stop_at_100(knobs: dict[str, float], spent: str) -> None:
    kept = Kept(EnergyConfig(**knobs))
    assert [kept.look_at(hours) for hours in (0.5, 0.79)] == [None, None] and not kept.told
    assert [kept.look_at(hours) for hours in (0.81, 0.9, 0.999)] == [None, None, None]
    (alert,) = kept.told
    assert alert.rule == next(iter(knobs)) and "at 100 % the run saves and ends" in alert.message
    assert kept.look_at(1.001) == "its budget"
    assert kept.budget.spent is not None and spent in kept.budget.spent


def test_without_a_budget_nothing_is_read() -> None:
    kept = Kept(EnergyConfig(), watts=fail_after(1, lambda: 0.0))
    assert kept.look_at(1000.0) is None
    assert kept.meter._gpu.available


def test_it_is_looked_at_once_a_second_at_most() -> None:
    readings: list[float] = []
    kept = Kept(EnergyConfig(budget_kwh=1.0))
    kept.meter.known = lambda: readings.append(kept.clock.now) or type(kept.meter).known(kept.meter)  # type: ignore[method-assign,func-returns-value]
    for tenth in range(31):
        kept.look_at(tenth / 10 / 3600)
    assert readings == pytest.approx([0, 1, 2, 3])


def test_a_budget_that_cannot_be_kept_any_more_is_told_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept(EnergyConfig(budget_kwh=0.001), watts=fail_after(1, lambda: 0.0))
    assert [kept.look_at(hours) for hours in (1.0, 2.0)] == [None, None]
    assert caplog.text.count("energy.budget_kwh can't be kept any more") == 1


def test_what_a_lost_gpu_had_used_still_counts_and_the_loss_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock, stop = ScriptedClock(), StopSignals()
    lost = False

    def of_the_gpu() -> float:
        if lost:
            raise SourceError("GPU is lost")
        return 400 * clock.now

    gpu, cpu = Channel("GPU", [Counter("g", of_the_gpu)]), Channel("CPU", [Counter("c", lambda: 65 * clock.now)])
    meter = Meter(gpu=gpu, cpu=cpu, synchronise=lambda: None, ledger=Ledger(None), sample_seconds=1, clock=clock)
    config = EnergyConfig(budget_kwh=0.1)
    budget = Budget(config, find_factors(config), meter=meter, stop=stop, tell=lambda alert: None, clock=clock)

    def look_after(seconds: int) -> None:
        span = meter.start("train", epoch=seconds)
        for _ in range(seconds):
            clock.now += 1
            budget.look()
        meter.stop(span)

    look_after(700)  # 465 W: 0.0904 kWh
    assert stop.received is None
    assert "can't be kept whole" not in caplog.text
    lost = True
    look_after(500)  # 65 W more that are known: 0.0994 kWh
    assert stop.received is None
    assert "the GPU is not measured all the time" in caplog.text
    look_after(60)
    assert stop.received == "its budget"


def test_a_budget_where_nothing_is_measured_is_refused(tmp_path: Path) -> None:
    config = EnergyConfig(budget_kwh=1.0)
    meter = build_meter(config, gpu_uuids=[], synchronise=lambda: None, ledger=None, powercap=tmp_path)
    with pytest.raises(ConfigError, match=r"energy\.budget_kwh must be null where no energy is measured, got 1"):
        check_measured(config, meter, uses_gpu=False)
    estimated = dataclasses.replace(config, cpu_watts=65.0)
    meter = build_meter(estimated, gpu_uuids=[], synchronise=lambda: None, ledger=None, powercap=tmp_path)
    check_measured(estimated, meter, uses_gpu=False)
    with pytest.raises(ConfigError, match=r"budget_kwh must be null where the GPU is used and not measured, got 1"):
        check_measured(estimated, meter, uses_gpu=True)
    check_measured(dataclasses.replace(estimated, gpus="none"), meter, uses_gpu=True)


def test_a_loop_whose_budget_is_spent_saves_and_ends_and_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    bench = Bench(spots(tmp_path / "fields"), tmp_path / "run" / "checkpoints")
    config = TrainingConfig(device="cpu", epochs=3, threads=1)
    learner, progress = bench.learner(config), Progress()
    kept = Kept(EnergyConfig(budget_kwh=1.0))
    kept.meter.stop(kept.meter._open)  # type: ignore[arg-type]

    def train() -> int:
        def hour(report: object) -> None:
            kept.clock.now += 0.3 * 3600

        records = fit(
            learner,
            bench.loaders,
            config=config,
            metrics=METRICS,
            meter=kept.meter,
            folder=bench.folder,
            stop=kept.stop,
            show=kept.budget.watching(hour),
            progress=progress,
        )
        return len(list(records))

    with (
        pytest.raises(BudgetSpent, match=r"energy.budget_kwh=1 is spent.*stopped by its budget after epoch 1, batch 4"),
        kept.budget.ending(),
    ):
        train()
    assert (bench.folder / "last.pt").is_file() and progress.batch == 4
    kept.stop.received = None
    kept.meter.stop(kept.meter._open)  # type: ignore[arg-type]
    assert train() == 3
    assert may_change("energy.budget_kwh") and not may_change("energy.source")


def test_a_signal_stays_a_signal_where_the_budget_is_not_spent() -> None:
    kept = Kept(EnergyConfig(budget_kwh=1.0))
    with pytest.raises(Stopped), kept.budget.ending():
        raise Stopped("by SIGTERM")


def test_a_spent_budget_is_a_finished_run_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = TrackingConfig(backend="off")
    with pytest.raises(BudgetSpent), open_tracker(config, tmp_path, name="run", params={}, tags={}) as tracker:
        raise BudgetSpent("energy.budget_kwh=1 is spent: 1.001 kWh are used")
    assert tracker.journal.status == "FINISHED"
    assert '"stopped": "energy.budget_kwh=1 is spent: 1.001 kWh are used"' in tracker.journal.path.read_text()
    with one_message(None):  # type: ignore[arg-type]
        raise BudgetSpent("energy.budget_kwh=1 is spent")
    assert capsys.readouterr().out == "energy.budget_kwh=1 is spent\n"


def test_what_a_sweep_does_between_epochs_is_a_phase_of_its_own() -> None:
    kept = Kept(EnergyConfig())
    kept.meter.stop(kept.meter._open)  # type: ignore[arg-type]

    def report(values: dict[str, float]) -> None:
        kept.clock.now += 7

    in_phase(kept.meter, "sweep", report)({"epoch": 1.0})
    assert kept.meter.summary().phases["sweep"].joules == 7 * KILOWATT
