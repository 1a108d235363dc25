"""Rules that find in epochs and samples what a person should know, each told when it begins to hold."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from astrid.config import AlertsConfig, TrainingConfig
from astrid.learner import Progress

RETRY_WINDOW_MINUTES = 5.0
MARGIN = 0.05
"""Share of a threshold by which a value must come back before crossing it is told again."""
Values = Mapping[str, float]


@dataclass(frozen=True)
class Alert:
    """Something that a person should know: what, how much, against which threshold, what to do."""

    rule: str
    message: str
    value: float
    threshold: float | None


class Edge:
    """Tells when a threshold is crossed, and stays silent until the value has come back by a margin."""

    def __init__(self, threshold: float | None, *, below: bool = False) -> None:
        self.threshold, self._sign = threshold, -1 if below else 1
        self._crossed = False

    def crossed(self, value: float) -> bool:
        """Say whether this value crosses the threshold, coming from the other side; never where there is none."""
        if self.threshold is None:
            return False
        excess = self._sign * (value - self.threshold)
        if self._crossed:
            self._crossed = excess > -MARGIN * self.threshold
            return False
        self._crossed = excess > 0
        return self._crossed


class EpochRules:
    """What the values of an epoch are judged by.

    Parameters
    ----------
    config : AlertsConfig
    training : TrainingConfig
        Which metric is followed, in which direction, and what counts as an improvement.
    """

    def __init__(self, config: AlertsConfig, training: TrainingConfig) -> None:
        self._config, self._training = config, training
        self._progress = Progress()
        self._best_loss = math.inf
        self._high_epochs = 0
        stale = config.stale_epochs
        self._not_finite = Edge(0)
        self._diverging = Edge(None if config.diverging_factor is None else config.diverging_epochs - 1)
        self._stale = Edge(None if stale is None else stale - 1)
        self._energy = Edge(config.energy_kwh)

    def judge(self, values: Values, *, kwh: float | None) -> Iterator[Alert]:
        """Yield what an epoch's values give reason to tell.

        Parameters
        ----------
        values : mapping of str to float
            Metrics of the epoch by name, and `epoch` itself.
        kwh : float or None
            Energy of the run so far; None where it is not measured.
        """
        yield from self._judge_finite(values)
        yield from self._judge_divergence(values)
        yield from self._judge_progress(values)
        if kwh is not None and self._energy.crossed(kwh):
            budget = self._config.energy_kwh
            remedy = "stop it with Ctrl-C, which saves, or raise tracking.alerts.energy_kwh"
            yield Alert("energy", f"the run has used {kwh:.4g} kWh, more than {budget:g} kWh; {remedy}", kwh, budget)

    def _judge_finite(self, values: Values) -> Iterator[Alert]:
        bad = [name for name in ("train/loss", "val/loss") if not math.isfinite(values.get(name, 0.0))]
        if self._not_finite.crossed(len(bad)):
            what = f"{bad[0]} is {values[bad[0]]} in epoch {values['epoch']:.0f}, and must be finite"
            remedy = "try a smaller optimizer.lr or training.clip_norm, or training.precision=fp32"
            yield Alert("loss_not_finite", f"{what}; {remedy}", values[bad[0]], None)

    def _judge_divergence(self, values: Values) -> Iterator[Alert]:
        loss, factor = values["train/loss"], self._config.diverging_factor
        is_high = factor is not None and self._best_loss > 0 and loss > factor * self._best_loss
        self._high_epochs = self._high_epochs + 1 if is_high else 0
        self._best_loss = min(self._best_loss, loss)
        if self._diverging.crossed(self._high_epochs):
            ratio = loss / self._best_loss
            what = f"train/loss is {loss:.4g}, {ratio:.3g} times its best, after {self._high_epochs} epochs above"
            remedy = "try a smaller optimizer.lr, schedule.warmup_epochs=1 or training.clip_norm=1"
            yield Alert("diverging", f"{what} {factor:g} times; {remedy}", ratio, factor)

    def _judge_progress(self, values: Values) -> Iterator[Alert]:
        name, progress = self._training.monitor, self._progress
        progress.epoch = int(values["epoch"])
        progress.judge(values[name], self._training)
        stale = progress.stale_epochs
        if self._stale.crossed(stale):
            what = f"{name} has not improved for {stale} epochs, since {progress.best:.4g} in epoch"
            remedy = "stop the run, lower optimizer.lr, or let training.patience stop it"
            message = f"{what} {progress.best_epoch}; {remedy}"
            yield Alert("no_improvement", message, stale, self._config.stale_epochs)


class SampleRules:
    """What the samples of the machine's load are judged by."""

    def __init__(self, config: AlertsConfig) -> None:
        self._config = config
        self._busy = Window(60 * config.gpu_idle_minutes)
        self._retries = Window(60 * RETRY_WINDOW_MINUTES)
        self._idle = Edge(config.gpu_idle_percent, below=True)
        self._memory = Edge(config.memory_percent)
        self._gpu_memory = Edge(config.memory_percent)
        self._failing = Edge(config.retries_per_minute)

    def judge(self, values: Values, *, now: float, training: bool) -> Iterator[Alert]:
        """Yield what a sample gives reason to tell; `now` is its time in seconds of any monotonic clock."""
        yield from self._judge_gpu(values.get("system/gpu_percent"), now=now, training=training)
        yield from self._judge_memory(self._memory, "memory", values.get("system/memory_percent"))
        yield from self._judge_memory(self._gpu_memory, "gpu_memory", values.get("system/gpu_memory_percent"))
        yield from self._judge_retries(values.get("errors/retried_uploads"), now=now)

    def _judge_gpu(self, percent: float | None, *, now: float, training: bool) -> Iterator[Alert]:
        if percent is None or not training:
            self._busy.clear()
            return
        self._busy.add(now, percent)
        if self._busy.is_full and self._idle.crossed(self._busy.mean):
            minutes, limit = self._config.gpu_idle_minutes, self._config.gpu_idle_percent
            what = f"the GPUs were in use for {self._busy.mean:.0f} % of the last {minutes:g} minutes, less than"
            remedy = "try a larger data.batch_size or more data.workers"
            yield Alert("gpu_idle", f"{what} {limit:g} %; {remedy}", self._busy.mean, limit)

    def _judge_memory(self, edge: Edge, rule: str, percent: float | None) -> Iterator[Alert]:
        if percent is None or not edge.crossed(percent):
            return
        whose = "memory of a GPU" if rule == "gpu_memory" else "memory of the machine or of the run's control group"
        remedy = "try a smaller data.batch_size or data.workers, or end what else runs there"
        what = f"{percent:.0f} % of the {whose} is in use, more than {edge.threshold:g} %"
        yield Alert(rule, f"{what}; {remedy}", percent, edge.threshold)

    def _judge_retries(self, count: float | None, *, now: float) -> Iterator[Alert]:
        if count is None:
            return
        self._retries.add(now, count)
        rate = self._retries.rise / RETRY_WINDOW_MINUTES
        if self._failing.crossed(rate):
            what = f"failed attempts to send to MLflow in {RETRY_WINDOW_MINUTES:g} minutes: {self._retries.rise:.0f}"
            limit = self._config.retries_per_minute
            remedy = "see `astrid doctor`; the journal keeps everything, and `astrid sync` sends it later"
            yield Alert("retried_uploads", f"{what}, more than {limit:g} a minute; {remedy}", rate, limit)


class Window:
    """Values of the last so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float) -> None:
        """Take in a value, and forget those that are too old."""
        self._values.append((now, value))
        while len(self._values) > 1 and now - self._values[1][0] >= self._seconds:
            self._values.popleft()

    def clear(self) -> None:
        """Begin again."""
        self._values.clear()

    @property
    def is_full(self) -> bool:
        """Whether the values span the whole window."""
        return len(self._values) > 1 and self._values[-1][0] - self._values[0][0] >= self._seconds

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return sum(value for _, value in self._values) / len(self._values)

    @property
    def rise(self) -> float:
        """Last value less the first."""
        return self._values[-1][1] - self._values[0][1]
