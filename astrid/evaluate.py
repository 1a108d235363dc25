"""Judge a trained network: thresholds from validation, then the test fields, once."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from astrid.config import MetricsConfig, ModelConfig, settled
from astrid.data.frames import Field
from astrid.data.store import FieldStore
from astrid.data.tiles import Window, windows
from astrid.metrics.objects import ObjectCounts, ObjectTally, detection_thresholds, object_metrics
from astrid.metrics.per_field import FieldCounter, FieldCounts
from astrid.metrics.pixels import PixelHistogram, best_f1_threshold, pixel_metrics
from astrid.runtime import Runtime
from astrid.unet import receptive_field_pixels

log = logging.getLogger(__name__)

JUDGED_BY = ("bins", "logit_limit", "min_pixels", "match_radius_fwhm")
"""Knobs on which the numbers of the same network on the same fields depend."""

CORE = 512
"""Edge in pixels of the part of a frame that is predicted at once; a multiple of 2**6."""


@dataclass(frozen=True)
class Predictor:
    """A trained network and what it needs to run over frames of any size.

    Attributes
    ----------
    model : nn.Module
        (B, C, H, W) in background sigma to logits (B, 1, H, W).
    halo : int
        Pixels around each window whose prediction is thrown away: the receptive radius, rounded up to 2**depth.
    whole : bool
        Predict frames in one piece, whatever memory that takes: group and instance norm look at the whole image.
    """

    model: nn.Module
    runtime: Runtime
    halo: int
    whole: bool = False

    @torch.inference_mode()
    def logits(self, image: NDArray[np.float32]) -> Tensor:
        """Return (H, W) float32 logits of a (C, H, W) frame, on the device; windows bound the memory."""
        self.model.eval()
        _, height, width = image.shape
        logits = torch.empty((height, width), device=self.runtime.device)
        core = max(height, width) if self.whole else CORE
        for window in windows(height, width, core=core, halo=self.halo):
            logits[window.inner] = self._window(image, window)
        return logits

    def _window(self, image: NDArray[np.float32], window: Window) -> Tensor:
        part = torch.from_numpy(np.array(image[:, *window.outer]))[None]  # (1, C, h, w), a copy of the mapped file
        part = part.to(self.runtime.device, memory_format=self.runtime.memory_format)
        with self.runtime.autocast():
            predicted: Tensor = self.model(part)
        return predicted.float()[0, 0][window.core]


def build_predictor(model: nn.Module, runtime: Runtime, config: ModelConfig) -> Predictor:
    """Return what runs a U-Net of this shape over frames of any size, as if over each in one piece."""
    step = 2 ** settled("model.depth", config.depth)
    halo = -(-receptive_field_pixels(config) // 2 // step) * step
    return Predictor(model, runtime, halo, whole=config.norm in ("group", "instance"))


Predicted = Iterator[tuple[Field, Tensor]]
"""Fields with their (H, W) logits on the device."""


def predicted(predictor: Predictor, store: FieldStore) -> Predicted:
    """Predict field after field; only one is in memory."""
    for number in range(len(store)):
        field = store.field(number)
        yield field, predictor.logits(field.image)


@dataclass
class Scores:
    """What one pass over a split collects, in constant memory.

    Attributes
    ----------
    pixels : PixelHistogram
        Counts of positive and negative pixels by logit.
    objects : ObjectTally or None
        Hits, misses and false alarms; None where the fields have no catalogue.
    """

    pixels: PixelHistogram
    objects: ObjectTally | None


@dataclass(frozen=True)
class Chosen:
    """What the validation fields decided, before a test field was seen; it goes with the model.

    Attributes
    ----------
    logit_threshold : float or None
        Logit from which a pixel is called positive; None where validation has no positives.
    detection_threshold : float or None
        Probability from which pixels make a detection; None without a catalogue.
    """

    logit_threshold: float | None
    detection_threshold: float | None


@dataclass(frozen=True)
class Panel:
    """A test field for the gallery; `probability` is (H, W) float32."""

    field: Field
    probability: NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """What the test fields showed, at the thresholds that validation chose.

    Attributes
    ----------
    metrics : dict
        By name, `test/...`; the undefined are absent.
    chosen : Chosen
        What validation decided.
    fields : FieldCounts
        What each test field showed by itself.
    """

    metrics: dict[str, float]
    scores: Scores
    chosen: Chosen
    gallery: list[Panel]
    fields: FieldCounts


def evaluate(predictor: Predictor, *, val: FieldStore, test: FieldStore, config: MetricsConfig) -> Evaluation:
    """Choose thresholds on the validation fields, then go over the test fields, once."""
    chosen, seen = choose(predictor, val, config=config)
    return judge(predictor, test, chosen=chosen, seen=seen.pixels, config=config)


def choose(predictor: Predictor, val: FieldStore, *, config: MetricsConfig) -> tuple[Chosen, Scores]:
    """Decide on the validation fields all that has to be decided before testing; return what they showed, too."""
    device = predictor.runtime.device
    seen = score(predicted(predictor, val), thresholds=thresholds_to_try(val, config), config=config, device=device)
    detection_threshold = seen.objects.best_threshold() if seen.objects is not None else None
    return Chosen(best_f1_threshold(seen.pixels), detection_threshold), seen


def judge(
    predictor: Predictor, test: FieldStore, *, chosen: Chosen, seen: PixelHistogram, config: MetricsConfig
) -> Evaluation:
    """Go over the test fields, once, with what was decided on other fields.

    Parameters
    ----------
    chosen : Chosen
    seen : PixelHistogram
        Logits of the same network on other fields: where the bins that are kept of each field lie.
    """
    gallery: list[Panel] = []
    rules = json.dumps({name: getattr(config, name) for name in JUDGED_BY})
    counter = FieldCounter(seen, rules=rules, logit_threshold=chosen.logit_threshold or 0.0)
    tested = score(
        keep_first(predicted(predictor, test), gallery, count=config.gallery_size),
        thresholds=thresholds_to_tally(chosen, config),
        config=config,
        device=predictor.runtime.device,
        counter=counter,
    )
    named = {f"test/{name}": value for name, value in metrics_at(tested, chosen).items()}
    return Evaluation(named, tested, chosen, gallery, counter.counts(detected(tested, chosen)))


def thresholds_to_try(store: FieldStore, config: MetricsConfig) -> Sequence[float] | None:
    """Return detection thresholds, or None where the fields have no catalogue to compare with."""
    if any(entry.sources is None or entry.fwhm_pixels is None for entry in store.entries):
        log.info("object metrics are left out: the fields have no catalogue of sources")
        return None
    return [float(threshold) for threshold in detection_thresholds(config.detection_thresholds)]


def thresholds_to_tally(chosen: Chosen, config: MetricsConfig) -> list[float] | None:
    """Return the chosen detection threshold among those that draw a free-response curve; None without a catalogue."""
    if chosen.detection_threshold is None:
        return None
    curve = [float(threshold) for threshold in detection_thresholds(config.detection_thresholds)]
    return sorted({*curve, chosen.detection_threshold})


def score(
    fields: Predicted,
    *,
    thresholds: Sequence[float] | None,
    config: MetricsConfig,
    device: torch.device,
    counter: FieldCounter | None = None,
) -> Scores:
    """Collect the pixel histogram and, where there are thresholds to try, the detections of all fields.

    A counter, where there is one, keeps what each field showed by itself.
    """
    pixels = PixelHistogram(bins=config.bins, limit=config.logit_limit, device=device)
    objects = None if thresholds is None else ObjectTally(thresholds, min_pixels=config.min_pixels)
    for field, logits in fields:
        planes = [torch.from_numpy(plane).to(device) for plane in (field.target, field.valid)]
        pixels.update(logits, *planes)
        if objects is not None:
            tally(objects, field, torch.sigmoid(logits).cpu().numpy(), radius_fwhm=config.match_radius_fwhm)
        if counter is not None:
            counter.add(field.name, logits, *planes, contents=contents(field))
    return Scores(pixels, objects)


def tally(objects: ObjectTally, field: Field, response: NDArray[np.float32], *, radius_fwhm: float) -> None:
    """Add a field to a tally; `response` is (H, W), a probability or whatever else is thresholded."""
    assert field.sources is not None and field.fwhm_pixels is not None
    sources = field.sources
    objects.add(
        response,
        field.valid,
        sources_x=sources.x,
        sources_y=sources.y,
        snr=sources.snr,
        radius_pixels=radius_fwhm * field.fwhm_pixels,
    )


def contents(field: Field) -> list[NDArray[Any]]:
    """Return the arrays that a field consists of: pixels, truth and, where there is one, its catalogue."""
    planes = [field.image, field.target, field.valid]
    if field.sources is None:
        return planes
    return [*planes, field.sources.x, field.sources.y, np.array(field.fwhm_pixels or np.nan)]


def keep_first(fields: Predicted, kept: list[Panel], *, count: int) -> Predicted:
    """Pass fields on, and keep the first few for the gallery."""
    for field, logits in fields:
        if len(kept) < count:
            kept.append(Panel(field, torch.sigmoid(logits).cpu().numpy()))
        yield field, logits


def detected(scores: Scores, chosen: Chosen) -> ObjectCounts | None:
    """Return what each field showed at the chosen detection threshold; None without a catalogue."""
    if scores.objects is None or chosen.detection_threshold is None:
        return None
    return scores.objects.at(chosen.detection_threshold)


def metrics_at(scores: Scores, chosen: Chosen) -> dict[str, float]:
    """Return pixel and object metrics at thresholds that were chosen elsewhere."""
    if chosen.logit_threshold is None:
        log.warning("validation has no positives to choose a threshold by: pixels are judged at probability 0.5")
    metrics = pixel_metrics(scores.pixels, logit_threshold=chosen.logit_threshold or 0.0)
    if scores.objects is not None and chosen.detection_threshold is not None:
        metrics |= object_metrics(scores.objects, threshold=chosen.detection_threshold)
    return metrics
