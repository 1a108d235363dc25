"""Time every pixel metric from the histogram against scikit-learn's AUROC plus average precision.

A hundred million pixels, 1 % positive, CPU seconds of one thread, and the memory that ours takes beside its input.
scikit-learn needs about a minute a run and some 5 GB.

    python experiments/benchmarks/bench_metrics.py --rounds 6
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rivals import ROUNDS, compare, record, seconds, spread
from sklearn.metrics import average_precision_score, roc_auc_score

from astrid.config import MetricsConfig
from astrid.metrics.pixels import PixelHistogram, pixel_metrics

PIXELS = 100_000_000
PREVALENCE = 0.01

Pixels = tuple[np.ndarray, np.ndarray]


def draw_pixels(count: int) -> Pixels:
    """Return logits (N,) float32 and truth (N,) bool."""
    rng = np.random.default_rng(0)
    target = rng.random(count, dtype=np.float32) < PREVALENCE
    logits = 1.5 * rng.standard_normal(count, dtype=np.float32) - 5
    logits[target] += 6
    return logits, target


def ours(logits: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Fill a histogram and derive every metric."""
    config = MetricsConfig()
    histogram = PixelHistogram(bins=config.bins, limit=config.logit_limit, device="cpu")
    truth = torch.from_numpy(target)
    histogram.update(torch.from_numpy(logits), truth, torch.ones((), dtype=torch.bool).expand_as(truth))
    return pixel_metrics(histogram, logit_threshold=0.0)


def theirs(logits: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Let scikit-learn rank the same pixels."""
    return {"auroc": roc_auc_score(target, logits), "auprc": average_precision_score(target, logits)}


def peak_megabytes(work: Callable[[], object]) -> float:
    """Return by how much resident memory exceeded what was held before, at most, while this ran (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1e6


def _status(name: str) -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def main() -> None:
    """Compare times, memory and values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    ours(*draw_pixels(1000))  # what is imported at first use isn't memory of the pixels
    pixels = draw_pixels(PIXELS)
    megabytes = peak_megabytes(lambda: ours(*pixels))
    cpu = time.process_time
    mine = lambda: seconds(lambda: ours(*pixels), cpu)  # noqa: E731
    times = compare(mine, lambda: seconds(lambda: theirs(*pixels), cpu), rounds=rounds)
    found, referee = ours(*pixels), theirs(*pixels)
    errors = [f"{name} off by {abs(found[name] - value):.1e}" for name, value in referee.items()]
    faster = f"{spread([1 / ratio for ratio in times.ratios])} times faster than scikit-learn in CPU seconds"
    record(
        "bench_metrics",
        f"{PIXELS:,} pixels, {len(found)} metrics, {rounds} rounds: {faster}",
        f"control ours / ours {spread(times.controls)}; {mine():.2f} CPU seconds",
        f"{megabytes:.0f} MB beside the input",
        *errors,
    )


if __name__ == "__main__":
    main()
