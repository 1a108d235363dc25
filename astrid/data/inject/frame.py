"""From a row of a manifest to a field of a real frame with injected things, and the truth about them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from astrid.config import InjectedData

from ..frames import Field, Sources
from ..preprocess import Labels, Loaded, load_frames, make_field, naming_row, part_of
from ..reduction.chain import Taken
from ..rows import FrameRow
from ..truth import disc_mask
from .binning import binned
from .cosmic_rays import Footprint, draw_hits
from .electrons import draw_photons, expected_light, with_electrons
from .hosts import find_hosts
from .resampling import resampled
from .stars import PIXELS_PER_MPIX, add_stars
from .surroundings import Surroundings, electrons_per_count, look_around
from .trails import draw_trail
from .transients import Kinds, draw_sources, select

_INGREDIENTS = ("numbers", "transients", "photons", "trails", "trail photons", "cosmic rays", "stars", "resampling")


@dataclass(frozen=True)
class Injection:
    """What is put into a frame.

    Attributes
    ----------
    science, reference : (H, W) float64
        Electrons of each frame.
    target, uncounted : (H, W) bool
        True = positive pixel; pixel of something that is too faint there to count.
    sources : Sources
        The transients.
    notes : list of str
        What was drawn, for the field's history.
    """

    science: NDArray[np.float64]
    reference: NDArray[np.float64]
    target: NDArray[np.bool_]
    uncounted: NDArray[np.bool_]
    sources: Sources
    notes: list[str]


def prepare_injected(row: FrameRow, config: InjectedData, copy: int, footprints: Sequence[Footprint]) -> Field:
    """Read a row's files, inject, and bring the frames into the network's channels, as `prepare_field` does.

    Light is added to the frames as they come from the steps of the detector, before the sky is subtracted and the
    reference with it, so that the injected goes the way of the real. The target is what was injected; pixels that the
    row's own target plane calls positive are real, and not counted.

    Parameters
    ----------
    copy : int
        Number of the injection into this frame, from 0.
    footprints : sequence of Footprint
        Cosmic rays that the row's split may draw from.

    Raises
    ------
    DataError
        Naming the row.
    """
    with naming_row(row, config):
        rngs = generators(row, config, copy)
        row, loaded, around = before_injection(row, config, copy)
        injection = inject(around, config, rngs, footprints)
        add_to_frames(loaded, injection, around)
        row = dataclasses.replace(row, fwhm_pixels=around.fwhm_pixels)
        field = make_field(row, loaded, config)
    name = row.name if copy == 0 else f"{row.name}~{copy}"
    sources = None
    if config.target == "transient":
        sources = _in_section(injection.sources, part_of(row, around.shape), field.valid.shape)
    return dataclasses.replace(field, name=name, sources=sources)


def before_injection(row: FrameRow, config: InjectedData, copy: int) -> tuple[FrameRow, Loaded, Surroundings]:
    """Read and measure a row as a copy shows it: binned, with the stars that training adds, resampled."""
    row, loaded = binned(row, load_frames(row, config), binning(row, config, copy))
    if row.split == "train":
        rngs = generators(row, config, copy)
        if config.train_stars_per_mpix > 0:
            add_stars(loaded, config, rngs["stars"], gain=electrons_per_count(row, loaded.science, config))
        if rngs["resampling"].random() < config.train_resampled:
            row, loaded = resampled(row, loaded, rngs["resampling"])
    return row, loaded, look_around(row, loaded, config)


def binning(row: FrameRow, config: InjectedData, copy: int) -> int:
    """Return by how much a copy is binned: training copies in turn, what validates or tests never."""
    return config.train_binning[copy % len(config.train_binning)] if row.split == "train" else 1


def generators(row: FrameRow, config: InjectedData, copy: int) -> dict[str, Generator]:
    """Return a generator for each ingredient: from the seed, the pixels of the frame and the copy, nothing else."""
    pixels = int.from_bytes(hashlib.sha256(row.origin.encode()).digest()[:8])
    seeds = SeedSequence(entropy=config.injection_seed, spawn_key=(pixels, copy)).spawn(len(_INGREDIENTS))
    return {name: default_rng(seed) for name, seed in zip(_INGREDIENTS, seeds, strict=True)}


def inject(
    around: Surroundings, config: InjectedData, rngs: dict[str, Generator], footprints: Sequence[Footprint]
) -> Injection:
    """Draw what is put into a frame, and which pixels it makes positive."""
    shape, mpix = around.shape, around.valid.size / PIXELS_PER_MPIX
    rates = (config.transients_per_mpix, config.trails_per_mpix, config.cosmic_rays_per_mpix)
    transients, trails, cosmic_rays = (int(rngs["numbers"].poisson(rate * mpix)) for rate in rates)

    sources = _draw_transients(transients, rngs["transients"], around, config)
    trail = np.zeros(shape)
    for _ in range(trails):
        trail += draw_trail(shape, rngs["trails"], brightness=config.trail_brightness, psf=around.psf)
    hits = draw_hits(shape, rngs["cosmic rays"], footprints=footprints, number=cosmic_rays)

    science, reference = _photons(sources, around, rngs["photons"])
    science += draw_photons(trail, rngs["trail photons"], valid=around.shown) + np.where(around.shown, hits.charge, 0.0)
    target, uncounted = _truth(sources, {"trail": trail, "cosmic_ray": hits.charge}, around, config)
    notes = [f"{transients} transients, {trails} trails, {cosmic_rays} cosmic rays", *hits.placed]
    return Injection(science, reference, target, uncounted, sources, notes)


def _draw_transients(number: int, rng: Generator, around: Surroundings, config: InjectedData) -> Sources:
    if number == 0:
        return Sources(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0), kind=[])
    kinds = Kinds(
        snr=config.transient_snr,
        flux=around.flux_range,
        on_galaxies=config.transients_on_galaxies,
        fading=config.fading_fraction,
    )
    hosts = None
    if config.transients_on_galaxies > 0:
        hosts = find_hosts(around.flat, around.valid, sigma=around.sigma, fwhm_pixels=around.fwhm)
    return draw_sources(
        number,
        rng,
        kinds=kinds,
        precision=around.precision,
        free=around.valid,
        psf=around.psf,
        faded_psf=around.reference_psf,
        hosts=hosts,
    )


def _photons(sources: Sources, around: Surroundings, rng: Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the photons of what brightens, and of what fades, which is in the reference."""
    planes = [np.zeros(around.shape), np.zeros(around.shape)]
    deeper = around.reference_gain / (around.gain * around.reference_scale)
    for number, (chosen, depth) in enumerate(((sources.flux > 0, 1.0), (sources.flux < 0, deeper))):
        if chosen.any():
            light = depth * expected_light(select(sources, chosen), around.shape, psf=around.psfs[-number])
            planes[number] = draw_photons(light, rng, valid=around.shown)
    return planes[0], planes[1]


