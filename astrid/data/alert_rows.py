"""What is known of alert packets, whose they are, and which split each is for; those that can't be used are named."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from astrid.config import AlertsData, DataError

from .alert_labels import Label, read_labels
from .difference import background_sigma
from .packets import Record, packet_files, read_records
from .rows import Split
from .splits import SPLITS, deal, share_out
from .surveys import Alert, gaussian_fwhm, identify, read_alert

logger = logging.getLogger(__name__)

_LEAST_VALID = 0.5
_LEAST_SHIFT = 3  # pixels by which a crop must be able to move to either side
_MARGIN = 4  # pixels between a candidate and the edge of its crop
_PEAK_HALF = 1  # pixels around the candidate in which its peak is looked for


@dataclass(frozen=True)
class AlertRow:
    """What is known of a packet without its stamps.

    Attributes
    ----------
    file : Path
        File that holds it.
    place : int
        Its place in the file, from 0.
    number : int
        The survey's number of it.
    exposure : str
        Exposure that found it.
    ra, dec : float
        Degrees.
    label : "positive", "negative" or None
        None: nobody knows.
    fwhm_pixels : float or None
        Seeing; None only until that of its exposure is known.
    width_pixels : float or None
        Width of the candidate's own image, from flux and peak, where it has both; many of them tell the seeing.
    split : {"train", "val", "test"}
        What it is for; all are "train" until splits are drawn.
    patch : int or None
        Number of the first packet of its patch of sky; None until splits are drawn.
    """

    file: Path
    place: int
    number: int
    exposure: str
    ra: float
    dec: float
    label: Label
    fwhm_pixels: float | None
    width_pixels: float | None
    split: Split = "train"
    patch: int | None = None


def list_alerts(config: AlertsData) -> list[AlertRow]:
    """Read all packets once, leave out those from which no crop can be cut, and put each into a split.

    Raises
    ------
    DataError
        For a packet that can't be read where `data.damaged=stop`, packets that occur twice, labels of none of them,
        and positives that don't suffice for all splits.
    """
    labels = None if config.labels is None else read_labels(Path(config.labels), config)
    reader = PacketReader(config, labels)
    rows = [row for file in packet_files(Path(config.packets)) for row in reader.rows(file)]
    for reason, numbers in reader.unusable.items():
        logger.warning("left out %d packets (%s, ...): %s", len(numbers), ", ".join(numbers[:3]), reason)
    _refuse_twice(rows)
    if labels is not None and not any(row.number in labels for row in rows):
        raise DataError(f"data.labels must be about the packets, but {config.labels} names none of {len(rows)} of them")
    if config.unlabelled == "drop":
        rows = [row for row in rows if row.label is not None]
    if not rows:
        reasons = "; ".join(reader.unusable) or "see the log"
        raise DataError(f"data.packets must hold packets that can be used, got none in {config.packets}: {reasons}")
    return draw_alert_splits(_with_seeing(rows), config)


def fingerprint_alerts(rows: Sequence[AlertRow]) -> str:
    """Return the SHA-256 of the files' contents and of what was decided about each packet, wherever they lie."""
    digests = {}
    for file in sorted({row.file for row in rows}):
        with file.open("rb") as stream:
            digests[file] = hashlib.file_digest(stream, "sha256").hexdigest()
    described = [[digests[row.file], row.place, row.label, row.fwhm_pixels, row.split] for row in rows]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def draw_alert_splits(rows: Sequence[AlertRow], config: AlertsData) -> list[AlertRow]:
    """Give each patch of sky with packets to one split, at random, those with positives and the others apart.

    Every split has a patch with positives. Of fewer than three others, one trains first, then one tests.

    Raises
    ------
    DataError
        If the positives don't lie in three patches at least.
    """
    patches = _patches(rows, radius_arcsec=config.group_arcsec)
    positive = {int(patch) for patch, row in zip(patches, rows, strict=True) if row.label == "positive"}
    if len(positive) < len(SPLITS):
        raise DataError(
            f"positives must lie in at least {len(SPLITS)} patches of sky, one for each split, got {len(positive)} "
            f"among {len(rows)} packets; add packets, or name what is real in data.labels"
        )
    rng = np.random.default_rng(config.split_seed)
    splits: dict[int, Split] = {}
    for group in (sorted(positive), sorted({int(patch) for patch in patches} - positive)):
        splits |= deal(group, share_out(len(group), (config.val_fraction, config.test_fraction)), rng=rng)
    first = {int(patch): row.number for patch, row in zip(reversed(patches), reversed(rows), strict=True)}
    return [
        replace(row, split=splits[int(patch)], patch=first[int(patch)])
        for row, patch in zip(rows, patches, strict=True)
    ]


