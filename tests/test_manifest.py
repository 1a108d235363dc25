"""Claims about manifests: what they mean, what is refused with its row, and what may not be shared between splits."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from astrid.config import DataError, FramesData
from astrid.data.manifest import fingerprint_rows, read_manifest, read_rows
from astrid.data.manifest_table import COLUMNS
from astrid.data.recipes import read_recipe
from astrid.data.rows import FrameRow, ImageFile, Section

RECEPTIVE_FIELD = 10


def write_frame(
    path: Path, *, seed: int = 0, shape: tuple[int, int] = (30, 40), ra: float | None = None, **cards: str
) -> None:
    """Write noise, with 1 arcsec pixels centred on (ra, 0) degrees if `ra` is given; with cards in place of a frame."""
    hdu = fits.PrimaryHDU(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    if ra is not None:
        hdu.header.update(
            CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=ra, CRVAL2=0.0, CDELT1=-1 / 3600, CDELT2=1 / 3600
        )
        hdu.header.update(CRPIX1=(shape[1] + 1) / 2, CRPIX2=(shape[0] + 1) / 2)
    hdu.header.update(**cards)
    hdu.writeto(path, overwrite=bool(cards))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Frames a.fits to f.fits without coordinates, mask.fits, and small.fits of another shape."""
    for seed, name in enumerate("abcdef"):
        write_frame(tmp_path / f"{name}.fits", seed=seed)
    write_frame(tmp_path / "small.fits", shape=(20, 40))
    fits.PrimaryHDU(np.zeros((30, 40), dtype=np.int16)).writeto(tmp_path / "mask.fits")
    return tmp_path


def config(folder: Path, text: str, **knobs: Any) -> FramesData:
    (folder / "frames.csv").write_text(text)
    return FramesData(root=str(folder), manifest=str(folder / "frames.csv"), **knobs)


def rows_of(folder: Path, text: str, **knobs: Any) -> list[FrameRow]:
    return read_manifest(config(folder, text, **knobs), receptive_field_pixels=RECEPTIVE_FIELD)


THREE = "field,science,split\nA,a.fits,train\nB,b.fits,val\nC,c.fits,test\n"


def test_a_row_means_what_its_cells_say(folder: Path) -> None:
    text = (
        "# a comment, with a comma\n"
        "field,science,target,target_codes,ignore_codes,unlabelled_codes,section,split,fwhm\n"
        'A, a.fits ,mask.fits[0],3|4,"1,2",0x10,"[3:20,5:30]",train,2.5\n'
        "\n"
        "B,b.fits,mask.fits,,,,,val,\n"
        "C,c.fits,mask.fits,,,,,test,\n"
    )
    first, second, _ = rows_of(folder, text)
    assert first.number == 3 and second.number == 5
    assert (first.field, first.name, first.split) == ("A", "A", "train")
    assert first.science == ImageFile(folder / "a.fits") and first.target == ImageFile(folder / "mask.fits", 0)
    assert (first.target_codes, first.ignore_codes, first.unlabelled_codes) == ((3, 4), (1, 2), (16,))
    assert first.section == Section(3, 20, 5, 30) and first.section.shape == (26, 18)
    assert (first.fwhm_pixels, second.fwhm_pixels, second.target, second.section) == (
        2.5,
        None,
        ImageFile(folder / "mask.fits"),
        None,
    )


@pytest.mark.parametrize("unit", ["mag", "mag(AB)", "mag/arcsec2", "dex"])
def test_frames_in_logarithmic_units_are_refused(folder: Path, unit: str) -> None:
    write_frame(folder / "a.fits", seed=0, BUNIT=unit)
    with pytest.raises(DataError, match=r"row 2: the unit of science \(BUNIT\) must be linear.*; convert the frame"):
        rows_of(folder, THREE)


def test_a_reference_in_another_unit_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "field,science,reference,split\nA,a.fits,d.fits,train\nB,b.fits,d.fits,train\nC,c.fits,d.fits,train\n"
    for name, unit in (("a", "electron"), ("b", "adu"), ("c", "what"), ("d", "electron")):
        write_frame(folder / f"{name}.fits", seed=ord(name), BUNIT=unit)
    read_rows(config(folder, text))
    said = [record.getMessage() for record in caplog.records if "reference in" in record.getMessage()]
    assert said == [
        "science is in adu and reference in electron: their scale is taken from stars; give reference_scale where "
        "there are few"
    ]


