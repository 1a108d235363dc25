"""Which archives there are."""

from __future__ import annotations

from collections.abc import Callable

import requests

from .http import Patient
from .mast import Mast
from .panstarrs import PanStarrs
from .products import Archive
from .sdss import Sdss
from .skyview import SkyView
from .ztf import Ztf

_OPENERS: dict[str, Callable[[requests.Session, Patient], Archive]] = {
    "panstarrs": lambda session, adapter: PanStarrs(session),
    "hst": lambda session, adapter: Mast("HST", adapter),
    "jwst": lambda session, adapter: Mast("JWST", adapter),
    "tess": lambda session, adapter: Mast("TESS", adapter),
    "ztf": lambda session, adapter: Ztf(adapter),
    "skyview": lambda session, adapter: SkyView(),
    "sdss": lambda session, adapter: Sdss(adapter),
}


def open_archive(name: str, *, session: requests.Session, adapter: Patient) -> Archive:
    """Return what finds the files of an archive; its requests go through the adapter."""
    return _OPENERS[name](session, adapter)
