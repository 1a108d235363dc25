"""Knobs of the training loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import check

EPOCH_METRICS = ("train/loss", "val/loss", "val/auprc", "val/auroc", "val/brier", "val/ece")
"""Metrics that every epoch logs, so that stopping, the best checkpoint and the objective can follow them."""

LOWER_IS_BETTER = frozenset({"train/loss", "val/loss", "val/brier", "val/ece"})
"""Which of them improve by falling."""


@dataclass
class TrainingConfig:
    """How the network is trained."""

    epochs: int = 4
    """Passes over the training tiles."""
    seed: int = 0
    """Seed of initial weights, tile order, augmentation and dropout."""
    repeats: int = 1
    """Runs whose seeds are derived from training.seed, one after the other, and reported together; 1 is one run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where there is one; `cuda` without one is refused."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is bf16 where the hardware computes in it, else fp32; fp16 scales its gradients and needs CUDA."""
    channels_last: bool = True
    """Keep tensors in NHWC memory order, faster for convolutions."""
    compile: bool = False
    """Compile the network with torch.compile: a slow first step, then faster ones."""
    accumulate: int = 1
    """Batches whose gradients are summed before a step."""
    clip_norm: float | None = 1.0
    """Largest gradient norm; null doesn't clip."""
    deterministic: bool = False
    """Refuse operations that are not reproducible on CUDA, at some cost in speed."""
    threads: int | None = None
    """CPU threads for torch; null leaves torch's choice."""
    monitor: str = "val/auprc"
    """Epoch metric that picks the best checkpoint, stops early, drives `schedule=plateau` and is the objective."""
    patience: int | None = None
    """Stop after this many epochs without improvement of the monitor; null never does."""
    min_delta: float = 0.0
    """Smallest change of the monitor that counts as an improvement."""
    log_gradients: int = 4
    """Steps an epoch in which norms of gradients, weights and updates are kept for `astrid diagnose`; 0 keeps none."""
    checkpoint_minutes: float = 10.0
    """Also save in mid-epoch after this many minutes without a checkpoint."""
    resume: str | None = None
    """Run folder (or its last checkpoint) to continue, with the configuration saved there."""

    def __post_init__(self) -> None:
        for name in ("epochs", "repeats", "accumulate"):
            check(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "at least 1", "try 1")
        for name in ("clip_norm", "threads", "patience"):
            value = getattr(self, name)
            check(
                value is None or value > 0, f"training.{name}", value, "null or positive", f"try training.{name}=null"
            )
        check(self.log_gradients >= 0, "training.log_gradients", self.log_gradients, "at least 0", "try 4")
        seedable = 0 <= self.seed < 2**63
        check(seedable, "training.seed", self.seed, "from 0 to 2**63 - 1", "try training.seed=0")
        check(self.min_delta >= 0, "training.min_delta", self.min_delta, "at least 0", "try training.min_delta=0")
        check(self.checkpoint_minutes > 0, "training.checkpoint_minutes", self.checkpoint_minutes, "positive", "try 10")
        known = ", ".join(EPOCH_METRICS)
        check(self.monitor in EPOCH_METRICS, "training.monitor", self.monitor, f"one of {known}", "try val/loss")
        if self.precision == "fp16":
            rule = "cuda or auto when training.precision=fp16"
            check(self.device != "cpu", "training.device", self.device, rule, "try training.precision=bf16")

    @property
    def monitor_mode(self) -> Literal["min", "max"]:
        """Direction in which the monitor improves."""
        return "min" if self.monitor in LOWER_IS_BETTER else "max"
