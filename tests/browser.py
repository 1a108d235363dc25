"""A headless browser for tests of pages, driven over a pipe, that records what a page says, asks for and can't show.

Chrome's DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) needs nothing but the standard library
over `--remote-debugging-pipe`: JSON messages, each ended by a zero byte, on the file descriptors 3 and 4.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
PATIENCE_SECONDS = 120.0
HARMLESS = ("data:", "blob:", "about:")
"""How addresses begin that leave the page for nowhere."""
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"scheme": "light"},
    "dark": {"scheme": "dark"},
    "narrow": {"width": 500},
    "print": {"media": "print"},
}
"""How a reader may look at a page, as arguments of `Browser.open`."""
DECODED = """[...document.images].forEach((image) => { image.loading = 'eager' });
Promise.all([...document.images].map((image) => image.decode().then(() => null,
  () => `${image.alt || 'no alt text'} (${image.getAttribute('src')?.slice(0, 60)})`)))
  .then((found) => found.filter((one) => one))"""
"""The images that can't be decoded, also those that nobody has scrolled to."""
LINKED = "[...document.querySelectorAll('link[href]')].map((link) => link.href)"
"""What a page links to looks up names and opens connections that are reported as no request (preconnect)."""
WIDTH = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@dataclass(frozen=True)
class Opened:
    """What a page was like when it had loaded.

    Attributes
    ----------
    dom : str
        After its scripts ran.
    console : list of str
        What it, its scripts and the browser wrote: messages, uncaught errors, violations of its policy.
    requests : list of str
        Every address but its own that it asked for, whether it got an answer, was refused or can't exist.
    broken : list of str
        Images that can't be shown, by their alt text.
    too_wide_pixels : int
        By how much it is wider than the window.
    """

    dom: str
    console: list[str]
    requests: list[str]
    broken: list[str]
    too_wide_pixels: int

    @property
    def complaints(self) -> list[str]:
        """Everything that a page which is whole does not do."""
        wide = [f"{self.too_wide_pixels} pixels wider than the window"] if self.too_wide_pixels > 0 else []
        return [*self.console, *self.requests, *self.broken, *wide]


class Browser:
    """A browser that stays open for many pages; `profile` is an empty folder for it."""

    def __init__(self, profile: Path) -> None:
        program = next((found for name in NAMES if (found := shutil.which(name))), None)
        if program is None:
            pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
        its_input, self._to = _high_pipe()
        self._from, its_output = _high_pipe()
        moved = f'exec "$@" 3<&{its_input} 4>&{its_output}'
        self._process = subprocess.Popen(
            ["bash", "-c", moved, "bash", program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(its_input, its_output),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_input)
        os.close(its_output)
        self._read, self._number, self.events = b"", 0, list[dict[str, Any]]()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = None
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        self.call("Browser.close")
        self._process.wait(timeout=PATIENCE_SECONDS)
        os.close(self._to)
        os.close(self._from)

    def open(self, page: Path, *, width: int = 1400, media: str = "screen", scheme: str = "light") -> Opened:
        """Open a page of a file as on a window of some width, in light or dark, on the screen or in print."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self._go("about:blank")
        own = page.as_uri()
        self._go(own)
        broken = self.evaluate(DECODED)
        time.sleep(0.1)  # a script may ask for something once the page is there
        dom, wide = self.evaluate("document.documentElement.outerHTML"), self.evaluate(WIDTH)
        asked = dict.fromkeys([*self._requested(), *self.evaluate(LINKED)])
        requests = [address for address in asked if address != own and not address.startswith(HARMLESS)]
        return Opened(dom, self._said(), requests, broken, wide)

    def _go(self, address: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=address)
        self._wait(lambda: any(event["method"] == "Page.loadEventFired" for event in self.events))

    def evaluate(self, expression: str) -> Any:
        """Return what an expression gives in the page, whose policy doesn't hold for it."""
        given = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in given, given
        return given["result"]["value"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._number > 1 and self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        self._wait(lambda: bool(answers), answers)
        assert "error" not in answers[0], (method, answers[0])
        return answers[0]["result"]

    def _wait(self, is_done: Callable[[], bool], answers: list[dict[str, Any]] | None = None) -> None:
        """Read messages until it is done: events are kept, the answer to the latest call goes to `answers`."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not is_done():
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            content = os.read(self._from, 1 << 20)
            assert content, f"the browser has ended with {self._process.poll()}"
            *whole, self._read = (self._read + content).split(b"\0")
            for message in map(json.loads, whole):
                if "method" in message:
                    self.events.append(message)
                elif message.get("id") == self._number and answers is not None:
                    answers.append(message)

    def _requested(self) -> list[str]:
        addresses = {
            "Network.requestWillBeSent": lambda given: given["request"]["url"],
            "Network.webSocketCreated": lambda given: given["url"],
        }
        return [addresses[event["method"]](event["params"]) for event in self.events if event["method"] in addresses]

    def _said(self) -> list[str]:
        said: list[str] = []
        for method, given in ((event["method"], event["params"]) for event in self.events):
            if method == "Runtime.consoleAPICalled":
                said.append(" ".join(str(part.get("value", part.get("description"))) for part in given["args"]))
            elif method == "Runtime.exceptionThrown":
                details = given["exceptionDetails"]
                said.append(details.get("exception", {}).get("description", details["text"]))
            elif method == "Log.entryAdded":
                said.append(f"{given['entry']['text']} {given['entry'].get('url', '')}".strip())
        return said


def _high_pipe() -> tuple[int, int]:
    """Return a pipe whose ends are none of the descriptors that the browser wants."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