def test_bits_are_joined_into_one_mask(folder: Path) -> None:
    text = "field,science,target,target_bits,ignore_bits,split\nA,a.fits,mask.fits,256|0x800,1,train\n"
    text += "B,b.fits,mask.fits,,,val\nC,c.fits,mask.fits,,,test\n"
    row = rows_of(folder, text)[0]
    assert (row.target_bits, row.ignore_bits, row.unlabelled_bits) == (256 | 2048, 1, None)


@pytest.mark.parametrize(
    ("column", "remedy"),
    [("target_bits", r"256\|2048 or 0x1000: bit n has the value 2\*\*n"), ("target_codes", r"3\|4")],
)
def test_what_is_no_bit_is_told_by_values_that_are(folder: Path, column: str, remedy: str) -> None:
    with pytest.raises(DataError, match=rf"{column} must be whole numbers separated by \|, got '1\.5'; try {remedy}$"):
        rows_of(folder, f"field,science,target,{column}\nA,a.fits,mask.fits,1.5\n")


def test_rows_of_one_field_get_names_of_their_own(folder: Path) -> None:
    rows = rows_of(folder, THREE + "A,d.fits,train\n")
    assert [row.name for row in rows] == ["A#2", "B", "C", "A#5"]


LABELS = (
    "field,science,target,valid,target_bits,ignore_bits,unlabelled_bits,target_codes,ignore_codes,section,split,"
    "fwhm,reference_fwhm\n"
)
REST = "B,b.fits,,,,,,,,,val,,\nC,c.fits,,,,,,,,,test,,\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("A,missing.fits,,,,,,,,,train,,", r"missing\.fits: there is no such file"),
        ("A,a.fits,missing.fits,,,,,,,,train,,", r"missing\.fits: there is no such file"),
        ("A,a.fits[3],,,,,,,,,train,,", "no HDU 3"),
        (
            "A,a.fits,small.fits,,,,,,,,train,,",
            "target must have the shape of science, got 40x20 where science has 40x30",
        ),
        ("A,a.fits,,small.fits,,,,,,,train,,", "valid must have the shape of science"),
        ('A,a.fits,,,,,,,,"[1:41,1:30]",train,,', r"section \[1:41,1:30\] must lie in the frame of 40x30 pixels"),
        ('A,a.fits,,,,,,,,"[0:4,1:30]",train,,', r"section must be \[x1:x2,y1:y2\]"),
        ("A,a.fits,mask.fits,,4,,,3,,,train,,", "target_bits and target_codes exclude each other"),
        ("A,a.fits,mask.fits,,,4,,3,,,train,,", "ignore_bits and target_codes exclude each other"),
        ("A,a.fits,,,4,,,,,,train,,", "target_bits is about the target, which is empty"),
        ("A,a.fits,mask.fits,,4,12,,,,,train,,", "4 must not be in both target_bits and ignore_bits"),
        ("A,a.fits,mask.fits,,,,,1|2,2,,train,,", "2 must not be in both target_codes and ignore_codes"),
        ("A,a.fits,mask.fits,,four,,,,,,train,,", r"target_bits must be whole numbers separated by \|, got 'four'"),
        ("A,a.fits,mask.fits,,0,,,,,,train,,", r"values of bits from 1 to 2\*\*63, got 0"),
        ("A,a.fits,mask.fits,,-4,,,,,,train,,", "values of bits .* got -4"),
        ("A,a.fits,,,,,,,,,train,zero,", "fwhm must be a number from 0.5 to 100, got 'zero'"),
        ("A,a.fits,,,,,,,,,train,nan,", "fwhm must be a number from 0.5 to 100, got 'nan'"),
        ("A,a.fits,,,,,,,,,train,200,", "fwhm must be a number from 0.5 to 100, got '200'"),
        ("A,a.fits,,,,,,,,,train,,3", "reference_fwhm is about the reference"),
        ("A,a.fits,,,,,,,,,training,,", "split must be train, val or test, got 'training'"),
        (",a.fits,,,,,,,,,train,,", "field must not be empty"),
        ("A,,,,,,,,,,train,,", "science must not be empty"),
        ("A,a.fits,,,,,,,,,,,", "split must be filled in every row or in none"),
        ("A,a.fits,train", "must have 13 cells like the header, got 3"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(folder: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"^frames\.csv, row 4: .*{message}.*; ") as caught:
        rows_of(folder, LABELS + "C,d.fits,,,,,,,,,test,,\n# next is bad\n" + row + "\n" + REST)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("field,science,targets", r"no column 'targets'; did you mean 'target'\?"),
        ("Field,science,split", r"no column 'Field'; did you mean 'field'\?"),
        ("field,sience,split", r"no column 'sience'; did you mean 'science'\?"),
        ("field,science,science", "column 'science' must occur once, got 2"),
        ("science,split,section", "column 'field' must be there"),
        ("field,science,colour", "Known are .*section.*, filter, exposure, mjd"),
    ],
)
def test_a_bad_header_is_refused_with_the_nearest_name(folder: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"^frames\.csv, row 1: .*{message}"):
        rows_of(folder, header + "\nA,a.fits,train\n")


