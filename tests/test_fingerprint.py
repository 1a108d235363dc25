"""Claims about the fingerprint of the data: what changes a prepared pixel changes it, and nothing else does."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrid.config import FramesData, PreprocessConfig
from astrid.data import recipes
from astrid.data.manifest import read_manifest
from astrid.data.recipes import frames_recipe

ROWS = "field,science,target,mask,split\n" + "".join(
    f"{name},{name}.fits,{name}_truth.fits,{name}_mask.fits,{split}\n"
    for name, split in zip("abc", ("train", "val", "test"), strict=True)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "here"
    place.mkdir()
    for seed, name in enumerate("abc"):
        rng = np.random.default_rng(seed)
        fits.writeto(place / f"{name}.fits", rng.normal(100, 5, (40, 40)).astype(np.float32))
        fits.writeto(place / f"{name}_truth.fits", (rng.random((40, 40)) < 0.01).astype(np.uint8))
        fits.writeto(place / f"{name}_mask.fits", np.zeros((40, 40), np.uint8))
    fits.writeto(place / "bias.fits", np.full((40, 40), 10, np.int16), fits.Header({"EXPTIME": 0.0}))
    (place / "m.csv").write_text(ROWS)
    return place


def unseen(items: Iterable, what: str, count: int) -> Iterable:
    return items


def key(folder: Path, **knobs: object) -> str:
    preprocess = PreprocessConfig(bias=["bias.fits"])
    places = {"root": str(folder), "manifest": str(folder / "m.csv"), "cache": str(folder / "cache")}
    config = FramesData(**{**places, "preprocess": preprocess, **knobs})  # type: ignore[arg-type]
    return frames_recipe(config, read_manifest(config, receptive_field_pixels=10), announce=unseen).key


def changed(name: str, value: float) -> Callable[[Path], None]:
    """Return what changes one pixel of a file."""

    def change(folder: Path) -> None:
        with fits.open(folder / name, mode="update") as hdus:
            hdus[0].data[3, 5] = value

    return change


CHANGES: dict[str, Callable[[Path], object]] = {
    "a pixel of a science frame": changed("b.fits", 77.0),
    "a pixel of a truth": changed("a_truth.fits", 9),
    "a pixel of a mask": changed("c_mask.fits", 1),
    "a pixel of a calibration frame": changed("bias.fits", 11),
    "the split of a row": lambda folder: (folder / "m.csv").write_text(ROWS + "d,bias.fits,a_truth.fits,,train\n"),
    "what a bit of the target means": lambda folder: (folder / "m.csv").write_text(
        ROWS.replace("split\n", "split,target_bits\n").replace("train\n", "train,1\n").replace("val\n", "val,\n")
        .replace("test\n", "test,\n")
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_a_field_changes_the_fingerprint(folder: Path, what: str) -> None:
    before = key(folder)
    assert key(folder) == before
    CHANGES[what](folder)
    assert key(folder) != before


@pytest.mark.parametrize(
    "knobs",
    [
        {"background_box": 32},
        {"preprocess": PreprocessConfig(bias=["bias.fits"], clip_sigma=4.0)},
        {"preprocess": PreprocessConfig()},
    ],
)
def test_a_knob_of_the_preparation_changes_the_fingerprint(folder: Path, knobs: dict[str, object]) -> None:
    assert key(folder, **knobs) != key(folder)


@pytest.mark.parametrize(
    "knobs",
    [
        {"prepare_workers": 1},
        {"batch_size": 2},
        {"tile_size": 16},
        {"crops": "random"},
        {"preprocess": PreprocessConfig(bias=["bias.fits"], memory_mib=64)},
    ],
)
def test_a_knob_of_the_serving_or_of_memory_does_not(folder: Path, knobs: dict[str, object]) -> None:
    assert key(folder, **knobs) == key(folder)


def test_a_folder_that_moves_keeps_its_fingerprint(folder: Path, tmp_path: Path) -> None:
    before = key(folder)
    shutil.rmtree(folder / "cache")
    shutil.move(folder, tmp_path / "there")
    assert key(tmp_path / "there") == before


def test_another_version_of_a_package_that_makes_pixels_changes_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, true_version = key(folder), importlib.metadata.version
    for package in recipes.MAKERS:
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name, changed=package: "0.0.1" if name == changed else true_version(name),
        )
        assert key(folder) != before, package
    monkeypatch.undo()
    assert key(folder) == before
