"""Small alert packets, as ZTF writes them, of things whose place is known."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

EDGE, FWHM, FLUX = 63, 2.4, 4000.0

_CANDIDATE = {
    "type": "record",
    "name": "candidate",
    "fields": [
        *({"name": name, "type": "double"} for name in ("jd", "ra", "dec", "xpos", "ypos", "magpsf", "sigmapsf")),
        *({"name": name, "type": ["null", "double"]} for name in ("ssdistnr", "ssmagnr", "magzpsci")),
        {"name": "isdiffpos", "type": "string"},
        {"name": "rcid", "type": "int"},
    ],
}
_CUTOUT = {
    "type": "record",
    "name": "cutout",
    "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
}
SCHEMA = {
    "type": "record",
    "name": "alert",
    "fields": [
        {"name": "candid", "type": "long"},
        {"name": "candidate", "type": _CANDIDATE},
        {"name": "cutoutScience", "type": _CUTOUT},
        {"name": "cutoutTemplate", "type": "cutout"},
        {"name": "cutoutDifference", "type": "cutout"},
    ],
}


def fits_content(image: NDArray[np.float32]) -> bytes:
    """The content of a FITS file."""
    stream = io.BytesIO()
    fits.PrimaryHDU(image).writeto(stream)
    return stream.getvalue()


def stamp(image: NDArray[np.float32]) -> dict[str, Any]:
    """Pack an image as ZTF does."""
    return {"fileName": "stamp.fits.gz", "stampData": gzip.compress(fits_content(image), mtime=0)}


def packet(number: int, *, real: bool = True, shape: tuple[int, int] = (EDGE, EDGE), **changed: Any) -> dict[str, Any]:
    """Make a packet of a point source in noise, `number` degrees along the equator; `real` ones are minor planets."""
    rng = np.random.default_rng(number)
    sky = [rng.normal(100.0, 5.0, (EDGE, EDGE)), rng.normal(100.0, 5.0, (EDGE, EDGE))]
    y, x = np.mgrid[:EDGE, :EDGE] - EDGE // 2
    sigma = FWHM / 2.3548
    light = FLUX * np.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    images = [sky[0] + light, sky[1], sky[0] + light - sky[1]]
    science, template, difference = (stamp(image[: shape[0], : shape[1]].astype(np.float32)) for image in images)
    candidate = {
        "jd": 2458451.75 + number % 2,
        "ra": float(number) % 360,
        "dec": 0.0,
        "xpos": 3000.0,
        "ypos": 3000.0,
        "magpsf": 25.0 - 2.5 * np.log10(FLUX),
        "sigmapsf": 0.05,
        "magzpsci": 25.0,
        "isdiffpos": "t",
        "ssdistnr": 0.3 if real else -999.0,
        "ssmagnr": 16.0 if real else -999.0,
        "rcid": 1,
    }
    cutouts = {"cutoutScience": science, "cutoutTemplate": template, "cutoutDifference": difference}
    return {"candid": number, "candidate": candidate | changed, **cutouts}


def write_avro(path: Path, packets: list[dict[str, Any]]) -> Path:
    """Write packets into one Avro file."""
    with path.open("wb") as stream:
        fastavro.writer(stream, SCHEMA, packets, codec="deflate")
    return path


def night(path: Path, *, real: int = 6, others: int = 6) -> Path:
    """Write a night of packets, each a degree from the next."""
    return write_avro(path, [packet(number, real=number < real) for number in range(real + others)])
