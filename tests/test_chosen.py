"""What validation decided comes back equal from the model's file, also from files of before calibration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from registered_runs import facts

from astrid.metrics.calibrators import Calibrator
from astrid.metrics.chosen import Aim, Chosen, OperatingPoint
from astrid.model_card import ModelFacts

CALIBRATORS = [
    Calibrator(),
    Calibrator("temperature", 2.5),
    Calibrator("isotonic", knots=(-3.0, 0.25, 7.0), calibrated=(-9.0, -0.1, 2.0)),
]


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda calibrator: calibrator.kind)
@pytest.mark.parametrize("point", [None, OperatingPoint("fpr", 1e-3, threshold=0.5, achieved=0.99e-3)])
def test_what_was_chosen_comes_back_from_the_file_of_the_model(
    calibrator: Calibrator, point: OperatingPoint | None, tmp_path: Path
) -> None:
    missed = Aim("purity", 0.9) if point is None else None
    told = facts(chosen=Chosen(0.5, None, calibrator, point, missed))
    assert ModelFacts.load(told.save(tmp_path / "model.json")) == told


def test_a_model_of_before_calibration_has_its_thresholds_and_none(tmp_path: Path) -> None:
    path = facts().save(tmp_path / "model.json")
    saved = json.loads(path.read_text())
    del saved["chosen"]
    path.write_text(json.dumps(saved | {"logit_threshold": -0.5, "detection_threshold": None}))
    assert ModelFacts.load(path).chosen == Chosen(-0.5, None, Calibrator(), operating_point=None)
