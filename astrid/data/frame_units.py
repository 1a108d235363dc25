"""Units in which frames can't be used, or hardly together."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from astropy import units
from astropy.units.function import FunctionUnitBase

from astrid.config import DataError

from .frames import ImageInfo

log = logging.getLogger(__name__)

LOGARITHMIC = (units.mag, units.dex, units.dB)
_MAGNITUDES = re.compile(r"\bmag|mag(nitudes?|s)?\b", re.IGNORECASE)


def check_units(infos: Mapping[str, ImageInfo]) -> None:
    """Refuse frames in logarithmic units, and warn where science and reference are in different ones.

    Noise of an image in magnitudes isn't the same everywhere, two of them have no difference, and there is no sky below
    zero. Linear units don't matter: each channel is divided by its own background sigma.

    Parameters
    ----------
    infos : mapping of str to ImageInfo
        By column of the manifest.

    Raises
    ------
    DataError
    """
    stated = {name: infos[name].unit for name in ("science", "reference") if name in infos}
    for name, unit in stated.items():
        if reason := why_not_linear(unit, of=f" of {name}"):
            raise DataError(reason)
    known = {name: unit for name, unit in stated.items() if unit != units.dimensionless_unscaled}
    if len(known) == 2 and known["science"] != known["reference"]:
        remedy = "their scale is taken from stars; give reference_scale where there are few"
        log.warning("science is in %s and reference in %s: %s", known["science"], known["reference"], remedy)


def why_not_linear(unit: units.UnitBase, text: str = "", *, of: str = "") -> str:
    """Say why frames in a unit, which a header may spell in its own way, can't be used; empty if it is linear."""
    bases = getattr(unit, "bases", ())
    if not (
        isinstance(unit, FunctionUnitBase) or any(base in LOGARITHMIC for base in bases) or _MAGNITUDES.search(text)
    ):
        return ""
    rule, remedy = "linear, as counts, electron or nJy", "convert the frame to a flux"
    return f"the unit{of} (BUNIT) must be {rule}, got {text or unit}; {remedy}"