def _patches(rows: Sequence[AlertRow], *, radius_arcsec: float) -> NDArray[np.integer]:
    """Number the patches of sky; packets closer than the radius, in a chain, share one."""
    ra, dec = (np.radians([getattr(row, name) for row in rows]) for name in ("ra", "dec"))
    points = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    chord = 2.0 * np.sin(np.radians(radius_arcsec / 3600.0) / 2.0)
    pairs = KDTree(points).query_pairs(chord, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(rows), len(rows)))
    return np.asarray(connected_components(links, directed=False)[1])


@dataclass
class PacketReader:
    """Reads packets, and keeps in mind which sound ones no crop can be cut from: reasons, with the packets' numbers."""

    config: AlertsData
    labels: dict[int, Label] | None
    unusable: dict[str, list[str]] = field(default_factory=dict)

    def rows(self, file: Path) -> Iterator[AlertRow]:
        """Yield the packets of a file that can be used; stop at the first that is damaged, or name those."""
        try:
            for place, record in enumerate(read_records(file)):
                row = self._row(file, record, place=place)
                if row is not None:
                    yield row
        except DataError as error:
            if self.config.damaged == "stop":
                raise DataError(f"{error}; data.damaged=skip leaves what is damaged out") from error
            logger.warning("left out the rest of a file: %s", error)

    def _row(self, file: Path, record: Record, *, place: int) -> AlertRow | None:
        try:
            alert = read_alert(record, self.config)
        except DataError as error:
            named = f"{file}, packet {identify(record)}: {error}"
            if self.config.damaged == "stop":
                raise DataError(named) from error
            logger.warning("left out: %s", named)
            return None
        reason = reason_unusable(alert, crop_size=self.config.crop_size)
        if reason is not None:
            self.unusable.setdefault(reason, []).append(str(alert.number))
            return None
        known: Label = "positive" if alert.solar_system else None
        return AlertRow(
            file,
            place,
            alert.number,
            alert.exposure,
            alert.ra,
            alert.dec,
            label=known if self.labels is None else self.labels.get(alert.number),
            fwhm_pixels=self.config.fwhm_pixels or alert.fwhm_pixels,
            width_pixels=_width(alert),
        )


def reason_unusable(alert: Alert, *, crop_size: int) -> str | None:
    """Say why no crop can be cut from a sound packet; None where one can.

    A crop must be able to move, and the middle of the stamps, which is in all crops, must be known and have noise.
    """
    ranges = crop_ranges(alert, crop_size=crop_size)
    if any(high - low < 2 * _LEAST_SHIFT for low, high in ranges):
        return f"stamps below data.crop_size + {2 * _LEAST_SHIFT} pixels, in which a crop can't move; lower it"
    middle = tuple(slice(high, low + crop_size) for low, high in ranges)
    if alert.valid[middle].mean() < _LEAST_VALID:
        return "less than half of the pixels in the middle of all stamps known"
    for stamp in (alert.science, alert.template, alert.difference):
        try:
            background_sigma(stamp, alert.valid)
        except DataError:
            return "a stamp without background noise"
    return None


def crop_ranges(alert: Alert, *, crop_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the lowest and highest y0 and x0 of crops that lie in the stamps and have the candidate well inside."""
    places = zip((alert.y, alert.x), alert.difference.shape, strict=True)
    rows, columns = (
        (max(0, round(at) + _MARGIN + 1 - crop_size), min(edge - crop_size, round(at) - _MARGIN)) for at, edge in places
    )
    return rows, columns


def _width(alert: Alert) -> float | None:
    """Return the FWHM of a candidate from its flux and the peak of its image, or None if these tell nothing."""
    x, y = round(alert.x), round(alert.y)
    around = slice(max(y - _PEAK_HALF, 0), y + _PEAK_HALF + 1), slice(max(x - _PEAK_HALF, 0), x + _PEAK_HALF + 1)
    values = np.sign(alert.flux) * alert.difference[around]
    if not np.isfinite(values).any() or not np.nanmax(values) > 0:
        return None
    return gaussian_fwhm(abs(alert.flux), peak=float(np.nanmax(values)))


def _with_seeing(rows: Sequence[AlertRow]) -> list[AlertRow]:
    """Give packets without a PSF the median width of the candidates of their exposure."""
    widths: dict[str, list[float]] = {}
    for row in rows:
        if row.width_pixels is not None:
            widths.setdefault(row.exposure, []).append(row.width_pixels)
    for row in rows:
        if row.fwhm_pixels is None and row.exposure not in widths:
            raise DataError(
                f"{row.file}, packet {row.number}: the seeing must be known, but the packets of its exposure have "
                "neither a PSF nor a zero point; try data.fwhm_pixels=2.5"
            )
    return [
        row if row.fwhm_pixels is not None else replace(row, fwhm_pixels=float(np.median(widths[row.exposure])))
        for row in rows
    ]


def _refuse_twice(rows: Sequence[AlertRow]) -> None:
    seen: dict[int, AlertRow] = {}
    for row in rows:
        first = seen.setdefault(row.number, row)
        if first is not row:
            raise DataError(f"{row.file}: packet {row.number} must occur once, {first.file} has it too; remove one")
