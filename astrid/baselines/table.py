"""What a run prints about the network and its classical rivals."""

from __future__ import annotations

from collections.abc import Mapping

from astrid.card_sections import with_interval
from astrid.console import print_plain, print_table

from .comparison import BEST_F1, Comparison, Reach
from .mask_curve import RATES
from .masks import MaskRival

COLUMNS = {"completeness": ".3f", "purity": ".3f", "false_per_mpix": ".3g", "snr50": ".2f"}
HEADINGS = ("completeness", "purity", "false/Mpix", "snr50")
"""What is shown of each detector, how it is written, and what stands above it."""


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
    print_table(title(comparison), rows, columns=("detector", *HEADINGS))
    for line in recall_lines(comparison, metrics):
        print_plain(line)
    if "test/snr50" in metrics:
        for line in equal_false_lines(comparison, metrics):
            print_plain(line)


def recall_lines(comparison: Comparison, metrics: Mapping[str, float]) -> list[str]:
    """Say what share of the sources each detector finds at the same rates of false detections; empty without rates.

    Parameters
    ----------
    comparison : Comparison
    metrics : mapping
        Final metrics, with `test/recall_at_...`.
    """
    names = {one.name: f"{one.false_per_mpix:g}" for rival in comparison.judged for one in rival.recalls}
    if not names:
        return []
    detectors = {"U-Net": "test"} | {rival.label: rival.name for rival in comparison.judged}
    sources = int(comparison.network.sources_by_field.sum())
    lines = [f"share found of {sources} sources at {', '.join(names.values())} false detections per Mpix"]
    for label, owner in detectors.items():
        lines.append(f"  {label}: " + ", ".join(with_interval(metrics, f"{owner}/{name}") for name in names))
    return lines


def title(comparison: Comparison) -> str:
    """Say what validation chose the thresholds for."""
    if comparison.network_aim == BEST_F1:
        return f"each at its threshold of {BEST_F1} on validation"
    return f"thresholds from validation: the U-Net's for {comparison.network_aim}, the others' for {BEST_F1}"


def equal_false_lines(comparison: Comparison, metrics: Mapping[str, float]) -> list[str]:
    """Say how faint the network and each detector see with equally many false detections, by the network's and its own.

    Parameters
    ----------
    comparison : Comparison
    metrics : mapping
        Final metrics, with `test/snr50`.
    """
    ours, rate = metrics["test/snr50"], metrics["test/false_per_mpix"]
    lines = [f"snr50 at equal false detections per Mpix, lower is better; the U-Net's is {ours:.2f} at {rate:.3g}"]
    for rival in comparison.judged:
        theirs, network = comparison.rival_reach(rival), comparison.network_reach(rival)
        faintest, brightest = comparison.snr_range
        bound = faintest if theirs.sees_fainter else brightest
        qualifier = "" if theirs.snr50 is not None else "less than " if theirs.sees_fainter else "more than "
        times = f"{qualifier}{(bound if theirs.snr50 is None else theirs.snr50) / ours:.1f} times the U-Net's"
        own = format(metrics[f"{rival.name}/snr50"], ".2f") if f"{rival.name}/snr50" in metrics else "undefined"
        lines.append(
            f"  {rival.label}: {_snr50(theirs, comparison)}, {times}; "
            f"at {metrics[f'{rival.name}/false_per_mpix']:.3g} it has {own}, the U-Net {_snr50(network, comparison)}"
        )
    return lines


def _snr50(reach: Reach, comparison: Comparison) -> str:
    """Write where half are found, or on which side of all sources that lies."""
    if reach.snr50 is not None:
        return f"{reach.snr50:.2f}"
    faintest, brightest = comparison.snr_range
    return f"below {faintest:.3g}" if reach.sees_fainter else f"above {brightest:.3g}"


def print_masks(rival: MaskRival) -> None:
    """Print how many positive pixels astroscrappy and the network mark at the same share of false ones."""
    print_plain(
        f"astroscrappy (sigma_clip {rival.sigma_clip:g}, from validation) marks {rival.tpr:.3f} of the positive pixels "
        f"and {rival.fpr:.2e} of the negative ones; the U-Net, with no more false ones, {rival.network_tpr:.3f}"
    )
    for rate in RATES:
        if f"tpr_at_fpr_{rate}" in rival.at_rates:
            theirs, ours = (rival.at_rates[f"{who}tpr_at_fpr_{rate}"] for who in ("", "network_"))
            print_plain(
                f"at a false positive rate of {rate}: astroscrappy at its best {theirs:.3f}, the U-Net {ours:.3f}"
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
