"""Send files to a bucket, each once; a large one that was cut short goes on where it stopped."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from mimetypes import guess_type
from pathlib import Path
from typing import Any, BinaryIO

from ..config import TrackingConfig
from .s3 import connect, error_code, place_of, s3_failures, split_uri

log = logging.getLogger(__name__)

FILE_NAME = "uploads.json"
MEBIBYTE = 2**20
PART_BYTES = 8 * MEBIBYTE
MOST_PARTS = 10_000  # of one object, S3's limit
DIGEST = "astrid-sha256"


@dataclass(frozen=True)
class Content:
    """What a file held when it was opened: `size` bytes with the SHA-256 `digest`."""

    size: int
    digest: str


@dataclass(frozen=True)
class Unfinished:
    """An upload in parts that was begun: its name at the server, of what, and how it is cut."""

    upload_id: str
    digest: str
    part_bytes: int


class Bucket:
    """Where the artifacts of a run go.

    Parameters
    ----------
    config : which server; credentials are in the environment.
    run_dir : folder of the run, where `uploads.json` names unfinished uploads as long as there are any.

    Raises
    ------
    ConfigError
        If the environment holds no credentials.
    """

    def __init__(self, config: TrackingConfig, run_dir: Path) -> None:
        self._client = connect(config)
        self._place = place_of(config)
        self._notes = Notes(run_dir / FILE_NAME)

    def takes(self, uri: str) -> bool:
        """Say whether a place is in a bucket; an experiment that is older than the configuration may have another."""
        return uri.startswith("s3://")

    def upload(self, path: Path, uri: str, name: str) -> None:
        """Send a file, or all files of a folder, unless they are there already.

        Parameters
        ----------
        path : file or folder.
        uri : s3:// URI below which MLflow looks for the artifacts of a run or a model.
        name : what the file or folder is called there, with slashes; empty for a folder's content itself.

        Raises
        ------
        ShippingError
            If the server could not be reached or refused; the next call sends what is missing.
        """
        bucket, prefix = split_uri(uri)
        for file, below in files_of(path):
            key = "/".join(part for part in (prefix, name, below) if part)
            with s3_failures(f"{file.name} to {self._place}"), file.open("rb") as opened:
                self._send(opened, {"Bucket": bucket, "Key": key})

    def _send(self, file: BinaryIO, target: Mapping[str, str]) -> None:
        found = self._look_up(target)  # first, so that a server which is away costs no reading
        content = read_content(file)
        if found != content:
            kind = guess_type(target["Key"])[0] or "application/octet-stream"
            facts = {"ContentType": kind, "Metadata": {DIGEST: content.digest}}
            if content.size <= PART_BYTES:
                self._client.put_object(**target, **facts, **body(file, 0, content.size))
            else:
                self._send_parts(file, target, content, facts)
        self._notes.forget(target)

    def _look_up(self, target: Mapping[str, str]) -> Content | None:
        """Return what the bucket holds under a name."""
        from botocore.exceptions import ClientError

        try:
            found = self._client.head_object(**target)
        except ClientError as error:
            if error_code(error) in ("404", "403"):  # S3 says 403 of what is missing to those who may not list
                return None
            raise
        return Content(found["ContentLength"], found["Metadata"].get(DIGEST, ""))

    def _send_parts(
        self, file: BinaryIO, target: Mapping[str, str], content: Content, facts: Mapping[str, Any]
    ) -> None:
        upload = self._recall(target, content)
        sent = None if upload is None else self._list_parts(target, upload)
        if upload is None or sent is None:
            upload, sent = self._begin(target, content, facts), {}
        for number, (start, size) in enumerate(cut(content.size, upload.part_bytes), start=1):
            if number not in sent:
                part = {"UploadId": upload.upload_id, "PartNumber": number}
                sent[number] = self._client.upload_part(**target, **part, **body(file, start, size))["ETag"]
        whole = {"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in sorted(sent.items())]}
        self._client.complete_multipart_upload(**target, UploadId=upload.upload_id, MultipartUpload=whole)

    def _begin(self, target: Mapping[str, str], content: Content, facts: Mapping[str, Any]) -> Unfinished:
        begun = self._client.create_multipart_upload(**target, **facts)
        upload = Unfinished(begun["UploadId"], content.digest, part_bytes(content.size))
        self._notes.remember(target, upload)
        return upload

    def _recall(self, target: Mapping[str, str], content: Content) -> Unfinished | None:
        """Return the upload of this content that was begun; give up one of what the file held before."""
        upload = self._notes.recall(target)
        if upload is None or upload.digest == content.digest:
            return upload
        with self._forgotten_uploads():
            self._client.abort_multipart_upload(**target, UploadId=upload.upload_id)
        return None

    def _list_parts(self, target: Mapping[str, str], upload: Unfinished) -> dict[int, str] | None:
        """Return the tag of each part that the server has; None where it has forgotten the upload."""
        with self._forgotten_uploads():
            pages = self._client.get_paginator("list_parts").paginate(**target, UploadId=upload.upload_id)
            tags = {part["PartNumber"]: part["ETag"] for page in pages for part in page.get("Parts", [])}
            log.info("%s goes on after %d parts of %d bytes", target["Key"], len(tags), upload.part_bytes)
            return tags
        return None

    @staticmethod
    @contextmanager
    def _forgotten_uploads() -> Iterator[None]:
        """Pass over an upload that the server gave up, as some do after days."""
        from botocore.exceptions import ClientError

        try:
            yield
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise


class Notes:
    """The unfinished uploads of a run, in a small file that exists as long as there are any."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, target: Mapping[str, str]) -> Unfinished | None:
        """Return the upload that was begun to this object."""
        noted = self._read().get(_name(target))
        return None if noted is None else Unfinished(**noted)

    def remember(self, target: Mapping[str, str], upload: Unfinished) -> None:
        """Note an upload before its first part is sent."""
        self._write(self._read() | {_name(target): asdict(upload)})

    def forget(self, target: Mapping[str, str]) -> None:
        """Drop what is noted of an object that is there."""
        notes = self._read()
        if notes.pop(_name(target), None) is not None:
            self._write(notes)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            notes: Any = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            notes = None
        if not isinstance(notes, dict):
            log.warning("%s is damaged; unfinished uploads begin again", self._path)
            return {}
        return notes

    def _write(self, notes: Mapping[str, dict[str, Any]]) -> None:
        if not notes:
            self._path.unlink(missing_ok=True)
            return
        half = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
        half.write_text(json.dumps(notes, indent=1))
        half.replace(self._path)


