"""Cross-validation by field: every field is tested once, by a network that saw nothing of it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from astrid.config import DataError

from .rows import Split

logger = logging.getLogger(__name__)


def fold_splits(
    fields: Sequence[str], *, positive: Collection[str], folds: int, fold: int, val_count: int, seed: int
) -> dict[str, Split]:
    """Put whole fields into the splits of one fold.

    Those with positives are dealt out first, so that each fold tests its share of them, and validates on its share.

    Parameters
    ----------
    fields : sequence of str
        Names of the fields; one that occurs several times is one field. Their order doesn't matter.
    positive : collection of str
        Those that are known to have positives; where none is, or all are, they make no difference.
    folds : int
        How many there are; the fields are dealt out to them at random, as evenly as it goes.
    fold : int
        Which one tests, from 0.
    val_count : int
        Fields that validate, drawn anew for each fold from those that don't test. One with positives trains first.
    seed : int

    Returns
    -------
    dict of split by field

    Raises
    ------
    DataError
        Where there are fewer fields than folds, or none is left to train on.

    References
    ----------
    Stone 1974, Journal of the Royal Statistical Society B 36, 111, doi:10.1111/j.2517-6161.1974.tb00994.x
    """
    names = sorted(set(fields))
    if len(names) < folds:
        raise DataError(f"data.folds must be at most the {len(names)} fields there are, got {folds}; try fewer folds")
    shuffled = [names[index] for index in np.random.default_rng([seed, folds]).permutation(len(names))]
    with_positives, without = _parted(shuffled, positive)
    tested = [*with_positives, *without][fold::folds]
    others = [name for name in shuffled if name not in set(tested)]
    if len(others) <= val_count:
        raise DataError(
            f"data.folds={folds} must leave fields to train on: of {len(names)} fields {len(tested)} test and "
            f"{val_count} validate; add fields, lower what validates, or change data.folds"
        )
    drawn = [others[index] for index in np.random.default_rng([seed, folds, fold]).permutation(len(others))]
    splits: dict[str, Split] = dict.fromkeys(others, "train")
    return splits | dict.fromkeys(_validating(drawn, positive, val_count), "val") | dict.fromkeys(tested, "test")


def _parted(names: Sequence[str], positive: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the fields with positives and those without, each in the order given."""
    return [name for name in names if name in positive], [name for name in names if name not in positive]


def _validating(drawn: Sequence[str], positive: Collection[str], count: int) -> list[str]:
    """Return so many of the fields, fewer than all: the share that has positives, and one at least if one trains."""
    with_positives, without = _parted(drawn, positive)
    share = round(count * len(with_positives) / len(drawn))
    own = min(max(1, share, count - len(without)), max(0, len(with_positives) - 1))
    return with_positives[:own] + without[: count - own]


def warn_of_few_positives(placed: Sequence[Mapping[str, Split]], positive: Collection[str]) -> None:
    """Say once in how many folds nothing is to be found in the fields that test or validate, if positives are known."""
    test, val = (
        sum(split not in {splits[name] for name in positive} for splits in placed) for split in ("test", "val")
    )
    if positive and test + val:
        logger.warning(
            "%d of %d fields have positives, too few for data.folds=%d: %d folds test none, %d validate on none",
            *(len(positive), len(placed[0]), len(placed), test, val),
        )
