"""Knobs that may be left open until data and device are known."""

from __future__ import annotations

from typing import Literal

from .checks import check

Auto = Literal["auto"]
"""Value of a knob that `astrid.plan` chooses before anything is built."""


def settled(key: str, value: int | Auto) -> int:
    """Return the number of a knob for those who compute with it.

    Raises
    ------
    ConfigError
        Where it is still `auto`, which only a run settles.
    """
    check(value != "auto", key, value, "a number here", "give one, or let train.py or astrid plan choose it")
    return int(value)
