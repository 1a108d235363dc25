"""Claims about preparing real frames: units, labels, and that what is masked decides nothing."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrid.config import DataError, FramesData
from astrid.data.background import subtract_background
from astrid.data.difference import background_sigma
from astrid.data.frames import Field
from astrid.data.preprocess import prepare_field
from astrid.data.rows import FrameRow, ImageFile, Section

SHAPE = (80, 90)
BAD = (slice(20, 40), slice(30, 60))


def noise(seed: int, *, level: float = 100.0, sigma: float = 5.0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, sigma, size=shape).astype(np.float32)


def add_stars(frame: np.ndarray, *, fwhm: float, flux: float, seed: int = 0, stars: int = 12) -> np.ndarray:
    """Add round Gaussian stars of up to `flux`, at places that depend on the seed alone."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]]
    width = fwhm / 2.3548
    for x0, y0, share in zip(
        *(generator.uniform(12, size - 12, stars) for size in frame.shape[::-1]),
        generator.uniform(0.3, 1, stars),
        strict=True,
    ):
        frame = frame + share * flux / (2 * np.pi * width**2) * np.exp(
            -((x - x0) ** 2 + (y - y0) ** 2) / (2 * width**2)
        )
    return frame.astype(np.float32)


class Workbench:
    """A folder in which planes become files and rows become fields."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = FramesData(root=str(folder), manifest="unused.csv", background_box=64)

    def row(self, planes: dict[str, np.ndarray], **columns: object) -> FrameRow:
        for name, plane in planes.items():
            fits.PrimaryHDU(plane).writeto(self.folder / f"{name}.fits", overwrite=True)
        images = {name: ImageFile(self.folder / f"{name}.fits") for name in planes}
        return FrameRow(number=7, name="f", field="f", split="train", **images, **columns)  # type: ignore[arg-type]

    def field(self, planes: dict[str, np.ndarray], **columns: object) -> Field:
        return prepare_field(self.row(planes, **columns), self.config)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def test_one_channel_is_in_units_of_background_sigma_above_the_background(bench: Workbench) -> None:
    science = noise(0)
    science[50, 60] += 500.0
    field = bench.field({"science": science})
    assert field.image.shape == (1, *SHAPE) and field.image.dtype == np.float32 and field.valid.all()
    assert not field.target.any() and field.fwhm_pixels is None
    assert abs(np.median(field.image)) < 0.05 and abs(np.std(field.image[0, :45]) - 1) < 0.03
    assert field.image[0, 50, 60] == pytest.approx(100, abs=5)


def test_a_visit_belongs_to_the_patch_of_sky_that_its_row_names(bench: Workbench) -> None:
    row = dataclasses.replace(bench.row({"science": noise(0)}), name="A#2", field="A")
    field = prepare_field(row, bench.config)
    assert (field.name, field.group) == ("A#2", "A")


def test_a_background_that_changes_slowly_is_removed() -> None:
    slope = np.add.outer(np.linspace(0, 300, 256), np.linspace(0, 200, 256))
    frame = noise(1, shape=(256, 256)) + slope.astype(np.float32)
    flat = subtract_background(frame, np.ones(frame.shape, dtype=bool), box=32)
    assert abs(np.median(flat)) < 0.5 and flat[64:-64, 64:-64].std() < 5.6


@pytest.mark.parametrize("shape", [(9, 9), (20, 200), (64, 64), (65, 127), (100, 101)])
def test_frames_of_any_shape_have_a_background(shape: tuple[int, int]) -> None:
    flat = subtract_background(noise(2, shape=shape), np.ones(shape, dtype=bool), box=64)
    assert flat.shape == shape and abs(np.median(flat)) < 2.0


def test_background_ignores_a_masked_quarter(bench: Workbench) -> None:
    frame, valid = noise(3), np.ones(SHAPE, dtype=bool)
    valid[:40, :45] = False
    frame[:40, :45] = 1e6
    flat = subtract_background(frame, valid, box=32)
    assert np.all(flat[~valid] == 0) and abs(np.median(flat[valid])) < 0.5


def test_a_frame_without_good_pixels_is_refused_by_its_row(bench: Workbench) -> None:
    with pytest.raises(
        DataError,
        match=r"row 7 \(f\): science .*: it has no good pixel at all among \d+, .* check for NaN",
    ):
        bench.field({"science": np.full(SHAPE, np.nan, dtype=np.float32)})


def test_a_constant_frame_is_refused_by_its_row(bench: Workbench) -> None:
    with pytest.raises(DataError, match=r"row 7 \(f\): science science\.fits: image must have background noise"):
        bench.field({"science": np.full(SHAPE, 3.0, dtype=np.float32)})


def test_a_constant_reference_is_named_as_the_one_at_fault(bench: Workbench) -> None:
    planes = {"science": noise(1), "reference": np.full(SHAPE, 3.0, dtype=np.float32)}
    with pytest.raises(DataError, match=r"row 7 \(f\): reference reference\.fits: image must have background noise"):
        bench.field(planes, fwhm_pixels=2.5, reference_fwhm_pixels=2.5, reference_scale=1.0)


PLANE = np.zeros(SHAPE, dtype=np.int16)
PLANE[5, 5:9] = 1, 2, 3, 4


@pytest.mark.parametrize(
    ("columns", "positive", "ignored", "unlabelled"),
    [
        ({}, {1, 2, 3, 4}, set(), set()),
        ({"target_bits": 1}, {1, 3}, set(), set()),
        ({"target_bits": 4, "ignore_bits": 2}, {4}, {2, 3}, set()),
        ({"target_bits": 1, "unlabelled_bits": 2}, {1}, set(), {2, 3}),
        ({"target_codes": (3, 4)}, {3, 4}, set(), set()),
        ({"target_codes": (3,), "ignore_codes": (1, 2)}, {3}, {1, 2}, set()),
        ({"ignore_codes": (1,)}, {2, 3, 4}, {1}, set()),
        ({"target_codes": (1,), "unlabelled_codes": (2,)}, {1}, set(), {2}),
    ],
)
def test_bits_and_codes_mean_what_they_say(
    bench: Workbench, columns: dict[str, object], positive: set[int], ignored: set[int], unlabelled: set[int]
) -> None:
    field = bench.field({"science": noise(4), "target": PLANE}, **columns)
    assert set(PLANE[field.target]) == positive
    assert set(PLANE[~field.valid]) == ignored | unlabelled
    assert set(PLANE[(field.image[0] == 0) & (PLANE > 0)]) == ignored


def test_a_positive_pixel_that_is_bad_is_no_target(bench: Workbench) -> None:
    field = bench.field({"science": noise(4), "target": PLANE, "valid": (PLANE != 2).astype(np.uint8)})
    assert set(PLANE[field.target]) == {1, 3, 4} and set(PLANE[~field.valid]) == {2}


def test_a_value_below_zero_is_no_target_unless_it_is_explained(bench: Workbench) -> None:
    plane = np.where(PLANE == 1, -1, PLANE).astype(np.int16)
    with pytest.raises(DataError, match=r"row 7 \(f\): target must be 0 .* above 0 .*, got -1; .* ignore_codes=-1"):
        bench.field({"science": noise(4), "target": plane})
    field = bench.field({"science": noise(4), "target": plane}, ignore_codes=(-1,))
    assert set(plane[field.target]) == {2, 3, 4}


def test_a_frame_in_which_nothing_is_to_be_found_has_an_empty_catalogue(bench: Workbench) -> None:
    blank = bench.field({"science": noise(4), "target": np.zeros(SHAPE, dtype=np.int16)})
    assert blank.sources is not None and len(blank.sources.x) == 0
    assert bench.field({"science": noise(4), "target": PLANE}).sources is None  # marked pixels are no list of sources
    assert bench.field({"science": noise(4)}).sources is None  # nor does a frame without truth have one


@pytest.mark.parametrize(
    ("plane", "columns", "message"),
    [
        ("target", {"target_bits": 300}, r"target_bits must be .* plane of 8 bits has, at most 128, got 256; bit n"),
        ("target", {"target_codes": (1,), "ignore_codes": (300,)}, "ignore_codes .* 0 to 255, got 300; mend it"),
        ("target", {"target_bits": 1, "unlabelled_bits": 2**40}, "unlabelled_bits must .* got 1099511627776; bit n"),
        ("mask", {"mask_bits": 256}, "mask_bits must be values of bits that its plane of 8 bits has"),
        ("mask", {"mask_codes": (-1,)}, "mask_codes must be values that its plane of 8 bits holds, 0 to 255, got -1"),
    ],
)
def test_bits_and_codes_that_the_type_of_their_plane_cannot_hold_are_refused(
    bench: Workbench, plane: str, columns: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=rf"row 7 \(f\): {message}"):
        bench.field({"science": noise(4), plane: PLANE.astype(np.uint8)}, **columns)
    bench.field({"science": noise(4), plane: PLANE.astype(np.uint8)}, **{f"{plane}_bits": 128})


def test_the_sign_bit_of_a_plane_is_a_bit_like_others(bench: Workbench) -> None:
    plane = np.zeros(SHAPE, dtype=np.int16)
    plane[3, 4] = -(2**15)
    assert np.argwhere(bench.field({"science": noise(4), "target": plane}, target_bits=2**15).target).tolist() == [
        [3, 4]
    ]


def masked_plane(kind: str) -> dict[str, np.ndarray]:
    plane = np.zeros(SHAPE, dtype=np.int16)
    plane[BAD] = 1
    weight = np.ones(SHAPE, dtype=np.float32)
    weight[BAD] = 0
    weight[25, 35:37] = -1, np.nan
    return {"valid": {"valid": 1 - plane}, "weight": {"weight": weight}, "ignored": {"target": 4 * plane}}[kind]


@pytest.mark.parametrize("kind", ["valid", "weight", "ignored"])
@pytest.mark.parametrize("paired", [False, True])
def test_values_under_the_mask_change_no_bit(bench: Workbench, kind: str, paired: bool) -> None:
    """Whatever lies under the mask, nothing included, the field is the same to the last bit."""
    science, reference = (add_stars(noise(seed), fwhm=fwhm, flux=2e4) for seed, fwhm in ((5, 3.0), (6, 4.0)))
    planes = {**masked_plane(kind), "science": science} | ({"reference": reference} if paired else {})
    columns = {"ignore_bits": 4, "target_bits": 1} if kind == "ignored" else {}
    first = bench.field(planes, **columns)
    assert not first.valid[BAD].any() and first.valid.sum() == first.valid.size - first.valid[BAD].size
    assert np.all(first.image[:, ~first.valid] == 0)
    for junk in (0.0, 1e30, np.nan, -np.inf):
        for name in ("science", "reference") if paired else ("science",):
            planes[name] = planes[name].copy()
            planes[name][BAD] = junk
        again = bench.field(planes, **columns)
        for part in ("image", "target", "valid"):
            assert getattr(again, part).tobytes() == getattr(first, part).tobytes()


def test_pixels_that_are_not_finite_are_invalid_in_either_frame(bench: Workbench) -> None:
    science, reference = (add_stars(noise(seed), fwhm=3.0, flux=2e4) for seed in (5, 6))
    science[10, 20], reference[30, 40] = np.nan, np.inf
    field = bench.field({"science": science, "reference": reference})
    assert np.argwhere(~field.valid).tolist() == [[10, 20], [30, 40]]
    assert np.isfinite(field.image).all() and np.all(field.image[:, ~field.valid] == 0)


def test_unlabelled_pixels_stay_in_sight_but_do_not_count(bench: Workbench) -> None:
    science = noise(7)
    with_labels = bench.field({"science": science, "target": PLANE}, target_codes=(1,), unlabelled_codes=(2, 3, 4))
    without = bench.field({"science": science})
    assert np.array_equal(with_labels.image, without.image) and with_labels.valid.sum() == SHAPE[0] * SHAPE[1] - 3


@pytest.mark.parametrize(("column", "warns"), [("ignore_codes", True), ("unlabelled_codes", False)])
def test_blanks_that_frame_the_positives_are_warned_of(
    bench: Workbench, caplog: pytest.LogCaptureFixture, column: str, warns: bool
) -> None:
    plane = np.zeros(SHAPE, dtype=np.uint8)
    plane[20:23, 20:23] = 2
    plane[21, 21] = 1
    with caplog.at_level(logging.WARNING):
        bench.field({"science": noise(8), "target": plane}, target_codes=(1,), **{column: (2,)})
    assert ("gives the positives away" in caplog.text) is warns


def test_a_section_has_the_pixels_of_its_frame(bench: Workbench) -> None:
    """One exposure has one noise: parts of it, on whichever side of a split, are scaled alike."""
    science, plane = noise(9), np.random.default_rng(9).integers(0, 4, SHAPE).astype(np.int16)
    science[:, 60:] = 100 + 3 * (science[:, 60:] - 100)
    planes, columns = {"science": science, "target": plane}, {"target_codes": (3,), "ignore_codes": (1,)}
    part = Section(11, 80, 21, 75)
    cut, whole = bench.field(planes, section=part, **columns), bench.field(planes, **columns)
    assert cut.image.shape == (1, 55, 70)
    for name in ("image", "target", "valid"):
        assert np.array_equal(getattr(cut, name), getattr(whole, name)[..., *part.slices])


def pair(*, scale: float, transient: float = 0.0) -> dict[str, np.ndarray]:
    science = add_stars(noise(10, shape=(160, 160)), fwhm=4.0, flux=3e4, stars=20)
    reference = add_stars(noise(11, sigma=3.0 / scale, shape=(160, 160)), fwhm=3.0, flux=3e4 / scale, stars=20)
    return {"science": add_stars(science, fwhm=4.0, flux=transient, seed=5, stars=1), "reference": reference}


def test_seeing_and_flux_scale_are_measured_on_stars(bench: Workbench) -> None:
    field = bench.field(pair(scale=2.5))
    assert field.image.shape[0] == 3 and field.fwhm_pixels == pytest.approx(4.0, rel=0.03)
    stars = field.image[0] > 20
    assert np.abs(field.image[2][stars]).mean() < 0.1 * field.image[0][stars].mean()


def test_given_seeing_and_scale_are_used_instead(bench: Workbench) -> None:
    row = bench.row(pair(scale=2.5), fwhm_pixels=4.0, reference_fwhm_pixels=3.0, reference_scale=2.5)
    right = prepare_field(row, bench.config)
    wrong = prepare_field(dataclasses.replace(row, reference_scale=1.0), bench.config)
    stars = right.image[0] > 20
    assert np.abs(right.image[2][stars]).mean() < 0.2 * np.abs(wrong.image[2][stars]).mean()


def test_a_transient_stands_out_in_the_difference_alone(bench: Workbench) -> None:
    field = bench.field(pair(scale=0.7, transient=3e3))
    generator = np.random.default_rng(5)
    x, y = (int(generator.uniform(12, 148, 1)[0].round()) for _ in range(2))
    assert field.image[2, y - 1 : y + 2, x - 1 : x + 2].mean() > 5
    assert abs(field.image[1, y - 1 : y + 2, x - 1 : x + 2].mean()) < 3


def test_a_pair_without_stars_names_the_columns_that_help(bench: Workbench) -> None:
    planes = {"science": noise(12), "reference": noise(13)}
    with pytest.raises(DataError, match=r"row 7 \(f\): at least 3 stars .* in the columns fwhm and reference_fwhm"):
        bench.field(planes)
    with pytest.raises(DataError, match=r"row 7 \(f\): at least 3 stars .* in the column reference_scale"):
        bench.field(planes, fwhm_pixels=3.0, reference_fwhm_pixels=3.0)
    field = bench.field(planes, fwhm_pixels=3.0, reference_fwhm_pixels=3.0, reference_scale=1.0)
    assert field.image[2].std() == pytest.approx(1, abs=0.1)


def test_seeing_measured_on_real_frames_agrees_with_their_headers(bench: Workbench, sample_data: Path) -> None:
    """The pipeline that made them measured them as well, with wider Gaussians: within a tenth."""
    for science, reference, fwhm in (("DEC-OBS04b", "DEC-OBS18a", 5.158885), ("DEC-OBS18c", "DEC-OBS04d", 3.613781)):
        images = [ImageFile(sample_data / "decam_sfft_stack" / f"{name}.mini.fits.gz") for name in (science, reference)]
        row = FrameRow(1, "f", "f", "train", images[0], reference=images[1])
        found = prepare_field(row, bench.config).fwhm_pixels
        assert found is not None and 0.9 * fwhm < found < fwhm


def test_a_crowded_field_keeps_the_shape_of_its_sources(bench: Workbench, sample_data: Path) -> None:
    """One sigma a frame and one cell of background: the image is the frame, shifted and scaled."""
    path = sample_data / "hst_hrc_ngc104" / "j8bt06nyq_flt_driz.fits.gz"
    row = FrameRow(1, "f", "f", "train", ImageFile(path, "SCI"))
    field = prepare_field(row, dataclasses.replace(bench.config, background_box=1024))
    stored = fits.getdata(path, "SCI").astype(np.float64)
    slope, offset = np.polyfit(stored.ravel(), field.image[0].astype(np.float64).ravel(), 1)
    assert np.allclose(slope * stored + offset, field.image[0], atol=0.01)
    assert 1 / slope == pytest.approx(background_sigma(stored.astype(np.float32), field.valid).sigma, rel=0.01)


@pytest.mark.parametrize("value", [1e12, -1e25, 1e38])
def test_one_absurd_value_is_not_valid_and_spoils_no_other(tmp_path: Path, value: float) -> None:
    image = np.random.default_rng(0).normal(100, 3, (64, 64)).astype(np.float32)
    image[30, 40] = value
    fits.writeto(tmp_path / "one.fits", image)
    row = FrameRow(number=2, name="f", field="f", split="train", science=ImageFile(tmp_path / "one.fits"))
    made = prepare_field(row, FramesData(root=str(tmp_path), manifest="none"))
    assert np.argwhere(~made.valid).tolist() == [[30, 40]]
    assert np.abs(made.image).max() < 6
