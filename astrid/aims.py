"""What a threshold is chosen for: refused where it can't be, and told in words with what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from astrid.config import DataError, MetricsConfig
from astrid.data.store import FieldStore
from astrid.evaluate import has_catalogue
from astrid.metrics.chosen import Aim, Chosen, OperatingPoint
from astrid.metrics.operating import OBJECT_KINDS
from astrid.metrics.ranking import FEWEST_FALSE

from .card_sections import with_interval

AIMS = {
    "f1": "the best F1 of pixels",
    "fpr": "a false positive rate of pixels of at most {:g}",
    "purity": "a purity of detections of at least {:g}",
    "false_per_mpix": "at most {:g} false detections per megapixel",
}


def check_operating_point(store: FieldStore, config: MetricsConfig) -> None:
    """Refuse a target that validation fields can't choose a threshold for, before anything is trained.

    Raises
    ------
    DataError
        For one of detections without a catalogue, and for a rate of which the negative pixels hold less than ten.
    """
    kind, target = config.operating_point, config.operating_target
    if kind in OBJECT_KINDS and not has_catalogue(store):
        raise DataError(
            "metrics.operating_point must be f1 or fpr for fields without a catalogue of sources, got "
            f"{kind!r}, which is of detections; try metrics.operating_point=f1"
        )
    negatives = sum(entry.valid_pixels - entry.positives for entry in store.entries)
    if kind == "fpr" and target is not None and negatives * target < FEWEST_FALSE:
        raise DataError(_too_rare(target, negatives))


def _too_rare(target: float, negatives: int) -> str:
    """Say how small a rate may be, and how many more pixels another needs."""
    needed = f"{FEWEST_FALSE / target:,.0f} negative pixels for validation"
    if negatives <= FEWEST_FALSE:
        rule, remedy = "null", f"prepare at least {needed}, or try metrics.operating_point=f1"
    else:
        digits = 10 ** (1 - math.floor(math.log10(FEWEST_FALSE / negatives)))
        smallest = math.ceil(FEWEST_FALSE / negatives * digits) / digits  # two digits, and none of them too small
        rule, remedy = f"at least {smallest:.2g}", f"try metrics.operating_target={smallest:.2g}, or prepare {needed}"
    why = f"{FEWEST_FALSE} false positives among the {negatives:,} negative pixels of the validation fields"
    return f"metrics.operating_target must be {rule} here, which is {why}, got {target:g}; {remedy}"


def aim_and_outcome(chosen: Chosen, metrics: Mapping[str, float], *, where: str = "test fields") -> str:
    """Return what a threshold was chosen for, and what it came to on validation and on the judged fields.

    A target that validation could not keep to, or could not tell anything about, is said to be missed, and what is used
    in its place. Empty for a model of before that was kept.

    Parameters
    ----------
    chosen : Chosen
    metrics : mapping
        With `test/operating_achieved` where that is defined.
    where : str
        What was judged, in the plural.
    """
    if chosen.operating_point is not None:
        return _reached(chosen.operating_point, metrics, where)
    return "" if chosen.missed is None else _missed(chosen.missed, chosen)


def _reached(point: OperatingPoint, metrics: Mapping[str, float], where: str) -> str:
    name = "test/operating_achieved"
    outcome = with_interval(metrics, name, spec=".3g") if name in metrics else "undefined"
    found = f"{point.achieved:.3g} on validation, {outcome} on the {where}{_verdict(point.target, metrics, name)}"
    missed = "" if point.reached else "; validation did not reach it, and the threshold that comes closest is used"
    return f"the aim was {AIMS[point.kind].format(point.target)}: {found}{missed}"


def _verdict(target: float | None, metrics: Mapping[str, float], name: str) -> str:
    """Say how far from a target the judged fields lie, and whether chance may explain it."""
    if target is None or name not in metrics:
        return ""
    distance = metrics[name] / target - 1
    off = f", {abs(distance):.0%} {'above' if distance > 0 else 'below'} the target"
    if f"{name}_low" not in metrics:
        return off
    held = metrics[f"{name}_low"] <= target <= metrics[f"{name}_high"]
    return f"{off}, which the interval {'holds' if held else 'does not hold'}"


def _missed(aim: Aim, chosen: Chosen) -> str:
    if aim.kind in OBJECT_KINDS:
        used = "no threshold" if chosen.detection_threshold is None else "that of the best F1 of detections"
    else:
        used = "probability 0.5" if chosen.logit_threshold is None else "that of the best F1 of pixels"
    reason = "the validation fields hold too little to choose a threshold for it"
    return f"the aim was {AIMS[aim.kind].format(aim.target)}, and was not reached: {reason}, and {used} is used"
