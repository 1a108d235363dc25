"""SkyView of NASA: cutouts of some hundred surveys, resampled onto one grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlencode

from .products import Product, Wanted, file_name, fits_bytes

PIXEL_ARCSEC = 1.0


@dataclass
class SkyView:
    """The requests by URL of skyview.gsfc.nasa.gov/current/docs/batchpage.html; bands are names of surveys."""

    server: str = "https://skyview.gsfc.nasa.gov"
    has_cutouts: bool = True
    has_frames: bool = False
    tells_time: bool = False

    def plan(self, wanted: Wanted) -> list[Product]:
        """Name a cutout of each survey; whether a survey covers the place shows when it is made."""
        assert wanted.size_arcsec is not None
        pixels = math.ceil(wanted.size_arcsec / PIXEL_ARCSEC)
        products = []
        for survey in (wanted.bands or ("DSS2 Red",))[: wanted.limit]:
            query = {
                "Position": f"{wanted.place.ra},{wanted.place.dec}",
                "Survey": survey,
                "Coordinates": "J2000",
                "Pixels": pixels,
                "Size": wanted.size_arcsec / 3600,
                "Return": "FITS",
            }
            products.append(
                Product(
                    f"{self.server}/current/cgi/runquery.pl?{urlencode(query)}",
                    file_name(wanted.place.name, f"{wanted.size_arcsec:g}as", survey) + ".fits",
                    archive="skyview",
                    field=wanted.place.name,
                    band=survey,
                    size_bytes=fits_bytes(pixels**2),
                    is_made=True,
                )
            )
        return products
