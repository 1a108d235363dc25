"""Test fields as a run counts them, drawn from a population whose metrics are known."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy.special import expit

from astrid.metrics.calibration import RELIABILITY_BINS
from astrid.metrics.object_counts import ObjectCounts
from astrid.metrics.per_field import FieldCounts, PixelSums

EDGES = np.linspace(-9.0, 6.0, 61)
"""Logits are counted in these bins."""
SOURCES, FALSE_ALARMS = 9.0, 0.25
"""Mean number a field of both, those of a default run."""


def draw_fields(rng: Generator, fields: int, *, visits: int = 1) -> FieldCounts:
    """Draw fields that differ in difficulty, which hits all their metrics at once; false alarms come in crowds.

    With several visits, so many fields in a row share a patch of sky, and with it their difficulty.
    """
    hardness = rng.normal(0, 1, fields // visits).repeat(visits)
    bright = [rng.normal(2.0 - 0.8 * hard, 2.0, rng.poisson(200)) for hard in hardness]
    dark = [rng.normal(-6.0 + 0.5 * hard, 1.6, 4000) for hard in hardness]
    positives, negatives = (np.stack([_count(logits) for logits in part]) for part in (bright, dark))
    objects = _draw_objects(rng, hardness)
    names = [str(number) for number in range(fields)]
    groups = tuple(f"patch {number // visits}" for number in range(fields))
    sums = _sum_pixels(positives, negatives)
    return FieldCounts(names, positives, negatives, objects, "", pixels=sums, groups=groups)


def _count(logits: np.ndarray) -> np.ndarray:
    return np.histogram(np.clip(logits, EDGES[0], EDGES[-1]), bins=EDGES)[0]


def _sum_pixels(positives: np.ndarray, negatives: np.ndarray) -> PixelSums:
    centres = (EDGES[1:] + EDGES[:-1]) / 2
    probability, called = expit(centres), centres >= 0
    decisions = [part[:, side].sum(axis=1) for side in (called, ~called) for part in (positives, negatives)]
    member = np.eye(RELIABILITY_BINS)[(probability * RELIABILITY_BINS).astype(int)]
    pixels = positives + negatives
    return PixelSums(
        decisions=np.stack(decisions, axis=1),
        reliability=np.stack([pixels @ member, positives @ member, (pixels * probability) @ member], axis=1),
        squared_error=positives @ (1 - probability) ** 2 + negatives @ probability**2,
    )


def _draw_objects(rng: Generator, hardness: np.ndarray) -> ObjectCounts:
    fields = len(hardness)
    sources = rng.poisson(SOURCES, fields)
    field = np.repeat(np.arange(fields), sources)
    snr = np.exp(rng.uniform(np.log(3.0), np.log(40.0), len(field)))
    seen = expit(3.0 - 0.8 * hardness[field]) * expit(6.0 * np.log(snr / 4.0) - 0.5 * hardness[field])
    distance = np.where(rng.random(len(field)) < seen, rng.rayleigh(2.0 / snr + 0.2), np.nan)
    hits = np.bincount(field, np.isfinite(distance), minlength=fields).astype(np.int64)
    false_alarms = rng.poisson(rng.gamma(1.0, FALSE_ALARMS, fields))
    counts = np.stack([hits, sources - hits, false_alarms], axis=1)
    return ObjectCounts(counts, np.full(fields, 65_536), field, snr, distance)
