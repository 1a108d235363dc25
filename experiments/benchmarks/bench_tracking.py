"""What it costs a run to be recorded: seconds that its loop waits, and processor seconds of the thread that sends.

A finished run is told again, record by record, to a fresh MLflow, with pauses so that each epoch is sent by itself, as
it is in a run. Blocked is the time within calls of the tracker, the write to the disk included; sending is the
processor time of all threads but the main one. Importing MLflow, once, before the first step, is timed apart, and the
wait at the end, for what is left, too. All is compared with the seconds that the run took; a sample of the machine's
load with the interval between two.

    python experiments/benchmarks/bench_tracking.py outputs/runs/<run>    # SQLite
    python experiments/benchmarks/bench_tracking.py outputs/runs/<run> --uri http://localhost:9003
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rivals import record, seconds, spread

from astrid.config import TrackingConfig
from astrid.monitor import open_monitor
from astrid.tracking import Tracker, open_tracker
from astrid.tracking.journal import FILE_NAME
from astrid.tracking.progress import FILE_NAME as PROGRESS
from astrid.tracking.records import (
    Artifact,
    Dataset,
    Ended,
    Metrics,
    Model,
    Params,
    Record,
    RunStarted,
    Tags,
    read_records,
)
from astrid.tracking.shipper import connect_sink

REPEATS = 5
PAUSE_SECONDS = 0.2
SAMPLES = 50


@dataclass
class Cost:
    """Seconds of one telling."""

    blocked: float = 0.0
    sending: float = 0.0
    end: float = 0.0


def tell(records: list[Record], source: Path, folder: Path, config: TrackingConfig) -> Cost:
    """Report all of a run again from a copy of its folder."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(FILE_NAME, f"{PROGRESS}*"))
    params = {key: value for record in records if isinstance(record, Params) for key, value in record.values.items()}
    cost, before = Cost(), others_cpu_seconds()
    tracker = open_tracker(config, folder, name="told again", params=params, tags={})
    for one in records:
        cost.blocked += seconds(lambda one=one: report(tracker, one), time.perf_counter)  # type: ignore[misc]
        if isinstance(one, Metrics):
            time.sleep(PAUSE_SECONDS)
    complete: list[bool] = []
    close: Callable[[], object] = lambda: complete.append(tracker.close("FINISHED", wait_seconds=300))  # noqa: E731
    cost.end = seconds(close, time.perf_counter)
    assert complete == [True], "MLflow did not take everything"
    cost.sending = others_cpu_seconds() - before
    return cost


def report(tracker: Tracker, told: Record) -> None:
    """Make the call of the tracker that once led to a record."""
    match told:
        case Tags(values):
            tracker.tags(values)
        case Metrics(values, step):
            tracker.metrics(values, step=step)
        case Artifact(path, folder):
            tracker.artifact(Path(path), folder=folder)
        case Dataset(name, digest, source, context):
            tracker.dataset(name, digest=digest, source=source, context=context)
        case Model(path=path, step=step):
            tracker.journal.write_model(Path(path), step=step)


def sampling_seconds(folder: Path) -> float:
    """Return the processor seconds of a sample of the machine's load, its record included."""
    tracker = open_tracker(TrackingConfig(backend="off"), folder, name="sampled", params={}, tags={})
    config = TrackingConfig(system_seconds=None)
    with open_monitor(config, tracker, gpu_uuids=[], listen=lambda values: None) as monitor:
        taken = seconds(lambda: [monitor.sample() for _ in range(SAMPLES)], time.process_time) / SAMPLES
    tracker.close("FINISHED")
    return taken


def others_cpu_seconds() -> float:
    """Return the processor seconds of this process without those of the calling thread."""
    return time.process_time() - time.thread_time()


def run_seconds(records: list[Record]) -> float:
    """Return how long a run took, from its first record to its last."""
    [begin] = [told.time_ms for told in records if isinstance(told, RunStarted)]
    end = max(told.time_ms for told in records if isinstance(told, Ended))
    return (end - begin) / 1000


def main() -> None:
    """Tell a run again and again, and record what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--uri", help="MLflow to send to; a fresh SQLite database without it")
    parser.add_argument("--seconds", type=float, help="length to compare with; that of the run without it")
    arguments = parser.parse_args()
    records = [told for told, _ in read_records(arguments.run / FILE_NAME)]
    length = arguments.seconds or run_seconds(records)
    with tempfile.TemporaryDirectory() as name:
        config = TrackingConfig(uri=arguments.uri or f"sqlite:///{name}/mlflow.db", experiment="bench_tracking")
        [started] = [told for told in records if isinstance(told, RunStarted)]
        importing = seconds(lambda: connect_sink(Path(name), started, config), time.process_time)
        costs = [tell(records, arguments.run, Path(name) / f"run-{number}", config) for number in range(REPEATS + 1)]
        samples = [sampling_seconds(Path(name) / f"load-{number}") for number in range(REPEATS)]
    interval = TrackingConfig().system_seconds
    assert interval is not None
    costs = costs[1:]  # the first creates database, experiment and registered model
    shares = [(cost.blocked + cost.sending) / length for cost in costs]
    record(
        "bench_tracking",
        f"{len(records)} records of a run of {length:.0f} s to {arguments.uri or 'SQLite'}",
        f"blocked {spread([cost.blocked * 1000 for cost in costs])} ms",
        f"sending {spread([cost.sending for cost in costs])} processor seconds",
        f"both together {spread([100 * share for share in shares])} % of the run",
        f"apart from that: import of MLflow before the first step {importing:.2f} processor seconds, "
        f"wait at the end {spread([cost.end for cost in costs])} s",
        f"a sample of the load {spread([1000 * each for each in samples])} processor ms, every {interval:g} s",
    )


if __name__ == "__main__":
    main()
