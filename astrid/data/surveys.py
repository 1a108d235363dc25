"""What the packets of each survey call the things that an alert is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.nddata import CCDData
from numpy.typing import NDArray

from astrid.config import AlertsData, DataError

from .frames import inspect_image, read_image
from .packets import Record

ZTF_EDGE = 63
"""Edge in pixels of a whole stamp of ZTF, with the candidate in the middle; stamps at the edge of a chip are cut."""
ZTF_SHAPE = (3080, 3072)
"""Height and width in pixels of the quadrant that a ZTF candidate's position counts in."""
_MAGNITUDE_SNR = 2.5 / math.log(10.0)
_SIGMA_TO_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Alert:
    """One candidate with its stamps.

    Attributes
    ----------
    number : int
        `candid` of ZTF, `diaSourceId` of Rubin.
    exposure : str
        Exposure that found it.
    ra, dec : float
        Position in degrees, ICRS.
    x, y : float
        The candidate in the stamps: 0-based pixels, centres at integers.
    science, template, difference : (H, W) float32
        In the survey's unit (ZTF: DN, Rubin: nJy); NaN where unknown.
    uncertainty : (H, W) float32 or None
        One sigma of the difference, in its unit, where the packet has it.
    psf : (h, w) float32 or None
        The PSF of the difference, of sum 1, where the packet has it.
    flux, snr : float
        Of the candidate in the difference, in its unit; flux is NaN where the packet has no zero point.
    solar_system : bool
        Whether the survey matched it with a known object of the solar system.
    """

    number: int
    exposure: str
    ra: float
    dec: float
    x: float
    y: float
    science: NDArray[np.float32]
    template: NDArray[np.float32]
    difference: NDArray[np.float32]
    uncertainty: NDArray[np.float32] | None
    psf: NDArray[np.float32] | None
    flux: float
    snr: float
    solar_system: bool

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Return where all stamps are known, (H, W) bool."""
        known = np.isfinite(self.science) & np.isfinite(self.template) & np.isfinite(self.difference)
        return known if self.uncertainty is None else known & (self.uncertainty > 0)

    @property
    def fwhm_pixels(self) -> float | None:
        """Return the width of the Gaussian with the PSF's peak and volume, or None without a PSF."""
        return None if self.psf is None else gaussian_fwhm(float(self.psf.sum()), peak=float(self.psf.max()))


def gaussian_fwhm(flux: float, *, peak: float) -> float:
    """Return the full width at half maximum, in pixels, of a Gaussian of this volume and height."""
    return _SIGMA_TO_FWHM * math.sqrt(flux / (2.0 * math.pi * peak))


def read_alert(record: Record, config: AlertsData) -> Alert:
    """Take an alert out of a packet of ZTF or Rubin.

    Raises
    ------
    DataError
        For a packet of another survey, one that lacks something, and stamps that can't be read.
    """
    reader = next((read for name, read in READERS.items() if isinstance(record.get(name), dict)), None)
    if reader is None:
        shown = ", ".join(list(record)[:6])
        raise DataError(f"a packet must have a candidate (ZTF) or a diaSource (Rubin), got {shown}; name another file")
    try:
        alert = reader(record, config)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"a packet must hold what its survey's schema says, got {reason}; leave it out") from error
    _check_stamps(alert)
    return alert


def _check_stamps(alert: Alert) -> None:
    """Refuse stamps of several shapes, and a candidate that isn't in them."""
    shapes = {stamp.shape for stamp in (alert.science, alert.template, alert.difference)}
    if len(shapes) != 1:
        raise DataError(f"the stamps of a packet must have one shape, got {sorted(shapes)}; leave it out")
    height, width = alert.difference.shape
    if not (0 <= alert.x <= width - 1 and 0 <= alert.y <= height - 1 and alert.snr > 0):
        got = f"x {alert.x:g}, y {alert.y:g}, signal-to-noise {alert.snr:g}"
        raise DataError(f"a candidate must lie in its stamp of {width}x{height} pixels, got {got}; leave it out")


def identify(record: Record) -> str:
    """Return the number under which people know a packet, if it has one."""
    return str(record.get("candid", record.get("diaSourceId", "without a number")))


