"""Knobs of alert packets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from .auto import Auto
from .checks import check, check_range
from .data import DataConfig, check_fractions


@dataclass
class AlertsData(DataConfig):
    """Alert packets of ZTF or Rubin: small stamps around candidates."""

    batch_size: int | Auto = 32
    """Tiles per step; as in `DataConfig`, larger because the tiles are smaller."""
    tile_size: int = 48
    """Edge of a square training tile in pixels; best that of the crops."""
    packets: str = MISSING
    """A file of packets, or a folder of such files: .avro, .parquet, or a .tar.gz of .avro."""
    damaged: Literal["stop", "skip"] = "stop"
    """What a packet that can't be read does: stop the run, or be left out and named. Sound ones from which no crop can
    be cut (stamps too small, or mostly blank) are always left out and counted."""
    labels: str | None = None
    """CSV with a column `candid` (Rubin: `diaSourceId`) and a column `label`; null: known solar-system objects."""
    positive_labels: list[str] = field(default_factory=lambda: ["real", "sso", "1"])
    """What in the column `label` means a positive; an empty cell means that nobody knows."""
    negative_labels: list[str] = field(default_factory=lambda: ["bogus", "0"])
    """What in it means a negative: the candidate's pixels are counted, as negative ones."""
    sso_arcsec: float = 2.0
    """Without `labels`: a ZTF candidate is positive within this many arcseconds of a known minor planet, ..."""
    sso_magnitudes: float = 1.0
    """... if its brightness differs by less than this from the predicted one. Rubin packets name their object."""
    unlabelled: Literal["unscored", "negative", "drop"] = "unscored"
    """Candidates nobody labelled: seen by the network but not counted; counted as negative; or left out."""
    crop_size: int = 48
    """Edge in pixels of the crop of each stamp. It lies at random in the stamp, as the candidate is in its middle."""
    crops_per_alert: int = 4
    """Crops of each training packet, each shifted in its own way; one validates or tests."""
    crop_seed: int = 0
    """Seed of the shifts, with the packet's own number."""
    target_radius_fwhm: float = 0.75
    """Pixels within this many FWHM of a positive candidate are positive."""
    unscored_radius_fwhm: float = 2.0
    """Pixels within this many FWHM of a candidate that `unlabelled=unscored` leaves out don't count."""
    injected_per_alert: float = 0.0
    """Point sources put into each crop of a training packet, on average; they are positive. Never in val and test."""
    injected_snr: list[float] = field(default_factory=lambda: [5.0, 50.0])
    """Range of their log-uniform matched-filter signal-to-noise in the difference."""
    injected_gain: float = 6.2
    """Electrons per unit of the stamps, for the photon noise of what is injected; 6.2 is ZTF's."""
    fwhm_pixels: float | None = None
    """Seeing in pixels; null: that of the packet's PSF, else the exposure's, from flux and peak of its candidates."""
    group_arcsec: float = 120.0
    """Packets closer than this on the sky, in a chain, are one field and stay in one split; stamps must not overlap."""
    val_fraction: float = 0.2
    """Share of the fields that validates, of those with positives and of the others alike."""
    test_fraction: float = 0.2
    """Share of the fields that tests."""
    split_seed: int = 0
    """Seed of the assignment of fields to splits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fractions(self.val_fraction, self.test_fraction)
        lowest = {"crop_size": 16, "crops_per_alert": 1, "crop_seed": 0, "sso_arcsec": 0, "sso_magnitudes": 0}
        lowest["injected_per_alert"] = 0
        for name, least in lowest.items():
            value = getattr(self, name)
            check(value >= least, f"data.{name}", value, f"at least {least}", "leave it at its default")
        check_range("data.injected_snr", self.injected_snr, 1.0)
        for name in ("target_radius_fwhm", "unscored_radius_fwhm", "group_arcsec", "injected_gain"):
            value = getattr(self, name)
            check(value > 0, f"data.{name}", value, "above 0", "leave it at its default")
        seeing = self.fwhm_pixels
        check(seeing is None or seeing > 0, "data.fwhm_pixels", seeing, "above 0", "try data.fwhm_pixels=2.5")
        both = sorted({*self.positive_labels} & {*self.negative_labels})
        rule, remedy = "labels that are not negative_labels as well", "leave each in one of them"
        check(not both, "data.positive_labels", both, rule, remedy)
