"""An S3 server in this process, moto's, and the trouble that it gets into."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from astrid.config import TrackingConfig
from astrid.tracking import s3

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret"}
SETTINGS = (s3.ENDPOINT, *s3.CHECKSUMS, *s3.NOT_AMAZON)


@dataclass
class Call:
    """A request that reached the server: method, query and lower-case header names with their values."""

    method: str
    path: str
    query: str
    headers: dict[str, str]

    @property
    def is_part(self) -> bool:
        """Whether it sends a part of a large object."""
        return self.method == "PUT" and "partNumber=" in self.query


@dataclass
class S3Server:
    """Buckets that outlive the server in front of them, which can be stopped and started on the same port.

    `kind` is fair, 500, hanging, slow (each call takes `delay_seconds`), or cut (the connection breaks). Where
    `parts_left` is a number, `kind` waits until that many parts have arrived.
    """

    app: Callable[..., Iterable[bytes]]
    kind: str = "fair"
    delay_seconds: float = 2.0
    parts_left: int | None = None
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    cleared: threading.Event = field(default_factory=threading.Event)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        call = read_call(environ)
        self.calls.append(call)
        kind = self.kind if self.parts_left in (None, 0) else "fair"
        if self.parts_left and call.is_part:
            self.parts_left -= 1
        if kind == "hanging":
            self.cleared.wait()
        if kind == "slow":
            time.sleep(self.delay_seconds)
        if kind == "cut":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        if kind in ("500", "cut"):
            start_response("500 Internal Server Error", [])
            return [b""]
        return self.app(environ, start_response)

    def start(self) -> None:
        """Listen, on the same port as before."""
        from werkzeug.serving import make_server

        self._http = make_server("127.0.0.1", self.port, self, threaded=True)
        self._http.daemon_threads = True
        self.port = self._http.port
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; nobody gets a connection."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def mend(self) -> None:
        """End all trouble, and forget the calls so far."""
        self.kind, self.parts_left = "fair", None
        self.cleared.set()
        self.calls.clear()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def make_bucket(self, name: str) -> Any:
        """Make a bucket, and return a client of boto3's own kind that sees it."""
        import boto3
        from botocore.config import Config

        keys = dict(zip(("aws_access_key_id", "aws_secret_access_key"), CREDENTIALS.values(), strict=True))
        config = Config(request_checksum_calculation="when_supported", s3={"addressing_style": "path"})
        client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", config=config, **keys)
        client.create_bucket(Bucket=name)
        return client


def read_call(environ: dict[str, Any]) -> Call:
    """Take from a WSGI request what the tests look at."""
    headers = {name[5:].replace("_", "-").lower(): text for name, text in environ.items() if name.startswith("HTTP_")}
    return Call(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), headers)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run the server, with credentials in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler

        patch.setattr(WSGIRequestHandler, "log", lambda *words: None)
        server = S3Server(DomainDispatcherApplication(create_backend_app))
        server.start()
        yield server
        server.mend()
        server.stop()


def objects(client: Any, bucket: str) -> dict[str, bytes]:
    """Everything in a bucket."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def on_bucket(server: S3Server, bucket: str, **settings: Any) -> TrackingConfig:
    """A configuration whose artifacts go to a bucket of the server."""
    return TrackingConfig(artifacts=f"s3://{bucket}/runs", s3_endpoint=server.url, **settings)