def test_a_truncated_frame_is_refused_by_its_line(folder: Path) -> None:
    (folder / "b.fits").write_bytes((folder / "b.fits").read_bytes()[:5000])
    with pytest.raises(DataError, match=r"^frames\.csv, row 3: .*b\.fits: the file is cut short"):
        rows_of(folder, THREE)


@pytest.mark.parametrize("shape", [(1, 40), (40, 15)])
def test_a_frame_too_small_to_measure_is_refused_by_its_line(folder: Path, shape: tuple[int, int]) -> None:
    (folder / "b.fits").unlink()
    write_frame(folder / "b.fits", shape=shape)
    rule = f"at least 16 pixels along each axis, got {shape[1]}x{shape[0]}"
    with pytest.raises(DataError, match=rf"^frames\.csv, row 3: science must have {rule}.*; leave it out"):
        rows_of(folder, THREE)


@pytest.mark.parametrize("content", [b"", b"field,science\n", b"\xff\xfe\x00", b'field,science\n"A,a.fits\n'])
def test_a_file_that_is_no_table_is_refused(folder: Path, content: bytes) -> None:
    settings = config(folder, "")
    (folder / "frames.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"^frames\.csv, the file must"):
        read_manifest(settings, receptive_field_pixels=RECEPTIVE_FIELD)


def test_a_manifest_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"data\.manifest: there is no file"):
        read_manifest(FramesData(root=str(folder), manifest="no.csv"), receptive_field_pixels=RECEPTIVE_FIELD)


def test_rows_with_and_without_a_reference_are_refused(folder: Path) -> None:
    text = "field,science,reference,split\nA,a.fits,d.fits,train\nB,b.fits,,val\nC,c.fits,e.fits,test\n"
    with pytest.raises(DataError, match="row 3: every row or none must have a reference, row 2 has one"):
        rows_of(folder, text)


def test_a_frame_listed_twice_is_refused_even_under_another_name(folder: Path) -> None:
    shutil.copy(folder / "a.fits", folder / "copy.fits")
    for second in ("a.fits", "./a.fits", "a.fits[0]", "copy.fits"):
        with pytest.raises(DataError, match="row 5: science must occur once, row 2 has the same frame"):
            rows_of(folder, THREE + f"A,{second},train\n")


COPIES = {
    "packed": lambda hdu, path: hdu.writeto(path),
    "with another header": lambda hdu, path: fits.PrimaryHDU(hdu.data, fits.Header({"OBJECT": "M 31"})).writeto(path),
    "in double precision": lambda hdu, path: fits.PrimaryHDU(hdu.data.astype(np.float64)).writeto(path),
    "as an extension": lambda hdu, path: fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(hdu.data, name="SCI")]).writeto(
        path
    ),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_frame_is_known_however_it_is_stored(folder: Path, how: str) -> None:
    name = "copy.fits.gz" if how == "packed" else "copy.fits"
    with fits.open(folder / "a.fits") as hdus:
        COPIES[how](hdus[0], folder / name)
    with pytest.raises(DataError, match=r"row 5: science must occur once, row 2 has the same frame"):
        rows_of(folder, f"{THREE}D,{name},test\n")


def test_a_frame_cannot_be_its_own_reference(folder: Path) -> None:
    text = "field,science,reference,split\nA,a.fits,a.fits,train\nB,b.fits,d.fits,val\nC,c.fits,e.fits,test\n"
    with pytest.raises(DataError, match="row 2: reference must be another exposure than science"):
        rows_of(folder, text)


def test_a_target_is_given_in_every_row_or_in_none(folder: Path) -> None:
    text = "field,science,target,split\nA,a.fits,mask.fits,train\nB,b.fits,,val\nC,c.fits,mask.fits,test\n"
    with pytest.raises(DataError, match=r"row 3: every row or none must have a target.*name a plane of zeros"):
        rows_of(folder, text)


def never(*_: object) -> Any:
    """Stand for a bar that nothing may reach."""
    raise AssertionError("an exposure was prepared or assessed")


