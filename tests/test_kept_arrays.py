"""Claims about arrays in the cache: they come back as they were, whatever damages them is noticed, no half is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from astrid.config import RunError
from astrid.data.kept_arrays import keep_arrays, read_kept_arrays

ARRAYS = {"bias.data": np.arange(12, dtype=np.float32).reshape(3, 4), "seconds": np.array(2.5), "name": np.array("M31")}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    keep_arrays(tmp_path / "kept", ARRAYS, partial=tmp_path / "partial")
    return tmp_path / "kept"


def test_arrays_come_back_as_they_were(kept: Path) -> None:
    back = read_kept_arrays(kept, expected=ARRAYS)
    assert back is not None and set(back) == set(ARRAYS) and [path.name for path in kept.parent.iterdir()] == ["kept"]
    assert all(np.array_equal(back[name], ARRAYS[name]) and back[name].dtype == ARRAYS[name].dtype for name in ARRAYS)


def test_any_damaged_byte_is_noticed(kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the checksum, the arrays, and the zip directory, which says names, methods of compression and encryption."""
    content = kept.read_bytes()
    for place in range(len(content)):
        for bit in (0, 5):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            kept.write_bytes(damaged)
            assert read_kept_arrays(kept) is None, f"byte {place}, bit {bit}"
    assert "is damaged (its checksum is another) and is made again" in caplog.text


@pytest.mark.parametrize("size", [0, 10, 64, 65, 200, -1])
def test_a_file_that_is_cut_short_is_noticed(kept: Path, size: int) -> None:
    kept.write_bytes(kept.read_bytes()[:size])
    assert read_kept_arrays(kept) is None


def test_arrays_that_should_be_there_and_are_not_are_noticed(kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_kept_arrays(kept, expected=["seconds", "flat.data"]) is None
    assert "it lacks flat.data" in caplog.text
    assert read_kept_arrays(kept.with_name("nothing")) is None and "nothing" not in caplog.text


def test_a_full_disk_is_one_message_and_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "partial").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"can't be written \(No space left on device, \d+ MiB are free\); make room"):
        keep_arrays(tmp_path / "kept", ARRAYS, partial=tmp_path / "partial")
    assert not list(tmp_path.iterdir())
