"""What the energy ledgers of runs tell: totals, shares, joules of an image, energy to reach a metric, Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from astrid.config import LOWER_IS_BETTER, ConfigError

from .advice import recommend
from .carbon import JOULES_PER_KWH, per_image, phase_joules
from .ledger import LedgerContents
from .records import EnergySummary, PhaseEnergy, Sample, summarise

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class RunEnergy:
    """One run: its energy ledger, and what else is known of it.

    Attributes
    ----------
    ledger : LedgerContents
    params, tags, metrics : mapping
        As the run reported them; metrics are the last of each name.
    histories : mapping
        By name of a metric, its epochs and values.
    """

    name: str
    ledger: LedgerContents
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    histories: Mapping[str, Points] = field(default_factory=dict)

    @cached_property
    def spans(self) -> list[PhaseEnergy]:
        """Phases in the order in which they began, that of the idle machine included."""
        return list(self.ledger.spans.values())

    @cached_property
    def summary(self) -> EnergySummary:
        """Phases and total; nothing is known where the run has no ledger."""
        sessions = len({session for session, _ in self.ledger.spans})
        return summarise(self.spans, sessions=max(sessions, 1), notes=self.ledger.notes)

    @property
    def total_joules(self) -> float | None:
        """All components that were measured from beginning to end; None where none was."""
        return self.summary.total.joules

    @property
    def total_kwh(self) -> float | None:
        """The same in kilowatt-hours."""
        return None if self.total_joules is None else self.total_joules / JOULES_PER_KWH

    @property
    def consequences(self) -> dict[str, float]:
        """Carbon and cost of that total, by metric name, with the factors that the run was configured with."""
        if self.total_kwh is None:
            return {}
        names = ("energy.pue", "carbon.grams_per_kwh", "cost.usd_per_kwh")
        pue, grams, usd = (_number(self.tags.get(name)) for name in names)
        rates = {"carbon/g_co2e": grams, "cost/usd": usd}
        return {name: self.total_kwh * (pue or 1.0) * rate for name, rate in rates.items() if rate is not None}

    @property
    def measured(self) -> tuple[str, ...]:
        """The components that the total holds."""
        return tuple(name for name in ("gpu", "cpu") if getattr(self.summary, name).joules is not None)

    @property
    def per_image(self) -> dict[str, float]:
        """Joules of an image and of a megapixel, in training and in inference, by metric name; unknown is absent."""
        train, val = self._images("train"), self._images("val")
        tile = _number(self.params.get("data.tile_size"))
        if train is None or val is None or tile is None:
            return {}
        done = {epoch for epoch, _ in self.histories.get("train/loss", ())}
        whole = [span for span in self.spans if span.epoch is None or span.epoch in done]  # not the epoch that goes on
        return per_image(summarise(whole), train_images=train, val_images=val, tile_size=int(tile))

    @property
    def batch_size(self) -> int | None:
        """Images of a batch."""
        size = _number(self.tags.get("data.batch_size", self.params.get("data.batch_size")))
        return None if size is None else int(size)

    def _images(self, split: str) -> int | None:
        tiles, epochs = _number(self.tags.get(f"data.{split}_tiles")), len(self.histories.get("train/loss", ()))
        return None if tiles is None or not epochs else int(tiles) * epochs


@dataclass(frozen=True)
class Reached:
    """When a run reached a value of a metric, and what it had used by then, its set-up included."""

    epoch: int
    joules: float | None
    seconds: float


@dataclass(frozen=True)
class Efficiency:
    """What a run with a certain batch size took for an image."""

    run: str
    batch_size: int
    joules_per_image: float
    images_per_second: float | None


class EnergyAnalyzer:
    """Questions to the energy of one or several runs; what was not measured is None or left out, and never 0.

    Parameters
    ----------
    runs : sequence of RunEnergy
        As `astrid.energy_runs.read_run` reads them from run folders.

    Examples
    --------
    >>> from astrid.energy_runs import read_run                       # doctest: +SKIP
    >>> EnergyAnalyzer([read_run("outputs/runs/A")]).shares("A")      # doctest: +SKIP
    {'setup': 0.08, 'train': 0.81, 'validation': 0.06, 'other': 0.01, 'test': 0.03, 'latency': 0.01}
    """

    def __init__(self, runs: Sequence[RunEnergy]) -> None:
        self.runs = list(runs)
        self._by_name = {run.name: run for run in self.runs}

    def run(self, name: str) -> RunEnergy:
        """Return a run by its name.

        Raises
        ------
        ConfigError
            For a name that none of the runs has.
        """
        if name not in self._by_name:
            known = ", ".join(self._by_name) or "none"
            raise ConfigError(f"the name must be that of an analysed run ({known}), got {name!r}; give one of these")
        return self._by_name[name]

    def shares(self, name: str) -> dict[str, float]:
        """Give the share of each phase in the total of a run; empty where that is unknown."""
        run = self.run(name)
        total = run.total_joules
        return {} if not total else {phase: joules / total for phase, joules in phase_joules(run.summary).items()}

    def to_reach(self, metric: str, value: float) -> dict[str, Reached | None]:
        """Say of each run at which epoch a metric first was as good as `value`, and what had been used by then.

        The metric is one that every epoch logs; a run that never was that good has None.
        """
        return {run.name: _reached(run, metric, value) for run in self.runs}

    def power(self, name: str) -> list[tuple[float, float, str]]:
        """Give watts over time: seconds since the run began, pauses before a resume left out, watts and phase."""
        points: list[tuple[float, float, str]] = []
        offset, begin, session = 0.0, 0.0, 0
        for sample in self.run(name).ledger.samples:
            if sample.session != session:
                offset = points[-1][0] if points else 0.0
                begin, session = sample.time, sample.session
            watts = _watts(sample)
            if watts is not None:
                points.append((offset + sample.time - begin, watts, sample.phase))
        return points

    def by_batch_size(self) -> list[Efficiency]:
        """Give the training joules of an image against the batch size, by rising size."""
        known = [
            Efficiency(run.name, run.batch_size, joules, run.metrics.get("train/images_per_second"))
            for run in self.runs
            if run.batch_size is not None and (joules := run.per_image.get("energy/train_joules_per_image")) is not None
        ]
        return sorted(known, key=lambda one: (one.batch_size, one.run))

    def pareto(self, metric: str, *, lower: bool = False) -> list[RunEnergy]:
        """Return the runs that no other beats in both energy and metric, by rising energy.

        Runs are rivals where the same components were measured: the CPU of one says nothing beside the GPU of another.

        Parameters
        ----------
        metric : str
        lower : bool
            Whether the metric improves by falling.
        """
        known = [run for run in self.runs if metric in run.metrics and run.total_joules is not None]
        kinds = dict.fromkeys(run.measured for run in known)
        fronts = [_front([run for run in known if run.measured == kind], metric, lower=lower) for kind in kinds]
        return sorted((run for front in fronts for run in front), key=lambda run: run.total_joules or 0.0)

    def advice(self, name: str) -> list[str]:
        """Recommend what the samples of a run support; empty where they support nothing."""
        run = self.run(name)
        return recommend(run.ledger.samples, self.shares(name), params=run.params, device=run.tags.get("device"))


def _front(runs: Sequence[RunEnergy], metric: str, *, lower: bool) -> list[RunEnergy]:
    sign = 1 if lower else -1
    front: list[RunEnergy] = []
    for run in sorted(runs, key=lambda run: (run.total_joules or 0.0, sign * run.metrics[metric])):
        if not front or sign * run.metrics[metric] < sign * front[-1].metrics[metric]:
            front.append(run)
    return front


def _reached(run: RunEnergy, metric: str, value: float) -> Reached | None:
    lower = metric in LOWER_IS_BETTER
    good = [epoch for epoch, found in run.histories.get(metric, ()) if (found <= value if lower else found >= value)]
    if not good:
        return None
    epoch = min(good)
    last = [number for number, span in enumerate(run.spans) if (span.phase, span.epoch) == ("validation", epoch)]
    if not last:
        return None
    until = summarise(run.spans[: last[-1] + 1])
    return Reached(epoch, until.total.joules, until.seconds)


def _watts(sample: Sample) -> float | None:
    known = [watts for watts in (sample.gpu_watts, sample.cpu_watts) if watts is not None]
    return sum(known) if known else None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:  # as `auto`
        return None
