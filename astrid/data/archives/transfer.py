"""Bring one file here whole: go on where a transfer broke, and take nothing for the file that isn't it."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
import urllib3

from astrid.config import RunError

from .http import ArchiveError, Cancelled, Patient

PART, STATE = ".part", ".part.json"
_CHUNK_BYTES = 2**18
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_DIGESTS = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}

Show = Callable[[int], None]
"""Told how many bytes of the file are here."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one message that a disk is full, or can't be written."""
    try:
        yield
    except OSError as error:
        stays = "make room, or name another --output; what was fetched stays"
        raise RunError(f"cannot write {path}: {error.strerror or error}; {stays}") from error


class BrokenError(Exception):
    """A transfer that didn't bring the whole file, and may be gone on with."""


@dataclass(frozen=True)
class State:
    """What must stay the same for a part of a file to be worth something.

    Attributes
    ----------
    url : str
        Where the file is.
    validator : str
        The version of the file, by its entity tag or its date.
    size_bytes : int or None
        Size of the whole file.
    digest : str
        `algorithm:hexadecimal` of the whole file, or nothing.
    """

    url: str
    validator: str
    size_bytes: int | None
    digest: str

    def save(self, path: Path) -> None:
        """Write beside the part."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> State | None:
        """Read what was written, or None where there is nothing that can be relied on."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Fetched:
    """A file that is here whole: its size, and its SHA-256 in hexadecimal."""

    size_bytes: int
    sha256: str


def fetch_file(
    url: str, path: Path, *, session: requests.Session, adapter: Patient, size_bytes: int | None, show: Show
) -> Fetched:
    """Download a file. It appears under its name when it is whole, and beside it as a part until then.

    A part of before is gone on with if the server has the same version still: If-Range, RFC 9110, section 13.1.5.

    Parameters
    ----------
    url : str
    path : Path
        Its name here.
    session : requests.Session
        Whose requests `adapter` sends.
    size_bytes : int or None
        Size that the archive states, to be checked.

    Raises
    ------
    ArchiveError
        If the archive gives nothing or something else; `UnreachableError` if there is no answer at all.
    RunError
        If it can't be written.
    """
    transfer = Transfer(url, path, session, size_bytes, show, adapter)
    idle = 0
    while True:
        before = transfer.part_bytes
        try:
            with writing(path):
                transfer.attempt()
                return transfer.finish()
        except BrokenError as error:
            idle = 0 if transfer.part_bytes > before else idle + 1
            if idle >= adapter.patience.tries:
                raise ArchiveError(f"{path.name}: {error}, {idle} times; try again later") from error
            adapter.wait(adapter.patience.wait_seconds(idle + 1))


@dataclass
class Transfer:
    """Attempts at one file."""

    url: str
    path: Path
    session: requests.Session
    size_bytes: int | None
    show: Show
    adapter: Patient

    @property
    def part(self) -> Path:
        """Return the file that holds what is here so far."""
        return self.path.with_name(self.path.name + PART)

    @property
    def state(self) -> Path:
        """Return the file that says what the part is a part of."""
        return self.path.with_name(self.path.name + STATE)

    @property
    def part_bytes(self) -> int:
        """Return how much is here."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def attempt(self) -> None:
        """Ask for what is missing, and write what comes."""
        known, start = State.load(self.state), self.part_bytes
        headers = {"Accept-Encoding": "identity"}  # or the bytes that come aren't those of the file
        if known is None or known.url != self.url or not known.validator or start > (known.size_bytes or start):
            start = 0
        elif start and start == known.size_bytes:
            return
        elif start:
            headers |= {"Range": f"bytes={start}-", "If-Range": known.validator}
        try:
            with self.session.get(self.url, headers=headers, stream=True) as response:
                self._take(response, start)
        except requests.TooManyRedirects as error:
            raise ArchiveError(f"{self.path.name}: the archive sends in circles ({error})") from error
        except requests.RequestException as error:  # an OSError too, and no fault of the disk
            raise ArchiveError(f"{self.path.name}: the archive sends to what can't be fetched ({error})") from error

    def _take(self, response: requests.Response, start: int) -> None:
        if response.status_code == 416:  # the part is no beginning of what the server has
            self.drop()
            raise BrokenError("the server has another version of the file")
        if response.status_code not in (200, 206):
            raise ArchiveError(f"{self.path.name}: the archive answers {response.status_code} {response.reason}")
        resumed = response.status_code == 206
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if resumed and (found is None or int(found[1]) != start):
            self.drop()
            raise BrokenError("the server sent another part of the file")
        if not resumed:
            _state_of(self.url, response).save(self.state)
        self._write(response, start if resumed else 0)

    def _write(self, response: requests.Response, start: int) -> None:
        self.show(start)
        with self.part.open("ab" if start else "wb") as stream:
            try:
                for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                    stream.write(chunk)
                    self.show(stream.tell())
                    if self.adapter.stop.is_set():
                        raise Cancelled
            except (urllib3.exceptions.HTTPError, TimeoutError, ConnectionError) as error:
                raise BrokenError(f"the transfer broke off ({error})") from error

    def finish(self) -> Fetched:
        """Check the size and the digest that the server named, and give the file its name."""
        size, known = self.part_bytes, State.load(self.state) or State(self.url, "", None, "")
        if known.size_bytes is not None and size < known.size_bytes:
            raise BrokenError(f"{size} of {known.size_bytes} bytes came")
        for stated in (self.size_bytes, known.size_bytes):
            if stated not in (None, size):
                self.drop()
                raise BrokenError(f"{size} bytes came where the archive states {stated}")
        if known.digest and not self._matches(known.digest):
            self.drop()
            raise BrokenError(f"its checksum isn't that which the server names ({known.digest})")
        sha256 = _hexdigest(self.part, "sha256")
        self.part.replace(self.path)
        self.state.unlink(missing_ok=True)
        return Fetched(size, sha256)

    def drop(self) -> None:
        """Throw away what is here."""
        for path in (self.part, self.state):
            path.unlink(missing_ok=True)

    def _matches(self, digest: str) -> bool:
        algorithm, _, expected = digest.partition(":")
        return _hexdigest(self.part, algorithm) == expected


def _state_of(url: str, response: requests.Response) -> State:
    tag = response.headers.get("ETag", "")
    validator = response.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
    length = response.headers.get("Content-Length", "")
    return State(url, validator, int(length) if length.isdecimal() else None, named_digest(response.headers))


def named_digest(headers: Mapping[str, str]) -> str:
    """Return the digest of the whole file that a server names, as `algorithm:hexadecimal`, or nothing.

    `Repr-Digest` is that of RFC 9530, `Digest` of RFC 3230, `Content-MD5` of RFC 1864; of several the first counts.
    """
    named = [part for name in ("Repr-Digest", "Digest") for part in headers.get(name, "").split(",")]
    named += [f"md5={headers['Content-MD5']}"] if "Content-MD5" in headers else []
    for part in named:
        algorithm, _, value = part.strip().partition("=")
        if algorithm.lower() in _DIGESTS:
            with contextlib.suppress(binascii.Error):
                content = base64.b64decode(value.strip(":"), validate=True)
                return f"{_DIGESTS[algorithm.lower()]}:{content.hex()}"
    return ""


def _hexdigest(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
