"""Transients for real frames: where, how bright for their signal-to-noise, and light that is added with its photons."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ..draws import draw_place, log_uniform
from ..frames import Sources
from ..psf_image import PsfImage
from ..truth import snr_per_flux
from .electrons import add_electrons, draw_photons, expected_light
from .hosts import Hosts

FADING = "fading"
"""Kind of a source whose light is in the reference and not in the science frame; its flux is negative."""


@dataclass(frozen=True)
class Epoch:
    """A frame that light is added to.

    Attributes
    ----------
    image : (H, W), integers or floats
        Counts.
    psf : PsfImage
    gain : float
        Electrons per count.
    """

    image: NDArray[np.generic]
    psf: PsfImage
    gain: float


@dataclass(frozen=True)
class Kinds:
    """Which transients are drawn.

    Attributes
    ----------
    snr : (low, high)
        Range of the log-uniform matched-filter signal-to-noise.
    on_galaxies, fading : float
        Shares of the sources that follow the light of a galaxy, and that fade.
    """

    snr: Sequence[float]
    on_galaxies: float = 0.0
    fading: float = 0.0


def draw_sources(
    number: int,
    rng: Generator,
    *,
    kinds: Kinds,
    precision: NDArray[np.float64],
    psf: PsfImage,
    faded_psf: PsfImage | None = None,
    hosts: Hosts | None = None,
) -> Sources:
    """Draw a catalogue of transients; each flux follows from its signal-to-noise.

    Parameters
    ----------
    number : int
        Of sources.
    precision : (H, W) float64, 1 / electrons²
        Inverse variance of what they are searched in, a frame or a difference; 0 where not valid, where none lies.
    psf, faded_psf : PsfImage
        Of the science frame, and of the reference for what fades.
    hosts : Hosts, optional
        Galaxies of the frame; each hosts one source at most, and what finds none lies anywhere.

    Returns
    -------
    Sources
        Kinds are 'transient', 'transient_on_galaxy' and 'fading'. What fades has a negative flux; `snr` is positive.
    """
    snr = log_uniform(rng, kinds.snr, number)
    hosted, fading = rng.random((2, number)) < np.array([[kinds.on_galaxies], [kinds.fading]])
    x, y, flux = np.empty((3, number))
    kind = []
    for i in range(number):
        place = hosts.draw_place(rng, precision) if hosts is not None and hosted[i] else None
        x[i], y[i] = place or draw_place(rng, precision)
        flux[i] = flux_for_snr(
            snr[i], x=x[i], y=y[i], psf=(faded_psf or psf) if fading[i] else psf, precision=precision
        )
        kind.append(FADING if fading[i] else "transient" if place is None else "transient_on_galaxy")
    return Sources(x, y, np.where(fading, -flux, flux), snr, kind)


def flux_for_snr(snr: float, *, x: float, y: float, psf: PsfImage, precision: NDArray[np.float64]) -> float:
    """Return the electrons that give a point source this matched-filter signal-to-noise."""
    where, share = psf.stamp(_shape(precision), x=x, y=y)
    return float(snr / snr_per_flux(share, precision[where]))


def add_sources(epoch: Epoch, sources: Sources, rng: Generator, *, valid: NDArray[np.bool_]) -> NDArray[np.generic]:
    """Return the frame with the light of sources and its photon noise; untouched pixels keep every bit.

    Parameters
    ----------
    valid : (H, W) bool
        True = good pixel; the others stay as they are.

    Raises
    ------
    DataError
        For a negative flux, which a single frame can't show.
    """
    light = expected_light(sources, _shape(epoch.image), psf=epoch.psf)
    return add_electrons(epoch.image, draw_photons(light, rng, valid=valid), gain=epoch.gain)


def add_to_pair(
    science: Epoch, reference: Epoch, sources: Sources, rng: Generator, *, valid: NDArray[np.bool_]
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Add what brightens to the science frame and what fades to the reference; return both.

    Fluxes are electrons of the science frame; the reference's gain must be in these too, so that a source that fades
    by as much as another brightens has as much light.
    """
    fades = sources.flux < 0
    return (
        add_sources(science, select(sources, ~fades), rng, valid=valid),
        add_sources(reference, select(sources, fades), rng, valid=valid),
    )


def select(sources: Sources, chosen: NDArray[np.bool_]) -> Sources:
    """Return some of the sources, with their fluxes above 0."""
    columns = {name: getattr(sources, name)[chosen] for name in ("x", "y", "snr")}
    kind = [kind for kind, one in zip(sources.kind, chosen, strict=True) if one]
    return dataclasses.replace(sources, **columns, flux=np.abs(sources.flux[chosen]), kind=kind)


def _shape(plane: NDArray[np.generic]) -> tuple[int, int]:
    height, width = plane.shape
    return height, width
