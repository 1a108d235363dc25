"""Space telescopes at MAST: HST, JWST and TESS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import requests

from .astroquery_clients import asking
from .http import Patient, make_patient
from .products import Product, Wanted, file_name

SUFFIXES = {
    "HST": ("_drc.fits", "_drz.fits"),
    "JWST": ("_i2d.fits",),
    "TESS": ("_ffic.fits",),
}
"""Ends of the names of each mission's products that are one calibrated image: combined exposures, full frames."""
_FEWEST_AT_ONCE = 100
"""Observations whose products are asked for in one request."""
_NEAR_DEGREES = 0.01
"""Observations whose footprint reaches this near are taken to contain the place."""


@dataclass
class Mast:
    """Found through astroquery's client of the MAST portal; frames only.

    Parameters
    ----------
    mission : str
        HST, JWST or TESS.
    """

    mission: str
    adapter: Patient
    server: str = "https://mast.stsci.edu"
    has_cutouts: bool = False
    has_frames: bool = True
    tells_time: bool = True
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        from astroquery.mast import ObservationsClass

        self.client = ObservationsClass()
        session: requests.Session = self.client._session
        make_patient(session, self.adapter)

    def plan(self, wanted: Wanted) -> list[Product]:
        """List the public images of a mission that contain a place, the newest first."""
        with asking("MAST"):
            observations = self.client.query_criteria(**self._criteria(wanted))
            newest = sorted(observations, key=lambda row: float(row["t_min"]), reverse=True)
            found: list[Product] = []
            step = max(wanted.limit, _FEWEST_AT_ONCE)
            for start in range(0, len(newest), step):  # not all of them have an image of the kind that is wanted
                found += self._images(newest[start : start + step], place=wanted.place.name)
                if len(found) >= wanted.limit:
                    break
        found.sort(key=lambda product: (-(product.mjd or 0.0), product.name))
        return found[: wanted.limit]

    def _images(self, observations: Sequence[Any], *, place: str) -> list[Product]:
        """List the calibrated images of observations."""
        by_id = {str(row["obsid"]): row for row in observations}
        products = self.client.get_product_list(list(by_id))  # by ids: it leaves out full frames of tables
        return [
            self._product(row, by_id[str(row["obsID"])], place=place)
            for row in products
            if str(row["productFilename"]).endswith(SUFFIXES[self.mission]) and str(row["obsID"]) in by_id
        ]

    def _criteria(self, wanted: Wanted) -> dict[str, Any]:
        """Return what an observation must be; the server knows its limits of time as open ones only as far numbers."""
        criteria: dict[str, Any] = {
            "coordinates": f"{wanted.place.ra} {wanted.place.dec}",
            "radius": _NEAR_DEGREES,
            "obs_collection": self.mission,
            "dataproduct_type": "image",
            "dataRights": "PUBLIC",
        }
        if wanted.bands:
            criteria["filters"] = list(wanted.bands)
        if wanted.since is not None or wanted.until is not None:
            criteria["t_min"] = [wanted.since or 0.0, wanted.until or 1e5]
        return criteria

    def _product(self, row: Any, observation: Any, *, place: str) -> Product:
        uri = str(row["dataURI"])
        return Product(
            f"{self.server}/api/v0.1/Download/file?{urlencode({'uri': uri})}",
            file_name(str(row["productFilename"])),
            archive=self.mission.lower(),
            field=place,
            band=str(observation["filters"]),
            mjd=float(observation["t_min"]),
            size_bytes=int(row["size"]),
            is_exact=True,
        )
