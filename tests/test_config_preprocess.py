"""Claims about the knobs of preprocessing: contradictions are refused, and each knob is explained and read."""

from __future__ import annotations

import dataclasses
import re

import pytest
from test_config import documented

from astrid.config import ConfigError, PreprocessConfig
from astrid.config.compose import PROJECT_ROOT, load

FRAMES = ["data=frames", "data.root=a", "data.manifest=b.csv"]
KNOBS = [knob.name for knob in dataclasses.fields(PreprocessConfig)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.preprocess.trim=left", r"data\.preprocess\.trim must be none, header or \[x1:x2,y1:y2\], got 'left'"),
        ("data.preprocess.gain=0", r"data\.preprocess\.gain must be above 0, header or null, got 0"),
        ("data.preprocess.clip_sigma=0.5", r"data\.preprocess\.clip_sigma must be at least 1, got 0\.5"),
        ("data.preprocess.cosmic_rays=true", r"cosmic_rays must have the noise .* give both"),
        ("data.preprocess.pedestal=-1", r"pedestal must be at least 0 or null, got -1"),
        ("data.preprocess.flat=[f.fits]", r"flat must know the counts of no light, got neither .*pedestal=0 where"),
        ("data.preprocess.raw_reference=true", r"raw_reference must have steps of the detector .*, or leave it out"),
        ("data.preprocess.score=true", r"score must come from proper subtraction, .* add data\.preprocess\.difference"),
        ("data.preprocess.regster=wcs", r"did you mean data\.preprocess\.register"),
    ],
)
def test_a_mistake_is_refused_with_one_message(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([*FRAMES, override])


@pytest.mark.parametrize("known", ["bias=[b.fits]", "overscan=header", "pedestal=0"])
def test_counts_of_no_light_must_be_known_where_photons_are_counted(known: str) -> None:
    counted = [*FRAMES, "data.preprocess.gain=header", "data.preprocess.read_noise=header"]
    assert load([*counted, f"data.preprocess.{known}"])
    assert load([*FRAMES, "data.preprocess.gain=header", "data.preprocess.dark=[d.fits]"])
    with pytest.raises(ConfigError, match=r"gain with read_noise must know the counts of no light"):
        load(counted)


def test_numbers_may_be_given_whole_or_left_to_the_header() -> None:
    given = ["data.preprocess.gain=2", "data.preprocess.read_noise=header", "data.preprocess.pedestal=0"]
    knobs = load([*FRAMES, *given]).data.preprocess  # type: ignore[attr-defined]
    assert knobs.gain == 2 and knobs.read_noise == "header"


@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_is_explained_and_read(knob: str) -> None:
    assert knob in documented(PreprocessConfig)
    code = "\n".join(path.read_text() for path in (PROJECT_ROOT / "astrid/data").rglob("*.py"))
    named_in_sets = knob in ("bias", "dark", "flat") and "getattr(config, kind)" in code
    assert re.search(rf"(config|knobs|preprocess)\.{knob}\b", code) or named_in_sets, f"nothing reads {knob}"
