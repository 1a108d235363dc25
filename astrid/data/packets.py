"""Alert packets as they lie on disk: Avro files, tar archives of them, and Parquet tables."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from astrid.config import DataError

Record = dict[str, Any]
"""One packet: names to numbers, text, bytes and nested records."""

SUFFIXES = (".avro", ".parquet", ".tar.gz", ".tgz", ".tar")
_AVRO, _PARQUET, _WIRE = b"Obj\x01", b"PAR1", b"\x00"
_ROWS = 64  # of a Parquet table in memory at once
_DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError),
    *(RuntimeError, MemoryError, struct.error, zlib.error, tarfile.TarError),
)
"""What fastavro, pyarrow and tarfile were seen to raise for cut, corrupted and foreign files."""


def packet_files(place: Path) -> list[Path]:
    """Return the files of packets at a place: the file itself, or those of a folder and below it, by name.

    Raises
    ------
    DataError
        Where there are none.
    """
    if place.is_file():
        return [place]
    kinds = ", ".join(SUFFIXES)
    if not place.is_dir():
        raise DataError(f"data.packets must be a file or folder, got {place}, which isn't there; check the name")
    found = sorted(path for path in place.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file())
    if not found:
        raise DataError(f"data.packets must hold files of packets ({kinds}), got {place} without any; name another")
    return found


def read_records(path: Path) -> Iterator[Record]:
    """Yield the packets of a file in its order, a few in memory at a time; its kind is known by its content.

    Raises
    ------
    DataError
        Naming the file, and the packet at which it can't be read any more.
    """
    number = 0
    try:
        with path.open("rb") as stream:
            for record in _records(stream):
                number += 1
                yield record
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = f"after {number} packets" if number else "from its beginning"
        raise DataError(
            f"{path}: cannot be read as alert packets {where} ({reason}); fetch the file again or leave it out"
        ) from error


def _records(stream: IO[bytes]) -> Iterator[Record]:
    magic = stream.read(4)
    stream.seek(0)
    if magic == _AVRO:
        yield from _avro(stream)
    elif magic == _PARQUET:
        yield from _parquet(stream)
    elif magic[:1] == _WIRE:
        rule = "packets must carry their schema, got a bare message as Kafka sends it"
        raise DataError(f"{rule}; save it with its schema as an Avro object container file")
    else:
        yield from _tar(stream)


def _avro(stream: IO[bytes]) -> Iterator[Record]:
    import fastavro
    from fastavro.schema import SchemaParseException

    try:
        records = fastavro.reader(stream)
    except SchemaParseException as error:
        reason = str(error).splitlines()[0][:120]
        raise DataError(f"the schema in an Avro file's header must be whole, got: {reason}; fetch it again") from error
    for record in records:
        if not isinstance(record, dict):
            raise DataError(f"an Avro file must hold records, got {type(record).__name__}; name a file of packets")
        yield record


def _parquet(stream: IO[bytes]) -> Iterator[Record]:
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=_ROWS):
        yield from batch.to_pylist()


def _tar(stream: IO[bytes]) -> Iterator[Record]:
    try:
        archive = tarfile.open(fileobj=stream, mode="r:*")  # noqa: SIM115 - closed below; only its opening is tried
    except tarfile.ReadError:
        kinds = "an Avro container, a Parquet table or a tar archive of Avro files"
        raise DataError(f"must be {kinds}, got something else; convert it or leave it out") from None
    with archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and member.name.endswith(".avro"):
                yield from _avro(io.BytesIO(content.read()))
