"""Fields from alert packets: crops of their stamps that hide where in them the candidate was."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrid.config import AlertsData, DataError

from .alert_injection import Crop, crop_psf, inject_into_crop
from .alert_rows import AlertRow, crop_ranges
from .difference import channels_in_sigma
from .frames import Field, Sources
from .packets import Record, read_records
from .rows import Split
from .surveys import Alert, read_alert
from .truth import disc_mask


class AlertFields(Collection[Callable[[], Field]]):
    """The calls that make the fields of one split; their packets are read as they are asked for, file after file."""

    def __init__(self, rows: Sequence[AlertRow], config: AlertsData, *, split: Split) -> None:
        self.rows = {(row.file, row.place): row for row in rows if row.split == split}
        self.crops = config.crops_per_alert if split == "train" else 1
        self.config = config

    @property
    def origins(self) -> list[str]:
        """Which packet each field comes from, in the order of the fields."""
        return [f"packet {row.number}" for row in self.rows.values() for _ in range(self.crops)]

    def __len__(self) -> int:
        return len(self.rows) * self.crops

    def __contains__(self, call: object) -> bool:
        return any(call == one for one in self)

    def __iter__(self) -> Iterator[Callable[[], Field]]:
        for path in dict.fromkeys(file for file, _ in self.rows):
            for place, record in enumerate(read_records(path)):
                row = self.rows.get((path, place))
                for crop in range(self.crops if row is not None else 0):
                    assert row is not None
                    yield AlertCrop(row, record, crop, self.config)


@dataclass(frozen=True)
class AlertCrop:
    """A call that makes one field, and that a worker process can be sent."""

    row: AlertRow
    record: Record
    crop: int
    config: AlertsData

    def __call__(self) -> Field:
        """Make the field."""
        try:
            return prepare_alert(read_alert(self.record, self.config), self.row, config=self.config, crop=self.crop)
        except DataError as error:
            raise DataError(f"{self.row.file}, packet {self.row.number}: {error}") from error


def prepare_alert(alert: Alert, row: AlertRow, *, config: AlertsData, crop: int) -> Field:
    """Cut a crop at a random place out of the stamps, and bring it into the network's channels.

    Stamps have their candidate in the middle, which a network would learn instead of what a candidate looks like. The
    crop is exact: pixels are moved, never resampled. Its place depends on seed, packet and number of the crop alone.

    Parameters
    ----------
    crop : int
        Number of the crop, from 0.

    Raises
    ------
    DataError
        If the crop has no background noise to measure.
    """
    assert row.fwhm_pixels is not None
    rng = np.random.default_rng([config.crop_seed, row.number, crop])
    size, fwhm = config.crop_size, row.fwhm_pixels
    y0, x0 = (int(rng.integers(*ends, endpoint=True)) for ends in crop_ranges(alert, crop_size=size))
    cut = slice(y0, y0 + size), slice(x0, x0 + size)
    stamps = Crop(alert.science[cut], alert.template[cut], alert.difference[cut], alert.valid[cut])
    counts = stamps.valid & ~_unscored(alert, row, shape=(size, size), corner=(y0, x0), config=config)
    sources = _catalogue(alert, x=alert.x - x0, y=alert.y - y0, positive=row.label == "positive")
    if row.split == "train" and config.injected_per_alert > 0:
        psf = crop_psf(alert.psf, fwhm_pixels=fwhm)
        stamps, injected = inject_into_crop(stamps, rng, config=config, psf=psf, free=counts)
        sources = _joined(sources, injected)
    image = channels_in_sigma(stamps.science, stamps.template, difference=stamps.difference, valid=stamps.valid)
    target = counts & disc_mask(sources.x, sources.y, (size, size), radius=config.target_radius_fwhm * fwhm)
    name = f"{row.number}" if crop == 0 else f"{row.number}#{crop}"
    group = None if row.patch is None else f"patch of {row.patch}"
    return Field(name, image, target, counts, sources, fwhm, group=group)


def _unscored(
    alert: Alert, row: AlertRow, *, shape: tuple[int, int], corner: tuple[int, int], config: AlertsData
) -> NDArray[np.bool_]:
    """Mark the surroundings of a candidate of which nobody knows what it is, (H, W) bool."""
    if row.label is not None or config.unlabelled == "negative":
        return np.zeros(shape, dtype=bool)
    assert row.fwhm_pixels is not None
    x, y = np.array([alert.x - corner[1]]), np.array([alert.y - corner[0]])
    return disc_mask(x, y, shape, radius=config.unscored_radius_fwhm * row.fwhm_pixels)


def _catalogue(alert: Alert, *, x: float, y: float, positive: bool) -> Sources:
    """Return the candidate as a catalogue of one source, or of none where it isn't known to be real."""
    one = np.array([[x, y, alert.flux, alert.snr]], dtype=np.float64)
    x_, y_, flux, snr = one[: int(positive)].T
    return Sources(x_, y_, flux, snr, kind=["alert"] * int(positive))


def _joined(one: Sources, other: Sources) -> Sources:
    columns = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("x", "y", "flux", "snr")}
    return Sources(**columns, kind=[*one.kind, *other.kind])
