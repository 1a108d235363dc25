"""The exposures of a manifest, assessed as a run sees them, and what becomes of those that aren't good enough."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

from astrid.config import DataError, FramesData

from .exposures import read_exposure
from .hdus import keywords
from .keywords import OVERSCAN
from .preprocess import good_pixels
from .quality import Assessment, Exposure, Verdict, assess, explain, judge, refuse, with_residuals
from .quality.astrometry import remarks_on
from .quality.header import Facts, read_facts
from .quality.kept import keep, read_kept
from .reduction.chain import Record
from .reduction.header import LEVELLED_BY, RESCALED_BY
from .reduction.sets import masters_key
from .rows import FrameRow, ImageFile

logger = logging.getLogger(__name__)

Show = Callable[[Iterable[Assessment], str, int], Iterable[Assessment]]
_ROW = re.compile(r"\brow (\d+) \(")
_FEWEST_FOR_POOL = 8
"""Exposures below which a pool of processes takes longer to start than it saves."""
_VERSIONS = ("numpy", "scipy", "astropy", "photutils", "astroscrappy")
_JUDGING = ("policy", "min_score", "limits")
"""Knobs that judge what was measured, and change no measure."""


@dataclass(frozen=True)
class Screened:
    """A science exposure of a manifest, how good it is, whether it was left out, and the numbers of its rows."""

    found: Assessment
    verdict: Verdict
    is_skipped: bool
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pixels:
    """The image of a row, and what tells which of its pixels are good: what several sections of it share."""

    science: ImageFile
    mask: ImageFile | None
    valid: ImageFile | None
    weight: ImageFile | None
    mask_bits: int | None
    mask_codes: tuple[int, ...] | None

    @classmethod
    def of(cls, row: FrameRow) -> Pixels:
        """Return those of a row."""
        return cls(**{field.name: getattr(row, field.name) for field in dataclasses.fields(cls)})

    def told(self) -> dict[str, object]:
        """Return all that decides them: of files their content, wherever they lie."""
        return {name: _content(value) for name, value in vars(self).items()}


def _content(value: object) -> object:
    return [value.digest(), str(value.hdu)] if isinstance(value, ImageFile) else value


def screen(rows: Sequence[FrameRow], config: FramesData, *, show: Show) -> tuple[list[FrameRow], list[Screened]]:
    """Assess the science exposure of each row, once however many sections it has, and apply the policy.

    Returns
    -------
    rows : list of FrameRow
        Those that are left.
    screened : list of Screened
        Every exposure.

    Raises
    ------
    DataError
        With policy=stop for the first exposure that isn't good enough; with policy=skip if a split has none left.
    """
    firsts: dict[Pixels, FrameRow] = {}
    numbers: dict[Pixels, tuple[int, ...]] = {}
    for row in rows:
        pixels = Pixels.of(row)
        firsts.setdefault(pixels, row)
        numbers[pixels] = (*numbers.get(pixels, ()), row.number)
    work = _assessed(list(firsts.values()), config)
    found = with_residuals(list(show(work, "exposures", len(firsts))))
    screened = [_screened(one, config, rows=numbers[pixels]) for pixels, one in zip(firsts, found, strict=True)]
    bad = {pixels: one for pixels, one in zip(firsts, screened, strict=True) if not one.verdict.passed}
    if bad and config.quality.policy == "stop":
        pixels, worst = next(iter(bad.items()))
        named = dataclasses.replace(worst.found, name=f"row {firsts[pixels].number}, {worst.found.name}")
        raise refuse(named, worst.verdict, config.quality)
    _tell(bad.values(), len(screened), config)
    for one in screened:
        for remark in one.found.remarks:
            logger.warning("%s: %s", one.found.name, remark)
    kept = [row for row in rows if not (Pixels.of(row) in bad and config.quality.policy == "skip")]
    _refuse_empty(rows, kept)
    return kept, screened


def _screened(found: Assessment, config: FramesData, *, rows: tuple[int, ...]) -> Screened:
    verdict = judge(found, config.quality)
    return Screened(found, verdict, is_skipped=not verdict.passed and config.quality.policy == "skip", rows=rows)


@contextmanager
def recalling(screened: Sequence[Screened]) -> Iterator[None]:
    """Say of an error about a row, where its exposure isn't good enough and was kept, that it may be left out."""
    kept = {number for one in screened if not (one.verdict.passed or one.is_skipped) for number in one.rows}
    try:
        yield
    except DataError as error:
        named = _ROW.search(str(error))
        if named is None or int(named[1]) not in kept:
            raise
        remedy = "leave it out, as its quality is below data.quality.min_score: data.quality.policy=skip"
        raise DataError(f"{error}; or {remedy}") from error


def _tell(bad: Iterable[Screened], count: int, config: FramesData) -> None:
    """Name in the log what is left out, or kept although it isn't good."""
    bad = list(bad)
    done = "left out" if config.quality.policy == "skip" else "kept"
    if bad:
        logger.warning("%d of %d exposures are below data.quality.min_score and %s:", len(bad), count, done)
    for one in bad:
        logger.warning("  %s: score %.2f; %s", one.found.name, one.verdict.score, explain(one.found, one.verdict))


