"""Patience with servers: time-outs, retries with back-off, and waiting for as long as they ask for."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from astrid.config import RunError

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which the same request may succeed."""


class ArchiveError(RunError):
    """An archive that doesn't give a file, or doesn't answer as it should."""


class UnreachableError(ArchiveError):
    """A host that gives no answer at all: most likely there is no network."""


class Cancelled(Exception):
    """Work that ends because something else ended it."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes
    ----------
    tries : int
        Attempts at a request, or at going on with a file, that bring nothing.
    timeout_seconds : float
        Longest silence of a server.
    first_wait_seconds : float
        Wait before the second attempt; each further one is twice as long, give or take a quarter.
    longest_wait_seconds : float
        No wait is longer; a server that asks for more is left for another day.
    """

    tries: int = 5
    timeout_seconds: float = 60.0
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 300.0

    def wait_seconds(self, attempt: int) -> float:
        """Return how long to wait after attempt number `attempt`, counted from 1; scattered, so that many spread."""
        wait = self.first_wait_seconds * 2.0 ** (attempt - 1)
        return min(wait * random.uniform(0.75, 1.25), self.longest_wait_seconds)


class Patient(HTTPAdapter):
    """Sends requests until they are answered, or patience ends; shared by threads.

    Parameters
    ----------
    patience : Patience
    stop : threading.Event
        Ends every wait when it is set.
    """

    def __init__(self, patience: Patience, stop: threading.Event | None = None) -> None:
        super().__init__(pool_maxsize=32)
        self.patience, self.stop = patience, stop or threading.Event()
        self._not_before: dict[str, float] = {}
        self._lock = threading.Lock()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send a request; retry what may pass, and hold back all requests to a host that asks for a pause."""
        host = urlsplit(request.url or "").netloc
        timeout = self.patience.timeout_seconds  # the libraries' own are minutes, or none
        lost: requests.RequestException | None = None
        problem, seconds = "", None
        for attempt in range(1, self.patience.tries + 1):
            self._wait_for(host)
            try:
                response = super().send(request, stream, timeout, verify, cert, proxies)
                if not stream:
                    response.content  # noqa: B018 - a connection may break before the end of the answer
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem, seconds, lost = _reason(error), None, error
            else:
                if response.status_code not in BUSY:
                    return response
                problem, seconds, lost = _said(response), _asked_to_wait(response.headers), None
                response.close()
                if seconds is not None and seconds > self.patience.longest_wait_seconds:
                    raise ArchiveError(f"{host} asks to wait {seconds:.0f} s ({problem}); come back later")
            if attempt < self.patience.tries:
                self._hold(host, self.patience.wait_seconds(attempt) if seconds is None else seconds)
        if lost is not None and _is_out_of_reach(lost):
            raise UnreachableError(f"cannot reach {host} ({problem}): is there a network, is the archive up?") from lost
        raise ArchiveError(f"{host} answered {problem} {self.patience.tries} times; try again later") from lost

    def wait(self, seconds: float) -> None:
        """Wait, unless everything is to stop.

        Raises
        ------
        Cancelled
            If it is.
        """
        if self.stop.wait(max(seconds, 0.0)):
            raise Cancelled

    def _hold(self, host: str, seconds: float) -> None:
        with self._lock:
            self._not_before[host] = max(self._not_before.get(host, 0.0), time.monotonic() + seconds)

    def _wait_for(self, host: str) -> None:
        with self._lock:
            until = self._not_before.get(host, 0.0)
        self.wait(until - time.monotonic())


def open_session(adapter: Patient) -> requests.Session:
    """Return a session that is patient with every server."""
    return make_patient(requests.Session(), adapter)


def make_patient(session: requests.Session, adapter: Patient) -> requests.Session:
    """Let a session, one of astroquery's for instance, send all its requests through an adapter."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, in seconds or as a date; RFC 9110, section 10.2.3."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _said(response: requests.Response) -> str:
    known = {status.value: status.phrase for status in HTTPStatus}
    return f"{response.status_code} {known.get(response.status_code, '')}".strip()


def _is_out_of_reach(error: requests.RequestException) -> bool:
    """Tell whether there was no connection at all, rather than one that brought nothing."""
    no_connection = (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
    inner = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, no_connection) or isinstance(inner, urllib3.exceptions.NewConnectionError)


def _reason(error: Exception) -> str:
    """Return the innermost cause of a failed connection, in its own words."""
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(cause).__name__
