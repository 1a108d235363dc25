"""What is injected into alert packets is in science frame and difference, is positive, and only trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alert_packets import FWHM, packet

from astrid.config import AlertsData, ConfigError
from astrid.data.alert_injection import Crop, crop_psf, inject_into_crop
from astrid.data.alert_rows import AlertRow
from astrid.data.alerts import prepare_alert
from astrid.data.difference import background_sigma
from astrid.data.frames import Field
from astrid.data.psf import point_source
from astrid.data.surveys import read_alert
from astrid.data.truth import snr_per_flux

SIZE = 48


def prepared(crop: int, *, split: Any = "train", label: Any = None, **knobs: Any) -> Field:
    config = AlertsData(packets="a", **knobs)
    row = AlertRow(Path("a"), 9, 9, "night", 9.0, 0.0, label, FWHM, None, split)
    return prepare_alert(read_alert(packet(9), config), row, config=config, crop=crop)


def noise_crop(seed: int = 0, *, sigma: float = 5.0) -> Crop:
    rng = np.random.default_rng(seed)
    science, template = (rng.normal(100.0, sigma, (SIZE, SIZE)).astype(np.float32) for _ in range(2))
    valid = np.ones((SIZE, SIZE), bool)
    valid[:, :3] = False
    return Crop(science, template, np.where(valid, science - template, np.nan).astype(np.float32), valid)


def injected(crop: Crop, seed: int = 1, **knobs: Any) -> tuple[Crop, Any]:
    config = AlertsData(packets="a", **{"injected_per_alert": 3.0, **knobs})
    psf = crop_psf(None, fwhm_pixels=FWHM)
    return inject_into_crop(crop, np.random.default_rng(seed), config=config, psf=psf, free=crop.valid)


def test_the_same_light_is_in_both_frames_and_nothing_else_changes_a_bit() -> None:
    crop = noise_crop()
    made, sources = injected(crop)
    assert len(sources.x) > 0
    science, difference = made.science - crop.science, made.difference - crop.difference
    np.testing.assert_allclose(science[crop.valid], difference[crop.valid], atol=1e-3)
    far = (
        np.hypot(*(np.indices((SIZE, SIZE))[:, None] - np.array([sources.y, sources.x])[..., None, None])).min(axis=0)
        > 15
    )
    assert far.any()
    np.testing.assert_array_equal(made.science[far], crop.science[far])
    np.testing.assert_array_equal(made.template, crop.template)
    np.testing.assert_array_equal(made.science[~crop.valid], crop.science[~crop.valid])


def test_the_catalogue_has_their_flux_and_signal_to_noise() -> None:
    crop = noise_crop()
    found, expected = [], []
    for seed in range(60):
        made, sources = injected(crop, seed, injected_per_alert=1.0, injected_snr=[50.0, 200.0])
        inside = (np.abs(sources.x - 25) < 12) & (np.abs(sources.y - 24) < 12)
        if len(sources.x) == 1 and inside.all():
            found.append(float((made.science - crop.science).sum(dtype=np.float64)))
            expected.append(sources.flux[0])
            sigma = background_sigma(crop.difference, crop.valid).sigma
            share = point_source(FWHM)
            best = sources.flux[0] * snr_per_flux(share / share.sum(), np.full(share.shape, sigma**-2))
            assert best == pytest.approx(sources.snr[0], rel=0.05)  # the PSF's sampling depends on where it lies
    assert len(found) > 5
    photons = np.array(expected) * 6.2
    assert np.abs((np.array(found) - expected) * 6.2 / np.sqrt(photons)).max() < 4  # Poisson's noise


def test_pixels_that_are_valid_and_not_scored_still_carry_signal() -> None:
    """Sources lie where it is free; what is searched, and so the signal-to-noise, is all that is valid."""
    crop = noise_crop()
    config = AlertsData(packets="a", injected_per_alert=3.0, injected_snr=[50.0, 51.0])
    free = np.zeros((SIZE, SIZE), bool)
    free[24, 24] = True
    psf = crop_psf(None, fwhm_pixels=FWHM)
    _, sources = inject_into_crop(crop, np.random.default_rng(1), config=config, psf=psf, free=free)
    assert len(sources.x) > 0
    sigma = background_sigma(crop.difference, crop.valid).sigma
    share = point_source(FWHM)
    best = sources.flux * snr_per_flux(share / share.sum(), np.full(share.shape, sigma**-2))
    np.testing.assert_allclose(best, sources.snr, rtol=0.05)


def test_their_number_is_poissons() -> None:
    counts = [len(injected(noise_crop(), seed, injected_per_alert=2.0)[1].x) for seed in range(400)]
    assert np.mean(counts) == pytest.approx(2.0, abs=0.25)
    assert np.var(counts) == pytest.approx(2.0, abs=0.5)


def test_they_are_positive_and_outside_of_what_nobody_knows() -> None:
    for crop in range(12):
        field = prepared(crop, injected_per_alert=4.0)
        assert field.sources is not None
        assert set(field.sources.kind) <= {"injected"}
        for x, y in zip(field.sources.x.round().astype(int), field.sources.y.round().astype(int), strict=True):
            assert field.valid[y, x]
            assert field.target[y, x]
        assert not (field.target & ~field.valid).any()


@pytest.mark.parametrize("split", ["val", "test"])
def test_only_training_packets_get_any(split: str) -> None:
    plain, asked = (prepared(0, split=split, label="positive", injected_per_alert=rate) for rate in (0.0, 20.0))
    np.testing.assert_array_equal(plain.image, asked.image)
    assert asked.sources is not None and asked.sources.kind == ["alert"]


def test_crops_lie_where_they_lie_without_injection_and_repeat() -> None:
    plain, one, two = (prepared(1, label="positive", injected_per_alert=rate) for rate in (0.0, 5.0, 5.0))
    assert plain.sources is not None and one.sources is not None
    assert one.sources.x[0] == plain.sources.x[0]
    assert one.sources.kind[0] == "alert"
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.image[1], plain.image[1])


def test_the_psf_of_a_packet_is_used_where_there_is_one() -> None:
    narrow = point_source(1.5).astype(np.float32)
    given, own = crop_psf(narrow, fwhm_pixels=4.0), crop_psf(None, fwhm_pixels=4.0)
    assert given.pixels.max() == pytest.approx(float(narrow.max() / narrow.sum()), rel=1e-5)
    assert own.pixels.max() < 0.5 * given.pixels.max()


def test_the_surroundings_of_an_unknown_candidate_do_not_count() -> None:
    near, far = (prepared(0, unscored_radius_fwhm=radius) for radius in (0.75, 2.0))
    assert (~near.valid).sum() == 9
    assert (~far.valid).sum() == pytest.approx(np.pi * (2 * FWHM) ** 2, rel=0.1)
    known = dataclasses.replace(prepared(0, label="positive"))
    assert known.valid.all()


@pytest.mark.parametrize(
    ("knob", "value"),
    [("injected_per_alert", -1.0), ("injected_snr", [9.0, 5.0]), ("injected_gain", 0.0), ("unscored_radius_fwhm", 0.0)],
)
def test_a_knob_out_of_range_is_refused_by_name(knob: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{knob} must be"):
        AlertsData(packets="a", **{knob: value})
