"""Tracking servers in processes of their own, the trouble they get into, and what they must hold afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mirrored_runs import client_of, run_of

from astrid.config import TrackingConfig
from astrid.tracking.journal import FILE_NAME, Journal
from astrid.tracking.records import Artifact, Dataset, Metrics, Model, Tags, read_records

PROGRAMS = Path("/usr/lib/postgresql")  # Debian keeps initdb and pg_ctl off the search path
STORE = "sqlite:///mlflow.db"  # in the folder of the server
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class MlflowServer:
    """MLflow's own server; its processes can be killed, paused and started again on the same port and store."""

    def __init__(
        self, folder: Path, *, store: str, options: tuple[str, ...] = (), env: Mapping[str, str] | None = None
    ):
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._options = (*options, "--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts"))
        self._env = os.environ | dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = [str(Path(sys.executable).with_name("mlflow")), "server", "--workers", "1"]
        command = [*program, "--host", "127.0.0.1", "--port", str(self.port), *self._options]
        with (self.folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=self._env, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not answers(self.port):
            assert self._process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def answers(port: int) -> bool:
    """Say whether a server is up."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def running(server: MlflowServer) -> Iterator[MlflowServer]:
    """Start a server, and end it whatever happens."""
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Trouble:
    """A proxy before a server: it lets calls through after `delay_seconds`, or answers 500."""

    def __init__(self, port: int) -> None:
        self.delay_seconds, self.broken = 0.0, False
        trouble = self

        class Proxy(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                time.sleep(trouble.delay_seconds)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = (500, [], b"") if trouble.broken else forward(port, self, body)
                self.send_response(answer[0])
                for name, value in answer[1]:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer[2])))
                self.end_headers()
                self.wfile.write(answer[2])

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

            def log_message(self, *words: object) -> None:
                """Stay quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        self.uri = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever)

    def __enter__(self) -> Trouble:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def forward(port: int, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """Pass a request on, and return status, headers and body of the answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
        return answer.status, kept, answer.read()
    finally:
        connection.close()


@contextmanager
def postgresql() -> Iterator[str]:
    """Start PostgreSQL in a folder of its own and yield the URL of its database.

    It refuses to run as root, so there it runs as the user `postgres`.
    """
    binaries = max(PROGRAMS.glob("*/bin"), default=None, key=lambda path: float(path.parent.name))
    initdb = shutil.which("initdb") or (binaries and shutil.which("initdb", path=str(binaries)))
    if initdb is None:
        pytest.skip("PostgreSQL is absent: apt-get install postgresql")
    programs = Path(initdb).resolve().parent
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if as_user and (shutil.which("setpriv") is None or not Path("/var/lib/postgresql").exists()):
        pytest.skip("PostgreSQL refuses to run as root, and there is no user `postgres` here")
    folder = Path(tempfile.mkdtemp(prefix="astrid-postgresql-"))  # pytest's own folders are closed to other users
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    port = free_port()
    listen = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    control = [*as_user, str(programs / "pg_ctl"), "-D", str(folder / "data"), "-w", "-s"]
    quiet = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL, "timeout": 120}
    try:
        create = ["-D", str(folder / "data"), "-U", "astrid", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([*as_user, str(programs / "initdb"), *create], **quiet)
        subprocess.run([*control, "-l", str(folder / "log"), "-o", listen, "start"], **quiet)
        yield f"postgresql+psycopg2://astrid@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **(quiet | {"check": False}))
        shutil.rmtree(folder)


def points_of(config: TrackingConfig, run_dir: Path) -> list[tuple[str, int, float, int]]:
    """Every metric point that MLflow holds of a run: name, step, value, time."""
    client, run = client_of(config), run_of(config, run_dir)
    return sorted(
        (point.key, point.step, point.value, point.timestamp)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    )


def assert_holds_the_journal(config: TrackingConfig, run_dir: Path) -> Any:
    """MLflow holds what the journal says, everything once; return the MLflow run."""
    client, run, journal = client_of(config), run_of(config, run_dir), Journal.open(run_dir)
    records = [record for record, _ in read_records(run_dir / FILE_NAME)]
    told = [
        (name, record.step, value, record.time_ms)
        for record in records
        if isinstance(record, Metrics)
        for name, value in record.values.items()
    ]
    assert points_of(config, run_dir) == sorted(told)
    assert set(run.data.params) == set(journal.params)
    tags = {name: value for record in records if isinstance(record, Tags) for name, value in record.values.items()}
    assert {name: run.data.tags.get(name) for name in tags} == tags
    files = [f"{record.folder}/{Path(record.path).name}".lstrip("/") for record in records if type(record) is Artifact]
    assert set(files) <= set(files_of(client, run.info.run_id))
    told_data = Counter((record.name, record.digest) for record in records if isinstance(record, Dataset))
    assert {(data.dataset.name, data.dataset.digest) for data in run.inputs.dataset_inputs} == set(told_data)
    models = [record for record in records if isinstance(record, Model)]
    assert len(run.outputs.model_outputs if run.outputs else []) == len(models)
    assert run.info.status == journal.status
    return run


def files_of(client: Any, run_id: str, folder: str | None = None) -> Iterator[str]:
    """Yield the paths of all artifacts of a run."""
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from files_of(client, run_id, entry.path)
        else:
            yield entry.path
