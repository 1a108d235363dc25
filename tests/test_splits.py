"""Claims about splits: what is drawn together, shares of positives, and leaks that are refused by their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.config import DataError, FramesData
from astrid.data.footprints import centre, footprint, overlapping
from astrid.data.frames import inspect_image, read_image
from astrid.data.manifest import read_manifest
from astrid.data.rows import FrameRow, ImageFile, Section
from astrid.data.splits import assign_splits, group_rows

SHAPE = (64, 72)
PIXEL = 1 / 3600  # degrees


def write(path: Path, values: np.ndarray, *, ra: float | None = None, dec: float = 0.0) -> None:
    """Write an image whose middle is at (ra, dec) degrees, if `ra` is given."""
    hdu = fits.PrimaryHDU(np.asarray(values, dtype=np.float32))
    if ra is not None:
        height, width = values.shape
        hdu.header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=ra, CRVAL2=dec, CDELT1=-PIXEL, CDELT2=PIXEL)
        hdu.header.update(CRPIX1=(width + 1) / 2, CRPIX2=(height + 1) / 2)
    hdu.writeto(path, overwrite=True)


def exposure(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).poisson(300, size=shape).astype(np.float32)


def read(folder: Path, text: str, **knobs: Any) -> list[FrameRow]:
    (folder / "m.csv").write_text(text)
    config = FramesData(root=str(folder), manifest=str(folder / "m.csv"), cache=str(folder / "cache"), **knobs)
    return read_manifest(config, receptive_field_pixels=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abc"):
        write(tmp_path / f"{name}.fits", exposure(seed))
    return tmp_path


THREE = "field,science,split\nA,a.fits,train\nB,b.fits,val\nC,c.fits,test\n"
TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned by 90": np.rot90,
    "turned by 180": lambda image: np.rot90(image, 2),
    "turned by 270": lambda image: np.rot90(image, 3),
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "cut": lambda image: image[9:51, 5:60],
    "cut and turned": lambda image: np.rot90(image[9:51, 5:60]),
}


@pytest.mark.parametrize("unit", ["field", "exposure", "section"])
@pytest.mark.parametrize("how", TURNS)
def test_a_copy_in_another_split_is_refused_whatever_the_unit(folder: Path, how: str, unit: str) -> None:
    write(folder / "copy.fits", TURNS[how](read_image(folder / "a.fits").data))
    with pytest.raises(DataError, match=r"^m\.csv, rows 2 \(train\) and 5 \(test\): .* share pixels.*remove the copy$"):
        read(folder, THREE + "D,copy.fits,test\n", split_unit=unit)
    assert len(read(folder, THREE + "A,copy.fits,train\n", split_unit=unit)) == 4


@pytest.mark.parametrize("unit", ["field", "exposure"])
def test_a_planted_duplicate_is_refused_under_any_name(folder: Path, unit: str) -> None:
    write(folder / "copy.fits", read_image(folder / "a.fits").data, ra=40.0)
    with pytest.raises(DataError, match="row 5: science must occur once, row 2 has the same frame"):
        read(folder, THREE + "D,copy.fits,test\n", split_unit=unit)


@pytest.fixture
def six(folder: Path) -> Path:
    for seed, name in enumerate("def", start=3):
        write(folder / f"{name}.fits", exposure(seed))
    return folder


REFERENCES = "field,science,reference,split\nA,a.fits,{0}.fits,train\nB,b.fits,{1}.fits,val\nC,{2}.fits,f.fits,test\n"


@pytest.mark.parametrize("unit", ["field", "exposure", "section"])
def test_the_reference_of_one_split_is_no_science_frame_of_another(six: Path, unit: str) -> None:
    told = r"rows 2 \(train\) and 4 \(test\): the reference of the first must not be the science frame of the second"
    with pytest.raises(DataError, match=f"{told}.*; put them into one split, or name another reference$"):
        read(six, REFERENCES.format("d", "e", "d"), split_unit=unit)
    write(six / "turned.fits", np.rot90(exposure(3), 2))
    with pytest.raises(DataError, match=r"rows 2 \(train\) and 4 \(test\): .* share pixels"):
        read(six, REFERENCES.format("d", "e", "turned"), split_unit=unit)


def test_a_reference_is_shared_where_less_than_the_sky_decides(six: Path) -> None:
    for unit in ("exposure", "section"):
        assert len(read(six, REFERENCES.format("d", "d", "c"), split_unit=unit)) == 3
    with pytest.raises(DataError, match=r"rows 2 \(train\) and 3 \(val\): different splits must not share a reference"):
        read(six, REFERENCES.format("d", "d", "c"))


@pytest.mark.parametrize("values", [exposure(0), np.zeros(SHAPE)])  # without information only the frames tell
def test_sections_of_a_reference_and_of_a_science_frame_lie_apart(six: Path, values: np.ndarray) -> None:
    write(six / "a.fits", values)
    text = 'field,science,reference,split,section\nA,b.fits,a.fits,train,"[1:30,1:64]"\nB,c.fits,d.fits,val,\n'
    close, apart = (f'{text}C,a.fits,e.fits,test,"[{column}:72,1:64]"\n' for column in (31, 41))
    with pytest.raises(DataError, match=r"rows 2 \(train\) and 4 \(test\): the reference of the first .* got 0"):
        read(six, close, split_unit="section")
    assert len(read(six, apart, split_unit="section")) == 3


def test_an_overlapping_dither_is_refused_and_its_neighbour_is_not(folder: Path) -> None:
    for seed, (name, steps) in enumerate({"left": 0, "dither": 40, "right": 80}.items(), start=10):
        write(folder / f"{name}.fits", exposure(seed), ra=150.0 + steps * PIXEL)
    with pytest.raises(DataError, match=r"rows 5 \(train\) and 6 \(test\): .* overlap on the sky"):
        read(folder, THREE + "L,left.fits,train\nD,dither.fits,test\n")
    assert len(read(folder, THREE + "L,left.fits,train\nR,right.fits,test\n")) == 5


def test_a_revisit_is_refused_unless_exposures_decide(folder: Path) -> None:
    write(folder / "again.fits", exposure(20))
    text = THREE + "A,again.fits,test\n"
    for unit in ("field", "night"):
        nights = text if unit == "field" else with_nights(text, "1234")
        with pytest.raises(DataError, match=r"rows 2 \(train\) and 5 \(test\): .* share a field"):
            read(folder, nights, split_unit=unit)
    assert len(read(folder, text, split_unit="exposure")) == 4


def with_nights(text: str, nights: str) -> str:
    header, *rows = text.splitlines()
    return "\n".join([f"{header},night", *(f"{row},{night}" for row, night in zip(rows, nights, strict=True))])


def test_a_night_in_two_splits_is_refused_where_nights_decide(folder: Path) -> None:
    text = with_nights(THREE, "121")
    with pytest.raises(DataError, match=r"rows 2 \(train\) and 4 \(test\): different splits must not share a night"):
        read(folder, text, split_unit="night")
    assert len(read(folder, text)) == 3
    with pytest.raises(DataError, match=r"row 3: .* needs the night of every row"):
        read(folder, with_nights(THREE, ["1", "", "3"]), split_unit="night")  # type: ignore[arg-type]


def test_real_frames_copied_turned_and_revisited_are_refused(sample_data: Path, tmp_path: Path) -> None:
    place = sample_data / "decam_dq_cutouts"
    one = next(place.glob("tc6_c4d_150110*_ooi_*"))
    others = [next(place.glob(f"{name}*_ooi_*")) for name in ("tc4_V4.8.2_CP20170315", "tc9_c4d_131122")]
    write(tmp_path / "turned.fits", np.rot90(read_image(one).data)[5:80, 10:90])
    text = f"field,science,split\nA,{one},train\nB,{others[0]},val\nC,{others[1]},test\n"
    assert len(read(tmp_path, text)) == 3
    with pytest.raises(DataError, match=r"rows 2 \(train\) and 5 \(test\): .* share pixels"):
        read(tmp_path, text + "D,turned.fits,test\n")
    revisit = next(place.glob("tc6_c4d_181215_045000*_ooi_*"))
    with pytest.raises(DataError, match=r"rows 2 \(train\) and 5 \(test\): .* overlap on the sky"):
        read(tmp_path, text + f"D,{revisit},test\n")


@settings(max_examples=40, deadline=None)
@given(
    apart=st.floats(1.001, 400),
    bearing=st.floats(0, 2 * np.pi),
    ra=st.floats(0, 360),
    dec=st.floats(-89.9, 89.9),
    turn=st.floats(0, 2 * np.pi),
)
def test_disjoint_fields_never_overlap_and_shifted_ones_do(
    apart: float, bearing: float, ra: float, dec: float, turn: float
) -> None:
    """Frames of 64x72 pixels, turned at will, whose centres are further apart than their diagonals can reach."""
    reach = float(np.hypot(*SHAPE)) * PIXEL
    near, far = (sky_of(ra, dec, bearing, distance, turn) for distance in (0.3 * reach, apart * reach))
    own = sky_of(ra, dec, 0.0, 0.0, 0.0)
    assert list(overlapping([own, far], matters=lambda *pair: True)) == []
    assert list(overlapping([own, near], matters=lambda *pair: True)) == [(0, 1)]


def test_a_footprint_reaches_to_the_outer_edges_of_its_pixels() -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [0.0, 0.0], [-PIXEL, PIXEL]
    corners = footprint(wcs, Section(11, 30, 6, 15))  # 20 by 10 pixels
    assert corners is not None
    spans = np.degrees(np.ptp(corners[:, 1:], axis=0)) / PIXEL
    assert spans == pytest.approx([20, 10], rel=1e-5)


def sky_of(ra: float, dec: float, bearing: float, distance: float, turn: float) -> np.ndarray:
    """Return the footprint of a frame so many degrees from a place in a direction, turned about its middle."""
    middle = SkyCoord(ra, dec, unit="deg").directional_offset_by(bearing * units.rad, distance * units.deg)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [middle.ra.deg, middle.dec.deg]
    wcs.wcs.crpix = [(SHAPE[1] + 1) / 2, (SHAPE[0] + 1) / 2]
    cos, sin = np.cos(turn), np.sin(turn)
    wcs.wcs.cd = PIXEL * np.array([[-cos, sin], [sin, cos]])
    corners = footprint(wcs, Section(1, SHAPE[1], 1, SHAPE[0]))
    assert corners is not None
    return corners


@settings(max_examples=10, deadline=None)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=6, max_size=6, unique=True), decs=st.permutations(range(6)))
def test_disjoint_fields_are_never_refused(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int], decs: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("disjoint")
    lines = ["field,science"]
    for seed, dec in zip(seeds, decs, strict=True):
        write(folder / f"{seed}.fits", exposure(seed), ra=10.0, dec=dec * 1.01 * SHAPE[0] * PIXEL)
        lines.append(f"F{seed},{seed}.fits")
    assert {row.split for row in read(folder, "\n".join(lines))} == {"train", "val", "test"}


def rows_of(fields: str, positives: set[str], nights: str | None = None) -> list[FrameRow]:
    """Rows of fields, a letter each, some of them with positives."""
    nights = nights or fields
    return [
        FrameRow(
            number, name, name, None, ImageFile(Path(f"{number}.fits")), picture=f"picture {number}", night=night,
            positives=int(name in positives),
        )
        for number, (name, night) in enumerate(zip(fields, nights, strict=True), start=2)
    ]  # fmt: skip


def draw(rows: list[FrameRow], seed: int = 0, **knobs: Any) -> list[FrameRow]:
    return assign_splits(rows, val_fraction=0.2, test_fraction=0.2, seed=seed, **knobs)


@given(seed=st.integers(0, 1000), positive=st.integers(3, 20))
def test_every_split_has_its_share_of_fields_with_positives(seed: int, positive: int) -> None:
    letters = "abcdefghijklmnopqrst"
    rows = draw(rows_of(letters, set(letters[:positive])), seed)
    total = Counter(row.split for row in rows)
    own = Counter(row.split for row in rows if row.positives)
    assert (total["val"], total["test"]) == (4, 4)
    for split in ("val", "test"):
        assert own[split] == max(1, round(0.2 * positive))


def test_two_fields_with_positives_train_and_test_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(5):
        rows = draw(rows_of("abcdefghij", {"a", "b"}), seed)
        assert sorted(str(row.split) for row in rows if row.positives) == ["test", "train"]
    assert "2 fields have positives, too few for train, val and test: val has none" in caplog.text


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    rows = rows_of("abcdefghij", {"a", "b", "c", "d"})
    by_field = {row.field: row.split for row in draw(rows, 3)}
    assert {row.field: row.split for row in draw(rows[::-1], 3)} == by_field
    assert any({row.field: row.split for row in draw(rows, seed)} != by_field for seed in range(4, 8))


def test_nights_and_fields_are_drawn_in_chains() -> None:
    """Field a was seen on nights 1 and 2, b on night 2: all three go together."""
    rows = draw(rows_of("aabcdefgh", set(), "122345678"), unit="night")
    assert len({row.split for row in rows if row.field in "ab"}) == 1
    assert {row.split for row in rows} == {"train", "val", "test"}


def test_a_chain_is_named_by_its_first_field_in_the_alphabet() -> None:
    rows = rows_of("dcba", set(), "1223")
    assert group_rows(rows, "night") == ["d", "b", "b", "a"]


def test_exposures_are_drawn_one_by_one_where_they_decide() -> None:
    rows = draw(rows_of("aaaaaa", set()), unit="exposure")
    assert {row.split for row in rows} == {"train", "val", "test"}
    with pytest.raises(DataError, match="its 1 fields must fill train, val and test"):
        draw(rows_of("aaaaaa", set()))


def test_the_footprint_of_a_real_frame_holds_its_pixels(sample_data: Path) -> None:
    info = inspect_image(next((sample_data / "decam_dq_cutouts").glob("tc6_c4d_150110*_ooi_*")))
    corners = footprint(info.wcs, Section(1, info.shape[1], 1, info.shape[0]))
    assert corners is not None
    inside = info.wcs.pixel_to_world(info.shape[1] / 2, info.shape[0] / 2).icrs.cartesian.xyz.value
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    assert (normals @ inside > 0).all() and (normals @ -inside < 0).all()


def test_the_middle_of_a_footprint_is_that_of_its_pixels(tmp_path: Path) -> None:
    write(tmp_path / "frame.fits", exposure(0), ra=150.0)
    corners = footprint(inspect_image(tmp_path / "frame.fits").wcs, Section(1, SHAPE[1], 1, SHAPE[0]))
    assert corners is not None
    middle = SkyCoord(150.0, 0.0, unit="deg").cartesian.xyz.value
    assert np.abs(centre(corners) - middle).max() < 0.01 * np.radians(PIXEL)
