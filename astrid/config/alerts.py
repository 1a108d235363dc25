"""Knobs of the rules that warn while a run goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .checks import check


@dataclass
class AlertsConfig:
    """When a run speaks up. Null switches a rule off; a loss that is not finite is always told."""

    diverging_factor: float | None = 3.0
    """Warn when train/loss is above this many times its best."""
    diverging_epochs: int = 2
    """Epochs in a row for which it must be, before it counts as diverging."""
    stale_epochs: int | None = 10
    """Warn when the monitor has not improved by `training.min_delta` for this many epochs."""
    gpu_idle_percent: float | None = 20.0
    """Warn when the GPUs were in use for less than this percentage of the time on average while training."""
    gpu_idle_minutes: float = 5.0
    """Minutes over which that average is taken."""
    memory_percent: float | None = 90.0
    """Warn when the machine, the control group or a GPU has more than this percentage of its memory in use."""
    energy_kwh: float | None = None
    """Warn when the run, the parts before a resume included, has used more than this; looked at after each epoch."""
    retries_per_minute: float | None = 1.0
    """Warn when sending to MLflow failed more often than this, on average over five minutes."""
    webhook_env: str | None = None
    """Name of the environment variable that holds the URL to which alerts are posted as JSON, as ASTRID_WEBHOOK.

    The URL itself is a secret: whoever has it can post.
    """

    def __post_init__(self) -> None:
        for name in ("diverging_epochs", "stale_epochs"):
            self._check(name, lambda value: value >= 1, "at least 1")
        self._check("diverging_factor", lambda value: value > 1, "above 1")
        for name in ("gpu_idle_minutes", "energy_kwh", "retries_per_minute"):
            self._check(name, lambda value: value > 0, "above 0")
        for name in ("gpu_idle_percent", "memory_percent"):
            self._check(name, lambda value: 0 < value <= 100, "above 0 and at most 100")
        self._check_webhook()

    def _check(self, name: str, holds: Callable[[float], bool], rule: str) -> None:
        value = getattr(self, name)
        check(value is None or holds(value), f"tracking.alerts.{name}", value, rule, "leave it at its default")

    def _check_webhook(self) -> None:
        name = self.webhook_env
        plain = name is None or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None
        shown = name if name is None or ":" not in name else "something with a colon"  # a URL here would be a secret
        rule = "null or the name of an environment variable"
        remedy = "put the URL into ASTRID_WEBHOOK and try tracking.alerts.webhook_env=ASTRID_WEBHOOK"
        check(plain, "tracking.alerts.webhook_env", shown, rule, remedy)
