"""Numbers as text, with no more digits than they deserve."""

from __future__ import annotations

import math

UNAVAILABLE = "unavailable"


def significant(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, in plain notation where that is short.

    Examples
    --------
    >>> significant(0.99731), significant(197.2), significant(0.00060594)
    ('0.997', '197', '6.06e-04')
    """
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if exponent < -3 or exponent > 6:
        return f"{value:.{digits - 1}e}"
    return f"{round(value, digits - 1 - exponent):.{max(digits - 1 - exponent, 0)}f}"


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """Write a value with the interval that bounds it, whose width decides how many decimals both show.

    The half width has two significant digits where it starts with 1, 2 or 3, else one (the rule of the Particle Data
    Group, doi 10.1093/ptep/ptac097, simplified). A value that this would round to one digit or none has two of its own.
    Without an interval the value has three significant digits.

    Examples
    --------
    >>> with_interval(0.872213, 0.861342, 0.883125), with_interval(0.5635, 0.0674, 0.9584)
    ('0.872 [0.861, 0.883]', '0.56 [0.07, 0.96]')
    >>> with_interval(0.00514, 0.0002, 0.19)
    '0.0051 [0.00, 0.19]'
    """
    if low is None or high is None:
        return significant(value)
    half_width = (high - low) / 2
    if not half_width > 0:
        return f"{significant(value)} [{significant(low)}, {significant(high)}]"
    exponent = math.floor(math.log10(half_width))
    decimals = max(0, -exponent + (1 if half_width / 10**exponent < 4 else 0))
    if max(abs(low), abs(high)) <= 1:  # or a share of at most 0.96 would read 1.0
        decimals = max(decimals, 2)
    if decimals > 6:
        digits = max(0, decimals + math.floor(math.log10(max(abs(low), abs(high)))))
        return f"{value:.{digits}e} [{low:.{digits}e}, {high:.{digits}e}]"
    too_few = 0 < abs(value) < 10 ** (1 - decimals)  # for a second digit: 0.0051 would read 0.01
    own = significant(value, 2) if too_few else f"{value:.{decimals}f}"
    return f"{own} [{low:.{decimals}f}, {high:.{decimals}f}]"


def count(value: int | None) -> str:
    """Write a whole number with separators; blank where it is unknown."""
    return "" if value is None else f"{value:,}"


def measured(value: float | None, digits: int, *, absent: str = "") -> str:
    """Write a measurement, or what stands for its absence."""
    return absent if value is None else significant(value, digits)