def test_a_manifest_without_any_truth_is_refused_before_anything_is_prepared(folder: Path) -> None:
    settings = config(folder, THREE)
    rule = r"frames\.csv, row 2: column 'target' must be filled.*; or plant transients with data=injected"
    with pytest.raises(DataError, match=rule):
        read_recipe(settings, receptive_field_pixels=1, announce=never)


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_named(folder: Path, separator: str, name: str) -> None:
    with pytest.raises(DataError, match=f"row 1: cells must be separated by commas, got {name}"):
        rows_of(folder, THREE.replace(",", separator))


def test_every_split_needs_a_row(folder: Path) -> None:
    with pytest.raises(DataError, match="split 'val' must have a row"):
        rows_of(folder, THREE.replace(",val", ",train"))


SIX = "field,science\n" + "".join(f"{name.upper()},{name}.fits\n" for name in "abcdef")


def test_fields_are_drawn_whole_and_independently_of_their_order(folder: Path) -> None:
    write_frame(folder / "a2.fits", seed=9)
    rows = rows_of(folder, SIX + "A,a2.fits\n", val_fraction=0.3, test_fraction=0.2)
    splits = {row.science.path.name: row.split for row in rows}
    assert sorted(splits.values()).count("val") >= 2 and {"train", "val", "test"} == set(splits.values())
    assert splits["a.fits"] == splits["a2.fits"]
    header, *lines = (SIX + "A,a2.fits\n").splitlines()
    shuffled = rows_of(folder, "\n".join([header, *reversed(lines)]), val_fraction=0.3, test_fraction=0.2)
    assert {row.science.path.name: row.split for row in shuffled} == splits


def test_the_seed_decides_the_draw(folder: Path) -> None:
    draws = {tuple(row.split for row in rows_of(folder, SIX, split_seed=seed)) for seed in range(8)}
    assert len(draws) > 1 and draws == {
        tuple(row.split for row in rows_of(folder, SIX, split_seed=seed)) for seed in range(8)
    }


def test_too_few_fields_for_three_splits_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="its 2 fields must fill train, val and test"):
        rows_of(folder, "field,science\nA,a.fits\nA,b.fits\nB,c.fits\n")


@pytest.mark.parametrize("unit", ["field", "exposure", "section"])
def test_a_field_in_two_splits_is_a_leak_under_field_only(folder: Path, unit: str) -> None:
    text = THREE + "A,d.fits,test\n"
    if unit == "field":
        with pytest.raises(
            DataError, match=r"rows 2 \(train\) and 5 \(test\): different splits must not share a field"
        ):
            rows_of(folder, text, split_unit=unit)
    else:
        assert len(rows_of(folder, text, split_unit=unit)) == 4


@pytest.mark.parametrize("unit", ["field", "exposure"])
@pytest.mark.parametrize("again", ["a.fits", "copy.fits"])
def test_an_exposure_in_two_splits_is_a_leak(folder: Path, unit: str, again: str) -> None:
    shutil.copy(folder / "a.fits", folder / "copy.fits")
    text = (
        "field,science,section,split\n"
        + 'A,a.fits,"[1:10,1:30]",train\nB,b.fits,,val\n'
        + f'C,{again},"[30:40,1:30]",test\n'
    )
    with pytest.raises(
        DataError, match=r"rows 2 \(train\) and 4 \(test\): different splits must not share a science file"
    ):
        rows_of(folder, text, split_unit=unit)
    assert len(rows_of(folder, text, split_unit="section")) == 3


def test_a_reference_in_two_splits_is_a_leak_under_field(folder: Path) -> None:
    text = "field,science,reference,split\nA,a.fits,d.fits,train\nB,b.fits,e.fits,val\nC,c.fits,d.fits,test\n"
    with pytest.raises(
        DataError, match=r"rows 2 \(train\) and 4 \(test\): different splits must not share a reference"
    ):
        rows_of(folder, text)
    assert len(rows_of(folder, text, split_unit="exposure")) == 3


@pytest.mark.parametrize(
    ("section", "gap"),
    [("[21:40,1:30]", 10), ("[20:40,1:30]", 9), ("[11:40,1:30]", 0), ("[5:40,1:30]", 0), ("[1:10,21:30]", 10), ("", 0)],
)
def test_sections_in_two_splits_need_the_receptive_field_between_them(folder: Path, section: str, gap: int) -> None:
    text = "field,science,section,split\n" + f'A,a.fits,"[1:10,1:10]",train\nA,a.fits,"{section}",test\nB,b.fits,,val\n'
    if gap >= RECEPTIVE_FIELD:
        assert len(rows_of(folder, text, split_unit="section")) == 3
    else:
        with pytest.raises(
            DataError, match=rf"rows 2 \(train\) and 3 \(test\): .* receptive field of 10 pixels, got {gap}; "
        ):
            rows_of(folder, text, split_unit="section")


