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
"""Of work on one file, whatever else the machine does; a usual one takes a tenth of a second."""
REAL = ("testF.fits", "testS.fits.fz", "testF.fits.gz", "lasair_orion.fits", "test_multiS.fits.bz2", "m13_hcomp.fits")


def digest_of(path: Path) -> str:
    return digest_values(read_image(path).data)


def complaints(content: bytes) -> list[str]:
    """Read and assess a file, and return what is wrong with what comes of it; refusals in one line are not."""
    began = time.thread_time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.fits"
        path.write_bytes(content)
        results = assess_file(ImageFile(path), QualityConfig(), box=64)
        wrong = [complaint for result in results for complaint in of_result(result, path)]
        found = with_residuals([result for result in results if not isinstance(result, Refusal)])
        wrong += [f"{one.values}" for one in found if not all(math.isfinite(value) for value in one.values.values())]
        for read in (read_image, read_plane, inspect_image, digest_of):
            try:
                read(path)
            except DataError as error:
                wrong += [f"{error}"] * (path.name not in str(error) or "\n" in str(error))
    wrong += ["neither assessed nor refused"] * (not results)
    return wrong + ["slow"] * (time.thread_time() - began >= LONGEST_SECONDS)


def of_result(result: object, path: Path) -> list[str]:
    """A refusal is one line; an assessment has a reason for each number that is absent, and a score from 0 to 1."""
    if isinstance(result, Refusal):
        is_one_line = result.reason and "\n" not in result.reason and str(path) in result.name
        return [] if is_one_line else [f"refused: {result}"]
    score = judge(result, QualityConfig()).score
    wrong = [f"{name} is absent: {reason}" for name, reason in result.absent.items() if not reason or "\n" in reason]
    return wrong + [f"score {score}"] * (score is not None and not 0 <= score <= 1)


@functools.cache
def contents() -> list[bytes]:
    return list(samples().values())


FAST = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
LONG = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))


@FAST
@given(st.data())
def test_damaged_files_are_assessed_or_refused(data: st.DataObject) -> None:
    assert complaints(data.draw(damaged(contents()))) == []


@pytest.mark.slow
@LONG
@given(st.data())
def test_many_damaged_files_are_assessed_or_refused(data: st.DataObject) -> None:
    assert complaints(data.draw(damaged(contents()))) == []


@pytest.mark.slow
def test_damaged_real_files_are_assessed_or_refused(sample_data: Path) -> None:
    real = [(sample_data / "odd_fits" / name).read_bytes() for name in REAL]

    @LONG
    @given(st.data())
    def try_one(data: st.DataObject) -> None:
        assert complaints(data.draw(damaged(real))) == []

    try_one()


@pytest.mark.parametrize("form", samples())
def test_a_file_cut_at_any_of_many_places_is_assessed_or_refused(form: str) -> None:
    content = samples()[form]
    for end in range(0, len(content), max(1, len(content) // 12)):
        assert complaints(content[:end]) == []


@pytest.mark.parametrize("content", [b"", b"\x00" * 5760, b"SIMPLE  =" + b" " * 3000, b"\xff" * 100, b"\x1f\x8b\x08"])
def test_what_is_no_fits_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "one.fits").write_bytes(content)
    found = assess_file(ImageFile(tmp_path / "one.fits"), QualityConfig(), box=64)
    assert complaints(content) == [] and [type(one) for one in found] == [Refusal]
