"""Whatever is in a file, it is assessed or refused with one message: no traceback, no warning, no hang."""

from __future__ import annotations

import functools
import math
import tempfile
import time
from pathlib import Path

import pytest
from damaged_fits import damaged, samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astrid.config import DataError, QualityConfig
from astrid.data.frames import inspect_image, read_image, read_plane
from astrid.data.pixels import digest_values
from astrid.data.quality import Refusal, assess_file, judge, with_residuals
from astrid.data.rows import ImageFile

LONGEST_SECONDS = 60.0
"""Of one file, on a busy machine; a usual one takes a tenth of a second."""
REAL = ("testF.fits", "testS.fits.fz", "testF.fits.gz", "lasair_orion.fits", "test_multiS.fits.bz2", "m13_hcomp.fits")


def digest_of(path: Path) -> str:
    return digest_values(read_image(path).data)


def survives(content: bytes) -> None:
    """Read and assess a file, and check what comes of it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.fits"
        path.write_bytes(content)
        results = assess_file(ImageFile(path), QualityConfig(), box=64)
        assert results
        for result in results:
            check(result, path)
        found = with_residuals([result for result in results if not isinstance(result, Refusal)])
        assert all(math.isfinite(value) for one in found for value in one.values.values())
        for read in (read_image, read_plane, inspect_image, digest_of):
            try:
                read(path)
            except DataError as error:
                assert path.name in str(error) and "\n" not in str(error)
    assert time.monotonic() - began < LONGEST_SECONDS


def check(result: object, path: Path) -> None:
    """A refusal is one line; an assessment has finite numbers, a reason for each that is absent, and a score."""
    if isinstance(result, Refusal):
        assert result.reason and "\n" not in result.reason and str(path) in result.name
        return
    verdict = judge(result, QualityConfig())
    assert verdict.score is None or 0 <= verdict.score <= 1
    assert all(reason and "\n" not in reason for reason in result.absent.values())


@functools.cache
def contents() -> list[bytes]:
    return list(samples().values())


FAST = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
LONG = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))


@FAST
@given(st.data())
def test_damaged_files_are_assessed_or_refused(data: st.DataObject) -> None:
    survives(data.draw(damaged(contents())))


@pytest.mark.slow
@LONG
@given(st.data())
def test_many_damaged_files_are_assessed_or_refused(data: st.DataObject) -> None:
    survives(data.draw(damaged(contents())))


@pytest.mark.slow
def test_damaged_real_files_are_assessed_or_refused(sample_data: Path) -> None:
    real = [(sample_data / "odd_fits" / name).read_bytes() for name in REAL]

    @LONG
    @given(st.data())
    def try_one(data: st.DataObject) -> None:
        survives(data.draw(damaged(real)))

    try_one()


@pytest.mark.parametrize("form", samples())
def test_a_file_cut_at_any_of_many_places_is_assessed_or_refused(form: str) -> None:
    content = samples()[form]
    for end in range(0, len(content), max(1, len(content) // 12)):
        survives(content[:end])


@pytest.mark.parametrize("content", [b"", b"\x00" * 5760, b"SIMPLE  =" + b" " * 3000, b"\xff" * 100, b"\x1f\x8b\x08"])
def test_what_is_no_fits_is_refused(content: bytes) -> None:
    survives(content)
