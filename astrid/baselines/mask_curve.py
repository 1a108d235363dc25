"""astroscrappy at false positive rates that are asked for: its knobs from validation, its curve on the test fields.

Its mask is one point of a curve. Varying its contrast draws the curve; its other knobs are those that mark the most
positive pixels of the validation fields at the rate in question, so that it is judged at its best.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrid.data.store import FieldStore
from astrid.metrics.pixels import PixelHistogram
from astrid.metrics.ranking import tpr_at_fpr

from .cosmic_rays import find_cosmic_rays, grown
from .detectors import SCIENCE

RATES = ("1e-4", "1e-3", "5e-3")
"""False positive rates at which it is compared."""
CONTRASTS = (1.5, 2.0, 3.0, 4.5, 6.0, 9.0, 14.0, 25.0, 60.0, 200.0)
"""Laplacian contrasts in sigma that draw a curve, from lenient to strict."""


@dataclass(frozen=True)
class Settings:
    """Knobs of astroscrappy beside its contrast.

    Attributes
    ----------
    neighbours : float
        Share of the contrast that a neighbour of a flagged pixel needs (`sigfrac`).
    object_limit : float
        Contrast between sharp and smooth structure that spares stars (`objlim`).
    grow : bool
        Whether the mask is grown by a pixel to all sides.
    """

    neighbours: float
    object_limit: float
    grow: bool


SETTINGS = tuple(Settings(*knobs) for knobs in itertools.product((0.1, 0.3), (2.0, 5.0, 10.0), (False, True)))
"""Those that are tried, around its defaults of 0.3 and 5."""


@dataclass(frozen=True)
class MaskCurve:
    """Shares of the negative and of the positive pixels that it marks, by falling contrast, from (0, 0) to (1, 1)."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]

    def tpr_at(self, fpr: float) -> float:
        """Return the share of positive pixels at a rate of false ones, between two contrasts by linear interpolation.

        That is what choosing one of the two masks by lot gives (Fawcett 2006, doi:10.1016/j.patrec.2005.10.010).
        """
        return float(np.interp(fpr, self.fpr, self.tpr))


def draw_curves(store: FieldStore, settings: Sequence[Settings]) -> dict[Settings, MaskCurve] | None:
    """Return the curve of each setting over all fields; None where they lack a class."""
    counts = np.zeros((len(settings), len(CONTRASTS), 2))
    totals = np.zeros(2)
    for number in range(len(store)):
        field = store.field(number)
        sides = [field.target & field.valid, ~field.target & field.valid]
        totals += [side.sum() for side in sides]
        for column, contrast in enumerate(CONTRASTS):
            masks = _masks(np.array(field.image[SCIENCE]), field.valid, settings, contrast=contrast)
            counts[:, column] += [[(mask & side).sum() for side in sides] for mask in masks]
    if not totals.all():
        return None
    return {knobs: _curve(counts[row] / totals) for row, knobs in enumerate(settings)}


def _masks(
    image: NDArray[np.float32], valid: NDArray[np.bool_], settings: Sequence[Settings], *, contrast: float
) -> list[NDArray[np.bool_]]:
    """Return the mask of each setting; those that differ in growing alone are flagged once."""

    @functools.cache
    def flagged(neighbours: float, object_limit: float) -> NDArray[np.bool_]:
        knobs = {"neighbours": neighbours, "object_limit": object_limit}
        return find_cosmic_rays(image, valid, sigma_clip=contrast, **knobs)

    masks = [flagged(one.neighbours, one.object_limit) for one in settings]
    return [grown(mask) & valid if one.grow else mask for mask, one in zip(masks, settings, strict=True)]


def _curve(rates: NDArray[np.float64]) -> MaskCurve:
    """Sort (tpr, fpr) by the latter and let none fall: what a stricter mask marks, a lenient one needn't miss."""
    ordered = rates[np.lexsort((rates[:, 0], rates[:, 1]))]
    tpr = np.maximum.accumulate(ordered[:, 0])
    return MaskCurve(np.concatenate([[0.0], ordered[:, 1], [1.0]]), np.concatenate([[0.0], tpr, [1.0]]))


def best_settings(val: FieldStore) -> dict[str, int]:
    """Return by rate the number, in `SETTINGS`, of those that mark the most positive pixels of validation fields."""
    curves = draw_curves(val, SETTINGS)
    if curves is None:
        return {}
    return {
        rate: max(range(len(SETTINGS)), key=lambda number: curves[SETTINGS[number]].tpr_at(float(rate)))
        for rate in RATES
    }


def compare_at_rates(test: FieldStore, *, chosen: Mapping[str, int], network: PixelHistogram) -> dict[str, float]:
    """Return the share of positive pixels that astroscrappy and the network mark at each rate.

    Parameters
    ----------
    test : FieldStore
    chosen : mapping
        Number of the settings by rate; rates without one are left out, and those of fewer than ten false pixels.
    network : PixelHistogram
        Logits of the network on the same fields.

    Returns
    -------
    dict
        `tpr_at_fpr_RATE`, `network_tpr_at_fpr_RATE`, and `settings_at_fpr_RATE`.
    """
    rates = [rate for rate in chosen if tpr_at_fpr(network, fpr=float(rate)) is not None]
    if not rates:
        return {}
    curves = draw_curves(test, sorted({SETTINGS[chosen[rate]] for rate in rates}, key=SETTINGS.index)) or {}
    found: dict[str, float] = {}
    for rate in rates if curves else ():
        ours = tpr_at_fpr(network, fpr=float(rate))
        assert ours is not None
        found[f"tpr_at_fpr_{rate}"] = curves[SETTINGS[chosen[rate]]].tpr_at(float(rate))
        found[f"network_tpr_at_fpr_{rate}"] = ours
        found[f"settings_at_fpr_{rate}"] = float(chosen[rate])
    return found


def settings_in(metrics: Mapping[str, float]) -> dict[str, int]:
    """Return by rate the number of the settings that a run chose, from the metrics that it logged."""
    named = {rate: metrics.get(f"astroscrappy/settings_at_fpr_{rate}") for rate in RATES}
    return {rate: int(number) for rate, number in named.items() if number is not None and 0 <= number < len(SETTINGS)}
