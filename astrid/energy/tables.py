"""The energy of runs as text and as CSV; what was not measured is an empty cell or says `unavailable`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict

from .analysis import EnergyAnalyzer, Reached, RunEnergy
from .carbon import phase_joules

Cell = str | float | int | None
PER_IMAGE = tuple(f"energy/{name}_joules_per_{unit}" for name in ("train", "inference") for unit in ("image", "mpix"))
RUN_COLUMNS = (
    *(
        "run",
        "total_kwh",
        "total_joules",
        "gpu_joules",
        "gpu_label",
        "cpu_joules",
        "cpu_label",
        "seconds",
        "mean_watts",
    ),
    *("idle_watts", "batch_size", "images_per_second"),
    *(name.removeprefix("energy/") for name in PER_IMAGE),
    *("g_co2e", "usd"),
)


def describe(analyzer: EnergyAnalyzer, name: str) -> str:
    """Write what is known of one run, for a person."""
    run = analyzer.run(name)
    summary, total = run.summary, run.total_joules
    lines = [f"{name}: {_total(run)}"]
    lines += [f"  {part.upper()} {_component(run, part)}" for part in ("gpu", "cpu")]
    for phase, joules in phase_joules(summary).items():
        share = "" if not total else f"  {joules / total:6.1%}"
        lines.append(f"  {phase:<11}{joules:>12.1f} J {summary.phases[phase].seconds:>9.1f} s{share}")
    if summary.idle is not None and summary.idle.joules is not None and summary.idle.seconds > 0:
        lines.append(
            f"  idle machine {summary.idle.joules / summary.idle.seconds:.1f} W, measured before, not subtracted"
        )
    for key, value in run.per_image.items():
        lines.append(f"  {key.removeprefix('energy/').replace('_joules_per_', ': ')}: {value:.4g} J")
    lines += [f"  note: {note}" for note in summary.notes]
    lines += [f"  try: {advice}" for advice in analyzer.advice(name)]
    return "\n".join(lines)


def _total(run: RunEnergy) -> str:
    if run.total_joules is None or run.total_kwh is None:
        return f"energy unavailable; {run.summary.seconds:.1f} s"
    carbon = run.consequences.get("carbon/g_co2e")
    grams = "" if carbon is None else f", {carbon:.3g} gCO2e"
    return f"{run.total_joules:.1f} J = {run.total_kwh:.4g} kWh in {run.summary.seconds:.1f} s{grams}"


def _component(run: RunEnergy, part: str) -> str:
    component = getattr(run.summary, part)
    if component.joules is None:
        return f"unavailable ({component.reason})"
    error = "" if component.error_joules is None else f" +- {component.error_joules:.3g}"
    check = "" if component.check_joules is None else f", sampled power {component.check_joules:.1f} J"
    return f"{component.joules:.1f}{error} J ({component.label}, {component.source}{check})"


def describe_reached(reached: dict[str, Reached | None], metric: str, value: float) -> str:
    """Write when each run reached a value, for a person."""
    lines = [f"energy to reach {metric} = {value:g}"]
    for name, found in reached.items():
        if found is None:
            lines.append(f"  {name}: not reached")
            continue
        joules = "energy unavailable" if found.joules is None else f"{found.joules:.1f} J"
        lines.append(f"  {name}: {joules}, {found.seconds:.1f} s, epoch {found.epoch}")
    return "\n".join(lines)


def tables(analyzer: EnergyAnalyzer) -> dict[str, str]:
    """Return CSV by file name: runs, their phases, and their samples of power and state."""
    return {
        "runs.csv": to_csv(RUN_COLUMNS, [run_row(run) for run in analyzer.runs]),
        "phases.csv": phases_csv(analyzer),
        "samples.csv": samples_csv(analyzer),
    }


def run_row(run: RunEnergy) -> list[Cell]:
    """Return the cells of `RUN_COLUMNS`."""
    summary, total, idle = run.summary, run.total_joules, run.summary.idle
    parts: list[Cell] = [run.name, run.total_kwh, total]
    parts += [summary.gpu.joules, summary.gpu.label, summary.cpu.joules, summary.cpu.label, summary.seconds]
    parts.append(None if total is None or summary.seconds <= 0 else total / summary.seconds)
    parts.append(None if idle is None or idle.joules is None or idle.seconds <= 0 else idle.joules / idle.seconds)
    parts += [run.batch_size, run.metrics.get("train/images_per_second")]
    parts += [run.per_image.get(name) for name in PER_IMAGE]
    return [*parts, run.consequences.get("carbon/g_co2e"), run.consequences.get("cost/usd")]


def phases_csv(analyzer: EnergyAnalyzer) -> str:
    """Return the phases of all runs, one line each."""
    rows: list[list[Cell]] = []
    for run in analyzer.runs:
        shares, joules = analyzer.shares(run.name), phase_joules(run.summary)
        rows += [
            [run.name, phase, joules.get(phase), whole.seconds, shares.get(phase)]
            for phase, whole in run.summary.phases.items()
        ]
    return to_csv(("run", "phase", "joules", "seconds", "share"), rows)


def samples_csv(analyzer: EnergyAnalyzer) -> str:
    """Return the samples of all runs, one line each."""
    rows = [{"run": run.name, **asdict(sample)} for run in analyzer.runs for sample in run.ledger.samples]
    columns = tuple(rows[0]) if rows else ("run",)
    return to_csv(columns, [[_plain(row[name]) for name in columns] for row in rows])


def _plain(value: Cell | tuple[str, ...]) -> Cell:
    return "|".join(value) if isinstance(value, tuple) else value


def to_csv(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Write rows under named columns; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
