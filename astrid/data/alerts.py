"""Fields from alert packets: crops of their stamps that hide where in them the candidate was."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrid.config import AlertsData, DataError

from .alert_rows import AlertRow, crop_ranges
from .difference import channels_in_sigma
from .frames import Field, Sources
from .packets import Record, read_records
from .rows import Split
from .surveys import Alert, read_alert


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
    rng = np.random.default_rng([config.crop_seed, row.number, crop])
    size = config.crop_size
    y0, x0 = (int(rng.integers(*ends, endpoint=True)) for ends in crop_ranges(alert, crop_size=size))
    cut = slice(y0, y0 + size), slice(x0, x0 + size)
    valid = alert.valid[cut]
    image = channels_in_sigma(alert.science[cut], alert.template[cut], alert.difference[cut], valid)
    assert row.fwhm_pixels is not None
    x, y = alert.x - x0, alert.y - y0
    disc = _disc(valid.shape, x=x, y=y, radius=config.target_radius_fwhm * row.fwhm_pixels)
    known = row.label is not None or config.unlabelled == "negative"
    target = disc & valid if row.label == "positive" else np.zeros_like(valid)
    sources = _catalogue(alert, x=x, y=y, positive=row.label == "positive")
    name = f"{row.number}" if crop == 0 else f"{row.number}#{crop}"
    group = None if row.patch is None else f"patch of {row.patch}"
    return Field(name, image, target, valid if known else valid & ~disc, sources, row.fwhm_pixels, group=group)


def _disc(shape: tuple[int, ...], *, x: float, y: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def _catalogue(alert: Alert, *, x: float, y: float, positive: bool) -> Sources:
    """Return the candidate as a catalogue of one source, or of none where it isn't known to be real."""
    one = np.array([[x, y, alert.flux, alert.snr]], dtype=np.float64)
    x_, y_, flux, snr = one[: int(positive)].T
    return Sources(x_, y_, flux, snr, kind=["alert"] * int(positive))
