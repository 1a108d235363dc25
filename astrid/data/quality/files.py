"""The exposures of files and folders, assessed on all cores; what can't be read is refused with one message."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

from astrid.config import DataError, QualityConfig

from ..folders import NO_FILE, walk_files
from ..frame_units import why_not_linear
from ..frames import inspect_file, is_fits, read_image, read_plane
from ..hdus import FileContent, PictureHDU, keywords
from ..rows import ImageFile
from .assess import Assessment, Exposure, assess
from .astrometry import remarks_on, residuals
from .header import read_facts

_FITS_NAMES = (".fits", ".fit", ".fts", ".fz")
_PACKINGS = (".gz", ".bz2", ".xz")


@dataclass(frozen=True)
class Refusal:
    """A file, or one of its HDUs, that can't be assessed, and why; `is_stranger` if it isn't FITS nor says it is."""

    name: str
    reason: str
    is_stranger: bool = False


Result = Assessment | Refusal


def list_files(names: Sequence[str]) -> list[ImageFile]:
    """Return the files that are named, and those in folders that are, below them too; hidden ones are left out.

    Raises
    ------
    DataError
        If there is no such file or folder, or no file in a folder.
    """
    found: dict[str, ImageFile] = {}
    for name in names:
        path = Path(name)
        inside = [ImageFile(file) for file in sorted(walk_files(path))] if path.is_dir() else [_named(name)]
        if not inside:
            raise DataError(f"PATH must be a FITS file or a folder of some, got {name}, which is empty; name another")
        found |= {str(file): file for file in inside}
    return list(found.values())


def _named(name: str) -> ImageFile:
    plain = ImageFile(Path(name))
    image = plain if plain.path.is_file() else ImageFile.parse(name, Path())
    if image.path.exists() and not image.path.is_file():
        raise DataError(f"PATH must be a FITS file or a folder of some, got {name}, which is {NO_FILE}; name another")
    if not image.path.is_file():
        raise DataError(f"PATH must be a FITS file or a folder of some, got {name}, which isn't there; check the name")
    return image


def assess_files(files: Sequence[ImageFile], config: QualityConfig, *, box: int, jobs: int) -> Iterator[list[Result]]:
    """Assess the pictures of each file, in order, as they are done.

    Parameters
    ----------
    box : int
        Edge in pixels of the cells in which the sky is measured.
    jobs : int
        Processes; -1 is one for each core.
    """
    if jobs == 1:
        yield from (assess_file(file, config, box=box) for file in files)
        return
    work = (joblib.delayed(assess_file)(file, config, box=box) for file in files)
    try:
        yield from joblib.Parallel(n_jobs=jobs, return_as="generator")(work)
    finally:
        get_reusable_executor().shutdown()  # idle workers would keep their memory


def assess_file(file: ImageFile, config: QualityConfig, *, box: int) -> list[Result]:
    """Assess every picture of a file, or the one that is named."""
    if not file.path.exists():
        rule = f"a link to {file.path.readlink()}, which isn't there" if file.path.is_symlink() else "isn't there"
        return [Refusal(str(file), f"{rule}; name another file or mend the link")]
    if not file.path.is_file():
        return [Refusal(str(file), f"is {NO_FILE}; name another", is_stranger=not _claims_fits(file.path))]
    if not _claims_fits(file.path) and not is_fits(file.path):
        rule = "neither FITS nor named like it; alert packets are read by data=alerts, tables are no exposures"
        return [Refusal(str(file), rule, is_stranger=True)]
    try:
        content = inspect_file(file.path)
        if file.hdu is not None or not content.pictures:
            read_image(file.path, hdu=file.hdu)  # which says what is wrong with it
            content = _only(content, file)
    except DataError as error:
        return [Refusal(str(file), _without_name(error, file))]
    cubes = [
        Refusal(f"{file.path}[{hdu}]", f"holds {what}; save one plane as a picture") for hdu, what in content.others
    ]
    several = len(content.pictures) > 1 or file.hdu is not None
    return [
        *(_assess_picture(file, content, one, config, several=several, box=box) for one in content.pictures),
        *cubes,
    ]


def _claims_fits(path: Path) -> bool:
    name = path.name.lower()
    for packing in _PACKINGS:
        name = name.removesuffix(packing)
    return name.endswith(_FITS_NAMES)


def _only(content: FileContent, file: ImageFile) -> FileContent:
    wanted, _, version = str(file.hdu).partition(",")
    chosen = [
        one
        for one in content.pictures
        if file.hdu == one.hdu or (one.name == wanted.strip().upper() and version.strip() in ("", str(one.version)))
    ]
    return FileContent(content.primary, tuple(chosen[:1]), ())


def _without_name(error: DataError, file: ImageFile) -> str:
    return str(error).removeprefix(f"{file.path}: ")


def _assess_picture(
    file: ImageFile, content: FileContent, picture: PictureHDU, config: QualityConfig, *, several: bool, box: int
) -> Result:
    name = f"{file.path}[{picture.hdu}]" if several else str(file.path)
    try:
        image = read_image(file.path, hdu=picture.hdu)
        valid = ~image.mask & ~_flagged(file.path, content, picture, shape=image.shape)
        header = ChainMap(keywords(image.header), keywords(content.primary))
        on_sky = image.wcs is not None
        facts = read_facts(header, image.data, config, path=file.path, plane=picture.name, on_sky=on_sky)
        exposure = Exposure(
            *(name, image.data, valid, facts, image.wcs),
            spoilt=why_not_linear(image.unit, facts.unit),
            remarks=remarks_on(image.header, image.wcs),
        )
        return assess(exposure, box=box)
    except DataError as error:
        return Refusal(name, _without_name(error, file))


def _flagged(path: Path, content: FileContent, picture: PictureHDU, *, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where the data quality plane of a science picture, as HST and JWST have it, isn't 0."""
    nothing = np.zeros(shape, dtype=bool)
    beside = [one for one in content.pictures if (one.name, one.version) == ("DQ", picture.version)]
    if picture.name != "SCI" or not beside:
        return nothing
    plane = read_plane(path, hdu=beside[0].hdu)
    return plane != 0 if plane.shape == shape else nothing


def with_residuals(found: Sequence[Assessment]) -> list[Assessment]:
    """Add to each exposure how far it disagrees with the others of the set about where its sources are."""
    science = [one for one in found if len(one.places)]
    measured = residuals([one.places for one in science], [one.pixel_arcsec for one in science])
    by_name = {one.name: residual for one, residual in zip(science, measured, strict=True)}
    return [_with_residual(one, by_name.get(one.name)) for one in found]


def _with_residual(found: Assessment, residual: float | None) -> Assessment:
    if residual is None:
        return found
    absent = {name: reason for name, reason in found.absent.items() if name != "wcs_residual_pixels"}
    return dataclasses.replace(found, values=found.values | {"wcs_residual_pixels": residual}, absent=absent)
