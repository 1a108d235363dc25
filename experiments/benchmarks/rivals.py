"""Time two rivals in turns, and record what came out with the machine that it came out on.

Each round runs ours, theirs, theirs, ours (ABBA), so that a drift of the machine hits both alike. The ratio of a round
is theirs over ours or ours over theirs, and the control is our second run over our first. With six rounds the extremes
hold the median with 97 % confidence (binomial).
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

RESULTS = Path(__file__).with_name("results.md")
ROUNDS = 6


@dataclass(frozen=True)
class Comparison:
    """Seconds of ours over seconds of theirs, by round, and ours over ours as control."""

    ratios: list[float]
    controls: list[float]

    def __str__(self) -> str:
        return f"ours / theirs {spread(self.ratios)}; control ours / ours {spread(self.controls)}"


def spread(values: list[float]) -> str:
    """Write median and extremes."""
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time one call."""
    start = clock()
    work()
    return clock() - start


def compare(ours: Callable[[], float], theirs: Callable[[], float], *, rounds: int = ROUNDS) -> Comparison:
    """Let two rivals, each of which returns its seconds, take turns after a warm-up of each."""
    ours()
    theirs()
    ratios, controls = [], []
    for _ in range(rounds):
        first, second, third, fourth = ours(), theirs(), theirs(), ours()
        ratios.append((first + fourth) / (second + third))
        controls.append(fourth / first)
    return Comparison(ratios, controls)


def machine() -> str:
    """Describe processor, cores, threads and versions."""
    cpu = torch.cpu.get_capabilities().get("cpu_name", platform.processor() or platform.machine())
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}"
    return f"{cpu}, {threads}{device}; {versions}"


def record(benchmark: str, *lines: str) -> None:
    """Print lines, and append them to the record with date, load and machine."""
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    entry = [
        f"## {benchmark}, {datetime.date.today()}",
        "",
        f"{machine()}; {load}",
        "",
        *(f"- {line}" for line in lines),
    ]
    print("\n".join(entry))
    before = RESULTS.read_text() if RESULTS.exists() else "# Recorded results of the benchmarks\n"
    RESULTS.write_text(f"{before}\n" + "\n".join(entry) + "\n")
