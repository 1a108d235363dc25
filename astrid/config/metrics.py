"""Knobs of evaluation: pixel histogram, detections, latency, figures."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import check

LOWEST_COUNTS = {
    "min_pixels": 1,
    "detection_thresholds": 2,
    "latency_warmup": 0,
    "latency_repeats": 1,
    "gallery_size": 1,
}


@dataclass
class MetricsConfig:
    """How a trained model is judged."""

    bins: int = 2**21
    """Bins of the logit histogram from which every pixel metric is derived; a power of two, 256 to 2**22 (67 MB)."""
    logit_limit: float = 40.0
    """The histogram spans -logit_limit to +logit_limit; logits beyond count in the outermost bins."""
    match_radius_fwhm: float = 1.0
    """A detection within this many FWHM of an injected source is a hit."""
    min_pixels: int = 1
    """Smallest number of connected pixels that make a detection."""
    detection_thresholds: int = 25
    """Probability thresholds tried on validation to find the best object F1."""
    latency_warmup: int = 3
    """Untimed forward passes before latency is measured."""
    latency_repeats: int = 20
    """Timed forward passes for P50 and P95."""
    baselines: bool = True
    """Judge classical detectors (matched filter, SEP, astroscrappy) on the same fields, some ten seconds by default."""
    figures: bool = True
    """Draw the figures of a finished run, which takes about a second and a half."""
    gallery_size: int = 6
    """Test fields shown in the prediction gallery."""

    def __post_init__(self) -> None:
        power = 256 <= self.bins <= 2**22 and self.bins & (self.bins - 1) == 0
        check(power, "metrics.bins", self.bins, "a power of two from 256 to 4194304", "try metrics.bins=65536")
        for name in ("logit_limit", "match_radius_fwhm"):
            check(
                getattr(self, name) > 0, f"metrics.{name}", getattr(self, name), "positive", "leave it at its default"
            )
        for name, lowest in LOWEST_COUNTS.items():
            value = getattr(self, name)
            check(value >= lowest, f"metrics.{name}", value, f"at least {lowest}", f"try metrics.{name}={lowest}")
