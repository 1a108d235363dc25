"""What a sweep searches is held against the schema, choices of groups included, before the first trial."""

from __future__ import annotations

from typing import Any

import pytest

from astrid.config import ConfigError
from astrid.config.search_space import check_searched


@pytest.mark.parametrize(
    ("searched", "fixed", "message"),
    [
        ({"model.deph": [1, 2]}, [], r"model\.deph must be a key of the configuration.*did you mean model\.depth"),
        ({"model.depth": [1.0, 4.0]}, [], r"model\.depth must be a value of type int or auto, got '1\.0'"),
        ({"model.norm": ["batch", "bath"]}, [], r"model\.norm must be a value.*got 'bath'"),
        ({"loss": ["bce", "nope"]}, [], "loss must be one of bce, bce_dice, dice, focal, tversky, got 'nope'"),
        ({"loss.gamma": [1.0, 2.0]}, [], r"loss\.gamma must be a knob of the chosen loss"),
        ({"sweep.workers": [1, 2]}, [], r"sweep\.workers must not be searched"),
        ({"tracking.experiment": ["a", "b"]}, [], r"tracking\.experiment must not be searched"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_no_trial_can_have_is_refused(searched: dict[str, list[Any]], fixed: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_searched(searched, fixed)


@pytest.mark.parametrize(
    ("searched", "fixed"),
    [
        ({"model.depth": [1, 4], "model.filters": [4, 8], "optimizer.lr": [1e-4, 1e-2]}, ["sweep=depth_filters"]),
        ({"loss": ["bce", "focal"], "loss.gamma": [1.0, 2.0]}, []),  # of one of the two
        ({"loss.gamma": [1.0, 2.0]}, ["loss=focal"]),
        ({"data.transient_snr": ["[3,30]", "[5,50]"], "model.residual": [True, False]}, []),
        ({"model.depth": [1, 60]}, []),  # its range is for the trial to find
        ({"training.seed": [1, 9]}, []),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_a_trial_can_have_is_taken(searched: dict[str, list[Any]], fixed: list[str]) -> None:
    check_searched(searched, fixed)
    with pytest.raises(ConfigError, match=r"optimizer\.lrr"):  # what is right doesn't hide what is wrong
        check_searched({**searched, "optimizer.lrr": [1e-4, 1e-2]}, fixed)