def test_sections_in_one_split_may_touch(folder: Path) -> None:
    text = (
        "field,science,section,split\n"
        + 'A,a.fits,"[1:10,1:10]",train\nA,a.fits,"[11:20,1:10]",train\nB,b.fits,,val\nC,c.fits,,test\n'
    )
    assert len(rows_of(folder, text, split_unit="section")) == 4


@pytest.mark.parametrize(
    ("apart_arcsec", "leaks"), [(0.0, True), (39.0, True), (40.0, False), (41.0, False), (6e5, False)]
)
@pytest.mark.parametrize("ra", [10.0, 0.0])
def test_overlap_on_the_sky_is_a_leak_unless_exposures_decide(
    folder: Path, apart_arcsec: float, leaks: bool, ra: float
) -> None:
    """Frames are 40 arcsec wide; at right ascension 0 they straddle the meridian where degrees jump."""
    write_frame(folder / "left.fits", seed=11, ra=ra)
    write_frame(folder / "right.fits", seed=12, ra=ra + apart_arcsec / 3600)
    text = THREE + "L,left.fits,train\nR,right.fits,test\n"
    if leaks:
        with pytest.raises(
            DataError, match=r"rows 5 \(train\) and 6 \(test\): frames in different splits must not overlap"
        ):
            rows_of(folder, text)
    else:
        assert len(rows_of(folder, text)) == 5
    assert len(rows_of(folder, text, split_unit="exposure")) == 5


def test_the_real_frames_of_one_position_overlap(sample_data: Path, tmp_path: Path) -> None:
    frames = sorted((sample_data / "decam_dq_cutouts").glob("*ooi*.gz"))
    one, two = [
        next(path.name for path in frames if path.name.startswith(f"tc6_c4d_{night}")) for night in ("150110", "181215")
    ]
    other = next(path.name for path in frames if path.name.startswith("tc9"))
    settings = config(tmp_path, f"field,science,split\nA,{one},train\nB,{other},val\nC,{two},test\n")
    settings.root = str(sample_data / "decam_dq_cutouts")
    with pytest.raises(
        DataError, match=r"rows 2 \(train\) and 4 \(test\): frames in different splits must not overlap"
    ):
        read_manifest(settings, receptive_field_pixels=RECEPTIVE_FIELD)


def test_the_fingerprint_follows_contents_and_meaning_but_not_the_place(folder: Path, tmp_path: Path) -> None:
    text = (
        THREE.replace("split", "split,target")
        .replace("train", "train,mask.fits")
        .replace(",val", ",val,mask.fits")
        .replace(",test", ",test,mask.fits")
    )
    settings = config(folder, text)

    def fingerprint(settings: FramesData) -> str:
        return fingerprint_rows(read_manifest(settings, receptive_field_pixels=RECEPTIVE_FIELD), settings)

    first = fingerprint(settings)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in folder.glob("*.fits"):
        shutil.copy(path, elsewhere)
    assert fingerprint(config(elsewhere, text)) == first
    assert fingerprint(config(elsewhere, text, background_box=32)) != first
    assert fingerprint(config(elsewhere, text.replace("A,a", "A2,a"))) != first
    fits.PrimaryHDU(np.ones((30, 40), dtype=np.int16)).writeto(elsewhere / "mask.fits", overwrite=True)
    assert fingerprint(config(elsewhere, text)) != first


def test_every_column_is_a_field_of_a_row(folder: Path) -> None:
    """A column that nothing reads would be accepted and ignored."""
    named = {column.removesuffix("_pixels") for column in FrameRow.__dataclass_fields__}
    assert set(COLUMNS) <= named | {"reference_fwhm"}


@pytest.mark.parametrize("name", ["hrc_cosmic_rays", "decam_artifacts"])
def test_manifests_of_the_recipes_can_be_read(sample_data: Path, name: str) -> None:
    manifest = Path(__file__).parents[1] / "experiments" / "manifests" / f"{name}.csv"
    root, unit = {
        "hrc_cosmic_rays": ("hst_hrc_ngc104", "section"),
        "decam_artifacts": ("decam_dq_cutouts", "exposure"),
    }[name]
    settings = FramesData(root=str(sample_data / root), manifest=str(manifest), split_unit=unit)  # type: ignore[arg-type]
    rows = read_manifest(settings, receptive_field_pixels=104)
    with manifest.open() as stream:
        listed = [line for line in csv.reader(stream) if line and not line[0].startswith("#")]
    assert len(rows) == len(listed) - 1 and {row.split for row in rows} == {"train", "val", "test"}
