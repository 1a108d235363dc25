"""Claims about copies: turned, mirrored or cut, they are found; frames that are no copies are not taken for some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.data import copies
from astrid.data.copies import describe_pixels, find_copies
from astrid.data.frames import read_image


def noise(seed: int, shape: tuple[int, int] = (90, 110)) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 5, size=shape).astype(np.float32)


def is_copy(one: np.ndarray, two: np.ndarray) -> bool:
    return find_copies([describe_pixels(one), describe_pixels(two)], [0, 1]) == (0, 1)


TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the same": lambda image: image,
    "turned by 90": np.rot90,
    "turned by 180": lambda image: np.rot90(image, 2),
    "turned by 270": lambda image: np.rot90(image, 3),
    "mirrored left to right": np.fliplr,
    "mirrored top to bottom": np.flipud,
    "transposed": np.transpose,
    "mirrored along the other diagonal": lambda image: np.rot90(np.transpose(image), 2),
}


@pytest.mark.parametrize("how", TURNS)
def test_a_turned_or_mirrored_copy_is_found_whole_and_cut(how: str) -> None:
    image = noise(1)
    assert is_copy(image, TURNS[how](image))
    assert is_copy(image, TURNS[how](image[13:70, 21:80]))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    top=st.integers(0, 50),
    left=st.integers(0, 70),
    how=st.sampled_from(sorted(TURNS)),
    counts=st.booleans(),
)
def test_any_cut_of_40_pixels_is_found(seed: int, top: int, left: int, how: str, counts: bool) -> None:
    image = np.random.default_rng(seed).poisson(200, (90, 110)).astype(np.float32) if counts else noise(seed)
    assert is_copy(image, TURNS[how](image[top : top + 40, left : left + 40]))


@settings(max_examples=60, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=2, unique=True),
    light=st.floats(0.01, 1e4),
    saturation=st.floats(2, 1e5),
)
def test_frames_of_other_photons_are_no_copies(seeds: list[int], light: float, saturation: float) -> None:
    """From frames that count single photons to those that are saturated everywhere."""
    one, two = (np.minimum(np.random.default_rng(seed).poisson(light, (80, 80)), saturation) for seed in seeds)
    assert not is_copy(one, two)


def test_two_exposures_of_one_sky_are_no_copies() -> None:
    rng = np.random.default_rng(5)
    sky = 100 + 5000 * np.exp(-np.add.outer((np.arange(90) - 40) ** 2, (np.arange(90) - 50) ** 2) / 8)
    assert not is_copy(rng.poisson(sky), rng.poisson(sky))


@pytest.mark.parametrize(
    "flat", [np.zeros((60, 60)), np.full((60, 60), np.nan), np.add.outer(np.arange(60.0), np.zeros(60))]
)
def test_frames_without_anything_to_recognise_are_no_copies(flat: np.ndarray) -> None:
    assert not is_copy(flat, flat.copy())


def test_blanked_pixels_and_an_image_too_small_do_not_disturb() -> None:
    image = noise(2)
    blanked = image.copy()
    blanked[30:50, 30:50] = np.nan
    assert is_copy(image, blanked) and not is_copy(image, image[:5, :5])


def test_only_copies_in_another_group_count_and_the_first_pair_is_named() -> None:
    one, other = describe_pixels(noise(3)), describe_pixels(noise(4))
    assert find_copies([one, other, one], [0, 1, 0]) is None
    assert find_copies([other, one, one], [0, 1, 2]) == (1, 2)
    assert find_copies([], []) is None


def test_what_may_be_shared_is_shared_among_its_like_only() -> None:
    one, other = describe_pixels(noise(3)), describe_pixels(noise(4))
    assert find_copies([other, one, one], [0, 1, 2], may_share=[False, True, True]) is None
    assert find_copies([one, one, one], [0, 1, 2], may_share=[True, False, True]) == (0, 1)
    assert find_copies([one, one], [0, 0], may_share=[True, False]) is None


@pytest.mark.parametrize("images", [40, 400, 4000])
def test_what_many_images_share_makes_no_more_pairs_for_more_of_them(images: int) -> None:
    lenient = np.zeros(images, dtype=bool)
    pairs = list(copies._pairs_across(np.arange(images), [image % 2 for image in range(images)], lenient))
    assert len(pairs) == copies.MOST_OF_GROUP**2 and all(one < two for one, two in pairs)


def test_a_copy_is_found_however_many_images_share_a_defect_with_it() -> None:
    common, alike = np.array([7, 8], dtype=np.uint64), np.array([7, 8, 100, 101, 102], dtype=np.uint64)
    keys = [common] * 500 + [alike] + [common] * 500 + [alike]
    assert find_copies(keys, [0] * 501 + [1] * 501) == (500, 1001)
    assert find_copies([common] * 1000, [image % 2 for image in range(1000)]) is None
    assert find_copies([alike] * 1000, [image % 2 for image in range(1000)]) == (0, 1)


def test_real_frames_are_copies_of_their_turned_cuts_and_of_nothing_else(sample_data: Path) -> None:
    """Exposures of one field and detector, raw and reduced, and calibration frames; each turned and cut."""
    names = [
        *sorted((sample_data / "decam_dq_cutouts").glob("tc[46]*_ooi_*")),
        *sorted((sample_data / "decam_sfft_stack").glob("*.mini.fits.gz")),
        *sorted((sample_data / "pair_eso085").iterdir()),
        *sorted((sample_data / "huntsman_raw_calib").glob("*_0.fits.gz")),
    ]
    images = [read_image(name).data for name in names]
    keys = [describe_pixels(image) for image in images]
    assert find_copies(keys, range(len(keys))) is None
    for number, image in enumerate(images):
        height, width = image.shape
        cut = np.rot90(image[height // 4 : -height // 4, width // 4 : -width // 4], 1 + number % 3)
        found = find_copies([*keys, describe_pixels(cut)], range(len(keys) + 1))
        is_flat = names[number].name.startswith("bias_0")  # a bias of 32 everywhere has nothing to recognise
        assert found == (None if is_flat else (number, len(keys))), names[number].name
