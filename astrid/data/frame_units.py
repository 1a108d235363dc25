"""What the units of frames mean: whether they can be used, alone or together, and how many electrons are in them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping

from astropy import units
from astropy.units.function import FunctionUnitBase

from astrid.config import DataError

from .frames import ImageInfo

log = logging.getLogger(__name__)

LOGARITHMIC = (units.mag, units.dex, units.dB)
_MAGNITUDES = re.compile(r"\bmag|mag(nitudes?|s)?\b", re.IGNORECASE)
_ELECTRONS = re.compile(r"(electrons?|e-?)\b|e-")
_PER_SECOND = re.compile(r"(/ ?s(ec(onds?)?)?|\bs(ec)?(\*\*|\^)?\(?-1\)?)$|^cps$")
"""Units of electrons, and of rates: `ELECTRONS/S`, `count / s`, `electron s-1`, in small letters."""


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


def is_rate(unit: str) -> bool:
    """Tell whether a unit, in small letters, is per second."""
    return _PER_SECOND.search(unit) is not None


def is_electrons(unit: str) -> bool:
    """Tell whether a unit, in small letters, is electrons, or these per second."""
    return _ELECTRONS.match(unit) is not None


def electrons_per_unit(unit: str, *, seconds: float | None, per_count: Callable[[], float | None]) -> float | None:
    """Return the electrons per unit of an image: of a rate, what its exposure time collects of it.

    Parameters
    ----------
    unit : str
        In small letters.
    seconds : float or None
        Exposure time.
    per_count : callable
        Returns the electrons per count; not asked where the image is in electrons.

    Returns
    -------
    float or None
        None where that of a count, or the exposure time of a rate, isn't known.

    Examples
    --------
    >>> electrons_per_unit("count / s", seconds=500.0, per_count=lambda: 1.5)
    750.0
    """
    found = 1.0 if is_electrons(unit) else per_count()
    if found is None or not is_rate(unit):
        return found
    return found * seconds if seconds is not None and seconds > 0 else None


def check_duration(unit: str, seconds: float | None, *, remedy: str) -> None:
    """Refuse a rate whose exposure time isn't known, as nobody knows then how many electrons it collected."""
    if is_rate(unit) and not (seconds is not None and seconds > 0):
        raise DataError(
            f"the exposure time of a rate (BUNIT {unit}) must be known and above 0 s, got {seconds}; {remedy}"
        )
