"""Seconds and memory of one raw pair of 2048x2048 pixels through every step, from files to channels.

    python experiments/benchmarks/bench_reduction.py

Saturation, bad pixels, overscan, trim, bias, dark, flat, gain, uncertainty, cosmic rays in both frames; registration by
stars, background, proper difference and score. Masters are made first and are not in the time. Limits: 30 s of one
core and 1.5 GiB for the frame; the pair does most of it twice. Then the same field from the cache.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits
from rivals import record

from astrid.config import FramesData, PreprocessConfig
from astrid.data.exposures import read_exposure
from astrid.data.preprocess import prepare_field
from astrid.data.psf import psf_stamp
from astrid.data.reduction.sets import cached_masters
from astrid.data.rows import FrameRow, ImageFile
from astrid.data.store import cached_store

EDGE, OVERSCAN = 2048, 32
STARS, HITS = 1500, 800
GAIN, READ_NOISE, BIAS = 1.5, 6.0, 300.0


def draw_sky(generator: np.random.Generator, *, fwhm: float, shift: float) -> np.ndarray:
    """Return electrons of a sky with stars, always the same ones, moved along x and y."""
    places = np.random.default_rng(7)
    light = np.full((EDGE, EDGE), 400.0)
    fluxes = 10 ** places.uniform(3.5, 5.5, STARS)
    for (x, y), flux in zip(places.uniform(0, EDGE, (STARS, 2)), fluxes, strict=True):
        where, share = psf_stamp(light.shape, x=x + shift, y=y - shift, radius=40, fwhm=fwhm, beta=3.5)
        light[where] += flux * share
    light[generator.integers(EDGE, size=HITS), generator.integers(EDGE, size=HITS)] += 3000
    return light


def write_raw(folder: Path, name: str, electrons: np.ndarray | float, *, generator: np.random.Generator) -> None:
    """Digitise and write an exposure with its overscan."""
    light = generator.poisson(np.broadcast_to(electrons, (EDGE, EDGE))) + generator.normal(0, READ_NOISE, (EDGE, EDGE))
    strip = generator.normal(0, READ_NOISE, (EDGE, OVERSCAN))
    raw = np.rint(BIAS + np.hstack([light, strip]) / GAIN).clip(0, 65535).astype(np.uint16)
    header = fits.Header({"EXPTIME": 100.0, "GAIN": GAIN, "RDNOISE": READ_NOISE, "SATURATE": 60000})
    header["BIASSEC"], header["TRIMSEC"] = f"[{EDGE + 1}:{EDGE + OVERSCAN},1:{EDGE}]", f"[1:{EDGE},1:{EDGE}]"
    fits.writeto(folder / f"{name}.fits", raw, header)


def write_night(folder: Path) -> None:
    """Write a pair, three frames of each set and a map of bad pixels."""
    generator = np.random.default_rng(0)
    for number in range(3):
        write_raw(folder, f"bias_{number}", 0.0, generator=generator)
        write_raw(folder, f"dark_{number}", 5.0, generator=generator)
        write_raw(folder, f"flat_{number}", 20_000.0, generator=generator)
    write_raw(folder, "science", draw_sky(generator, fwhm=3.0, shift=0.0), generator=generator)
    write_raw(folder, "reference", draw_sky(generator, fwhm=3.6, shift=4.3), generator=generator)
    fits.writeto(folder / "bad.fits", (generator.random((EDGE, EDGE + OVERSCAN)) < 1e-4).astype(np.uint8))


def configuration(folder: Path) -> FramesData:
    """Return a configuration with every step."""
    steps = PreprocessConfig(
        saturation="header", bad_pixels="bad.fits", overscan="header", trim="header", gain="header",
        read_noise="header", bias=["bias_*.fits"], dark=["dark_*.fits"], flat=["flat_*.fits"], cosmic_rays=True,
        raw_reference=True, register="stars", difference="proper", score=True,
    )  # fmt: skip
    return FramesData(root=str(folder), manifest="none", cache=str(folder / "cache"), preprocess=steps)


def measure(what: str, work: Callable[[], object]) -> tuple[str, float]:
    """Return a line on what some work took, and its seconds of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (
        f"{what}: {processor:.3g} s of one core, {wall:.3g} s by the wall clock, peak so far {peak:.2f} GiB",
        processor,
    )


def main() -> None:
    """Write a night, then measure its masters, one frame, the pair, and the pair from the cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_night(folder)
        config = configuration(folder)
        files = {kind: ImageFile(folder / f"{kind}.fits") for kind in ("science", "reference")}
        row = FrameRow(number=2, name="f", field="f", split="train", **files)
        masters = measure("masters", lambda: cached_masters(config.preprocess, root=folder, cache=folder / "cache"))
        frame = measure("a frame", lambda: read_exposure("science", row.science, config, fwhm_pixels=None))
        made = measure("a pair", lambda: cached_store(folder, "store", [prepare_field(row, config)]))
        again = measure("a pair from the cache", lambda: np.sum(cached_store(folder, "store", []).image(0)))
    lines = [line for line, _ in (masters, frame, made, again)]
    record("bench_reduction", *lines, f"the cache is {made[1] / again[1]:.0f} times faster")


if __name__ == "__main__":
    main()
