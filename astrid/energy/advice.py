"""Recommendations from the samples of a run, where they are enough to support one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .records import Sample

ENOUGH_SAMPLES = 30
"""About half a minute of training; with fewer nothing is recommended."""
BUSY_PERCENT = 70.0
THROTTLED_SHARE = 0.1
OTHER_SHARE = 0.2


def recommend(
    samples: Sequence[Sample], shares: Mapping[str, float], *, params: Mapping[str, str], device: str | None = None
) -> list[str]:
    """Say what would save energy, with the evidence.

    Parameters
    ----------
    samples : sequence of Sample
        Those of the phase `train` are looked at.
    shares : mapping
        Share of each phase in the total energy.
    params : mapping
        Knobs of the run, to name the value that could change.
    device : str, optional
        What the run computed on; nothing is said of GPUs that it didn't use.
    """
    training = [sample for sample in samples if sample.phase == "train"]
    own = device != "cpu" and params.get("energy.gpus", "auto") == "auto"
    of_the_gpu = [*_on_idling(training, params), *_on_throttling(training)] if own else []
    return [*of_the_gpu, *(_on_other(shares) if len(training) >= ENOUGH_SAMPLES else [])]


def _on_idling(samples: Sequence[Sample], params: Mapping[str, str]) -> list[str]:
    busy = [sample.busy_percent for sample in samples if sample.busy_percent is not None]
    if len(busy) < ENOUGH_SAMPLES:
        return []
    mean = sum(busy) / len(busy)
    if mean >= BUSY_PERCENT:
        return []
    workers, batch = params.get("data.workers", "unknown"), params.get("data.batch_size", "unknown")
    return [
        f"the GPU was idle for {100 - mean:.0f} % of training ({len(busy)} samples): it waits for the loader or for "
        f"Python; try more data.workers (now {workers}) or a larger data.batch_size (now {batch})"
    ]


def _on_throttling(samples: Sequence[Sample]) -> list[str]:
    known = [sample.throttles for sample in samples if sample.throttles is not None]
    if len(known) < ENOUGH_SAMPLES:
        return []
    found = []
    for reason in dict.fromkeys(reason for throttles in known for reason in throttles):
        share = sum(reason in throttles for throttles in known) / len(known)
        if share >= THROTTLED_SHARE:
            found.append(f"the GPU was slowed by its {reason} in {share:.0%} of training: {_remedy(reason)}")
    return found


def _remedy(reason: str) -> str:
    if "temperature" in reason:
        return "cool it better; hot chips also leak more power"
    if reason == "power cap":
        return "it works at its limit; a lower limit (nvidia-smi -pl) often costs less speed than it saves energy"
    return "look at power supply and cooling (nvidia-smi -q -d PERFORMANCE)"


def _on_other(shares: Mapping[str, float]) -> list[str]:
    share = shares.get("other", 0.0)
    if share < OTHER_SHARE:
        return []
    return [
        f"{share:.0%} of the energy went between the phases, into checkpoints above all: "
        "try a larger training.checkpoint_minutes, or a faster disk"
    ]
