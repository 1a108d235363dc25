"""Masters of a configuration: made once from its sets of frames, and kept in the cache for the other processes."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.typing import NDArray

from astrid.config import DataError, PreprocessConfig
from astrid.config.checks import saying_of

from ..frames import inspect_file, inspect_image, read_image, read_plane
from ..hdus import Header, PictureHDU, keywords
from ..kept_arrays import keep_arrays, read_kept_arrays
from ..rows import ImageFile
from ..store import held, make_folder
from .chain import Masters, start
from .combine import Combination, master_bias, master_dark, master_flat
from .detector import Readout
from .roles import Told, doubt_filter, doubt_kind, told_filter
from .told import dark_seconds, exposure_seconds, read_out

logger = logging.getLogger(__name__)

SETS = ("bias", "dark", "flat")
_PLANE_OF = {"bias": "bias.data", "dark": "dark.data", "flat": "flat.data", "bad_pixels": "bad_pixels"}
"""Plane that the masters have where a knob is given."""
_NO_NAMES = ("PRIMARY", "COMPRESSED_IMAGE")
"""What astropy calls HDUs without a name."""
KNOBS = ("saturation", "overscan", "pedestal", "trim", "gain", "read_noise", "clip_sigma")
"""Knobs that change the masters; memory changes only how they are made."""


def set_files(config: PreprocessConfig, root: Path, *, like: ImageFile | None = None) -> dict[str, list[ImageFile]]:
    """Return the files of each set, sorted by name, and the map of bad pixels.

    Parameters
    ----------
    config : PreprocessConfig
    root : Path
    like : ImageFile or None
        Exposure whose detector the pictures must be of, where a file holds several and its pattern names none; None
        leaves these open.

    Raises
    ------
    DataError
        If a name or pattern fits no file, or a file has no picture of that detector.
    """
    named = {"bad_pixels": [] if config.bad_pixels is None else [config.bad_pixels]}
    patterns: dict[str, list[str]] = {kind: getattr(config, kind) for kind in SETS} | named
    files = {kind: _matching(given, root, knob=kind) for kind, given in patterns.items()}
    if like is None:
        return files
    return {kind: [of_same_detector(file, like, knob=kind) for file in found] for kind, found in files.items()}


def of_same_detector(file: ImageFile, like: ImageFile, *, knob: str) -> ImageFile:
    """Return the picture of a calibration file that is of the detector of an exposure.

    That is what its pattern names or the only one; of several that of the same name (EXTNAME; EXTVER and then the HDU
    tell those of one name apart), or of the same HDU where one of the two has no name.

    Raises
    ------
    DataError
        If none of several corresponds.
    """
    pictures = _pictures(file)
    if file.hdu is not None or len(pictures) < 2:
        return file
    wanted = _picture(like)
    named = [one for one in pictures if one.name and one.name == wanted.name]
    for alike in ("version", "hdu"):
        named = [one for one in named if len(named) == 1 or getattr(one, alike) == getattr(wanted, alike)]
    numbered = [one for one in pictures if one.hdu == wanted.hdu and not (one.name and wanted.name)]
    if not (named or numbered):
        raise DataError(
            f"{file}: data.preprocess.{knob} must have a picture of the detector of {like.path.name}, which is "
            f"{_called(wanted)}, got {', '.join(_called(one) for one in pictures)}; name one, as in "
            f"{file.path.name}[{pictures[0].name or pictures[0].hdu}]"
        )
    return ImageFile(file.path, (named or numbered)[0].hdu)


def _picture(file: ImageFile) -> PictureHDU:
    """Return the picture that a file's name means."""
    number = inspect_image(file.path, hdu=file.hdu).hdu
    return next(one for one in _pictures(file) if one.hdu == number)


