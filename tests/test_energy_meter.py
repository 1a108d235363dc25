"""Meter on scripted clocks: phases, their sum, and what was not measured."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metered import ScriptedClock, fail_after, reading, scripted_meter

from astrid.config import EnergyConfig
from astrid.energy import Component, Meter, build_meter, energy_metrics, find_factors
from astrid.energy.channel import Channel, Level
from astrid.energy.ledger import Ledger
from astrid.energy.meter import OTHER
from astrid.energy.records import IDLE, add_components, summarise
from astrid.energy.sources import Counter, Given, Integral


def off_meter(ledger: Path | None = None) -> Meter:
    return build_meter(EnergyConfig(source="off"), gpu_uuids=[], synchronise=lambda: None, ledger=ledger)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0.001, 5.0), st.floats(0, 700), st.booleans()), min_size=2, max_size=30),
)
def test_phases_on_sampled_power_equal_the_analytic_integral(steps: list[tuple[float, float, bool]]) -> None:
    times = np.cumsum([step for step, _, _ in steps])
    powers = np.array([watts for _, watts, _ in steps])
    clock = ScriptedClock()
    meter = scripted_meter(Integral("scripted", lambda: float(np.interp(clock.now, times, powers))), clock)
    clock.now = float(times[0])
    span = meter.start("train")
    spans, begins = [span], [clock.now]
    for now, (_, _, is_boundary) in zip(times[1:], steps[1:], strict=True):
        clock.now = float(now)
        meter.sample()
        if is_boundary:
            meter.stop(span)
            span = meter.start("train")
            spans.append(span)
            begins.append(clock.now)
    meter.stop(span)
    ends = [*begins[1:], float(times[-1])]
    energy_until = np.concatenate([[0], np.cumsum(np.diff(times) * (powers[1:] + powers[:-1]) / 2)])
    for span, begin, end in zip(spans, begins, ends, strict=True):
        analytic = np.interp(end, times, energy_until) - np.interp(begin, times, energy_until)
        assert span.reading.gpu.joules == pytest.approx(analytic, rel=1e-9, abs=1e-6)
        assert span.reading.seconds == pytest.approx(end - begin)
    assert meter.summary().gpu.joules == pytest.approx(energy_until[-1], rel=1e-9, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(gaps=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=8))
def test_what_lies_between_the_phases_is_a_phase_too_so_that_all_sum_to_the_total(
    gaps: list[tuple[float, float]],
) -> None:
    clock = ScriptedClock()
    with scripted_meter(Counter("c", lambda: 80 * clock.now), clock) as meter:
        for number, (before, within) in enumerate(gaps):
            clock.now += before
            with meter.phase("train", epoch=number):
                clock.now += within
        clock.now += 1.0
        summary = meter.summary()
    assert summary.total.joules == pytest.approx(80 * clock.now)
    assert summary.total.seconds == pytest.approx(clock.now)
    assert sum(phase.joules or 0 for phase in summary.phases.values()) == pytest.approx(80 * clock.now, rel=1e-9)
    assert summary.phases["train"].joules == pytest.approx(80 * sum(within for _, within in gaps))
    assert summary.phases[OTHER].seconds == pytest.approx(1 + sum(before for before, _ in gaps))


def test_a_summary_changes_nothing_and_holds_the_phase_that_goes_on() -> None:
    clock = ScriptedClock()
    with scripted_meter(Counter("c", lambda: 10 * clock.now), clock) as meter:
        span = meter.start("train", epoch=1)
        for clock.now in (1.0, 2.0):
            assert meter.summary().total.joules == 10 * clock.now
        clock.now = 3.0
        meter.stop(span)
        assert meter.summary().phases["train"].joules == 30


def test_counter_is_read_after_the_device_has_finished() -> None:
    clock, work_done_joules = ScriptedClock(), 0.0

    def synchronise() -> None:
        nonlocal work_done_joules
        work_done_joules += 7.0

    meter = scripted_meter(Counter("c", lambda: work_done_joules), clock, synchronise=synchronise)
    with meter.phase("train") as span:
        pass
    assert span.reading.gpu.joules == 7.0


def test_device_is_synchronised_at_boundaries_only() -> None:
    clock, synchronised = ScriptedClock(), []
    meter = scripted_meter(Counter("c", lambda: clock.now), clock, synchronise=lambda: synchronised.append(clock.now))
    with meter.phase("train"):
        for clock.now in (1.0, 2.0, 3.0):
            meter.sample()
    assert synchronised == [0.0, 3.0]


def test_power_for_display_is_averaged_over_two_seconds_and_absent_before() -> None:
    clock = ScriptedClock()
    meter = scripted_meter(Counter("c", lambda: 100 * float(int(clock.now * 2)) / 2), clock)
    shown = []
    for tenth in range(100):
        clock.now = tenth / 10
        meter.sample()
        shown.append(meter.watts)
    assert set(shown[:20]) == {None}
    assert shown[20:] == pytest.approx([100.0] * 80, rel=0.26)


def test_phase_inside_a_phase_is_refused() -> None:
    meter = off_meter()
    with meter.phase("train"), pytest.raises(RuntimeError, match="'train' must stop before 'test' starts"):
        meter.start("test")


def test_span_has_no_reading_before_it_stops() -> None:
    span = off_meter().start("train")
    with pytest.raises(RuntimeError, match="before it has stopped"):
        _ = span.reading


def test_phase_that_raises_is_still_recorded() -> None:
    meter = off_meter()
    with pytest.raises(KeyboardInterrupt), meter.phase("train", epoch=3):
        raise KeyboardInterrupt
    assert list(meter.summary().phases) == ["train"]


def test_leaving_the_meter_stops_an_open_phase_and_its_thread() -> None:
    clock = ScriptedClock()
    with scripted_meter(Counter("c", lambda: 50 * clock.now), clock) as meter:
        span = meter.start("train", epoch=1)
        assert "astrid-energy" in threads()
        clock.now = 2.0
    assert span.reading.gpu.joules == 100.0
    assert "astrid-energy" not in threads()


# What is beside the total


def test_the_idle_machine_is_beside_the_total_and_never_in_it() -> None:
    summary = summarise([reading(IDLE, None, 9.0), reading("train", 1, 5.0)])
    assert summary.idle is not None
    assert (summary.idle.joules, summary.total.joules, list(summary.phases)) == (9.0, 5.0, ["train"])


def test_a_counter_and_a_power_that_disagree_are_told_once_and_noted(caplog: pytest.LogCaptureFixture) -> None:
    clock = ScriptedClock()
    power = Integral("power", lambda: 130.0)
    meter = scripted_meter(Counter("counter", lambda: 100 * clock.now, power=power), clock)
    for epoch in range(3):
        with meter.phase("train", epoch=epoch) as span:
            clock.now += 20
    assert (span.reading.gpu.joules, span.reading.gpu.check_joules) == pytest.approx((2000, 2600))
    assert caplog.text.count("counter and sampled power differ by 23 %: 2000 J and 2600 J") == 1
    assert meter.summary().notes == ("counter and sampled power differ by 23 %: 2000 J and 2600 J",)


@pytest.mark.parametrize(("watts", "seconds"), [(108.0, 20.0), (130.0, 5.0)])
def test_a_small_difference_or_a_short_phase_is_no_disagreement(watts: float, seconds: float) -> None:
    clock = ScriptedClock()
    meter = scripted_meter(Counter("c", lambda: 100 * clock.now, power=Integral("p", lambda: watts)), clock)
    with meter.phase("train"):
        clock.now += seconds
    assert meter.summary().notes == ()


@pytest.mark.parametrize(("watts", "told"), [([130.0, 130.0], 1), ([20.0, 240.0], 0)], ids=["steady", "jumping"])
def test_a_difference_within_the_scatter_of_the_samples_is_no_disagreement(watts: list[float], told: int) -> None:
    clock, powers = ScriptedClock(), itertools.cycle(watts)
    meter = scripted_meter(Counter("c", lambda: 100 * clock.now, power=Integral("p", powers.__next__)), clock)
    with meter.phase("train") as span:
        for _ in range(9):
            clock.now += 2
            meter.sample()
    assert span.reading.gpu.check_joules == pytest.approx(1.3 * 1800, rel=0.01)
    assert len(meter.summary().notes) == told


def test_a_power_sensor_that_fails_ends_the_comparison_and_not_the_counter() -> None:
    clock = ScriptedClock()
    power = Integral("power", fail_after(1, lambda: 100.0))
    meter = scripted_meter(Counter("counter", lambda: 100 * clock.now, power=power), clock)
    with meter.phase("train") as span:
        clock.now += 20
    assert (span.reading.gpu.joules, span.reading.gpu.check_joules) == (2000, None)


def test_the_error_of_a_phase_is_a_tick_and_that_of_the_total_is_no_sum() -> None:
    channel = Channel("GPU", [Counter("c", lambda: 0.0, ticks=True)])
    channel.tick_seconds = 0.1
    channel.read(0.0)
    part = channel.between(Level(0.0), Level(1000.0), seconds=10.0)
    assert part.error_joules == pytest.approx(10)
    summary = summarise([dataclasses.replace(reading("train", epoch), gpu=part) for epoch in range(3)])
    assert summary.phases["train"].gpu.error_joules == pytest.approx(30)
    assert summary.total.gpu.error_joules == pytest.approx(10)


# What was not measured


@pytest.mark.parametrize("source", ["auto", "off"])
def test_unmeasured_energy_is_absent_and_labelled_and_seconds_remain(source: Any, tmp_path: Path) -> None:
    config = EnergyConfig(source=source, grams_co2e_per_kwh=400, usd_per_kwh=0.3)
    ledger, nowhere = tmp_path / "energy.jsonl", tmp_path / "absent"
    with build_meter(config, gpu_uuids=[], synchronise=lambda: None, ledger=ledger, powercap=nowhere) as meter:
        assert "astrid-energy" not in threads()
        with meter.phase("train", epoch=1) as span:
            time.sleep(0.01)
    assert span.reading.seconds >= 0.01
    assert span.reading.gpu.joules is None and span.reading.cpu.joules is None
    assert span.reading.gpu.label == span.reading.cpu.label == "unavailable"
    assert span.reading.gpu.reason and span.reading.cpu.reason
    assert energy_metrics(meter.summary(), find_factors(config)) == {}
    assert meter.watts is None
    assert '"joules": 0' not in ledger.read_text()


def test_run_without_phases_has_no_energy() -> None:
    clock = ScriptedClock()
    total = scripted_meter(Counter("c", lambda: 1.0), clock).summary().total
    assert (total.gpu.joules, total.gpu.label, total.gpu.reason) == (None, "unavailable", "no phase has finished")


def test_source_that_fails_makes_its_phase_and_all_later_ones_unavailable() -> None:
    clock = ScriptedClock()
    sensor = fail_after(4, lambda: 100 * clock.now)
    meter = scripted_meter(Counter("c", sensor), clock)
    labels = []
    for epoch in range(4):
        with meter.phase("train", epoch=epoch) as span:
            clock.now += 1
            meter.sample()
        labels.append(span.reading.gpu.label)
    assert labels == ["measured", "unavailable", "unavailable", "unavailable"]
    assert meter.watts is None
    total = meter.summary().gpu
    assert (total.joules, total.reason) == (None, "missing in 3 of 4 phases: GPU is lost")


def test_one_gpu_of_two_that_fails_leaves_no_partial_sum() -> None:
    gpus = Channel("GPU", [Counter("a", lambda: 1.0), Counter("b", fail_after(1, lambda: 1.0))])
    assert gpus.read(0.0) == Level(0.0)
    assert gpus.read(1.0) is None and not gpus.available


def test_sum_is_labelled_as_its_least_trustworthy_part() -> None:
    gpus = Channel("GPU", [Counter("a", lambda: 1.0), Integral("b", lambda: 1.0)])
    assert gpus.between(gpus.read(0.0), gpus.read(1.0), seconds=1.0).label == "integrated"


def test_total_is_labelled_as_its_least_trustworthy_phase() -> None:
    parts = [
        Component(1.0, "measured", "RAPL"),
        Component(2.0, "estimated", "65 W"),
        Component(3.0, "measured", "RAPL"),
    ]
    assert add_components(parts) == Component(6.0, "estimated", "RAPL, 65 W")


def test_watts_that_the_user_gave_are_an_estimate_and_say_so(tmp_path: Path) -> None:
    config = EnergyConfig(cpu_watts=65)
    meter = build_meter(config, gpu_uuids=[], synchronise=lambda: None, ledger=None, powercap=tmp_path)
    with meter, meter.phase("train") as span:
        time.sleep(0.02)
    cpu = span.reading.cpu
    assert cpu.joules == pytest.approx(65 * span.reading.seconds)
    assert (cpu.label, cpu.source) == ("estimated", "65 W given as energy.cpu_watts")


def test_given_watts_begin_with_the_first_reading() -> None:
    given = Given("g", 65.0)
    assert [given.read(now) for now in (100.0, 102.0)] == [0.0, 130.0]


def test_component_cannot_claim_joules_it_lacks() -> None:
    with pytest.raises(ValueError, match="must be None exactly where"):
        Component(None, "measured", "NVML")
    with pytest.raises(ValueError, match="must be None exactly where"):
        Component(0.0, "unavailable", "none")


def test_energy_that_was_measured_before_its_file_was_known_is_in_it(tmp_path: Path) -> None:
    clock = ScriptedClock()
    path = tmp_path / "energy.jsonl"
    with scripted_meter(Counter("c", lambda: 10 * clock.now), clock) as meter:
        with meter.phase("setup"):
            clock.now = 3.0
        assert not path.exists()
        meter.keep_in(path)
        assert [part.joules for part in Ledger(path).readings if part.phase == "setup"] == [30.0]
