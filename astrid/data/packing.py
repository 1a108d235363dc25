"""Files as they lie on disk, plain or packed, opened for reading in any order."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from astrid.config import DataError

from .folders import NO_FILE

Source = str | Path | bytes
"""Where a FITS file is: its path, or its content itself, as alert packets carry it."""

_UNPACKERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7z": lzma.open}
_NOT_UNPACKED = {b"PK\x03": "a zip archive", b"\x1f\x9d": "packed by compress"}
_SPOOL_BYTES = 2**28  # unpacked files beyond this size go through the disk


@contextmanager
def uncompressed(source: Source) -> Iterator[IO[bytes]]:
    """Open a file for reading in any order; a packed one is unpacked, and so checked, to its end."""
    with _raw(source) as raw:
        magic = raw.read(3)
        raw.seek(0)
        for start, form in _NOT_UNPACKED.items():
            if magic.startswith(start):
                raise DataError(f"must be FITS, plain or packed by gzip, bzip2 or xz, got {form}; unpack it")
        unpack = next((opener for start, opener in _UNPACKERS.items() if magic.startswith(start)), None)
        if unpack is None:
            yield raw
            return
        with unpack(raw) as packed, SpooledTemporaryFile(max_size=_SPOOL_BYTES) as plain:
            shutil.copyfileobj(packed, plain, 2**20)
            plain.seek(0)
            yield plain


def _raw(source: Source) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not Path(source).is_file():
        if Path(source).exists():
            raise DataError(f"it is {'a folder' if Path(source).is_dir() else NO_FILE}; name a file")
        raise DataError("there is no such file; check the name and the folder it starts from")
    return Path(source).open("rb")
