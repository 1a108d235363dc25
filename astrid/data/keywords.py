"""Which keywords of which instruments say what: the one place to add a dialect.

Keywords are asked in order, and the first that says something decides. `ESO ...` are hierarchical keywords.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

KIND = ("OBSTYPE", "IMAGETYP", "IMAGETYPE", "ESO DPR TYPE", "ESO DPR CATG", "FRAMETYP", "FRAME", "OBSMODE", "VIMTYPE")
"""What an exposure is; the first two are the convention of single detectors."""
KINDS = {
    "bias": ("bias", "zero", "biases", "offset"),
    "dark": ("dark", "darks"),
    "flat": ("flat", "flats", "domeflat", "skyflat", "dflat", "tflat", "flatfield", "twilight"),
    "other": ("comp", "arc", "lamp", "focus", "defects", "fringe", "wave", "std-wave", "pinhole", "acquisition"),
    "science": ("science", "object", "light", "sky", "std", "exp", "ext", "imaging", "target", "expose"),
}
"""Words that name each kind, in the order in which they decide; compared in small letters."""

START = ("DATE-OBS", "DATE-BEG", "DATE_OBS", "DATEOBS", "UTSHUT")
"""When an exposure began: a date with its time, or a date alone."""
START_TIME = ("TIME-OBS", "UTC-OBS", "UT-OBS", "UTSTART", "UTC", "UT", "TIME-BEG", "TIME")
"""Time of day of its beginning, UTC, where the date stands alone: text, or seconds since midnight (ESO's UTC)."""
START_MJD = ("MJD-OBS", "MJD-BEG", "MJD_OBS", "MJD", "EXPSTART")
START_JD = ("JD", "JD-OBS", "OBSJD")

EXPOSURE = ("EXPTIME", "EXPOSURE")
"""Seconds in which light, or dark current, was collected: what pixels may be scaled by."""
SECONDS = (*EXPOSURE, "ITIME", "EXP_TIME", "TEXPTIME", "INTTIME", "EXPOSED", "ESO DET WIN1 DIT1")
"""The same and what comes near it, as the time of one of several readings: compared only."""

GAIN = ("EGAIN", "GAIN")
"""Electrons per count; cameras that write EGAIN have their setting, a number of its own, as GAIN."""
READ_NOISE = ("RDNOISE", "READNOIS")
"""Electrons."""
SATURATION = ("SATURATE",)
"""Value from which a pixel is saturated."""
PEDESTAL = ("PEDESTAL",)
"""What must be added to reach zero: SBFITSEXT version 1.0, Diffraction Limited."""
INHERITED = (EXPOSURE, GAIN, READ_NOISE, SATURATION, PEDESTAL)
"""What a primary header may say of the pictures of its file, each under one of these names."""
OVERSCAN = ("BIASSEC",)
TRIM = ("TRIMSEC", "DATASEC")
"""Sections of the detector: without light, and to keep."""
READOUT = (*GAIN, *READ_NOISE, *SATURATION, *OVERSCAN, *TRIM, "BUNIT")
"""How the detector was read out, and in what unit."""
ZERO_POINT = ("MAGZERO", "MAGZP")
"""Magnitude of a flux of 1 in the image's unit."""
COUNT_ZERO_POINT = ("MAGZERO", "MAGZPT", "ZEROPNT", "PHOTZP")
"""Magnitude of one count of the whole exposure."""

FILTERS = (
    *("FILTER", "BAND", "FILTNAM", "FILTER1", "FILTER2", "FILTERS", "FILTERID", "INSFILTE", "FILT", "FLTRNM"),
    *("ESO INS FILT1 NAME", "ESO INS FILT2 NAME"),
)
LONG_FILTER = r"(\S+) DECam .*"
"""Forms of a filter's name that begin with the short one: `z DECam SDSS c0004 9260.0 1520.0`."""
NO_FILTER = ("", "unknown", "none", "n/a", "na", "null", "clear1l", "clear2l", "clear1s", "clear2s", "open")

RA_DEC = (
    ("RA", "DEC"),
    ("OBJCTRA", "OBJCTDEC"),
    ("RA_TARG", "DEC_TARG"),
    ("RA-OBJ", "DEC-OBJ"),
    ("CENTRA", "CENTDEC"),
    ("OBJRA", "OBJDEC"),
    ("TELRA", "TELDEC"),
    ("RA-TEL", "DEC-TEL"),
    ("RA-MNT", "DEC-MNT"),
    ("CRVAL1", "CRVAL2"),
)
"""Where the telescope pointed: degrees as numbers, hours and degrees as sexagesimal text.

CRVAL1 and CRVAL2 only count where CTYPE1 says that they are right ascension and declination.
"""
EQUINOXES = ("EQUINOX", "EPOCH")

OBJECTS = ("OBJECT", "FIELD", "TARGNAME", "OBJNAME", "ESO OBS TARG NAME")

LONGITUDES = ("OBSGEO-L", "SITELONG", "LONG-OBS", "OBS-LONG", "LONGITUD", "GEOLON", "ESO TEL GEOLON", "OBSLON")
"""Of the observatory in degrees; east positive, which not all keep to."""

WIDTHS = ("FWHM", "SEEING", "PSF_FWHM")
"""Full width at half maximum of point sources, in whatever unit the instrument has: compared only within it."""


def number_of(header: Mapping[str, Any], names: Sequence[str]) -> float | None:
    """Return the first finite number under one of the names; text and the like count as unknown."""
    for keyword in names:
        value = header.get(keyword)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None
