"""Arrays kept in the cache behind the checksum of what was written, which is compared before anything is parsed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .store import make_folder, writing

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 64  # SHA-256 in hexadecimal


def keep_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], *, partial: Path) -> None:
    """Write arrays with their checksum, whole or not at all.

    Parameters
    ----------
    path : Path
    arrays : mapping of str to array
    partial : Path
        Name in the same folder that the file has until it is whole; no other process may write to it.

    Raises
    ------
    RunError
        If the disk can't take them.
    """
    make_folder(path.parent)
    try:
        with writing(path.parent):
            with partial.open("w+b") as stream:
                stream.write(bytes(_DIGEST_BYTES))
                np.savez(stream, **arrays)  # type: ignore[arg-type]
                digest = _digest_of_rest(stream)
                stream.seek(0)
                stream.write(digest)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)  # half a file would only fill the disk


def read_kept_arrays(path: Path, *, expected: Collection[str] = ()) -> dict[str, NDArray[Any]] | None:
    """Return arrays that were kept, None where there are none, or they aren't what was written, which is warned of.

    Parameters
    ----------
    path : Path
    expected : collection of str
        Names of arrays that must be among them.
    """
    try:
        with path.open("rb") as stream:
            if _digest_of_rest(stream) != _digest_that_is_told(stream):
                logger.warning("%s is damaged (its checksum is another) and is made again", path)
                return None
            with np.load(stream, allow_pickle=False) as kept:
                arrays = dict(kept)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        logger.warning("%s can't be read (%s) and is made again", path, error.strerror)
        return None
    missing = [name for name in expected if name not in arrays]
    if missing:
        logger.warning("%s is damaged (it lacks %s) and is made again", path, ", ".join(missing))
        return None
    return arrays


def _digest_of_rest(stream: IO[bytes]) -> bytes:
    """Return the checksum of what follows that of the file, in hexadecimal."""
    stream.seek(_DIGEST_BYTES)
    return hashlib.file_digest(stream, "sha256").hexdigest().encode()  # type: ignore[arg-type]


def _digest_that_is_told(stream: IO[bytes]) -> bytes:
    """Return the checksum that a file tells, and leave the stream behind it."""
    stream.seek(0)
    return stream.read(_DIGEST_BYTES)
