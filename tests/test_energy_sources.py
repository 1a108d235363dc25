"""Counters, integrals and RAPL trees; NVML through its real bindings is in test_energy_nvml.py."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.energy.rapl import open_rapl
from astrid.energy.sources import STANDSTILL_SECONDS, Counter, Integral, SourceError

RANGE_MICROJOULES = 262_143_328_850


def write_zone(root: Path, zone: str, domain: str, microjoules: int | str) -> Path:
    """Make a powercap zone and return its counter."""
    folder = root / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{domain}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_MICROJOULES}\n")
    counter = folder / "energy_uj"
    counter.write_text(f"{microjoules}\n")
    return counter


@settings(deadline=None)
@given(steps=st.lists(st.floats(0, 1e6), max_size=20), start=st.floats(0, 1e9))
def test_counter_gives_the_difference_to_its_first_reading(steps: list[float], start: float) -> None:
    values = [start]
    for step in steps:
        values.append(values[-1] + step)
    counter = Counter("c", iter(values).__next__)
    readings = [counter.read(0.0) for _ in values]
    assert readings[0] == 0
    assert math.isclose(readings[-1], values[-1] - start, rel_tol=1e-9, abs_tol=1e-6)
    assert readings == sorted(readings)


@settings(deadline=None)
@given(values=st.lists(st.floats(0, 1e9), min_size=1, max_size=20))
def test_counter_that_goes_back_never_gives_negative_joules(values: list[float]) -> None:
    counter = Counter("c", iter(values).__next__)
    readings = [counter.read(0.0) for _ in values]
    assert readings == sorted(readings)


def test_counter_after_a_reset_counts_on_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    counter = Counter("NVML energy counter of GPU-x", iter([1000.0, 1050.0, 0.0, 30.0]).__next__)
    assert [counter.read(0.0) for _ in range(4)] == [0, 50, 50, 80]
    assert "GPU-x went back from 1050.000 J to 0.000 J: the gap is left out" in caplog.text
    assert counter.flags == ["NVML energy counter of GPU-x started again: the gap is left out"]


def test_counter_after_a_reset_takes_the_sampled_power_for_the_gap() -> None:
    values = iter([1000.0, 1050.0, 10.0, 60.0])
    counter = Counter("c", values.__next__, power=Integral("power", lambda: 50.0))
    assert [counter.read(now) for now in (0.0, 1.0, 2.0, 3.0)] == [0, 50, 100, 150]


@settings(deadline=None)
@given(steps=st.lists(st.floats(0, 99.0), max_size=40), start=st.floats(0, 99.0))
def test_wrapped_counter_equals_one_that_never_wraps(steps: list[float], start: float) -> None:
    values = [start]
    for step in steps:
        values.append((values[-1] + step) % 100)
    counter = Counter("c", iter(values).__next__, wrap_joules=100.0)
    readings = [counter.read(0.0) for _ in values]
    assert math.isclose(readings[-1], sum(steps), rel_tol=1e-9, abs_tol=1e-6)


def test_variance_of_an_integral_is_that_of_the_sums_over_many_draws() -> None:
    rng = np.random.default_rng(3)
    sums = []
    for _ in range(400):
        integral = Integral("power", lambda: rng.gamma(2.0, 50.0))
        for now in np.cumsum(rng.uniform(0.05, 0.15, size=200)):
            integral.read(float(now))
        sums.append(integral.sum)
    variances = [drawn.variance for drawn in sums]
    assert np.mean(variances) == pytest.approx(np.var([drawn.joules for drawn in sums]), rel=0.2)


def test_integral_of_a_ramp_is_exact_whatever_the_times() -> None:
    times = [0.0, 0.3, 1.0, 1.1, 4.0]
    integral = Integral("i", iter([10 * t for t in times]).__next__)
    assert [integral.read(t) for t in times] == pytest.approx([5 * t**2 for t in times])


def test_rapl_sums_packages_and_dram_but_not_what_they_contain(tmp_path: Path) -> None:
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    counters = {zone: write_zone(tmp_path, zone, domain, 5_000_000) for zone, domain in zones.items()}
    sources = open_rapl(tmp_path)
    assert [source.name.split()[1] for source in sources] == ["package-0", "dram", "package-1"]
    assert {source.label for source in sources} == {"measured"}
    first = sum(source.read(0.0) for source in sources)
    for counter in counters.values():
        counter.write_text("7000000\n")
    assert (first, sum(source.read(1.0) for source in sources)) == (0, 6)


def test_rapl_counter_wraps_at_the_range_of_its_zone(tmp_path: Path) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", RANGE_MICROJOULES - 4_000_000)
    (source,) = open_rapl(tmp_path)
    source.read(0.0)
    counter.write_text("1500000\n")
    assert source.read(1.0) == pytest.approx(5.5)


def test_machine_without_rapl_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="shows no RAPL energy counters"):
        open_rapl(tmp_path / "absent")


def test_rapl_that_only_root_may_read_gives_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    read_text = Path.read_text

    def refuse(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", refuse)  # permission bits don't stop a root user who runs the tests
    with pytest.raises(SourceError, match="readable by the administrator only"):
        open_rapl(tmp_path)


@pytest.mark.parametrize("content", ["", "n/a", "1.5"])
def test_rapl_counter_with_nonsense_is_refused(tmp_path: Path, content: str) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", content)
    with pytest.raises(SourceError, match="whole number of microjoules"):
        open_rapl(tmp_path)


def test_rapl_that_disappears_raises_its_reason(tmp_path: Path) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (source,) = open_rapl(tmp_path)
    counter.unlink()
    with pytest.raises(SourceError, match="No such file"):
        source.read(0.0)


def test_a_counter_that_stands_still_gives_no_energy() -> None:
    counter = Counter("c", lambda: 7.0)
    assert counter.read(0.0) == 0.0
    assert counter.read(STANDSTILL_SECONDS - 0.1) == 0.0
    with pytest.raises(SourceError, match="c stands still at 7 J for 3 s"):
        counter.read(STANDSTILL_SECONDS)


def test_a_counter_that_moves_between_two_distant_readings_does_not_stand_still() -> None:
    values = iter([1.0, 1.0, 900.0, 900.0])
    counter = Counter("c", lambda: next(values))
    assert [counter.read(now) for now in (0.0, 2.0, 600.0, 602.0)] == [0.0, 0.0, 899.0, 899.0]


def test_a_wrap_that_would_mean_impossible_power_is_a_reset(caplog: pytest.LogCaptureFixture) -> None:
    values = iter([200_010.0, 1.0, 51.0])
    counter = Counter("RAPL", lambda: next(values), wrap_joules=262_143.0)
    assert [counter.read(now) for now in (0.0, 0.1, 0.6)] == [0.0, 0.0, 50.0]
    assert counter.flags == ["RAPL started again: the gap is left out"]
    assert "RAPL went back from 200010.000 J to 1.000 J" in caplog.text
