"""Cross-validation by field: every field is tested once, by a network that saw nothing of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from astrid.config import DataError

from .rows import Split


def fold_splits(fields: Sequence[str], *, folds: int, fold: int, val_count: int, seed: int) -> dict[str, Split]:
    """Put whole fields into the splits of one fold.

    Parameters
    ----------
    fields : sequence of str
        Names of the fields; one that occurs several times is one field. Their order doesn't matter.
    folds : int
        How many there are; the fields are dealt out to them at random, as evenly as it goes.
    fold : int
        Which one tests, from 0.
    val_count : int
        Fields that validate, drawn anew for each fold from those that don't test.
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
    tested = shuffled[fold::folds]
    others = [name for name in shuffled if name not in set(tested)]
    if len(others) <= val_count:
        raise DataError(
            f"data.folds={folds} must leave fields to train on: of {len(names)} fields {len(tested)} test and "
            f"{val_count} validate; add fields, lower what validates, or change data.folds"
        )
    validating = np.random.default_rng([seed, folds, fold]).permutation(len(others))[:val_count]
    splits: dict[str, Split] = dict.fromkeys(others, "train")
    return splits | {others[index]: "val" for index in validating} | dict.fromkeys(tested, "test")
