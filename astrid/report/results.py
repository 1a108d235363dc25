"""What the test fields showed: tables with intervals and rivals, and the figures."""

from __future__ import annotations

from collections.abc import Mapping

from astrid.baselines.detectors import DETECTORS
from astrid.baselines.table import COLUMNS, HEADINGS
from astrid.compare.numbers import with_interval
from astrid.metrics.intervals import FEWEST_TRIED
from astrid.units import unit_of

from .data import QUALITY, shown
from .markup import Html, element, folded, paragraph, section, table
from .material import Material, judged_split
from .pictures import picture
from .training import CURVES

PIXELS = {
    "auprc": "area under precision and recall; 1 is perfect, chance is the share of positive pixels",
    "auroc": "chance that a positive pixel has a higher score than a negative one",
    "mcc": "correlation of truth and answer; 1 is perfect, 0 is chance",
    "recall_positive": "share of the positive pixels that are marked",
    "precision_positive": "share of the marked pixels that are positive",
    "ece": "expected calibration error: how far the probabilities are off, on average; 0 is perfect",
    "brier": "mean squared error of the probabilities; 0 is perfect",
}
DETECTIONS = {
    "completeness": "share of the true sources that are found",
    "purity": "share of the detections that are real",
    "false_per_mpix": "false detections per million pixels",
    "snr50": "signal-to-noise at which half of the sources are found",
    "snr90": "signal-to-noise at which nine of ten are found",
    "centroid_error_pixels": "distance between a detection and its source",
}
"""The numbers that stand first, with what they mean to who doesn't know their names."""
FIGURES = {
    "roc": "True against false positive rate of pixels at every threshold",
    "precision_recall": "Precision against recall of pixels at every threshold",
    "reliability": "Observed frequency of positive pixels against the predicted probability",
    "confusion": "Pixels by truth and answer at the chosen threshold",
    "completeness": "Share of the sources found by signal-to-noise, with classical detectors",
    "free_response": "Completeness against false detections per million pixels, with classical detectors",
    "members": "Results of each member of the group",
}
"""Figures in the order of the page, in words."""
WIDE = {"gallery": "Test fields: science image, truth, and probability, with hits, misses and false alarms marked"}
ELSEWHERE = ("energy_", QUALITY, CURVES)
"""How the names begin of figures that have a place of their own."""
NUMBERS = {
    "roc": ("test/auroc",),
    "precision_recall": ("test/auprc",),
    "reliability": ("test/ece", "test/brier"),
    "confusion": ("test/precision_positive", "test/recall_positive"),
    "completeness": ("test/snr50", "test/snr90"),
    "free_response": ("test/completeness", "test/false_per_mpix"),
}
"""Metrics by which a figure is told to who can't see it."""


def results(material: Material) -> Html:
    """Return the tables of what the test fields showed."""
    metrics = material.run.metrics
    if not any(name.startswith("test/") for name in metrics):
        return section("Results", paragraph("The test fields were not judged, so there are no results."))
    members = material.tables.get("members")
    judged = f"{judged_split(material)} fields"
    sure = material.run.tags.get("statistics", _intervals(material, judged))
    return section(
        "Results",
        paragraph(f"{sure[0].upper()}{sure[1:]}. What is undefined is absent.", kind="soft"),
        _headlines(metrics, judged),
        _rivals(metrics),
        None if members is None else shown(members, caption="Members of the group"),
        _all_metrics(metrics),
    )


def cell(metrics: Mapping[str, float], name: str) -> str:
    """Return a metric with its interval; nothing where it is undefined."""
    if name not in metrics:
        return ""
    return with_interval(metrics[name], metrics.get(f"{name}_low"), metrics.get(f"{name}_high"))


def _intervals(material: Material, judged: str) -> str:
    """Say what the brackets are, and not to rely on those of very few fields."""
    said = f"In brackets: 95 % intervals over the {judged}"
    fields = material.tables.get("test_fields")
    if fields is None or len(fields.rows) >= FEWEST_TRIED:
        return said
    few = f"only {len(fields.rows)}; whether they hold the truth was never tried below {FEWEST_TRIED}"
    return f"{said}, {few}, so don't rely on them"


def _headlines(metrics: Mapping[str, float], judged: str) -> Html | None:
    rows = [
        [name, cell(metrics, f"test/{name}"), unit_of(name) or "", kind, meaning]
        for kind, meanings in (("pixels", PIXELS), ("detections", DETECTIONS))
        for name, meaning in meanings.items()
        if f"test/{name}" in metrics
    ]
    if not rows:
        return None
    return table(["metric", judged, "unit", "of", "meaning"], rows, caption=f"The network on the {judged}")


def _rivals(metrics: Mapping[str, float]) -> Html | None:
    labels = {"test": "U-Net"} | {detector.name: detector.label for detector in DETECTORS}
    rows = [
        [label, *(cell(metrics, f"{name}/{column}") for column in COLUMNS)]
        for name, label in labels.items()
        if f"{name}/completeness" in metrics
    ]
    if len(rows) < 2:
        return _masks(metrics)
    caption = "Beside detectors that need no training, each at its best threshold on validation"
    return table(["detector", *HEADINGS], rows, caption=caption)


def _masks(metrics: Mapping[str, float]) -> Html | None:
    names = [name for name in metrics if name.startswith("astroscrappy/") and not name.endswith(("_low", "_high"))]
    rows = [[name, cell(metrics, name)] for name in names]
    return table(["metric", "value"], rows, caption="Beside astroscrappy's mask on the same pixels") if rows else None


def _all_metrics(metrics: Mapping[str, float]) -> Html:
    names = [name for name in metrics if not name.startswith(("system/", "train/", "val/"))]
    names = [name for name in names if name.rpartition("_")[0] not in metrics or not name.endswith(("_low", "_high"))]
    rows = [[name, _in_full(metrics, name), unit_of(name) or ""] for name in names]
    return folded(f"all {len(rows)} numbers", table(["metric", "value", "unit"], rows, caption="Every final number"))


def _in_full(metrics: Mapping[str, float], name: str) -> str:
    """Return a metric with all digits that tell something, a count whole, and its interval where it has one."""
    value = f"{metrics[name]:,.0f}" if metrics[name].is_integer() else f"{metrics[name]:.6g}"
    bounds = (metrics.get(f"{name}_low"), metrics.get(f"{name}_high"))
    return value if None in bounds else f"{value} [{bounds[0]:.4g}, {bounds[1]:.4g}]"


def figures_of_results(material: Material) -> Html | None:
    """Return the figures that the run drew; nothing where there are none."""
    names = [name for name in FIGURES if name in material.figures]
    others = [name for name in material.figures if name not in {*names, *WIDE} and not name.startswith(ELSEWHERE)]
    metrics, figures = material.run.metrics, material.figures
    drawn = [picture(figures[name], alt=in_words(name, metrics)) for name in (*names, *others)]
    wide = [picture(figures[name], alt=text) for name, text in WIDE.items() if name in figures]
    if not drawn and not wide:
        return None
    return section("Curves and fields", element("div", *drawn, class_="figures"), *wide)


def in_words(name: str, metrics: Mapping[str, float]) -> str:
    """Say what a figure shows."""
    told = [f"{key.partition('/')[2]} {cell(metrics, key)}" for key in NUMBERS.get(name, ()) if key in metrics]
    return f"{FIGURES.get(name, name)}{': ' if told else ''}{', '.join(told)}."
