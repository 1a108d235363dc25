"""Figures of the energy of runs; matplotlib is imported where one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .analysis import Efficiency, EnergyAnalyzer
from .carbon import phase_joules

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#767676", "#F0E442")
"""Distinct for every kind of colour vision (Okabe and Ito 2008)."""
PHASES = ("setup", "train", "validation", "test", "latency", "sweep", "other")
"""In the order in which a run goes through them, and in which they have their colours."""
WIDTH_INCHES, DPI = 8.0, 125


def energy_figures(analyzer: EnergyAnalyzer, metric: str, *, lower: bool) -> dict[str, Figure]:
    """Draw what the runs support, by name: `phases`, `power`, `batch_size` and `pareto`."""
    measured = [run.name for run in analyzer.runs if run.total_joules is not None]
    figures: dict[str, Figure] = {}
    if measured:
        figures["phases"] = phases_figure({name: phase_joules(analyzer.run(name).summary) for name in measured})
    powers = {name: points for name in measured if (points := analyzer.power(name))}
    if powers:
        figures["power"] = power_figure(powers)
    efficiencies = analyzer.by_batch_size()
    if len({one.batch_size for one in efficiencies}) > 1:
        figures["batch_size"] = batch_size_figure(efficiencies)
    if sum(metric in analyzer.run(name).metrics for name in measured) > 1:
        figures["pareto"] = pareto_figure(analyzer, metric, lower=lower)
    return figures


def phases_figure(joules: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the energy of each run as a bar of its phases, in kilojoules."""
    figure = _figure(height=1.6 + 0.4 * len(joules))
    axes = _axes(figure, "Energy by phase", "energy [kJ]", "")
    names = list(joules)
    left = [0.0] * len(names)
    for phase in _ordered({phase for parts in joules.values() for phase in parts}):
        widths = [joules[name].get(phase, 0.0) / 1000 for name in names]
        axes.barh(names, widths, left=left, color=_colour(phase), label=phase)
        left = [begin + width for begin, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", frameon=False, ncols=len(PHASES))
    return figure


def power_figure(powers: Mapping[str, Sequence[tuple[float, float, str]]]) -> Figure:
    """Draw watts over time; the phases of a single run have a colour each."""
    figure = _figure(height=3.4)
    axes = _axes(figure, "Power", "time [s]", "power [W]")
    if len(powers) == 1:
        (points,) = powers.values()
        _draw_phases(axes, points)
    else:
        for number, (name, points) in enumerate(powers.items()):
            seconds, watts = [point[0] for point in points], [point[1] for point in points]
            axes.plot(seconds, watts, color=COLOURS[number % len(COLOURS)], label=name, linewidth=1)
    axes.set_ylim(0, 1.15 * max(point[1] for points in powers.values() for point in points))
    figure.legend(loc="outside lower center", frameon=False, ncols=4)
    return figure


def _draw_phases(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    axes.plot([point[0] for point in points], [point[1] for point in points], color="#767676", linewidth=0.8)
    for phase in _ordered({point[2] for point in points}):
        seconds, watts = zip(*[point[:2] for point in points if point[2] == phase], strict=True)
        axes.plot(seconds, watts, color=_colour(phase), marker=".", linestyle="", label=phase)


def _ordered(phases: set[str]) -> list[str]:
    return [phase for phase in PHASES if phase in phases] + sorted(phases - set(PHASES))


def _colour(phase: str) -> str:
    return COLOURS[PHASES.index(phase)] if phase in PHASES else COLOURS[-1]


def batch_size_figure(efficiencies: Sequence[Efficiency]) -> Figure:
    """Draw the training joules of an image against the batch size."""
    figure = _figure(height=3.4)
    axes = _axes(figure, "Efficiency of training", "batch size", "energy of an image [J]")
    sizes = [one.batch_size for one in efficiencies]
    axes.set_xscale("log", base=2)
    axes.plot(sizes, [one.joules_per_image for one in efficiencies], color=COLOURS[0], marker="o", linestyle="")
    axes.set_xticks(sorted(set(sizes)), [str(size) for size in sorted(set(sizes))])
    axes.set_ylim(bottom=0)
    return figure


def pareto_figure(analyzer: EnergyAnalyzer, metric: str, *, lower: bool) -> Figure:
    """Draw a metric against energy, with the front of runs that no other beats in both."""
    figure = _figure(height=3.8)
    axes = _axes(figure, f"{metric} against energy", "energy [Wh]", metric)
    points = {
        run.name: (1000 * run.total_kwh, run.metrics[metric])
        for run in analyzer.runs
        if run.total_kwh is not None and metric in run.metrics
    }
    axes.plot(*zip(*points.values(), strict=True), color=COLOURS[6], marker="o", linestyle="", label="run")
    front = [points[run.name] for run in analyzer.pareto(metric, lower=lower)]
    axes.plot(*zip(*front, strict=True), color=COLOURS[3], marker="o", drawstyle="steps-post", label="Pareto front")
    axes.legend(frameon=False)
    return figure


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")


def _axes(figure: Figure, title: str, xlabel: str, ylabel: str) -> Axes:
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e8e8e8")
    axes.set_axisbelow(True)
    return axes
