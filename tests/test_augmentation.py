"""Augmentation changes what it says, image, target and valid alike, and nothing else."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from astrid.augmentation import CHANGES, augment, orient
from astrid.augmentation.draws import Draws
from astrid.augmentation.figures import draw_changes
from astrid.augmentation.geometry import shift
from astrid.augmentation.photometry import convolve, fresh_noise, gaussian_kernels
from astrid.config import AugmentConfig, ConfigError, FramesData
from astrid.config.preprocess import PreprocessConfig
from astrid.data.dataset import Batch

OFF = AugmentConfig(flips=False)
SEED = (3, 1, 4)


def all_on(probability: float) -> AugmentConfig:
    return AugmentConfig(**{f"{name}_probability": probability for name in CHANGES})


def only(name: str, **knobs: float) -> AugmentConfig:
    return dataclasses.replace(OFF, flips=name == "flip", **{f"{name}_probability": 1.0, **knobs})


def noise_tiles(samples: int = 8, *, channels: int = 3, size: int = 32) -> Batch:
    """Return unit noise whose difference is that of the frames, with some positive and some blank pixels."""
    generator = torch.Generator().manual_seed(0)
    image = fresh_noise(torch.zeros(samples, channels, size, size), Draws([0], device=torch.device("cpu")), OFF)
    rare = torch.rand(2, samples, 1, size, size, generator=generator)
    target, valid = rare[0] < 0.1, rare[1] > 0.1
    return {"image": torch.where(valid, image, 0.0), "target": target & valid, "valid": valid}


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_eight_orientations_are_all_different_and_turn_all_planes_alike() -> None:
    square = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(8, 1, 1, 1)
    turned = orient({"image": square, "target": square * 2}, torch.arange(8))
    assert torch.equal(turned["target"], turned["image"] * 2)
    assert len({tuple(one.flatten().tolist()) for one in turned["image"]}) == 8
    corners = {tuple(sorted(one[0, ::2, ::2].flatten().tolist())) for one in turned["image"]}
    assert corners == {(0.0, 2.0, 6.0, 8.0)}


def test_a_shift_by_hand() -> None:
    image = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    moved = shift({"image": image, "target": image > 8, "valid": image > 0}, torch.tensor([[1, -1]]))
    assert moved["image"][0, 0].tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]
    assert moved["valid"][0, 0].tolist() == [[False] * 3, [True, True, False], [True, True, False]]
    assert not moved["target"].any()  # the corner has left the tile


@given(st.integers(0, 2**32), st.sampled_from(["flip", "shift"]))
def test_moves_take_every_pixel_with_its_target_and_its_validity(seed: int, name: str) -> None:
    batch = noise_tiles(4)
    marked = batch | {"image": torch.cat([batch["image"], batch["target"], batch["valid"]], dim=1)}
    moved = augment(marked, only(name), seed=(seed,))
    assert torch.equal(moved["image"][:, 3:4], moved["target"].float())
    assert torch.equal(moved["image"][:, 4:5], moved["valid"].float())


def test_a_shift_never_stays_and_reaches_as_far_as_it_says() -> None:
    point = torch.zeros(600, 1, 9, 9)
    point[:, :, 4, 4] = 1
    moved = augment(
        {"image": point, "target": point > 0, "valid": point == point}, only("shift", shift_pixels=1), seed=SEED
    )
    places = {tuple(where.tolist()) for where in moved["target"].nonzero()[:, 2:]}
    assert places == {(y, x) for y in (3, 4, 5) for x in (3, 4, 5)} - {(4, 4)}


def test_with_probability_0_nothing_is_done_at_all() -> None:
    batch = noise_tiles()
    assert augment(batch, OFF, seed=SEED) is batch
    assert augment(batch, AugmentConfig(flip_probability=0.0), seed=SEED) is batch


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "flip"])
def test_with_probability_1_every_sample_is_changed(name: str) -> None:
    batch = noise_tiles(64)
    changed = augment(batch, only(name), seed=SEED)
    assert (changed["image"] != batch["image"]).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("name", CHANGES)
def test_with_probability_one_half_the_others_stay_bit_for_bit(name: str) -> None:
    batch = noise_tiles(200)
    config = dataclasses.replace(only(name), **{f"{name}_probability": 0.5})
    stayed = (augment(batch, config, seed=SEED)["image"] == batch["image"]).flatten(1).all(dim=1)
    assert 70 < int(stayed.sum()) < (150 if name == "flip" else 130)


@pytest.mark.parametrize("name", ["flux", "blur", "sky", "noise"])
def test_brightness_leaves_truth_and_blank_pixels_alone(name: str) -> None:
    batch = noise_tiles()
    changed = augment(batch, only(name), seed=SEED)
    assert torch.equal(changed["target"], batch["target"])
    assert torch.equal(changed["valid"], batch["valid"])
    assert not changed["image"].masked_select(~batch["valid"]).any()


@pytest.mark.parametrize("name", ["flux", "blur", "sky", "noise", "defect"])
def test_pixels_that_are_seen_but_not_scored_change_like_the_others(name: str) -> None:
    batch = noise_tiles()
    hidden = batch | {"valid": torch.zeros_like(batch["valid"])}
    one, two = (augment(either, only(name, dead_share=0, dead_columns=0), seed=SEED) for either in (batch, hidden))
    assert torch.equal(one["image"], two["image"])
    assert not two["valid"].any()


@pytest.mark.parametrize("name", ["noise", "blur"])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_stays_of_unit_variance(name: str, channels: int) -> None:
    batch = noise_tiles(40, channels=channels, size=64)
    batch["image"] = fresh_noise(batch["image"], Draws([7], device=torch.device("cpu")), OFF)
    changed = augment(batch | {"valid": batch["valid"] | True}, only(name, noise_sigma=3.0), seed=SEED)["image"]
    inside = changed[:, :, 6:-6, 6:-6]
    assert inside.std(dim=(0, 2, 3)) == pytest.approx(torch.ones(channels), rel=0.02)


def test_noise_of_a_difference_is_that_of_science_less_that_of_the_reference() -> None:
    config = dataclasses.replace(OFF, difference_share=0.6)
    made = fresh_noise(torch.zeros(10, 3, 64, 64), Draws([7], device=torch.device("cpu")), config)
    science, reference, difference = made.transpose(0, 1).flatten(1)
    assert (difference * science).mean() == pytest.approx(0.6, abs=0.02)
    assert (difference * reference).mean() == pytest.approx(-0.8, abs=0.02)


def test_added_noise_is_that_of_the_science_frame() -> None:
    batch = {"image": torch.full((400, 3, 16, 16), 4.0), "valid": torch.ones(400, 1, 16, 16, dtype=torch.bool)}
    config = only("noise", noise_sigma=2.0, difference_share=0.5)
    science, reference, difference = augment(batch, config, seed=SEED)["image"].unbind(dim=1)
    assert torch.equal(reference, batch["image"][:, 1])
    sigma = (16 / science.mean(dim=(1, 2)) ** 2 - 1).clamp(min=0).sqrt()  # a level of 4 became 4 / sqrt(1 + sigma**2)
    assert sigma.max() == pytest.approx(2.0, rel=0.1)
    assert science.std(dim=(1, 2)) == pytest.approx(sigma / torch.sqrt(1 + sigma**2), rel=0.25, abs=0.15)
    shown = difference * torch.sqrt(1 + sigma**2 / 4)[:, None, None] - 4
    added = science * torch.sqrt(1 + sigma**2)[:, None, None] - 4
    assert (shown * added).mean() / (added * added).mean() == pytest.approx(0.5, rel=0.02)


def test_flux_scales_all_channels_by_one_factor_between_its_ends() -> None:
    batch = noise_tiles(500)
    ratio = augment(batch, only("flux", flux_factor=2.0), seed=SEED)["image"] / batch["image"]
    low, high = ratio.nan_to_num(nan=9.0).amin(dim=(1, 2, 3)), ratio.nan_to_num(nan=0.0).amax(dim=(1, 2, 3))
    assert low == pytest.approx(high, rel=1e-5)
    assert low.log2().abs().max() <= 1
    assert low.log2().mean() == pytest.approx(0.0, abs=0.1)
    assert low.log2().std() == pytest.approx(1 / 3**0.5, rel=0.1)


def test_a_blur_keeps_flux_and_place_and_widens_by_its_variance() -> None:
    image = torch.zeros(2, 1, 41, 41)
    image[:, :, 20, 20] = 1000.0
    sigma = torch.tensor([0.8, 2.0])
    smooth = convolve(image, torch.ones_like(image, dtype=torch.bool), gaussian_kernels(sigma, longest=4.0))[:, 0]
    y = torch.arange(41.0)[:, None]
    total = smooth.sum(dim=(1, 2))
    assert total == pytest.approx(torch.full((2,), 1000.0), rel=1e-5)
    assert (smooth * y).sum(dim=(1, 2)) / total == pytest.approx(torch.full((2,), 20.0), abs=1e-4)
    assert (smooth * (y - 20) ** 2).sum(dim=(1, 2)) / total == pytest.approx(sigma**2, rel=1e-3)


def test_a_blur_keeps_a_flat_sky_flat_up_to_masks_and_edges() -> None:
    seen = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(1)) > 0.3
    flat = torch.where(seen, 7.0, float("nan"))
    smooth = convolve(flat, seen, gaussian_kernels(torch.tensor([1.5]), longest=1.5))
    assert smooth[seen] == pytest.approx(torch.full((int(seen.sum()),), 7.0), rel=1e-5)
    assert not smooth[~seen].any()


def test_sky_is_a_plane_of_which_the_difference_shows_its_share() -> None:
    batch = {"image": torch.ones(300, 3, 9, 9), "valid": torch.ones(300, 1, 9, 9, dtype=torch.bool)}
    config = only("sky", sky_level=2.0, sky_gradient=1.0)
    science, reference, difference = (augment(batch, config, seed=SEED)["image"] - 1).unbind(dim=1)
    assert not reference.any()
    assert difference == pytest.approx(0.7 * science, abs=1e-5)
    assert science.diff(n=2, dim=1).abs().max() < 1e-5
    assert 1.9 < science[:, 4, 4].abs().max() <= 2.0
    assert 0.95 < (science[:, 8] - science[:, 0]).abs().max() <= 1.0


def test_dead_pixels_are_blank_and_not_valid_and_hot_ones_stay_valid() -> None:
    image = torch.full((300, 3, 20, 20), 0.5)
    true = torch.ones(300, 1, 20, 20, dtype=torch.bool)
    config = only("defect", dead_columns=2, dead_share=0.0, hot_share=0.01)
    broken = augment({"image": image, "target": true, "valid": true}, config, seed=SEED)
    assert torch.equal(broken["valid"], (broken["image"] != 0).all(dim=1, keepdim=True))
    assert torch.equal(broken["valid"], broken["target"])
    columns = (~broken["valid"]).all(dim=2).sum(dim=-1).flatten()
    assert {1, 2} == set(columns.tolist())
    hot = (broken["image"][:, :1] > 0.5) & broken["valid"]
    assert hot.float().mean() == pytest.approx(0.01 * 0.925, rel=0.15)
    added = broken["image"].permute(1, 0, 2, 3)[:, hot[:, 0]] - 0.5
    assert added[0].min() >= 5.0
    assert added[0].max() <= 100.0
    assert not added[1].any()
    assert added[2] == pytest.approx(0.7 * added[0], rel=1e-5)


def test_the_share_of_dead_pixels_is_what_it_says() -> None:
    true = torch.ones(50, 1, 64, 64, dtype=torch.bool)
    config = only("defect", dead_columns=0, dead_share=0.02, hot_share=0.0)
    broken = augment({"image": torch.ones(50, 1, 64, 64), "target": true, "valid": true}, config, seed=SEED)
    assert (~broken["valid"]).float().mean() == pytest.approx(0.02, rel=0.05)


def test_everything_is_drawn_from_the_seed_alone() -> None:
    batch = noise_tiles(16)
    state = torch.get_rng_state()
    one, two, other = (augment(batch, all_on(0.5), seed=seed) for seed in (SEED, SEED, (3, 1, 5)))
    assert same(one, two)
    assert not same(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_change_more_leaves_the_draws_of_the_others_as_they_are() -> None:
    batch = noise_tiles(16)
    oriented = augment(batch, AugmentConfig(), seed=SEED)
    scaled = augment(batch, dataclasses.replace(AugmentConfig(), flux_probability=1.0), seed=SEED)
    assert torch.equal(scaled["image"] != 0, oriented["image"] != 0)
    assert torch.equal(scaled["target"], oriented["target"])


def test_which_samples_one_change_happens_to_says_nothing_of_another() -> None:
    batch = noise_tiles(200)
    happened = []
    for name in ("flux", "sky", "noise"):
        config = dataclasses.replace(only(name), **{f"{name}_probability": 0.5})
        happened.append((augment(batch, config, seed=SEED)["image"] != batch["image"]).flatten(1).any(dim=1))
    for one, other in itertools.combinations(happened, 2):
        assert 70 < int((one == other).sum()) < 130


def test_the_given_batch_is_left_alone_and_types_and_memory_order_are_kept() -> None:
    batch = noise_tiles(8)
    batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
    before = {name: planes.clone() for name, planes in batch.items()}
    for probability in (0.5, 1.0):
        changed = augment(batch, all_on(probability), seed=SEED)
        assert changed["image"].is_contiguous(memory_format=torch.channels_last)
        assert {name: planes.dtype for name, planes in changed.items()} == {
            "image": torch.float32,
            "target": torch.bool,
            "valid": torch.bool,
        }
    assert same(batch, before)


def test_positives_stay_valid_and_finite() -> None:
    changed = augment(noise_tiles(32), all_on(1.0), seed=SEED)
    assert changed["image"].isfinite().all()
    assert (changed["valid"] | ~changed["target"]).all()
    assert changed["target"].any()


def test_orientations_are_those_of_earlier_versions() -> None:
    """The default run's figures rest on these codes."""
    batch = {"image": torch.arange(12 * 9.0).reshape(12, 1, 3, 3)}
    corners = augment(batch, AugmentConfig(), seed=(0, 3, 17))["image"][:, 0, 0, :2] % 9
    expected = [[2, 5], [0, 1], [6, 3], [8, 5], [6, 3], [8, 5], [0, 3], [0, 1], [6, 7], [8, 5], [0, 3], [0, 3]]
    assert corners.tolist() == expected


