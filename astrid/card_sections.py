"""Parts of a card in Markdown that models and groups share: tables of metrics, of classical detectors, of speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from astrid.metrics.population import COUNTS
from astrid.units import unit_of

ENDS = ("_low", "_high")
TIMED = ("latency/", "throughput/", "memory/")
OF_DETECTORS = {
    "completeness": "completeness",
    "purity": "purity",
    "false_per_mpix": "false detections per Mpix",
    "snr50": "snr50",
    "equal_false_snr50": "snr50 with the U-Net's false detections",
    "network_equal_false_snr50": "the U-Net's snr50 with its false detections",
}
"""What is told of each detector, and what stands above it."""
MASK = "astroscrappy"


def with_interval(metrics: Mapping[str, float], name: str, *, spec: str = ".4g") -> str:
    """Return a metric as text, with its 95 % interval where there is one; counts are whole numbers."""
    if name.rpartition("/")[2] in COUNTS:
        return f"{metrics[name]:,.0f}"
    if f"{name}_low" not in metrics:
        return format(metrics[name], spec)
    low, high = (format(metrics[f"{name}_{end}"], spec) for end in ("low", "high"))
    return f"{metrics[name]:{spec}} [{low}, {high}]"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; `rows` are cells."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def results_table(metrics: Mapping[str, float], *, where: str) -> str:
    """Return the test metrics with their intervals, and what the brackets are.

    Parameters
    ----------
    metrics : mapping
    where : str
        What was judged, in the plural.
    """
    names = [name for name in metrics if name.startswith("test/") and not name.endswith(ENDS)]
    rows = [[name.removeprefix("test/"), with_interval(metrics, name)] for name in names]
    sure = any(name.endswith("_low") for name in metrics if name.startswith("test/"))
    note = f"In brackets: 95 % intervals over the {where}." if sure else f"Too few {where} for intervals."
    return f"{markdown_table(['metric', where], rows)}\n\n{note}"


def baselines_table(metrics: Mapping[str, float]) -> str | None:
    """Return what needs no training beside the network, on the same fields; None where nothing was compared."""
    if f"{MASK}/tpr" in metrics:
        shares = {name: with_interval(metrics, f"{MASK}/{name}") for name in ("tpr", "fpr", "network_tpr")}
        return (
            f"astroscrappy marks {shares['tpr']} of the positive and {shares['fpr']} of the negative pixels; the "
            f"U-Net, with no more false ones, {shares['network_tpr']} of the positive ones."
        )
    ending = "/detection_threshold"
    rivals = [name.removesuffix(ending) for name in metrics if name.endswith(ending) and name != f"test{ending}"]
    if not rivals:
        return None
    rows = [
        [_label(name), *(_cell(metrics, f"{name}/{column}") for column in OF_DETECTORS)] for name in ("test", *rivals)
    ]
    note = "Each at its best threshold on validation; snr50: signal-to-noise at which half of the sources are found."
    return f"{markdown_table(['detector', *OF_DETECTORS.values()], rows)}\n\n{note}"


def _label(name: str) -> str:
    return "U-Net" if name == "test" else name.replace("_", " ").replace("sep", "SEP")


def _cell(metrics: Mapping[str, float], name: str) -> str:
    return with_interval(metrics, name, spec=".3g") if name in metrics else "–"


def speed_table(metrics: Mapping[str, float]) -> str:
    """Return every latency, throughput and memory that was measured, with its unit."""
    names = [name for name in metrics if name.startswith(TIMED) and not name.endswith((*ENDS, "_std"))]
    rows = [[name, with_interval(metrics, name), unit_of(name) or ""] for name in names]
    return markdown_table(["measured", "value", "unit"], rows)