def _refuse_empty(rows: Sequence[FrameRow], kept: Sequence[FrameRow]) -> None:
    """Refuse to go on where nothing is left of a split."""
    for split in dict.fromkeys(row.split for row in rows):
        if all(row.split != split for row in kept):
            what = "the manifest" if split is None else f"the {split} split"
            raise DataError(
                f"{what} must have exposures of a quality of data.quality.min_score, got none after "
                "data.quality.policy=skip; lower it, change data.quality.limits, or add data.quality.policy=keep"
            )


def _assessed(rows: Sequence[FrameRow], config: FramesData) -> Iterator[Assessment]:
    """Assess exposures on all cores, in order; those that are kept in the cache are read from there."""
    shared = _shared_key(config)
    paths = [Path(config.cache) / "quality" / f"{_key(row, config, shared)[:24]}.json" for row in rows]
    kept = [read_kept(path) for path in paths]
    missing = [row for row, one in zip(rows, kept, strict=True) if one is None]
    made = _made(missing, config)
    for path, one in zip(paths, kept, strict=True):
        if one is None:
            one = next(made)
            keep(one, path)
        yield one


def _made(rows: Sequence[FrameRow], config: FramesData) -> Iterator[Assessment]:
    if len(rows) < _FEWEST_FOR_POOL:
        yield from (assess_row(row, config) for row in rows)
        return
    try:
        yield from joblib.Parallel(n_jobs=-1, return_as="generator")(
            joblib.delayed(assess_row)(row, config) for row in rows
        )
    finally:
        get_reusable_executor().shutdown()  # idle workers would keep their memory, and outlive a killed run


def assess_row(row: FrameRow, config: FramesData) -> Assessment:
    """Assess a row's science exposure after the steps of the detector, with the pixels that its planes call good.

    Raises
    ------
    DataError
        If it can't be read, naming the row.
    """
    try:
        record = read_exposure("science", row.science, config, fwhm_pixels=row.fwhm_pixels)
        good = good_pixels(row, shape=record.raw_shape)[record.cut]
    except DataError as error:
        raise DataError(f"{Path(config.manifest).name}, row {row.number} ({row.field}): {error}") from error
    frame = record.frame
    valid = good if frame.mask is None else good & ~np.asarray(frame.mask)
    facts = _facts(row, record, config)
    remarks = remarks_on(frame.header, frame.wcs)
    sigma = _expected_noise(record, config)
    exposure = Exposure(_name(row, config), frame.data, valid, facts, frame.wcs, remarks=remarks, sigma=sigma)
    return assess(exposure, box=config.background_box)


def _name(row: FrameRow, config: FramesData) -> str:
    return str(row.science).removeprefix(f"{Path(config.root)}/")


def _expected_noise(record: Record, config: FramesData) -> NDArray[np.float32] | None:
    """Return the uncertainty that the steps made of photons and readout, unless the knobs give other numbers."""
    is_known = any(step.name == "uncertainty" and step.done for step in record.steps)
    knobs = (config.quality.gain, config.quality.read_noise, config.quality.pedestal)
    sigma = record.frame.uncertainty
    is_taken = is_known and sigma is not None and all(knob == "header" for knob in knobs)
    return np.asarray(sigma.array) if is_taken else None


def _facts(row: FrameRow, record: Record, config: FramesData) -> Facts:
    """Return what the header tells, as far as the steps of the detector left it true."""
    frame, path = record.frame, row.science.path
    done = {step.name for step in record.steps if step.done}
    header, on_sky = keywords(frame.header), frame.wcs is not None
    if record.section is not None or LEVELLED_BY & done:  # the strip of the raw frame isn't there, or holds nothing
        header = {name: value for name, value in header.items() if name not in OVERSCAN}
    facts = read_facts(header, frame.data, config.quality, path=path, on_sky=on_sky)
    untrue: dict[str, float | None] = {}
    if LEVELLED_BY & done:
        untrue["pedestal"] = 0.0
    if RESCALED_BY & done:
        untrue["saturation"] = None
    if "gain" in done:
        untrue["zero_point"] = None
        facts = dataclasses.replace(facts, gain=1.0, unit="electron")
    of_header = {name: value for name, value in untrue.items() if getattr(config.quality, name) == "header"}
    return dataclasses.replace(facts, **of_header)  # type: ignore[arg-type]


def _shared_key(config: FramesData) -> str:
    """Return the SHA-256 of what decides the assessments of all rows: knobs, code, versions and masters."""
    quality = {name: value for name, value in vars(config.quality).items() if name not in _JUDGING}
    knobs = [dataclasses.asdict(config.preprocess), {name: str(value) for name, value in quality.items()}]
    code = [path.read_text() for path in sorted(Path(__file__).parent.rglob("*.py")) if path.parent.name != "archives"]
    versions = [importlib.metadata.version(package) for package in _VERSIONS]
    masters = masters_key(config.preprocess, Path(config.root))
    return _digest([knobs, code, versions, masters, config.background_box])


def _key(row: FrameRow, config: FramesData, shared: str) -> str:
    """Return the SHA-256 of everything that decides the assessment of a row, with what all rows share."""
    return _digest([shared, Pixels.of(row).told(), row.fwhm_pixels, _name(row, config)])


def _digest(told: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
