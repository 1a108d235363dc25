"""Judge what a run reports, and tell what the rules find: in the log, in the run and by a webhook."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from astrid.config import AlertsConfig, Config, RunError, TrainingConfig
from astrid.energy import Meter, total_kwh
from astrid.learner import LossNotFinite
from astrid.tracking import Tracker

from .rules import Alert, EpochRules, SampleRules, Values
from .webhook import Webhook, find_webhook_url

log = logging.getLogger(__name__)


class Alerts:
    """The rules of one run, and where their alerts go; use it as a context manager.

    Each time that a rule begins to hold, its message is logged, becomes the tag `alert.<rule>` of the run and is
    posted. `epoch` belongs to the loop's thread and `sample` to the monitor's.

    Parameters
    ----------
    config : AlertsConfig
    training : TrainingConfig
        Which metric is followed.
    tracker : Tracker
        Where tags go.
    webhook : Webhook or None
        Where messages are posted.
    read_kwh : callable
        Returns the energy of the run so far in kWh; None where it is not measured.
    """

    def __init__(
        self,
        config: AlertsConfig,
        training: TrainingConfig,
        *,
        tracker: Tracker,
        webhook: Webhook | None,
        read_kwh: Callable[[], float | None],
    ) -> None:
        self._tracker, self._webhook, self._read_kwh = tracker, webhook, read_kwh
        self._epochs, self._samples = EpochRules(config, training), SampleRules(config)
        self._misses_energy = config.energy_kwh is not None
        self._training = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell of a loss that ended the run, and wait for a bounded time until everything is posted."""
        if isinstance(error, LossNotFinite):
            self._tell_of_the_end(Alert("loss_not_finite", str(error), math.nan, None))
        if self._webhook is not None:
            self._webhook.close()

    def remember(self, history: Iterable[dict[str, float]]) -> None:
        """Take in the epochs before a resume, without telling again what they gave reason to tell."""
        for values in history:
            list(self._epochs.judge(values, kwh=self._read_kwh()))

    def epoch(self, values: Values) -> None:
        """Judge the values of a finished epoch."""
        kwh = self._read_kwh()
        if self._misses_energy and kwh is None:
            log.warning("tracking.alerts.energy_kwh can't be watched: the energy of this run is not measured")
        self._misses_energy = False
        for alert in self._epochs.judge(values, kwh=kwh):
            self.tell(alert)

    def sample(self, values: Values) -> None:
        """Judge a sample of the machine's load."""
        for alert in self._samples.judge(values, now=time.monotonic(), training=self._training):
            self.tell(alert)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Expect the GPUs to be busy within the block."""
        self._training = True
        try:
            yield
        finally:
            self._training = False

    def tell(self, alert: Alert) -> None:
        """Log an alert, tag the run with it and post it."""
        log.warning("alert: %s", alert.message)
        if self._webhook is not None:
            self._webhook.post(self._as_json(alert))
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        self._tracker.tags({f"alert.{alert.rule}": f"{now}: {alert.message}"})

    def _as_json(self, alert: Alert) -> dict[str, str | float | None]:
        run = self._tracker.journal.started.name
        return {
            "text": f"{run}: {alert.message}",  # what chat services show
            "run": run,
            "folder": self._tracker.journal.run_dir.name,
            "rule": alert.rule,
            "message": alert.message,
            "value": alert.value if math.isfinite(alert.value) else None,
            "threshold": alert.threshold,
        }

    def _tell_of_the_end(self, alert: Alert) -> None:
        try:
            self.tell(alert)
        except RunError as error:  # the journal can't be written; what ended the run stays the error that is seen
            log.error("%s", error)


def open_alerts(config: Config, tracker: Tracker, meter: Meter) -> Alerts:
    """Make the alerts of a run.

    Raises
    ------
    ConfigError
        Where there should be a webhook, and the environment has no URL for it.
    """
    chosen = config.tracking.alerts
    url = find_webhook_url(chosen)
    webhook = None if url is None else Webhook(url, name=str(chosen.webhook_env))

    def read_kwh() -> float | None:
        return total_kwh(meter.summary())

    return Alerts(chosen, config.training, tracker=tracker, webhook=webhook, read_kwh=read_kwh)
