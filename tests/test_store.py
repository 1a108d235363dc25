"""Prepared fields come back as they went in, and a damaged cache is made anew."""

from __future__ import annotations

import json
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astrid.config import RunError
from astrid.data.frames import Field, Sources
from astrid.data.store import IMAGES, INDEX, PLANES, FieldStore, cached_store, whole, write_fields


def make_field(number: int, *, height: int = 20, width: int = 31) -> Field:
    generator = np.random.default_rng(number)
    sources = Sources(*generator.uniform(0, 20, size=(4, 3)), kind=["a", "b", "c"])
    image = generator.normal(size=(3, height, width)).astype(np.float32)
    target, valid = generator.uniform(size=(2, height, width)) < 0.5
    return Field(f"field-{number}", image, target, valid, sources, 2.5)


def assert_same(one: Field, two: Field) -> None:
    assert (one.name, one.fwhm_pixels) == (two.name, two.fwhm_pixels)
    for name in ("image", "target", "valid"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert (one.sources is None) == (two.sources is None)
    if one.sources is not None and two.sources is not None:
        np.testing.assert_array_equal(one.sources.snr, two.sources.snr)
        assert one.sources.kind == two.sources.kind


def test_fields_of_different_sizes_come_back_to_the_bit(tmp_path: Path) -> None:
    fields = [make_field(0), make_field(1, height=7), Field("bare", *make_fields_without_truth())]
    write_fields(tmp_path / "store", fields)
    store = FieldStore(tmp_path / "store")
    for number, field in enumerate(fields):
        assert_same(store.field(number), field)


def make_fields_without_truth() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.ones((3, 9, 5), np.float32), np.zeros((9, 5), bool), np.ones((9, 5), bool)


def test_a_store_survives_the_trip_to_a_loader_process(tmp_path: Path) -> None:
    write_fields(tmp_path / "store", [make_field(3)])
    store = pickle.loads(pickle.dumps(FieldStore(tmp_path / "store")))
    assert_same(store.field(0), make_field(3))


def test_prior_counts_valid_pixels_only(tmp_path: Path) -> None:
    field = make_field(4)
    write_fields(tmp_path / "store", [field])
    expected = (field.target & field.valid).sum() / field.valid.sum()
    assert FieldStore(tmp_path / "store").prior == pytest.approx(expected)


def test_a_cached_store_is_made_once(tmp_path: Path) -> None:
    made = []

    def fields() -> Iterator[Field]:
        made.append(1)
        yield make_field(5)

    for _ in range(2):
        assert_same(cached_store(tmp_path, "key/train", fields()).field(0), make_field(5))
    assert len(made) == 1


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "short": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "empty": lambda path: path.write_bytes(b""),
    "one bit flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
}


def flipped(content: bytes) -> bytes:
    """Change the lowest bit of a byte in the middle; in JSON, of a digit or a letter, which makes it another."""
    middle = len(content) // 2
    while content.startswith(b"{") and not chr(content[middle]).isalnum():
        middle += 1
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("name", [IMAGES, PLANES, INDEX])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_made_anew_and_that_is_said(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cached_store(tmp_path, "key", [make_field(6)])
    assert "damaged" not in caplog.text
    DAMAGES[damage](tmp_path / "key" / name)
    assert_same(cached_store(tmp_path, "key", [make_field(6)]).field(0), make_field(6))
    assert f"{tmp_path / 'key'} is damaged" in caplog.text and "is made again" in caplog.text
    assert_same(cached_store(tmp_path, "key", []).field(0), make_field(6))


def test_an_index_of_another_shape_is_not_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As many pixels, but 31 rows of 20 where 20 rows of 31 were written."""
    cached_store(tmp_path, "key", [make_field(6)])
    index = json.loads((tmp_path / "key" / INDEX).read_text())
    index["entries"][0] |= {"height": 31, "width": 20}
    (tmp_path / "key" / INDEX).write_text(json.dumps(index))
    assert_same(cached_store(tmp_path, "key", [make_field(6)]).field(0), make_field(6))
    assert "index.json is not what was written" in caplog.text


def start_builder(folder: Path, *, fields: int, seconds: float, **options: Any) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("cache_builders.py")
    command = [sys.executable, program, folder / "cache", folder / "log", str(fields), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def made(folder: Path) -> list[tuple[str, str]]:
    """Which process made which field, in the order of time."""
    lines = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
    return [(line.split()[0], line.split()[1]) for line in lines]


def test_processes_that_start_at_once_build_one_store(tmp_path: Path) -> None:
    builders = [start_builder(tmp_path, fields=6, seconds=0.05) for _ in range(4)]
    outcomes = [builder.communicate(timeout=240) for builder in builders]
    assert [builder.returncode for builder in builders] == [0] * 4, outcomes
    assert len({output for output, _ in outcomes}) == 1 and outcomes[0][0].strip()
    assert [number for _, number in made(tmp_path)] == [str(number) for number in range(6)]
    assert len({process for process, _ in made(tmp_path)}) == 1


def test_a_builder_that_is_killed_leaves_its_place_to_another(tmp_path: Path) -> None:
    victim = start_builder(tmp_path, fields=6, seconds=1.0)
    deadline = time.monotonic() + 240
    while len(made(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    heirs = [start_builder(tmp_path, fields=6, seconds=0.0) for _ in range(2)]
    victim.kill()
    victim.communicate(timeout=60)
    outcomes = [heir.communicate(timeout=240) for heir in heirs]
    assert victim.returncode == -signal.SIGKILL and [heir.returncode for heir in heirs] == [0, 0], outcomes
    by_process = Counter(process for process, _ in made(tmp_path))
    assert by_process.pop(str(victim.pid)) < 6 and list(by_process.values()) == [6]
    assert len({output for output, _ in outcomes}) == 1
    assert [path.name for path in (tmp_path / "cache/key").iterdir() if path.is_dir()] == ["train"]


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path: Path) -> None:
    """The system stops the process from writing files beyond a size, as a full disk would."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    builder = start_builder(tmp_path, fields=6, seconds=0.0, preexec_fn=limited)
    _, errors = builder.communicate(timeout=240)
    last = errors.strip().splitlines()[-1]
    assert builder.returncode == 1 and "Traceback" not in errors
    assert re.fullmatch(r"error: data\.cache: .* can't be written \(.*MiB are free\); make room, or name .*", last), (
        last
    )
    assert not [path for path in (tmp_path / "cache/key").iterdir() if path.is_dir()]


@pytest.mark.parametrize("place", ["file", "file/cache", "folder/taken"])
def test_a_cache_that_cannot_be_written_is_one_message(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder/taken/key.lock").mkdir(parents=True)
    rule = r"data\.cache: .* can't be written \(.*MiB are free\); make room, or name a folder"
    with pytest.raises(RunError, match=rule):
        cached_store(tmp_path / place, "key", [make_field(6)])


def test_a_store_whose_making_fails_does_not_appear(tmp_path: Path) -> None:
    def failing() -> Iterator[Field]:
        yield make_field(7)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached_store(tmp_path, "key", failing())
    assert not (tmp_path / "key").exists()


def test_a_file_appears_whole_or_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), whole(path) as partial:
        partial.write_text("half")
        raise OSError("the disk is full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
