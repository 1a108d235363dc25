"""A configuration as a command line composes into the same configuration."""

from __future__ import annotations

import dataclasses
import shlex

import pytest

from astrid.config import SweepConfig
from astrid.config.command import as_overrides, train_command
from astrid.config.compose import load

COMMAND_LINES = [
    [],
    ["model=unet_deep", "data.batch_size=16"],
    ["optimizer=sgd", "loss=focal", "schedule=onecycle", "data.transient_snr=[3,30.5]", "model.residual=true"],
    ["experiment=hrc_cosmic_rays", "training.seed=7"],
    ["sweep=wide", "optimizer=adam", "sweep.trial=3"],
    ["tracking.uri='postgresql://h/db?x=1'", "tracking.artifacts=a", "data.cache='it\\'s here/a=b, c'"],
    ["tracking.experiment='a b'", "tracking.registered_model='true'", "training.threads=null"],
]


@pytest.mark.parametrize("given", COMMAND_LINES, ids=" ".join)
def test_a_configuration_comes_back_from_its_own_command(given: list[str]) -> None:
    config = load(given)
    command = shlex.split(train_command(config))
    assert command[:2] == ["python", "train.py"]
    assert load(command[2:]) == dataclasses.replace(config, sweep=SweepConfig())


def test_only_what_differs_from_the_defaults_is_said() -> None:
    assert as_overrides(load(["model=unet_deep", "optimizer=sgd"])) == ["optimizer=sgd", "model.depth=5"]
