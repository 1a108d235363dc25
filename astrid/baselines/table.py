"""What a run prints about the network and its classical rivals."""

from __future__ import annotations

from collections.abc import Mapping

from astrid.console import print_plain, print_table

from .comparison import Comparison
from .masks import MaskRival

COLUMNS = {"completeness": ".3f", "purity": ".3f", "false_per_mpix": ".3g", "snr50": ".3g"}


def print_rivals(rivals: Comparison | MaskRival | None, metrics: Mapping[str, float]) -> None:
    """Print whatever the network was compared with; `metrics` are the final ones of the run."""
    match rivals:
        case Comparison():
            print_comparison(rivals, metrics)
        case MaskRival():
            print_masks(rivals)


def print_comparison(comparison: Comparison, metrics: Mapping[str, float]) -> None:
    """Print the network and every detector in a table, and by how much the network sees fainter.

    Parameters
    ----------
    comparison : Comparison
    metrics : mapping
        Final metrics of the run, with the bounds of their intervals.
    """
    detectors = {"U-Net": "test"} | {rival.label: rival.name for rival in comparison.judged}
    rows = [(label, *(_cell(metrics, f"{name}/{column}") for column in COLUMNS)) for label, name in detectors.items()]
    title = "each at its best threshold on validation, with 95 % intervals over the test fields"
    print_table(title, rows, columns=("detector", *COLUMNS))
    if "test/snr50" in metrics:
        print_plain(f"with no more than the U-Net's {comparison.network_false_alarms} false detections, snr50 is")
        for line in equal_false_lines(comparison, metrics["test/snr50"]):
            print_plain(f"  {line}")


def equal_false_lines(comparison: Comparison, snr50: float) -> list[str]:
    """Say how bright a source has to be for each detector, and how many times brighter that is than for the network."""
    lines = [f"U-Net {snr50:.2f}"]
    for rival in comparison.judged:
        equal = comparison.equal_false(rival)
        value = f"above {equal.snr50:.3g}" if equal.is_bound else f"{equal.snr50:.2f}"
        more = "more than " if equal.is_bound else ""
        found = f"finds {equal.completeness:.1%} of all sources"
        lines.append(f"{rival.label} {value}, {more}{equal.snr50 / snr50:.1f} times the U-Net's; {found}")
    return lines


def print_masks(rival: MaskRival) -> None:
    """Print how many positive pixels astroscrappy and the network mark at the same share of false ones."""
    print_plain(
        f"astroscrappy (sigma_clip {rival.sigma_clip:g}, from validation) marks {rival.tpr:.3f} of the positive pixels "
        f"and {rival.fpr:.2e} of the negative ones; the U-Net, with no more false ones, {rival.network_tpr:.3f}"
    )


def _cell(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return "undefined"
    spec = COLUMNS[name.rpartition("/")[2]]
    value = format(metrics[name], spec)
    if f"{name}_low" not in metrics:
        return value
    low, high = (format(metrics[f"{name}_{end}"], spec) for end in ("low", "high"))
    return f"{value}\n\\[{low}, {high}]"