def test_changes_of_the_science_frame_are_refused_beside_a_score() -> None:
    preprocess = PreprocessConfig(difference="proper", score=True)
    with pytest.raises(ConfigError, match=r"data\.augment\.noise_probability must be 0 with data\.preprocess\.score"):
        FramesData(root="", manifest="", preprocess=preprocess, augment=only("noise"))
    FramesData(root="", manifest="", preprocess=preprocess, augment=only("flux"))


@pytest.mark.parametrize(
    ("knob", "value"),
    [("blur_probability", 1.1), ("flux_factor", 0.9), ("shift_pixels", 0), ("hot_sigma", 4), ("difference_share", -1)],
)
def test_a_knob_out_of_range_is_refused_by_name(knob: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"data\.augment\.{knob} must be .*, got {value}; "):
        AugmentConfig(**{knob: value})


@pytest.mark.gpu
def test_no_change_waits_for_the_device() -> None:
    batch = {name: planes.cuda() for name, planes in noise_tiles(16).items()}
    augment(batch, all_on(0.5), seed=SEED)  # makes the generators and pins memory
    torch.cuda.set_sync_debug_mode("error")
    try:
        changed = augment(batch, all_on(0.5), seed=SEED)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not same(batch, changed)


def test_the_figure_has_a_column_for_each_change_and_none_for_flips_alone() -> None:
    tile = noise_tiles(1)["image"]
    assert draw_changes(tile, AugmentConfig()) is None
    figure = draw_changes(tile, dataclasses.replace(AugmentConfig(), sky_probability=0.1, shift_probability=1.0))
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert titles == ["as it is", "flip", "shift", "sky"]
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == [
        "science",
        "reference",
        "difference",
        "valid",
    ]
