"""The Sloan Digital Sky Survey: corrected frames of its imaging, as of data release 17."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import requests

from .astroquery_clients import asking
from .http import Patient, make_patient
from .products import Product, Wanted, file_name

RELEASE = 17
_BANDS = "ugriz"
_FIELDS = """
select top {limit} run, rerun, camcol, field, mjd_r from Field
where {ra} between raMin and raMax and {dec} between decMin and decMax
"""


@dataclass
class Sdss:
    """Found by SQL through astroquery's client of SkyServer; frames only, packed by bzip2."""

    adapter: Patient
    server: str = "https://data.sdss.org/sas"
    has_cutouts: bool = False
    has_frames: bool = True
    tells_time: bool = False
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        from astroquery.sdss import SDSSClass

        self.client = SDSSClass()
        session: requests.Session = self.client._session
        make_patient(session, self.adapter)

    def plan(self, wanted: Wanted) -> list[Product]:
        """List the frames that contain a place."""
        place = wanted.place
        query = " ".join(_FIELDS.format(limit=wanted.limit, ra=place.ra, dec=place.dec).split())
        with asking("SDSS"):
            table = self.client.query_sql(query, data_release=RELEASE, cache=False)
            rows = [] if table is None else list(table)
            products = [
                self._product(row, band, place=place.name) for row in rows for band in wanted.bands or tuple(_BANDS)
            ]
        return products[: wanted.limit]

    def _product(self, row: Any, band: str, *, place: str) -> Product:
        url = self.client.IMAGING_URL_SUFFIX.format(
            base=self.server,
            dr=RELEASE,
            instrument="eboss",
            rerun=int(row["rerun"]),
            run=int(row["run"]),
            camcol=int(row["camcol"]),
            field=int(row["field"]),
            band=band,
        )
        return Product(url, file_name(url.rsplit("/", 1)[-1]), "sdss", place, band, mjd=float(row["mjd_r"]) or None)
