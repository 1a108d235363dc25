"""What a run took: latency, time and energy by phase."""

from __future__ import annotations

from astrid.energy import EnergyAnalyzer, RunEnergy
from astrid.energy.carbon import phase_joules
from astrid.energy.figures import energy_figures
from astrid.units import unit_of

from .markup import Html, element, pairs, paragraph, section, table
from .material import Material
from .pictures import drawn, picture

SPEED = ("latency/", "throughput/", "memory/")
FIGURES = {
    "power": "Power over time, coloured by the phase of the run",
    "phases": "Energy of each phase of the run",
}


def speed(material: Material) -> Html | None:
    """Return latency and throughput; nothing where they were not measured."""
    metrics = material.run.metrics
    names = [name for name in metrics if name.startswith(SPEED)]
    if not names:
        return None
    hardware = material.environment.get("hardware", {})
    where = ", ".join(hardware[key] for key in ("device", "processor") if key in hardware)
    rows = [[name, f"{metrics[name]:.4g}", unit_of(name) or ""] for name in names]
    threads, precision = (material.run.tags.get(name, "unknown") for name in ("threads", "precision"))
    caption = f"One tile, and batches, after warm-up; {where}; threads {threads}, precision {precision}"
    return section("Latency", table(["measure", "value", "unit"], rows, caption=caption))


def energy(material: Material) -> Html:
    """Return energy and time by phase and over time, or that nobody could measure the energy."""
    run = material.energy
    if run is None or not run.spans:
        unmetered = "Each member's page has its energy." if "members" in material.tables else "No phase was metered."
        return section("Energy", paragraph(unmetered))
    analyzer = EnergyAnalyzer([run])
    facts = [(part.upper(), _component(run, part)) for part in ("gpu", "cpu")]
    if run.total_kwh is not None:
        facts.insert(0, ("in all", f"{run.total_kwh:.4g} kWh"))
    facts += [(name, f"{value:.4g} {unit_of(name)}") for name, value in run.consequences.items()]
    facts += [("note", note) for note in run.summary.notes] + [("try", advice) for advice in analyzer.advice(run.name)]
    return section("Energy", pairs(facts), _figures(material, analyzer), _phases(run, analyzer))


def _component(run: RunEnergy, part: str) -> str:
    component = getattr(run.summary, part)
    if component.joules is None:
        return f"unavailable: {component.reason}"
    error = "" if component.error_joules is None else f" ± {component.error_joules:.2g}"
    return f"{component.joules:.4g}{error} J ({component.label}, {component.source})"


def _figures(material: Material, analyzer: EnergyAnalyzer) -> Html | None:
    if analyzer.runs[0].total_joules is None:
        return None
    pngs = {name: png for name in FIGURES if (png := material.figures.get(f"energy_{name}")) is not None}
    if len(pngs) < len(FIGURES):
        made = energy_figures(analyzer, "test/auprc", lower=False)
        pngs |= {name: drawn(made[name]) for name in FIGURES if name in made and name not in pngs}
    return element("div", *(picture(png, alt=FIGURES[name]) for name, png in pngs.items()), class_="figures")


def _phases(run: RunEnergy, analyzer: EnergyAnalyzer) -> Html:
    joules, shares = phase_joules(run.summary), analyzer.shares(run.name)
    seconds = run.summary.seconds
    rows = [
        [
            phase,
            f"{whole.seconds:.1f}",
            f"{whole.seconds / seconds:.1%}" if seconds > 0 else "",
            f"{joules[phase]:.1f}" if phase in joules else "unavailable",
            f"{shares[phase]:.1%}" if phase in shares else "",
        ]
        for phase, whole in run.summary.phases.items()
    ]
    heads = ["phase", "seconds", "share of time", "joules", "share of energy"]
    return table(heads, rows, caption="Where time and energy went, phase by phase")
