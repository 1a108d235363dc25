"""Time `astrid compare` over 200 runs in a SQLite database, page with figures included, from a cold start.

Toy runs of 94 parameters, 50 metrics and 6 curves of 20 epochs each; nobody trained them. The claim: at most 5 s.

    python experiments/benchmarks/bench_compare.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rivals import ROUNDS, record, spread

PROJECT_ROOT = Path(__file__).resolve().parents[2]
RUNS = 200


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command and return its seconds by the wall clock and of processor time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Fill a database, and compare all of it several times."""
    sys.path.insert(0, str(PROJECT_ROOT / "tests"))
    from toy_runs import fill_store

    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        fill_store(uri, count=RUNS)
        command = [sys.executable, "-m", "astrid.cli", "compare", "--experiment", "toy", "--uri", uri]
        lines = []
        for name, extra in (("table", []), ("table and page", ["--html", f"{folder}/page.html"])):
            walls, processor = zip(*[measure([*command, *extra]) for _ in range(ROUNDS)], strict=True)
            times = f"{spread(list(walls))} s by the wall clock, {spread(list(processor))} s of processor time"
            lines.append(f"{name}: {times}")
        kilobytes = Path(f"{folder}/page.html").stat().st_size / 1000
    record("bench_compare", *lines, f"the page has {kilobytes:.0f} kB")


if __name__ == "__main__":
    main()
