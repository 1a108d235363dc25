"""The page of every knob is what the schema says now."""

from __future__ import annotations

import pytest

from astrid.config import Config, SimulatedData
from astrid.config.compose import CHOICES, PROJECT_ROOT
from astrid.config.reference import knobs, reference


def test_the_page_is_up_to_date() -> None:
    page = (PROJECT_ROOT / "docs" / "reference.md").read_text()
    assert page == reference(), "docs/reference.md is out of date: run make reference"


def test_a_knob_of_a_dataclass_in_another_has_its_full_key_default_type_and_meaning() -> None:
    (flips,) = [knob for knob in knobs(SimulatedData, "data") if knob.key == "data.augment.flips"]
    assert (flips.default, flips.kind) == ("true", "bool")
    assert flips.meaning.startswith("Mirror and turn by quarters")


@pytest.mark.parametrize("group", list(Config.__dataclass_fields__))
def test_every_knob_of_every_choice_is_on_the_page_with_its_meaning(group: str) -> None:
    page = reference()
    for schema in CHOICES.get(group, {}).values():
        for knob in knobs(schema, group):
            assert knob.meaning, knob.key
            assert knob.row() in page
