"""What a machine and its GPUs are doing is sampled beside the loop, and no trouble in there reaches it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from mirrored_runs import wait_until
from numpy.typing import NDArray

from astrid.config import ConfigError, RunError, TrackingConfig
from astrid.config.compose import load
from astrid.energy import GpuLoad, SourceError
from astrid.experiment import run_experiment
from astrid.machine_load import GIB, LoadReader, cgroup_memory, free_memory_bytes
from astrid.monitor import Monitor, open_monitor, report_errors
from astrid.tracking import Journal, Tracker
from astrid.tracking.records import Metrics, read_records
from astrid.tracking.tracker import open_tracker

READ_GPUS = """
import json, sys
from dataclasses import asdict
from astrid.energy import SourceError, open_gpu_load
try:
    print(json.dumps(asdict(open_gpu_load([f"GPU-fake0000-0000-0000-0000-00000000000{n}" for n in sys.argv[1]])())))
except SourceError as error:
    sys.exit(str(error))
"""


def samples(run_dir: Path) -> list[Metrics]:
    records = [record for record, _ in read_records(run_dir / "journal.jsonl")]
    return [record for record in records if isinstance(record, Metrics) and any("system/" in k for k in record.values)]


def off_tracker(run_dir: Path, *, resume: bool = False) -> Tracker:
    return open_tracker(TrackingConfig(backend="off"), run_dir, name="run", params={}, tags={}, resume=resume)


def monitor_for(tracker: Tracker, heard: list[dict[str, float]], *, seconds: float | None = 0.05) -> Monitor:
    return open_monitor(TrackingConfig(system_seconds=seconds), tracker, gpu_uuids=[], listen=heard.append)


def test_a_reading_names_each_quantity_with_its_unit(tmp_path: Path) -> None:
    load = GpuLoad(40.0, 3 * GIB, 75.0, 210.0, 61.0, 1400.0, ("power cap",), 2)
    values = LoadReader(tmp_path, read_gpu=lambda: load).read()
    units = r"_(percent|gib|mib_s|watts|celsius|mhz|throttled|other_processes)$"
    assert all(re.search(units, name) for name in values)
    names = ("watts", "celsius", "mhz", "throttled", "other_processes")
    assert [values[f"system/gpu_{name}"] for name in names] == [210, 61, 1400, 1, 2]
    assert {"system/cpu_percent", "system/memory_gib", "system/process_memory_gib", "system/disk_free_gib"} <= set(
        values
    )
    assert values["system/gpu_percent"] == 40
    assert values["system/gpu_memory_gib"] == 3
    assert values["system/gpu_memory_percent"] == 75
    total = psutil.virtual_memory().total / GIB
    assert 0 < values["system/process_memory_gib"] < values["system/memory_gib"] + 0.1 < total


def clocks() -> NDArray[np.float64]:
    """Seconds of this process's work and of the clock on the wall."""
    return np.array([time.process_time(), time.monotonic()])


def keep_busy() -> None:
    begin = time.process_time()
    while time.process_time() - begin < 0.2:
        pass


def test_processor_use_is_that_since_the_reading_before(tmp_path: Path) -> None:
    before, reader = clocks(), LoadReader(tmp_path)
    for work in (keep_busy, lambda: time.sleep(0.5)):
        begin = clocks()
        work()
        end = clocks()
        share = reader.read()["system/process_cpu_percent"] / 100
        (least, shortest), (most, longest) = end - begin, clocks() - before
        assert (least - 0.05) / longest <= share <= (most + 0.05) / shortest  # the system counts in hundredths
        before = end


def test_a_rate_is_the_difference_by_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([{"disk_read": 0.0}, {"disk_read": 8.0 * 2**20}, {"disk_read": 0.0}])
    clock = iter([100.0, 104.0, 105.0])
    monkeypatch.setattr("astrid.machine_load.byte_counters", lambda: next(counts))
    monkeypatch.setattr("astrid.machine_load.time.monotonic", lambda: next(clock))
    reader = LoadReader(tmp_path)
    assert reader.read()["system/disk_read_mib_s"] == 2
    assert reader.read()["system/disk_read_mib_s"] == 0  # the counter started again


def test_a_counter_that_the_system_hides_is_left_out_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden() -> None:
        raise NotImplementedError("no /proc/diskstats")

    monkeypatch.setattr("psutil.disk_io_counters", hidden)
    found = LoadReader(tmp_path).read()
    assert "system/cpu_percent" in found and "system/memory_gib" in found
    assert not [name for name in found if "disk_read" in name]


def test_what_nvml_cannot_say_of_a_gpu_is_left_out(tmp_path: Path) -> None:
    values = LoadReader(tmp_path, read_gpu=lambda: GpuLoad(None, 3 * GIB, 75.0)).read()
    gpu = {name.removeprefix("system/gpu_") for name in values if "gpu_" in name}
    assert gpu == {"memory_gib", "memory_percent"}