def files_of(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield a file, or the files of a folder, each with its path below `path`, with slashes."""
    if path.is_file():
        yield path, ""
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file, file.relative_to(path).as_posix()


def read_content(file: BinaryIO) -> Content:
    """Read a file to its end, and say how much that was."""
    digest, size = hashlib.sha256(), 0
    while block := file.read(MEBIBYTE):
        digest.update(block)
        size += len(block)
    return Content(size, digest.hexdigest())


def part_bytes(size: int) -> int:
    """Return how many bytes a part of a large file has: all alike, but for a shorter last one, as R2 demands."""
    smallest = -(-size // MOST_PARTS)
    return max(PART_BYTES, -(-smallest // MEBIBYTE) * MEBIBYTE)


def cut(size: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of each part."""
    for start in range(0, size, step):
        yield start, min(step, size - start)


def body(file: BinaryIO, start: int, size: int) -> dict[str, Any]:
    """Return the arguments that send a piece of a file, with the MD5 by which the server notices damage.

    As a stream, so that a timeout holds for each block that goes out and not for all of it.
    """
    file.seek(start)
    piece = file.read(size)
    checksum = base64.b64encode(hashlib.md5(piece, usedforsecurity=False).digest()).decode()
    return {"Body": io.BytesIO(piece), "ContentMD5": checksum}


def _name(target: Mapping[str, str]) -> str:
    return f"s3://{target['Bucket']}/{target['Key']}"
