"""The ledger outlives a killed process, goes on after it, and counts nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from metered import FAKE_UUID, ScriptedClock, measure, reading, scripted_meter

from astrid.energy.ledger import Ledger, read_ledger
from astrid.energy.records import Sample
from astrid.energy.sources import Counter

KILLED = """
import json, sys, time
from pathlib import Path
from astrid.config import EnergyConfig
from astrid.energy import build_meter, meter as module

module.SAVE_SECONDS = 0.2
ledger, uuid = sys.argv[1:]
meter = build_meter(EnergyConfig(sample_seconds=0.02), gpu_uuids=[uuid], synchronise=lambda: None, ledger=Path(ledger),
                    powercap=Path("absent"))
with meter:
    with meter.phase("setup"):
        time.sleep(0.3)
    with meter.phase("train", epoch=1):
        print("training", flush=True)
        time.sleep(60)
"""


def test_ledger_continues_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "energy.jsonl"
    for joules_per_second in (10, 30):
        clock = ScriptedClock()
        meter = scripted_meter(Counter("c", lambda clock=clock, j=joules_per_second: j * clock.now), clock, path)
        for epoch in range(2):
            with meter.phase("train", epoch=epoch):
                clock.now += 1
    summary = meter.summary()
    assert summary.gpu.joules == summary.phases["train"].gpu.joules == 2 * 10 + 2 * 30
    assert summary.seconds == 4
    assert meter.spent("train", epoch=1).joules == 10 + 30


def test_a_killed_and_resumed_run_has_the_sum_of_both_parts_and_nothing_twice(fake_nvml: Path, tmp_path: Path) -> None:
    path = tmp_path / "energy.jsonl"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(fake_nvml), "FAKE_NVML_TICK_MS": "10"}
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), FAKE_UUID], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "training\n"
    time.sleep(1.0)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    before = Ledger(path).readings
    first, seconds = sum(one.joules or 0 for one in before), sum(one.seconds for one in before)
    assert [one.phase for one in before if one.phase != "other"] == ["setup", "train"]
    assert first == pytest.approx(100 * seconds, abs=5)  # at 100 W
    assert seconds > 0.5  # of 1.3, but for the last fifth of a second

    resumed = measure(fake_nvml, path, [("train", 1, 0.5), ("test", 0, 0.3)], TICK_MS="10")
    second = 100 * (resumed["total"]["seconds"] - seconds)
    assert resumed["total"]["gpu"]["joules"] == pytest.approx(first + second, abs=2)
    assert sum(resumed["phases"].values()) == pytest.approx(resumed["total"]["gpu"]["joules"], rel=1e-3)
    assert sum(one.joules or 0 for one in Ledger(path).readings) == pytest.approx(first + second, abs=5)


@pytest.mark.parametrize("kept_bytes", [1, 40, -1])
def test_line_torn_by_a_kill_is_dropped_and_the_rest_goes_on(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "energy.jsonl"
    Ledger(path).finish(1, reading(joules=5.0))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept_bytes])
    Ledger(path).finish(1, reading(joules=7.0))
    assert [kept.gpu.joules for kept in Ledger(path).readings] == [5.0, 7.0]


def test_killed_phase_keeps_its_last_saved_reading_and_counts_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "energy.jsonl", ScriptedClock()
    meter = scripted_meter(Counter("c", lambda: 100 * clock.now), clock, path)
    meter.start("train", epoch=1)
    for clock.now in np.arange(0.0, 17.0):
        meter.sample()
    assert path.read_text().count('"finished": false') == 3
    assert Ledger(path).readings[-1].gpu.joules == 1500  # saved every 5 s: killed at 16 s, 1 s is lost


def test_the_state_is_kept_once_a_second_and_survives_a_resume(tmp_path: Path) -> None:
    path, clock = tmp_path / "energy.jsonl", ScriptedClock()
    for _ in range(2):
        meter = scripted_meter(Counter("c", lambda: 100 * clock.now), clock, path)
        meter.start("train", epoch=1)
        for clock.now in np.arange(0.0, 8.0, 0.25):
            meter.sample()
    samples = read_ledger(path).samples
    assert [sample.session for sample in samples] == [1] * 7 + [2] * 7
    assert {(sample.phase, sample.epoch) for sample in samples} == {("train", 1)}
    assert samples[-1].gpu_watts == pytest.approx(100)
    assert samples[-1].busy_percent is None


def test_finished_phase_replaces_its_saved_readings(tmp_path: Path) -> None:
    path = tmp_path / "energy.jsonl"
    ledger = Ledger(path)
    ledger.save_open(1, reading(joules=3.0))
    ledger.finish(1, reading(joules=5.0))
    assert Ledger(path).readings == ledger.readings == (reading(joules=5.0),)


def test_ledger_gives_back_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "energy.jsonl"
    given_readings = (reading(), reading("test", None, 1.5), reading("train", 2, None))
    sample = Sample(1, 12.5, "train", 2, 100.0, busy_percent=60.0, throttles=("power cap",), other_processes=0)
    ledger = Ledger(path)
    for number, item in enumerate(given_readings):
        ledger.finish(number, item)
    ledger.sample(sample)
    ledger.note("a MIG slice")
    ledger.note("a MIG slice")
    again = Ledger(path)
    assert (again.readings, again.notes) == (given_readings, ("a MIG slice",))
    assert read_ledger(path).samples == [sample]
    assert again.sessions == 2


@pytest.mark.parametrize("line", ["{}", "nonsense", '{"session": 1}', "\xff", '{"session": 1, "sample": {"x": 1}}'])
def test_ledger_damaged_in_the_middle_is_refused_by_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "energy.jsonl"
    Ledger(path).finish(1, reading())
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match=r"energy.jsonl, line 2: .*move the file away"):
        Ledger(path)


def test_ledger_that_cannot_be_written_does_not_end_the_sampling_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ScriptedClock()
    meter = scripted_meter(Counter("c", lambda: clock.now), clock, tmp_path / "gone" / "energy.jsonl")
    meter.start("train")
    for clock.now in (6.0, 12.0):
        meter.sample()
    assert caplog.text.count("could not be written") == 1


class FullDisk(FileIO):
    """A file that takes some bytes of what is written, and then none."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return super().write(data[:30])


def test_a_write_that_is_cut_short_leaves_whole_lines_and_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "energy.jsonl"
    ledger = Ledger(path)
    ledger.finish(1, reading(epoch=1))
    before = path.read_bytes()
    monkeypatch.setattr("astrid.energy.ledger.FileIO", FullDisk)
    with pytest.raises(OSError, match="No space left"):
        ledger.finish(2, reading(epoch=2))
    assert path.read_bytes() == before
    monkeypatch.undo()
    ledger.finish(3, reading(epoch=3))
    assert [span.epoch for span in read_ledger(path).spans.values()] == [1, 2, 3]


def test_a_phase_whose_line_cannot_be_written_ends_no_run_and_counts(tmp_path: Path) -> None:
    clock = ScriptedClock()
    meter = scripted_meter(Counter("c", lambda: 10 * clock.now), clock, tmp_path / "energy.jsonl")
    (tmp_path / "energy.jsonl").mkdir()
    with meter.phase("train", epoch=1):
        clock.now += 2
    assert meter.summary().gpu.joules == 20
