"""A folder of fetched files: what is in it, by its own record, and the manifest that `data=frames` reads."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from filelock import FileLock, Timeout

from astrid.config import DataError, RunError

from ..frames import inspect_image
from .http import ArchiveError
from .products import Product
from .transfer import Fetched, writing

logger = logging.getLogger(__name__)

RECORD, MANIFEST, LOCK = "fetched.csv", "manifest.csv", ".fetch.lock"


@dataclass(frozen=True)
class Entry:
    """A line of the record: a file, relative to the folder, and where it came from."""

    file: str
    field: str
    archive: str
    band: str
    mjd: str
    bytes: str
    sha256: str
    url: str


class Collection:
    """Files fetched into a folder, each known by its checksum.

    The record grows by a line as soon as a file is whole, so that what was fetched stays known after a kill.

    Parameters
    ----------
    folder : Path
        Made where it isn't there.

    Raises
    ------
    DataError
        If the folder can't be written or its record can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"--output must be a folder that can be written, got {folder}: {error.strerror}") from error
        self.entries = self._read()

    def path(self, product: Product) -> Path:
        """Return where a product is, or will be."""
        return self.folder / product.archive / product.name

    def holds(self, product: Product) -> bool:
        """Tell whether a product is here, unchanged since it was fetched."""
        path, entry = self.path(product), self.entries.get(f"{product.archive}/{product.name}")
        if entry is None or not path.is_file():
            return False
        with path.open("rb") as stream:
            same = hashlib.file_digest(stream, "sha256").hexdigest() == entry.sha256
        if not same:
            logger.warning("%s is not what was fetched: its checksum changed; it is fetched again", path)
        return same

    def missing(self, products: Sequence[Product]) -> list[Product]:
        """Return the products that aren't here.

        Raises
        ------
        RunError
            If two files have one name: the later would take the place of the earlier.
        """
        urls = {name: entry.url for name, entry in self.entries.items()}
        for product in products:
            first = urls.setdefault(f"{product.archive}/{product.name}", product.url)
            if first != product.url:
                both = f"{first} and {product.url}"
                rule = "files must have names of their own"
                raise RunError(f"{rule}, but {product.name} is that of {both}; fetch into two folders")
        return [product for product in products if not self.holds(product)]

    def add(self, product: Product, fetched: Fetched) -> None:
        """Take a file in that is here whole.

        Raises
        ------
        ArchiveError
            If it is no FITS image; it is deleted.
        RunError
            If the record can't be written.
        """
        path = self.path(product)
        try:
            inspect_image(path)
        except DataError as error:
            path.unlink()
            raise ArchiveError(f"{product.name}: the archive gave something else than an image ({error})") from error
        entry = Entry(
            file=f"{product.archive}/{product.name}",
            field=product.field,
            archive=product.archive,
            band=product.band,
            mjd="" if product.mjd is None else f"{product.mjd:.6f}",
            bytes=str(fetched.size_bytes),
            sha256=fetched.sha256,
            url=product.url,
        )
        record = self.folder / RECORD
        is_new = not record.exists()
        with writing(record), record.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, [field.name for field in fields(Entry)])
            if is_new:
                writer.writeheader()
            writer.writerow(asdict(entry))
        self.entries[entry.file] = entry

    def write_manifest(self) -> Path:
        """Write what `data=frames data.root=FOLDER` reads: a row a file that is here; return where.

        Raises
        ------
        RunError
            If it can't be written.
        """
        path = self.folder / MANIFEST
        partial = path.with_name(f"{MANIFEST}.partial")
        with writing(path):
            with partial.open("w", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(["field", "science"])
                for entry in self.entries.values():
                    if (self.folder / entry.file).is_file():
                        writer.writerow([entry.field, entry.file])
            partial.replace(path)
        return path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from fetching into the folder.

        Raises
        ------
        RunError
            If somebody does.
        """
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                yield
        except Timeout as error:
            raise RunError(f"another astrid fetch writes into {self.folder}; wait for it, or name another") from error

    def _read(self) -> dict[str, Entry]:
        path = self.folder / RECORD
        if not path.is_file():
            return {}
        names = [field.name for field in fields(Entry)]
        if not path.read_bytes().endswith(b"\n"):  # a kill cut the last line
            with writing(path), path.open("a") as stream:
                stream.write("\n")
        with path.open(newline="") as stream:
            reader = csv.DictReader(stream)
            if reader.fieldnames != names:
                raise DataError(f"{path} must be a record of astrid fetch, got {reader.fieldnames}; move it away")
            whole = [line for line in reader if None not in line and None not in line.values()]
        return {line["file"]: Entry(**line) for line in whole}