def _read_ztf(record: Record, config: AlertsData) -> Alert:
    """Read a packet of ZTF, whose schema is documented in github.com/ZwickyTransientFacility/ztf-avro-alert."""
    candidate = record["candidate"]
    names = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    position = float(candidate["xpos"]), float(candidate["ypos"])
    stamps = [_whole_ztf_stamp(_pixels(_stamp(record, name)), position) for name in names]
    zero_point, magnitude = candidate.get("magzpsci"), float(candidate["magpsf"])
    sign = 1.0 if candidate["isdiffpos"] in ("t", "1", 1, True) else -1.0
    return Alert(
        number=int(record["candid"]),
        exposure=f"{candidate['jd']:.6f}",
        ra=float(candidate["ra"]),
        dec=float(candidate["dec"]),
        x=ZTF_EDGE // 2,
        y=ZTF_EDGE // 2,
        science=stamps[0],
        template=stamps[1],
        difference=stamps[2],
        uncertainty=None,
        psf=None,
        flux=math.nan if zero_point is None else sign * 10.0 ** (0.4 * (zero_point - magnitude)),
        snr=_MAGNITUDE_SNR / float(candidate["sigmapsf"]),
        solar_system=_is_known_minor_planet(candidate, config),
    )


def _is_known_minor_planet(candidate: Record, config: AlertsData) -> bool:
    distance, predicted = candidate.get("ssdistnr"), candidate.get("ssmagnr")
    if distance is None or predicted is None or distance < 0:  # -999 stands for none
        return False
    near = distance < config.sso_arcsec
    return bool(near and abs(predicted - candidate["magpsf"]) < config.sso_magnitudes)


def _whole_ztf_stamp(stamp: NDArray[np.float32], position: tuple[float, float]) -> NDArray[np.float32]:
    """Fill a stamp that the edge of its chip cut with NaN, so that the candidate is in its middle."""
    if max(stamp.shape) > ZTF_EDGE:
        raise DataError(f"a stamp of ZTF must have at most {ZTF_EDGE} pixels a side, got {stamp.shape}; leave it out")
    whole = np.full((ZTF_EDGE, ZTF_EDGE), np.nan, dtype=np.float32)
    x, y = position
    top = ZTF_EDGE - stamp.shape[0] if y < ZTF_SHAPE[0] / 2 else 0
    left = ZTF_EDGE - stamp.shape[1] if x < ZTF_SHAPE[1] / 2 else 0
    whole[top : top + stamp.shape[0], left : left + stamp.shape[1]] = stamp
    return whole


def _read_rubin(record: Record, _: AlertsData) -> Alert:
    """Read a packet of Rubin, whose schema is documented in github.com/lsst/alert_packet."""
    source = record["diaSource"]
    science, template, difference = (
        _stamp(record, name) for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    )
    shown = read_image(difference)
    x, y = _position(shown, ra=float(source["ra"]), dec=float(source["dec"]))
    return Alert(
        number=int(source["diaSourceId"]),
        exposure=str(source["visit"]),
        ra=float(source["ra"]),
        dec=float(source["dec"]),
        x=x,
        y=y,
        science=_pixels(science),
        template=_pixels(template),
        difference=np.asarray(shown.data, dtype=np.float32),
        uncertainty=_plane_if_there(difference, "UNCERT"),
        psf=_plane_if_there(difference, "PSFIMAGE"),
        flux=float(source["psfFlux"]),
        snr=abs(float(source["snr"])),
        solar_system=bool(source.get("ssObjectId")),
    )


def _position(stamp: CCDData, *, ra: float, dec: float) -> tuple[float, float]:
    """Return where the candidate is in a stamp, by its coordinates, else its middle."""
    if stamp.wcs is None:
        height, width = stamp.data.shape
        return (width - 1) / 2, (height - 1) / 2
    x, y = stamp.wcs.world_to_pixel_values(ra, dec)
    return float(x), float(y)


def _stamp(record: Record, name: str) -> bytes:
    """Return the content of a stamp: a FITS file, packed or not."""
    held: Any = record[name]
    content = held.get("stampData") if isinstance(held, dict) else held
    if not isinstance(content, bytes):
        raise DataError(f"{name} must hold a stamp, got nothing; leave the packet out")
    if content.startswith(_JPEG):
        raise DataError(f"{name} must be FITS, got a JPEG picture as in ZTF's packets of 2017; leave the packet out")
    return content


def _pixels(content: bytes, hdu: str | None = None) -> NDArray[np.float32]:
    return np.asarray(read_image(content, hdu=hdu).data, dtype=np.float32)


def _plane_if_there(content: bytes, name: str) -> NDArray[np.float32] | None:
    return _pixels(content, name) if name in inspect_image(content).names else None


READERS: dict[str, Callable[[Record, AlertsData], Alert]] = {"candidate": _read_ztf, "diaSource": _read_rubin}
"""How to read a packet, by the record in it that only its survey has."""