def test_the_power_of_all_that_is_metered_is_sampled(tmp_path: Path) -> None:
    powers: list[float | None] = [None, 123.4567]
    with off_tracker(tmp_path) as tracker:
        config, heard = TrackingConfig(system_seconds=None), list[dict[str, float]]()
        monitor = open_monitor(config, tracker, gpu_uuids=[], listen=heard.append, read_watts=lambda: powers.pop(0))
        monitor.sample()
        monitor.sample()
    assert [values.get("system/watts") for values in heard] == [None, 123.457]


def test_without_a_gpu_there_are_no_gpu_metrics(tmp_path: Path) -> None:
    assert not [name for name in LoadReader(tmp_path).read() if "gpu" in name]


def test_a_gpu_that_is_lost_is_left_out_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def lost() -> GpuLoad:
        raise SourceError("GPU is lost")

    reader = LoadReader(tmp_path, read_gpu=lost)
    values = [reader.read() for _ in range(3)]
    assert not [name for value in values for name in value if "gpu" in name]
    assert all("system/cpu_percent" in value for value in values)
    assert caplog.text.count("GPU is lost") == 1


@pytest.mark.parametrize(
    ("gpus", "environment", "expected"),
    [
        ("0", {}, {"busy_percent": 60, "memory_bytes": 4 * GIB, "memory_percent": 25}),
        ("01", {}, {"busy_percent": 70, "memory_bytes": 12 * GIB, "memory_percent": 50, "watts": 200}),
        ("01", {}, {"celsius": 60, "clock_mhz": 1400, "throttles": [], "other_processes": 0}),
        ("0", {"THROTTLE": "4", "OTHERS": "3"}, {"throttles": ["power cap"], "other_processes": 3}),
        ("0", {"NO_INSTANT": "1", "NO_POWER": "1"}, {"watts": None, "celsius": 55}),
        ("00", {}, {"busy_percent": 60, "memory_bytes": 4 * GIB, "memory_percent": 25}),
        ("0", {"MIG": "1"}, {"busy_percent": None, "memory_bytes": 4 * GIB, "memory_percent": 25}),
        ("9", {}, "NVML knows no device"),
        ("0", {"READ_ERROR": "15"}, "NVML:"),
    ],
)
def test_the_load_of_gpus_is_what_nvml_says(
    fake_nvml: Path, gpus: str, environment: dict[str, str], expected: dict[str, Any] | str
) -> None:
    fake = {"FAKE_NVML_GPUS": "2", **{f"FAKE_NVML_{name}": value for name, value in environment.items()}}
    done = subprocess.run(
        [sys.executable, "-c", READ_GPUS, gpus],
        env={**os.environ, "LD_LIBRARY_PATH": str(fake_nvml), **fake},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if isinstance(expected, str):
        assert done.returncode == 1
        assert expected in done.stderr
    else:
        assert json.loads(done.stdout).items() >= expected.items()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_the_tightest_limit_of_all_groups_around_the_process_counts(tmp_path: Path) -> None:
    for folder, limit, used in (("job", "1000", "500"), ("job/step", "max", "400"), ("job/step/task", "2000", "300")):
        write(tmp_path / folder / "memory.max", limit)
        write(tmp_path / folder / "memory.current", used)
        write(tmp_path / folder / "memory.stat", "anon 1\ninactive_file 100")
    memory = cgroup_memory(tmp_path, own="0::/job/step/task\n")
    assert memory is not None
    assert (memory.used_bytes, memory.limit_bytes) == (400, 1000)  # what can be dropped is not counted
    assert memory.percent == 40


def test_free_memory_is_what_the_tightest_group_leaves(tmp_path: Path) -> None:
    for folder, limit, used in (("job", "1000", "800"), ("job/step", "150", "50")):
        write(tmp_path / folder / "memory.max", limit)
        write(tmp_path / folder / "memory.current", used)
    assert free_memory_bytes(tmp_path, own="0::/job/step\n") == 100  # although the outer one is fuller
    write(tmp_path / "job" / "memory.current", "1001")
    assert free_memory_bytes(tmp_path, own="0::/job/step\n") == 0
    assert free_memory_bytes(tmp_path / "nowhere", own="") > 0


def test_a_limit_of_version_1_is_read_and_its_absence_understood(tmp_path: Path) -> None:
    group = tmp_path / "memory" / "docker"
    write(group / "memory.limit_in_bytes", "800")
    write(group / "memory.usage_in_bytes", "600")
    write(group / "memory.stat", "inactive_file 50\ntotal_inactive_file 200")
    memory = cgroup_memory(tmp_path, own="5:cpu:/\n4:memory:/docker\n0::/\n")
    assert memory is not None
    assert memory.percent == 50
    write(group / "memory.limit_in_bytes", "9223372036854771712")
    assert cgroup_memory(tmp_path, own="4:memory:/docker\n") is None
    assert cgroup_memory(tmp_path / "nowhere", own="4:memory:/docker\n0::/\n") is None


def test_inside_a_container_the_limit_is_found_although_its_path_leads_out(tmp_path: Path) -> None:
    write(tmp_path / "memory.max", "1000")
    write(tmp_path / "memory.current", "900")
    for path in ("/", "/../../outer", "//kubepods/pod"):
        memory = cgroup_memory(tmp_path, own=f"0::{path}\n")
        assert memory is not None, path
        assert memory.percent == 90


def sample_for_a_while(run_dir: Path, *, resume: bool) -> None:
    heard: list[dict[str, float]] = []
    with off_tracker(run_dir, resume=resume) as tracker, monitor_for(tracker, heard):
        wait_until(lambda: len(heard) >= 3)


def test_samples_are_numbered_and_go_on_after_a_resume_without_doubling(tmp_path: Path) -> None:
    sample_for_a_while(tmp_path, resume=False)
    sample_for_a_while(tmp_path, resume=True)
    steps = [record.step for record in samples(tmp_path)]
    assert len(steps) >= 6
    assert steps == list(range(1, len(steps) + 1))


def test_no_interval_means_no_thread_and_no_sample(tmp_path: Path) -> None:
    heard: list[dict[str, float]] = []
    before = threading.active_count()
    with off_tracker(tmp_path) as tracker, monitor_for(tracker, heard, seconds=None):
        assert threading.active_count() == before
    assert samples(tmp_path) == heard == []


def test_threads_that_write_at_once_leave_whole_lines_and_each_point_once(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, name="run", experiment="astrid")
    begin = threading.Barrier(8)

    def write_points(number: int) -> None:
        begin.wait()
        for step in range(40):
            journal.write_metrics({"shared": 1.0, f"own/{number}": 2.0}, step=step)
            journal.write_tags({"alert.rule": "x" * 300})

    threads = [threading.Thread(target=write_points, args=(number,)) for number in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    lines = journal.path.read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == len(lines) == 2 + 2 * 8 * 40
    points = Counter(
        (name, r["step"]) for r in map(json.loads, lines) if r["kind"] == "metrics" for name in r["values"]
    )
    assert len(points) == 9 * 40
    assert set(points.values()) == {1}


def test_a_reading_or_a_journal_that_fails_is_said_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    troubles = iter([psutil.AccessDenied(1), OSError("no /proc"), RunError("disk full"), None, None])
    reported: list[int] = []

    def read() -> dict[str, float]:
        trouble = next(troubles)
        if trouble is not None:
            raise trouble
        return {"system/cpu_percent": 1.0}

    monitor = Monitor(read=read, report=lambda values, step: reported.append(step), seconds=None)
    for _ in range(5):
        monitor.sample()
    assert reported == [1, 2]
    assert caplog.text.count("could not be recorded") == 1


def test_a_reading_that_hangs_holds_the_end_of_a_run_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrid.monitor.LONGEST_WAIT_SECONDS", 0.2)
    hanging, reading, read_at_last, reported = threading.Event(), threading.Event(), threading.Event(), []

    def read() -> dict[str, float]:
        reading.set()
        hanging.wait(60)
        read_at_last.set()
        return {}

    with Monitor(read=read, report=lambda values, step: reported.append(step), seconds=0.01) as monitor:
        assert reading.wait(60)
    assert not read_at_last.is_set()
    hanging.set()
    monitor._thread.join(60)
    assert read_at_last.is_set() and reported == []  # what comes after the end of the run is not recorded


def test_errors_are_counted_where_something_is_sent_and_absent_elsewhere(tmp_path: Path) -> None:
    class Counting(Tracker):
        retried_uploads = 3

    with off_tracker(tmp_path) as tracker:
        report_errors(tracker, step=8)
        assert "errors/" not in tracker.journal.path.read_text()
        report_errors(Counting(tracker.journal, None), step=8)
    assert '"errors/retried_uploads": 3.0' in tracker.journal.path.read_text()


@pytest.mark.parametrize("seconds", [0.0, -1.0, 4000.0])
def test_an_impossible_interval_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.system_seconds must be null or 0\.05 to 3600 s"):
        TrackingConfig(system_seconds=seconds)


def chosen(tiny: list[str]) -> list[str]:
    return [*tiny, "tracking=off", "tracking.system_seconds=0.05", "tracking.alerts.memory_percent=0.001"]


def test_a_run_is_sampled_and_its_rules_are_asked(tiny: list[str], tmp_path: Path) -> None:
    run_experiment(load([*chosen(tiny), "training.epochs=1"]), run_dir=tmp_path)
    assert samples(tmp_path)
    assert tmp_path.joinpath("journal.jsonl").read_text().count('"alert.memory"') == 1


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_samples_and_may_switch_a_rule_off(tiny: list[str], tmp_path: Path) -> None:
    run_experiment(load([*chosen(tiny), "training.epochs=1"]), run_dir=tmp_path)
    first = len(samples(tmp_path))
    changes = ["training.epochs=2", "tracking.alerts.memory_percent=null"]
    run_experiment(load([f"training.resume={tmp_path}", *changes]), run_dir=tmp_path)
    steps = [record.step for record in samples(tmp_path)]
    assert len(steps) > first > 0
    assert steps == list(range(1, len(steps) + 1))
    assert tmp_path.joinpath("journal.jsonl").read_text().count('"alert.memory"') == 1  # told in the first part only
