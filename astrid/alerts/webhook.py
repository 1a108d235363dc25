"""Post what happens to a run to a URL, beside the loop: whatever the other end does, training goes on."""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import threading
from collections.abc import Mapping
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from astrid.config import AlertsConfig, ConfigError

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
"""Longest wait for an answer, and for what is still to be posted at the end of a run."""

URL = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:]+\])(:\d+)?([/?][!-~]*)?", re.ASCII)
Value = str | float | None


class Webhook:
    """Post JSON objects from a thread of its own, one after the other; a failure is logged once.

    Parameters
    ----------
    url : str
        Where to; a secret, which is never shown.
    name : str
        What messages call it: the environment variable that holds the URL.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._url, self._name = url, name
        self._waiting: queue.SimpleQueue[Mapping[str, Value] | None] = queue.SimpleQueue()
        self._failed = False
        self._thread = threading.Thread(target=self._keep_posting, name="astrid-webhook", daemon=True)
        self._thread.start()

    def post(self, values: Mapping[str, Value]) -> None:
        """Post an object; returns at once."""
        self._waiting.put(values)

    def close(self, *, wait_seconds: float = TIMEOUT_SECONDS) -> None:
        """Wait for a bounded time until everything is posted."""
        self._waiting.put(None)
        self._thread.join(wait_seconds)
        if self._thread.is_alive():
            log.warning("the webhook of %s needs more than %g s: its last alerts may be lost", self._name, wait_seconds)

    def _keep_posting(self) -> None:
        while (values := self._waiting.get()) is not None:
            try:
                self._post(values)
            except (OSError, HTTPException, ValueError) as error:  # ValueError: a redirection to what is no URL
                self._say_failed(error)

    def _post(self, values: Mapping[str, Value]) -> None:
        body = json.dumps(values, allow_nan=False).encode()
        request = Request(self._url, data=body, headers={"Content-Type": "application/json"})
        with urlopen(request, timeout=TIMEOUT_SECONDS):
            pass

    def _say_failed(self, error: Exception) -> None:
        if not self._failed:
            remedy = "alerts are in the log and in the run all the same; this is said once"
            log.warning("the webhook of %s could not be reached: %s; %s", self._name, _reason(error), remedy)
        self._failed = True


def _reason(error: Exception) -> str:
    """Say what went wrong in words that can't hold the URL."""
    match error:
        case HTTPError():
            return f"it answered {error.code}"
        case URLError(reason=OSError() as cause):
            return cause.strerror or type(cause).__name__
    return getattr(error, "strerror", None) or type(error).__name__


def find_webhook_url(config: AlertsConfig) -> str | None:
    """Return the URL that `tracking.alerts.webhook_env` leads to; None where alerts are not posted.

    Raises
    ------
    ConfigError
        Where the variable is unset or holds no URL; its value is not shown.
    """
    name = config.webhook_env
    if name is None:
        return None
    url = os.environ.get(name, "")
    if URL.fullmatch(url) is None:
        held = "something else" if url else "nothing"
        rule = "the name of an environment variable that holds an http or https URL"
        remedy = f"export {name}=https://... or leave tracking.alerts.webhook_env out"
        raise ConfigError(f"tracking.alerts.webhook_env must be {rule}, got {name}, which holds {held}; {remedy}")
    return url
