"""Time every pixel metric from the histogram against scikit-learn's AUROC plus average precision.

Four million pixels, 1 % positive, CPU seconds of one thread.

    python experiments/benchmarks/bench_metrics.py
"""

from __future__ import annotations

import time

import numpy as np
import torch
from rivals import compare, record, seconds
from sklearn.metrics import average_precision_score, roc_auc_score

from astrid.config import MetricsConfig
from astrid.metrics.pixels import PixelHistogram, pixel_metrics

PIXELS = 4_000_000
PREVALENCE = 0.01


def draw_pixels() -> tuple[np.ndarray, np.ndarray]:
    """Return logits (N,) float32 and truth (N,) bool."""
    rng = np.random.default_rng(0)
    target = rng.random(PIXELS) < PREVALENCE
    logits = rng.normal(-5, 1.5, PIXELS) + 6 * target
    return logits.astype(np.float32), target


def ours(logits: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Fill a histogram and derive every metric."""
    config = MetricsConfig()
    histogram = PixelHistogram(bins=config.bins, limit=config.logit_limit, device="cpu")
    truth = torch.from_numpy(target)
    histogram.update(torch.from_numpy(logits), truth, torch.ones_like(truth))
    return pixel_metrics(histogram, logit_threshold=0.0)


def theirs(logits: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Let scikit-learn rank the same pixels."""
    return {"auroc": roc_auc_score(target, logits), "auprc": average_precision_score(target, logits)}


def main() -> None:
    """Compare times and values."""
    torch.set_num_threads(1)
    pixels = draw_pixels()
    cpu = time.process_time
    times = compare(lambda: seconds(lambda: ours(*pixels), cpu), lambda: seconds(lambda: theirs(*pixels), cpu))
    mine, referee = ours(*pixels), theirs(*pixels)
    errors = [f"{name} off by {abs(mine[name] - value):.1e}" for name, value in referee.items()]
    faster = f"{1 / np.median(times.ratios):.1f} times faster than scikit-learn in CPU seconds"
    record("bench_metrics", faster, str(times), *errors)


if __name__ == "__main__":
    main()
