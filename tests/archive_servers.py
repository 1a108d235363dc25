"""One local server that plays all archives, with the trouble that they may have."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
import requests
from alert_packets import fits_content

Answer = bytes | Callable[[dict[str, str]], bytes]


@dataclass
class Call:
    """A request that came: `GET`, `host/path`, its query or form, and header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class ArchiveServer:
    """Answers by `host/path`; each request to a path takes the next of its troubles, if there is one.

    Troubles: an HTTP status (`429`, `503`, or `429 Retry-After 2`), `half` a body, `silence` to the end, `cut`
    before any answer, `lie` about the digest, `shifted` by a byte from the part that was asked for,
    `little` of it, as a part that is whole in itself.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    troubles: dict[str, list[str]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    time_outs: list[float | None] = field(default_factory=list)
    has_ranges: bool = True
    names_digests: bool = True
    slow_seconds: float = 0.0
    mended: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def asked(self, path: str) -> list[Call]:
        """Return the requests to a path that weren't for its size only."""
        return [call for call in self.calls if call.path == path and call.method != "HEAD"]

    def next_trouble(self, call: Call) -> str:
        """Take the next trouble of a path."""
        waiting = self.troubles.get(call.path, [])
        return waiting.pop(0) if waiting and call.method != "HEAD" else ""


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP for an `ArchiveServer`."""

    protocol_version = "HTTP/1.1"
    archive: ArchiveServer

    def do_GET(self) -> None:
        self.answer("")

    def do_HEAD(self) -> None:
        self.answer("")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def answer(self, form: str) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(form or parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, unquote(parts.path).lstrip("/"), query, headers)
        self.archive.calls.append(call)
        trouble = self.archive.next_trouble(call)
        if trouble == "silence":
            self.archive.mended.wait()
        if trouble in ("silence", "cut"):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif trouble[:3].isdecimal():
            self.refuse(trouble)
        elif call.path not in self.archive.answers:
            self.refuse("404")
        else:
            self.give(call, trouble)

    def refuse(self, trouble: str) -> None:
        status, *header = trouble.split()
        self.send_response(int(status))
        if header:
            self.send_header(header[0], " ".join(header[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def give(self, call: Call, trouble: str) -> None:
        answer = self.archive.answers[call.path]
        content = answer(call.query) if callable(answer) else answer
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start, wanted = 0, call.headers.get("range", "")
        if self.archive.has_ranges and wanted and call.headers.get("if-range") in (None, tag):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        start += trouble == "shifted"
        if start >= len(content):
            self.refuse("416")
            return
        end = (start + len(content)) // 2 if trouble == "little" else len(content)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        if self.archive.has_ranges:
            self.send_header("ETag", tag)
        digest = hashlib.sha256(b"lie" if trouble == "lie" else content).digest()
        if self.archive.names_digests:
            self.send_header("Repr-Digest", f"sha-256=:{base64.b64encode(digest).decode()}:")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if call.method != "HEAD":
            self.write(content[start:end], trouble)

    def write(self, body: bytes, trouble: str) -> None:
        if trouble == "half":
            body, self.close_connection = body[: len(body) // 2], True
        pieces = [body[first : first + 4096] for first in range(0, len(body), 4096)]
        try:
            for piece in pieces:
                self.wfile.write(piece)
                time.sleep(self.archive.slow_seconds)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *words: Any) -> None:
        pass


@contextmanager
def archive_server() -> Iterator[ArchiveServer]:
    """Run the server, and send there what is meant for the world."""
    archive = ArchiveServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"archive": archive}))
    http.daemon_threads = True
    archive.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        archive.time_outs = reroute(archive.url, patch)
        try:
            yield archive
        finally:
            archive.mended.set()
            http.shutdown()
            thread.join()
            http.server_close()


def reroute(url: str, patch: pytest.MonkeyPatch) -> list[float | None]:
    """Send every request to a server, as /host/path; return a list that grows by the time-out of each."""
    time_outs: list[float | None] = []
    send = requests.adapters.HTTPAdapter.send

    def rerouted(
        self: Any, request: Any, stream: Any, timeout: Any, verify: Any, cert: Any, proxies: Any
    ) -> requests.Response:
        elsewhere, parts = request.copy(), urlsplit(request.url)
        elsewhere.url = f"{url}/{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        time_outs.append(timeout)
        return send(self, elsewhere, stream, timeout, verify, cert, None)

    patch.setattr(requests.adapters.HTTPAdapter, "send", rerouted)
    return time_outs


def picture(seed: int, *, edge: int = 64) -> bytes:
    """A FITS file of noise."""
    return fits_content(np.random.default_rng(seed).normal(100, 5, (edge, edge)).astype(np.float32))


def play_panstarrs(server: ArchiveServer, *, bands: str = "gr") -> list[str]:
    """Let Pan-STARRS have a stack of each band, and return the paths of their files."""
    host = "ps1images.stsci.edu"
    header = "projcell subcell ra dec filter mjd type filename shortname badflag"

    def stem(query: dict[str, str], band: str) -> str:
        return f"/rings.v3.skycell/2069/{float(query['ra']):.0f}.stack.{band}.unconv.fits"

    def table(query: dict[str, str]) -> bytes:
        lines = [
            f"2069 026 {query['ra']} {query['dec']} {band} 0 {query['type']} {stem(query, band)} short 0"
            for band in bands
            if band in query["filters"]
        ]
        return "\n".join([header, *lines]).encode()

    server.answers[f"{host}/cgi-bin/ps1filenames.py"] = table
    server.answers[f"{host}/cgi-bin/fitscut.cgi"] = lambda query: picture(zlib.crc32(query["red"].encode()) % 1000)
    for ra in range(360):
        for number, band in enumerate(bands):
            server.answers[f"{host}{stem({'ra': str(ra)}, band)}"] = picture(10 * ra + number)
    return [f"{host}{stem({'ra': '10'}, band)}" for band in bands]


def play_mast(server: ArchiveServer, observations: list[dict[str, Any]], products: list[dict[str, Any]]) -> None:
    """Let MAST's portal answer searches with these rows."""

    def rows(lines: list[dict[str, Any]]) -> bytes:
        kinds = {str: "string", float: "float", int: "int"}
        fields = [{"name": name, "type": kinds[type(value)]} for name, value in lines[0].items()] if lines else []
        paging = {"page": 1, "pageSize": 50000, "pagesFiltered": 1, "rows": len(lines)}
        return json.dumps({"status": "COMPLETE", "msg": "", "data": lines, "fields": fields, "paging": paging}).encode()

    columns: dict[str, Any] = {
        name: {"type": "string"} for name in ("obs_collection", "dataproduct_type", "dataRights")
    }
    columns |= {"filters": {"separator": ";"}, "t_min": {"vot.datatype": "double"}}

    def invoke(query: dict[str, str]) -> bytes:
        service = json.loads(query["request"])["service"]
        return rows(products if service == "Mast.Caom.Products" else observations)

    server.answers["mast.stsci.edu/portal/Mashup/Mashup.asmx/columnsconfig"] = json.dumps(columns).encode()
    server.answers["mast.stsci.edu/api/v0/invoke"] = invoke


IRSA_TABLE = """\
|  field| ccdid| qid| filtercode| imgtypecode|    filefracday|           obsjd|
|    int|   int| int|       char|        char|           long|          double|
|       |      |    |           |            |               |            days|
|   null|  null|null|       null|        null|           null|            null|
     535     11    3          zr            o  20180411467847   2458219.9678472
     535      1    4          zg            o  20180412211111   2458220.7111111
"""
