"""Transients for real frames: where, and how bright for their signal-to-noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ..draws import Places, log_uniform
from ..frames import Sources
from ..psf_image import PsfImage
from ..truth import snr_per_flux
from .hosts import HostPlaces, Hosts

FADING = "fading"
"""Kind of a source whose light is in the reference and not in the science frame; its flux is negative."""


@dataclass(frozen=True)
class Kinds:
    """Which transients are drawn.

    Attributes
    ----------
    snr : (low, high)
        Range of the log-uniform matched-filter signal-to-noise.
    flux : (low, high) or None
        Range of the log-uniform flux in electrons, in place of that.
    on_galaxies, fading : float
        Shares of the sources that follow the light of a galaxy, and that fade.
    """

    snr: Sequence[float]
    flux: Sequence[float] | None = None
    on_galaxies: float = 0.0
    fading: float = 0.0


def draw_sources(
    number: int,
    rng: Generator,
    *,
    kinds: Kinds,
    precision: NDArray[np.float64],
    free: NDArray[np.bool_],
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
        Inverse variance of what they are searched in, a frame or a difference; 0 where nothing is known.
    free : (H, W) bool
        True = where a source may lie.
    psf, faded_psf : PsfImage
        Of the science frame, and of the reference for what fades.
    hosts : Hosts, optional
        Galaxies of the frame; each hosts one source at most, and what finds none lies anywhere.

    Returns
    -------
    Sources
        Kinds are 'transient', 'transient_on_galaxy' and 'fading'. What fades has a negative flux; `snr` is positive.
    """
    wanted = log_uniform(rng, kinds.snr if kinds.flux is None else kinds.flux, number)
    hosted, fading = rng.random((2, number)) < np.array([[kinds.on_galaxies], [kinds.fading]])
    x, y, flux, snr = np.empty((4, number))
    open_to, kind = np.where(free, precision, 0.0), []
    anywhere, in_hosts = Places(open_to), None if hosts is None else HostPlaces(hosts, open_to)
    for i in range(number):
        place = in_hosts.draw(rng) if in_hosts is not None and hosted[i] else None
        x[i], y[i] = place or anywhere.draw(rng)
        own = faded_psf if faded_psf is not None and fading[i] else psf
        depth = snr_of_unit_flux(x[i], y[i], psf=own, precision=precision)
        flux[i], snr[i] = (wanted[i] / depth, wanted[i]) if kinds.flux is None else (wanted[i], wanted[i] * depth)
        kind.append(FADING if fading[i] else "transient" if place is None else "transient_on_galaxy")
    return Sources(x, y, np.where(fading, -flux, flux), snr, kind)


def snr_of_unit_flux(x: float, y: float, *, psf: PsfImage, precision: NDArray[np.float64]) -> float:
    """Return the matched-filter signal-to-noise of a point source of one electron; that of others is in proportion."""
    where, share = psf.stamp(_shape(precision), x=x, y=y)
    return snr_per_flux(share, precision[where])


def select(sources: Sources, chosen: NDArray[np.bool_]) -> Sources:
    """Return some of the sources, with their fluxes above 0."""
    columns = {name: getattr(sources, name)[chosen] for name in ("x", "y", "snr")}
    kind = [kind for kind, one in zip(sources.kind, chosen, strict=True) if one]
    return dataclasses.replace(sources, **columns, flux=np.abs(sources.flux[chosen]), kind=kind)


def _shape(plane: NDArray[np.generic]) -> tuple[int, int]:
    height, width = plane.shape
    return height, width
