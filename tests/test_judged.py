"""Which fields a finished model is judged on, and which of them it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from test_fields import quiet, small_sky
from test_manifest import write_frame

from astrid.config import DataError, FramesData
from astrid.data.fields import build_splits
from astrid.data.judged import JudgedFields, Overlap, find_overlap, prepare_judged
from astrid.data.recipes import UNIT

pytestmark = pytest.mark.usefixtures("in_this_process")


def judged(config: Any, split: Any = "test", *, channels: int = 3, unit: str = UNIT) -> JudgedFields:
    return prepare_judged(config, split, channels=channels, unit=unit, announce=quiet)


def manifest(folder: Path, rows: str, *, header: str = "field,science,target,split", **knobs: Any) -> FramesData:
    for seed, name in enumerate("abcdef"):
        if not (folder / f"{name}.fits").exists():
            write_frame(folder / f"{name}.fits", seed=seed)
    mask = np.zeros((30, 40), np.int16)
    mask[10:12, 10:12] = 1
    fits.PrimaryHDU(mask).writeto(folder / "mask.fits", overwrite=True)
    (folder / "m.csv").write_text(f"{header}\n{rows}")
    return FramesData(root=str(folder), manifest=str(folder / "m.csv"), cache=str(folder / "cache"), **knobs)


SPLIT_ROWS = "A,a.fits,mask.fits,train\nB,b.fits,mask.fits,val\nC,c.fits,mask.fits,test\n"


def names(fields: JudgedFields) -> list[str]:
    return [entry.name for entry in fields.store.entries]


def test_the_test_fields_are_those_of_a_run_on_the_same_data(tmp_path: Path) -> None:
    sky = small_sky(tmp_path)
    splits, found = build_splits(sky, receptive_field_pixels=44, announce=quiet), judged(sky)
    assert found.fingerprint == splits.fingerprint
    assert found.store.folder == splits.test.folder
    assert found.origins == splits.origins["test"]
    frames = manifest(tmp_path, SPLIT_ROWS)
    splits, found = build_splits(frames, receptive_field_pixels=8, announce=quiet), judged(frames, channels=1)
    assert (found.fingerprint, names(found)) == (splits.fingerprint, ["C"])


def test_other_splits_have_their_own_fields_and_fingerprints(tmp_path: Path) -> None:
    sky = small_sky(tmp_path)
    found = {split: judged(sky, split) for split in ("train", "val", "test", "all")}
    assert [len(one.store) for one in found.values()] == [3, 2, 2, 7]
    assert len({one.fingerprint for one in found.values()}) == 4
    assert names(found["all"])[:3] == names(found["train"])
    np.testing.assert_array_equal(found["all"].store.image(5), found["test"].store.image(0))


def test_a_manifest_of_test_frames_alone_can_be_judged(tmp_path: Path) -> None:
    rows = "A,a.fits,mask.fits,test\nB,b.fits,mask.fits,test\n"
    config = manifest(tmp_path, rows)
    assert names(judged(config, channels=1)) == ["A", "B"]
    with pytest.raises(DataError, match=r"m\.csv, split 'val' must have a row, got none among 2; .* --split"):
        judged(config, "val", channels=1)


def test_without_a_split_column_training_would_draw_the_same_test_fields(tmp_path: Path) -> None:
    rows = "".join(f"{name.upper()},{name}.fits,mask.fits\n" for name in "abcdef")
    config = manifest(tmp_path, rows, header="field,science,target")
    splits = build_splits(config, receptive_field_pixels=8, announce=quiet)
    found = judged(config, channels=1)
    assert names(found) == [entry.name for entry in splits.test.entries]
    assert found.fingerprint == splits.fingerprint
    assert len(judged(config, "all", channels=1).store) == 6


def test_two_frames_can_be_judged_together_only(tmp_path: Path) -> None:
    config = manifest(tmp_path, "A,a.fits,mask.fits\nB,b.fits,mask.fits\n", header="field,science,target")
    with pytest.raises(DataError, match="or judge every row with --split all"):
        judged(config, channels=1)
    assert names(judged(config, "all", channels=1)) == ["A", "B"]


def test_what_can_not_be_judged_is_refused_with_the_remedy(tmp_path: Path) -> None:
    frames = manifest(tmp_path, SPLIT_ROWS)
    with pytest.raises(DataError, match="3 channels of the model, got 1; name a reference in every row"):
        judged(frames, channels=3)
    with pytest.raises(DataError, match="1 channels of the model, got 3; leave the column reference out"):
        judged(small_sky(tmp_path), channels=1)
    with pytest.raises(DataError, match="in the unit of the model, electron, got background sigma"):
        judged(frames, channels=1, unit="electron")
    bare = manifest(tmp_path, "A,a.fits,test\n", header="field,science,split")
    with pytest.raises(DataError, match=r"m\.csv, row 2: column 'target' must be filled, .* a plane of zeros"):
        judged(bare, channels=1)


def test_a_plane_of_zeros_is_a_truth(tmp_path: Path) -> None:
    config = manifest(tmp_path, "A,a.fits,zeros.fits,test\n")
    fits.PrimaryHDU(np.zeros((30, 40), np.int16)).writeto(tmp_path / "zeros.fits")
    assert judged(config, channels=1).store.prior == 0


def test_a_fold_of_a_cross_validation_is_judged_on_its_own_part(tmp_path: Path) -> None:
    sky = small_sky(tmp_path, folds=3, fold=1, train_fields=6)
    splits = build_splits(sky, receptive_field_pixels=44, announce=quiet)
    found = judged(sky)
    assert (found.fingerprint, found.origins) == (splits.fingerprint, splits.origins["test"])
    assert find_overlap(found.origins, seen=splits.origins) == Overlap(0, 0)
    assert find_overlap(judged(sky, "all").origins, seen=splits.origins).train == len(splits.train)


def test_simulated_fields_are_known_by_seed_split_and_number(tmp_path: Path) -> None:
    seen = build_splits(small_sky(tmp_path), receptive_field_pixels=44, announce=quiet).origins
    counted = {split: find_overlap(judged(small_sky(tmp_path), split).origins, seen=seen) for split in ("test", "all")}
    assert counted == {"test": Overlap(0, 0), "all": Overlap(3, 2)}
    brighter = small_sky(tmp_path, sky_level=[300.0, 400.0])
    assert find_overlap(judged(brighter, "train").origins, seen=seen) == Overlap(3, 0)  # the same stars, another sky
    other = small_sky(tmp_path, sky_seed=2)
    assert find_overlap(judged(other, "all").origins, seen=seen) == Overlap(0, 0)


def test_a_frame_is_known_by_its_pixels_under_any_name(tmp_path: Path) -> None:
    seen = build_splits(manifest(tmp_path, SPLIT_ROWS), receptive_field_pixels=8, announce=quiet).origins
    pixels = fits.getdata(tmp_path / "a.fits").astype(np.float64)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels)]).writeto(tmp_path / "copy.fits")
    rows = "X,copy.fits[1],mask.fits,test\nY,b.fits,mask.fits,test\nZ,f.fits,mask.fits,test\n"
    found = judged(manifest(tmp_path, rows), channels=1)
    assert find_overlap(found.origins, seen=seen) == Overlap(1, 1)


@pytest.mark.parametrize(
    ("section", "overlap"),
    [("", 1), ("[1:10,1:30]", 1), ("[20:40,1:30]", 0), ("[10:12,30:30]", 1), ("[11:40,1:30]", 0)],
)
def test_sections_of_a_known_frame_count_where_they_overlap(section: str, overlap: int) -> None:
    seen = {"train": ["abc[1:10,1:30]"], "val": []}
    assert find_overlap([f"abc{section}", "def"], seen=seen) == Overlap(overlap, 0)


def test_a_model_that_does_not_say_what_it_saw_is_no_proof() -> None:
    assert find_overlap(["abc"], seen={}) == Overlap(None, None)
