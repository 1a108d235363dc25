"""Pan-STARRS1 at MAST: stacks and single exposures (warps) of the sky north of declination -30 degrees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlencode

import requests

from .http import ArchiveError
from .products import Product, Wanted, file_name, fits_bytes

PIXEL_ARCSEC = 0.25


@dataclass
class PanStarrs:
    """The image services of outerspace.stsci.edu/display/PANSTARRS/PS1+Image+Cutout+Service.

    Without times the stacks are given, with them the warps.
    """

    session: requests.Session
    server: str = "https://ps1images.stsci.edu"
    has_cutouts: bool = True
    has_frames: bool = True
    tells_time: bool = True

    def plan(self, wanted: Wanted) -> list[Product]:
        """List the images of each filter that cover a place."""
        timed = wanted.since is not None or wanted.until is not None
        query: dict[str, str | float] = {
            "ra": wanted.place.ra,
            "dec": wanted.place.dec,
            "filters": "".join(wanted.bands) or "grizy",
            "type": "warp" if timed else "stack",
        }
        answer = self.session.get(f"{self.server}/cgi-bin/ps1filenames.py", params=query)
        if answer.status_code != 200:
            raise ArchiveError(f"Pan-STARRS answers {answer.status_code} {answer.reason} to a search")
        header, *lines = [line.split() for line in answer.text.splitlines() if line.strip()] or [[]]
        rows = [dict(zip(header, line, strict=False)) for line in lines]
        if rows and not {"filename", "filter", "mjd"} <= rows[0].keys():
            raise ArchiveError(f"Pan-STARRS answers a search with {answer.text[:60]!r}, which is no table of images")
        found = [row for row in rows if _between(float(row["mjd"]), wanted)]
        found.sort(key=lambda row: float(row["mjd"]), reverse=True)
        return [self._product(row, wanted) for row in found[: wanted.limit]]

    def _product(self, row: dict[str, str], wanted: Wanted) -> Product:
        path, mjd = row["filename"], float(row["mjd"])
        common = {"archive": "panstarrs", "field": wanted.place.name, "band": row["filter"], "mjd": mjd or None}
        stem = path.rsplit("/", 1)[-1]
        if wanted.size_arcsec is None:
            return Product(f"{self.server}{path}", file_name(stem), **common)  # type: ignore[arg-type]
        pixels = math.ceil(wanted.size_arcsec / PIXEL_ARCSEC)
        query = {"ra": wanted.place.ra, "dec": wanted.place.dec, "size": pixels, "format": "fits", "red": path}
        return Product(
            f"{self.server}/cgi-bin/fitscut.cgi?{urlencode(query)}",
            file_name(wanted.place.name, f"{wanted.size_arcsec:g}as", stem.removesuffix(".fits")) + ".fits",
            size_bytes=fits_bytes(pixels**2),
            is_made=True,
            **common,  # type: ignore[arg-type]
        )


def _between(mjd: float, wanted: Wanted) -> bool:
    since, until = wanted.since, wanted.until
    return (since is None or mjd >= since) and (until is None or mjd <= until)
