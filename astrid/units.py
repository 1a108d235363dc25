"""The unit of a metric, from how its name ends, and numbers of things."""

from __future__ import annotations

UNITS = {
    "joules_per_image": "J/image",
    "joules_per_mpix": "J/Mpix",
    "images_per_second": "image/s",
    "mpix_per_s": "Mpix/s",
    "ms_per_mpix": "ms/Mpix",
    "false_per_mpix": "1/Mpix",
    "peak_mib": "MiB",
    "centroid_error_pixels": "pixel",
    "joules": "J",
    "watts": "W",
    "kwh": "kWh",
    "seconds": "s",
    "ms": "ms",
    "g_co2e": "g CO2e",
    "usd": "USD",
}
"""Unit by the last words of a name; the first that fits holds, so longer endings come first."""


def unit_of(name: str) -> str | None:
    """Return the unit of a metric, None for a number without one.

    Examples
    --------
    >>> unit_of("latency/p50_ms"), unit_of("energy/train_joules_per_image"), unit_of("test/auprc")
    ('ms', 'J/image', None)
    """
    last = name.rpartition("/")[2]
    return next((unit for ending, unit in UNITS.items() if f"_{last}".endswith(f"_{ending}")), None)


def counted(number: int, one: str) -> str:
    """Return a number with its noun, as in "1 field" and "3 fields"."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def units_of(names: list[str]) -> dict[str, str]:
    """Return the unit of each name that has one."""
    return {name: unit for name in names if (unit := unit_of(name)) is not None}
