"""The Zwicky Transient Facility at IRSA: science images of its public surveys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import requests

from .astroquery_clients import asking
from .http import Patient, make_patient
from .products import Product, Wanted, file_name, fits_bytes

PIXEL_ARCSEC = 1.01
QUADRANT_PIXELS = 3072 * 3080
_JD_OF_MJD = 2400000.5
_COLUMNS = ("field", "ccdid", "qid", "filtercode", "imgtypecode", "filefracday", "obsjd")


@dataclass
class Ztf:
    """Found through astroquery's client of IRSA's Image Bulk Exchange.

    Paths are those of irsa.ipac.caltech.edu/docs/program_interface/ztf_api.html.
    """

    adapter: Patient
    server: str = "https://irsa.ipac.caltech.edu/ibe"
    has_cutouts: bool = True
    has_frames: bool = True
    tells_time: bool = True
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        from astroquery.ipac.irsa.ibe import IbeClass

        self.client = IbeClass()
        session: requests.Session = self.client._session
        make_patient(session, self.adapter)

    def plan(self, wanted: Wanted) -> list[Product]:
        """List the science images that contain a place, the newest first."""
        from astropy.coordinates import SkyCoord

        with asking("IRSA"):
            table = self.client.query_region(
                coordinate=SkyCoord(wanted.place.ra, wanted.place.dec, unit="deg"),
                mission="ztf",
                dataset="products",
                table="sci",
                where=_conditions(wanted),
                columns=list(_COLUMNS),
            )
            rows = sorted(table, key=lambda row: float(row["obsjd"]), reverse=True)
            return [self._product({name: str(row[name]) for name in _COLUMNS}, wanted) for row in rows[: wanted.limit]]

    def _product(self, row: dict[str, str], wanted: Wanted) -> Product:
        when = row["filefracday"]
        numbers = f"{int(row['field']):06d}_{row['filtercode']}_c{int(row['ccdid']):02d}_{row['imgtypecode']}"
        stem = f"ztf_{when}_{numbers}_q{row['qid']}_sciimg"
        url = f"{self.server}/data/ztf/products/sci/{when[:4]}/{when[4:8]}/{when[8:]}/{stem}.fits"
        common: dict[str, Any] = {
            "archive": "ztf",
            "field": wanted.place.name,
            "band": row["filtercode"].removeprefix("z"),
            "mjd": float(row["obsjd"]) - _JD_OF_MJD,
        }
        if wanted.size_arcsec is None:
            return Product(url, file_name(stem) + ".fits", size_bytes=fits_bytes(QUADRANT_PIXELS), **common)
        place, size = wanted.place, wanted.size_arcsec
        return Product(
            f"{url}?center={place.ra},{place.dec}&size={size:g}arcsec&gzip=false",
            file_name(place.name, f"{size:g}as", stem) + ".fits",
            size_bytes=fits_bytes(round(size / PIXEL_ARCSEC) ** 2),
            is_made=True,
            **common,
        )


def _conditions(wanted: Wanted) -> str | None:
    conditions = []
    if wanted.bands:
        conditions.append(f"filtercode IN ({','.join(repr('z' + band) for band in wanted.bands)})")
    if wanted.since is not None:
        conditions.append(f"obsjd>={wanted.since + _JD_OF_MJD}")
    if wanted.until is not None:
        conditions.append(f"obsjd<={wanted.until + _JD_OF_MJD}")
    return " AND ".join(conditions) or None