def _pictures(file: ImageFile) -> tuple[PictureHDU, ...]:
    """Return the pictures of a file, without names that say nothing, remembered while its size and time stay."""
    stat = file.path.stat()
    return _listed_pictures(file.path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _listed_pictures(path: Path, _size: int, _mtime_ns: int) -> tuple[PictureHDU, ...]:
    pictures = inspect_file(path).pictures
    return tuple(replace(one, name="") if one.name in _NO_NAMES else one for one in pictures)


def _called(picture: PictureHDU) -> str:
    return f"HDU {picture.hdu}" + (f" ({picture.name})" if picture.name else "")


def _pictures_used(files: Sequence[ImageFile]) -> str:
    """Say which HDU of files with several pictures is used; empty where they have but one."""
    several = [file for file in files if len(_pictures(file)) > 1]
    return ", ".join(dict.fromkeys(_called(_picture(file)) for file in several))


def _matching(patterns: Sequence[str], root: Path, *, knob: str) -> list[ImageFile]:
    found: list[ImageFile] = []
    for pattern in patterns:
        plain = ImageFile.parse(pattern, root)
        names = [plain.path] if plain.path.is_file() else sorted(plain.path.parent.glob(plain.path.name))
        if not names:
            raise DataError(
                f"data.preprocess.{knob} must name files below data.root, got {pattern!r}, which fits none in {root}; "
                "check the name, or leave it out"
            )
        found += [ImageFile(name, plain.hdu) for name in names]
    return sorted(set(found), key=str)


def masters_key(config: PreprocessConfig, root: Path, *, like: ImageFile | None = None) -> str:
    """Return the SHA-256 of what decides the masters: contents of the files, knobs, code.

    Without an exposure that they are for, it is that of the masters of all detectors together.
    """
    found = set_files(config, root, like=like)
    files = {kind: [[file.digest(), file.hdu] for file in images] for kind, images in found.items()}
    knobs = {name: getattr(config, name) for name in KNOBS}
    code = [path.read_text() for path in deciding_code()]
    versions = [importlib.metadata.version(package) for package in ("ccdproc", "astropy", "numpy")]
    text = json.dumps([files, knobs, code, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def deciding_code() -> list[Path]:
    """Return the modules of this package, which combines frames, and those that read them and their headers."""
    data = Path(__file__).parents[1]
    headers = data / "listing" / "headers.py"
    return [*sorted(data.glob("*.py")), *sorted((data / "reduction").glob("*.py")), headers]


def cached_masters(config: PreprocessConfig, *, root: Path, cache: Path, like: ImageFile | None = None) -> Masters:
    """Return the masters for an exposure, from the cache or made; processes that want them at once wait for one.

    Raises
    ------
    DataError
        If a file cannot be used, naming it.
    RunError
        If the disk can't take them.
    """
    path = cache / f"masters-{masters_key(config, root, like=like)[:16]}.arrays"
    expected = tuple(_PLANE_OF[kind] for kind in _PLANE_OF if getattr(config, kind))
    make_folder(path.parent)
    with held(path.with_suffix(".lock"), what="combines the same calibration frames"):
        try:
            return _read(path, expected)
        except FileNotFoundError:
            logger.info("combining calibration frames")
        _write(path, make_masters(config, root=root, folder=cache, like=like))
        return _read(path, expected)


def make_masters(
    config: PreprocessConfig, *, root: Path, folder: Path | None = None, like: ImageFile | None = None
) -> Masters:
    """Combine the sets of frames that a configuration names.

    Parameters
    ----------
    config : PreprocessConfig
    root : Path
        Where the names of the sets start.
    folder : Path or None
        Where frames wait until they are combined; None is the system's folder for temporary files.
    like : ImageFile or None
        Exposure that the masters are for; None takes the first picture of files that hold several.
    """
    files = set_files(config, root, like=like)
    rule = Combination(config.clip_sigma, config.memory_mib, folder)
    bias, dark, flat, only, bias_per_second = None, None, None, None, 0.0
    biases, darks, flats = (_Exposures(kind, files[kind], config) for kind in SETS)
    if files["bias"]:
        readout = _readout(files["bias"], config)
        biases.timed = False
        with biases.named():
            bias = master_bias((frame for frame, _ in biases), readout=readout, rule=rule)
    if files["dark"]:
        readout = _readout(files["dark"], config)
        only = None if config.knows_pedestal else _seconds(files["dark"][0])
        darks.only = flats.only = only
        with darks.named():
            made = master_dark(darks, bias=bias, readout=readout, rule=rule)
        dark, bias_per_second = made.current, made.bias_per_second
    if files["flat"]:
        readout = _readout(files["flat"], config)
        flats.timed = dark is not None
        with flats.named():
            flat = master_flat(flats, bias=bias, dark=dark, readout=readout, rule=rule)
    pictures = {kind: used for kind, found in files.items() if (used := _pictures_used(found))}
    return Masters(
        *(bias, dark, flat, _bad_pixels(files["bad_pixels"]), only, bias_per_second, pictures),
        doubts=tuple(doubt for one in (biases, darks, flats) for doubt in one.doubts.values()),
        flat_filter=flats.filter,
    )


def _readout(files: Sequence[ImageFile], config: PreprocessConfig) -> Readout | None:
    """Return what the first exposure of a set says of its readout."""
    image = read_image(files[0].path, hdu=files[0].hdu)
    with saying_of(f"{files[0]}: "):
        return read_out(keywords(image.header), config)


def _seconds(file: ImageFile) -> float:
    image = read_image(file.path, hdu=file.hdu)
    with saying_of(f"{file}: "):
        return exposure_seconds(image.header)


def _bad_pixels(files: Sequence[ImageFile]) -> NDArray[np.bool_] | None:
    """Return where any of the maps marks a pixel, (H, W); None without a map."""
    maps = [read_plane(file.path, hdu=file.hdu) != 0 for file in files]
    for file, one in zip(files, maps, strict=True):
        if one.shape != maps[0].shape:
            raise DataError(
                f"{file}: maps of bad pixels must have one shape, got {one.shape} after {maps[0].shape}; leave it out"
            )
    return np.logical_or.reduce(maps) if maps else None


@dataclass
class _Exposures:
    """Exposures of a set, read one by one, their overscan subtracted and trimmed, and the seconds that a dark counts.

    Attributes
    ----------
    kind : str
        Set: bias, dark or flat.
    files : sequence of ImageFile
    config : PreprocessConfig
    only : float or None
        Duration in seconds that all must have, as a dark can't be scaled; None: any.
    timed : bool
        Whether a dark counts at all; otherwise headers need no duration, and the seconds are 0.
    current : ImageFile or None
        The one that was handed out last, while it is worked on.
    doubts : dict of str to str
        The first contradiction between the set and a header, of its kind and of its filter, once all were read.
    filter : Told or None
        Of flats, that of the first whose header tells it.
    """

    kind: str
    files: Sequence[ImageFile]
    config: PreprocessConfig
    only: float | None = None
    timed: bool = True
    current: ImageFile | None = None
    doubts: dict[str, str] = field(default_factory=dict)
    filter: Told | None = None

    def __iter__(self) -> Iterator[tuple[CCDData, float]]:
        for file in self.files:
            image = read_image(file.path, hdu=file.hdu)
            with saying_of(f"{file}: "):
                seconds = dark_seconds(image.header, only=self.only) if self.timed else 0.0
                prepared = start(image, self.config).frame
            self._doubt(file, image.header)
            self.current = file
            yield prepared, seconds
            self.current = None

    def _doubt(self, file: ImageFile, header: Header) -> None:
        """Remember the first contradiction of each sort."""
        found = {"kind": doubt_kind(file, header, used_as=self.kind)}
        if self.kind == "flat":
            told = told_filter(file, header)
            self.filter = self.filter or told
            found["filter"] = "" if self.filter is None else doubt_filter(self.filter, told)
        self.doubts = {sort: doubt for sort, doubt in found.items() if doubt} | self.doubts

    @contextmanager
    def named(self) -> Iterator[None]:
        """Say which exposure an error is of, where one was being worked on."""
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.current}: {error}" if self.current else str(error)) from error


def _write(path: Path, masters: Masters) -> None:
    planes: dict[str, np.ndarray] = {}
    for kind in SETS:
        master: CCDData | None = getattr(masters, kind)
        if master is not None:
            planes[f"{kind}.data"], planes[f"{kind}.mask"] = master.data, master.mask
            if master.uncertainty is not None:
                planes[f"{kind}.sigma"] = master.uncertainty.array
    if masters.bad_pixels is not None:
        planes["bad_pixels"] = masters.bad_pixels
    if masters.only_seconds is not None:
        planes["only_seconds"] = np.array(masters.only_seconds)
    planes["bias_per_second"] = np.array(masters.bias_per_second)
    planes |= {f"{kind}.pictures": np.array(used) for kind, used in masters.pictures.items()}
    planes["doubts"] = np.array(masters.doubts, dtype=np.str_)
    if masters.flat_filter is not None:
        planes["flat_filter"] = np.array(astuple(masters.flat_filter))
    keep_arrays(path, planes, partial=path.with_suffix(".partial"))  # the lock keeps others from it


@functools.lru_cache(maxsize=2)
def _read(path: Path, expected: tuple[str, ...]) -> Masters:
    """Return the masters that were kept with the planes that are expected.

    Raises
    ------
    FileNotFoundError
        Where there are none, or they aren't what was written, so that this isn't remembered.
    """
    planes = read_kept_arrays(path, expected=expected)
    if planes is None:
        raise FileNotFoundError(path)
    return Masters(
        **{kind: _master(planes, kind) for kind in SETS if f"{kind}.data" in planes},
        bad_pixels=planes.get("bad_pixels"),
        only_seconds=float(planes["only_seconds"]) if "only_seconds" in planes else None,
        bias_per_second=float(planes["bias_per_second"]),
        pictures={kind: str(planes[f"{kind}.pictures"]) for kind in _PLANE_OF if f"{kind}.pictures" in planes},
        doubts=tuple(planes["doubts"].tolist()),
        flat_filter=Told(*planes["flat_filter"].tolist()) if "flat_filter" in planes else None,
    )


def _master(planes: Mapping[str, NDArray[Any]], kind: str) -> CCDData:
    sigma = StdDevUncertainty(planes[f"{kind}.sigma"]) if f"{kind}.sigma" in planes else None
    return CCDData(planes[f"{kind}.data"], mask=planes[f"{kind}.mask"], unit="adu", uncertainty=sigma)