def _truth(
    sources: Sources, added: dict[str, NDArray[np.float64]], around: Surroundings, config: InjectedData
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels are positive, and which are too faint to count."""
    if config.target == "transient":
        radius = config.target_radius_fwhm * around.fwhm
        target = disc_mask(sources.x, sources.y, around.shape, radius=radius)
        return target, np.zeros_like(target)
    plane = added[config.target]
    target = plane > config.contamination_sigma * around.noise
    return target, (plane > 0) & ~target


def add_to_frames(loaded: Loaded, injection: Injection, around: Surroundings) -> None:
    """Add the electrons to the frames and their noise to the uncertainties, and put the truth into the labels."""
    gains = (around.gain, around.reference_gain)
    for record, electrons, gain in zip(
        (loaded.science, loaded.reference), (injection.science, injection.reference), gains, strict=True
    ):
        if record is not None and electrons.any():
            record.frame = with_electrons(record.frame, electrons, gain=gain)
    loaded.science.steps.append(Taken("injection", True, " ".join(injection.notes)))
    uncounted = loaded.labels.unlabelled | loaded.labels.target | injection.uncounted
    loaded.labels = Labels(injection.target & ~uncounted, loaded.labels.ignored, uncounted)


def _in_section(sources: Sources, part: tuple[slice, slice], shape: tuple[int, ...]) -> Sources:
    """Return the sources of a section, at their places in it; fluxes keep their sign."""
    x, y = sources.x - (part[1].start or 0), sources.y - (part[0].start or 0)
    inside = (x >= -0.5) & (x < shape[1] - 0.5) & (y >= -0.5) & (y < shape[0] - 0.5)
    kind = [kind for kind, one in zip(sources.kind, inside, strict=True) if one]
    return Sources(x[inside], y[inside], sources.flux[inside], sources.snr[inside], kind)
