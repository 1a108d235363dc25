"""What is wrong with a file that can't be read as FITS, in one message that names it."""

from __future__ import annotations

import logging
import lzma
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from astropy import log as astropy_log
from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import CfitsioException

from astrid.config import DataError

from .packing import Source

DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, NameError, ArithmeticError),
    *(AssertionError, RuntimeError, struct.error, zlib.error, lzma.LZMAError, fits.VerifyError, CfitsioException),
)
"""What astropy was seen to raise for cut and corrupted files."""


@contextmanager
def guarded(source: Source) -> Iterator[None]:
    """Let whatever is wrong with a file, also while it is read, become a DataError that names it."""
    name = "a stamp" if isinstance(source, bytes) else source
    with without_advice():
        try:
            yield
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        except MemoryError as error:
            raise DataError(f"{name}: the image doesn't fit into memory; read a section of it") from error
        except DAMAGE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{name}: cannot be read as FITS ({reason}); fetch the file again or leave it out"
            ) from error


@contextmanager
def without_advice() -> Iterator[None]:
    """Keep astropy from printing a page of advice about coordinates that it can use all the same.

    Filters and levels belong to the process. Whoever reads in several threads enters this before they start, or what
    one thread puts back another would lack, and the last might leave behind.
    """
    level = astropy_log.level
    astropy_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        astropy_log.setLevel(level)
