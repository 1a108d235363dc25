"""Knobs of evaluation: pixel histogram, detections, latency, figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from .checks import check

CalibrationKind = Literal["none", "temperature", "isotonic"]
OperatingKind = Literal["f1", "fpr", "purity", "false_per_mpix"]

PIXEL_FAMILIES = ("ranking", "low_fpr", "recall", "decision", "classes", "calibration", "reliability")

LATENCY_VARIANTS = ("fp32", "bf16", "fp32_compile", "bf16_compile")

TARGETS: dict[OperatingKind, tuple[str, float, str]] = {
    "f1": ("null when metrics.operating_point=f1, which is maximised", math.inf, "null"),
    "fpr": ("above 0 and at most 1 when metrics.operating_point=fpr", 1.0, "1e-3"),
    "purity": ("above 0 and at most 1 when metrics.operating_point=purity", 1.0, "0.9"),
    "false_per_mpix": ("positive and finite when metrics.operating_point=false_per_mpix", math.inf, "10"),
}
"""Rule, greatest value and an example of the target of each operating point."""

LOWEST_COUNTS = {
    "min_pixels": 1,
    "detection_thresholds": 2,
    "latency_warmup": 0,
    "latency_repeats": 1,
    "throughput_repeats": 1,
    "gallery_size": 1,
}


@dataclass
class MetricsConfig:
    """How a trained model is judged."""

    bins: int = 2**21
    """Bins of the logit histogram from which every pixel metric is derived; a power of two, 256 to 2**22 (67 MB)."""
    logit_limit: float = 40.0
    """The histogram spans -logit_limit to +logit_limit; logits beyond count in the outermost bins."""
    pixel_families: list[str] = field(
        default_factory=lambda: ["ranking", "low_fpr", "decision", "classes", "calibration"]
    )
    """Families of pixel metrics to compute: ranking, low_fpr, recall, decision, classes, calibration, reliability."""
    per_field: bool = True
    """Score each test field by itself too, into the table `test_fields`."""
    calibration: CalibrationKind = "none"
    """Fit on validation that makes probabilities of logits: none, temperature (one number) or isotonic (a curve)."""
    operating_point: OperatingKind = "f1"
    """What validation chooses a threshold for: f1 or fpr of pixels, purity or false_per_mpix of detections."""
    operating_target: float | None = None
    """Value to keep to: fpr and false_per_mpix (detections per Mpix) at most, purity at least; null for f1."""
    recall_at_false_per_mpix: list[float] = field(default_factory=list)
    """Also give the share of sources found at so many false detections per Mpix, as [10, 30, 100]; detectors too."""
    match_radius_fwhm: float = 1.0
    """A detection within this many FWHM of an injected source is a hit."""
    min_pixels: int = 1
    """Smallest number of connected pixels that make a detection."""
    detection_thresholds: int = 25
    """Probability thresholds tried on validation to find the best object F1."""
    latency_warmup: int = 3
    """Untimed forward passes before latency is measured."""
    latency_repeats: int = 100
    """Timed forward passes of one tile for P50, P95 and, from 100 on, P99."""
    throughput_repeats: int = 20
    """Timed forward passes of a batch for the throughput, and for each variant."""
    latency_best_batch: bool = False
    """Also find the batch of the highest throughput, doubling it until that stops rising or memory would not do."""
    latency_variants: list[str] = field(default_factory=list)
    """Also time one tile and a batch as: fp32, bf16, fp32_compile, bf16_compile; compiling takes a minute each."""
    peak_memory: bool = False
    """Also measure the memory that a forward pass needs on top of the weights and its input."""
    baselines: bool = True
    """Judge classical detectors (matched filter, SEP, astroscrappy) on the same fields, some ten seconds by default."""
    figures: bool = True
    """Draw the figures of a finished run, which takes about a second and a half."""
    report: bool = True
    """Write report.html when a run ends, and keep the objects and cutouts that it shows: one to two seconds."""
    gallery_size: int = 6
    """Test fields shown in the prediction gallery."""

    def __post_init__(self) -> None:
        power = 256 <= self.bins <= 2**22 and self.bins & (self.bins - 1) == 0
        check(power, "metrics.bins", self.bins, "a power of two from 256 to 4194304", "try metrics.bins=65536")
        for name in ("logit_limit", "match_radius_fwhm"):
            value = getattr(self, name)
            rule, remedy = "positive and finite", "leave it at its default"
            check(0 < value < math.inf, f"metrics.{name}", value, rule, remedy)
        for name, lowest in LOWEST_COUNTS.items():
            value = getattr(self, name)
            check(value >= lowest, f"metrics.{name}", value, f"at least {lowest}", f"try metrics.{name}={lowest}")
        self._check_lists()
        self._check_target()
        rates = list(self.recall_at_false_per_mpix)
        rule, remedy = "a list of positive rates, each once", "try metrics.recall_at_false_per_mpix=[10,30,100]"
        fits = all(rate > 0 for rate in rates) and len(set(rates)) == len(rates)
        check(fits, "metrics.recall_at_false_per_mpix", rates, rule, remedy)

    def _check_lists(self) -> None:
        known = {"pixel_families": PIXEL_FAMILIES, "latency_variants": LATENCY_VARIANTS}
        for name, allowed in known.items():
            chosen = list(getattr(self, name))
            rule, remedy = f"a list from {', '.join(allowed)}", f"try metrics.{name}=[{allowed[0]}]"
            check(set(chosen) <= set(allowed), f"metrics.{name}", chosen, rule, remedy)

    def _check_target(self) -> None:
        kind, target = self.operating_point, self.operating_target
        key, rule = "metrics.operating_target", TARGETS[kind][0]
        if kind == "f1":
            check(target is None, key, target, rule, "leave it out, or try metrics.operating_point=fpr")
            return
        highest, example = TARGETS[kind][1:]
        within = target is not None and 0 < target <= highest and math.isfinite(target)
        check(within, key, target, rule, f"try {key}={example}")
