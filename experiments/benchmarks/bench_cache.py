"""Seconds from the command to prepared fields: a first run, and a second one that finds them in the cache.

    python experiments/benchmarks/bench_cache.py

Three raw pairs of 2048x2048 pixels through every step of `bench_reduction`. The second time all files are hashed again,
the headers read, the splits drawn and checked, and every byte of the store is compared with its checksum. Limit: the
second is at least 50 times faster than the first, in processor time of one process.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from bench_reduction import configuration, draw_sky, measure, write_night, write_raw
from rivals import record

from astrid.config import FramesData
from astrid.data.fields import build_splits
from astrid.data.frames import Field


def write_fields(folder: Path) -> FramesData:
    """Write calibration frames, three pairs and their manifest."""
    write_night(folder)
    rows = ["field,science,reference"]
    for number in range(3):
        generator = np.random.default_rng(100 + number)
        for kind, fwhm, shift in (("science", 3.0, 0.0), ("reference", 3.6, 4.3)):
            electrons = draw_sky(generator, fwhm=fwhm, shift=shift)
            write_raw(folder, f"{kind}_{number}", electrons, generator=generator)
        rows.append(f"F{number},science_{number}.fits,reference_{number}.fits")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return dataclasses.replace(configuration(folder), manifest=str(folder / "manifest.csv"), prepare_workers=1)


def quiet(fields: Iterable[Field], what: str, count: int) -> Iterable[Field]:
    """Show no progress."""
    return fields


def main() -> None:
    """Prepare the fields twice."""
    with tempfile.TemporaryDirectory() as name:
        config = write_fields(Path(name))

        def prepare() -> None:
            build_splits(config, receptive_field_pixels=44, announce=quiet)

        first, again = measure("a first run", prepare), measure("a second run", prepare)
    record("bench_cache", first[0], again[0], f"the second is {first[1] / again[1]:.0f} times faster")


if __name__ == "__main__":
    main()
