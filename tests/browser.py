"""A headless browser for tests of pages; skips where there is none."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Opened:
    """The page after its scripts ran, and what they wrote to the console, errors included."""

    dom: str
    console: list[str]


def open_page(page: Path, profile: Path) -> Opened:
    """Open a page without network; `profile` is an empty folder for the browser."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=2000"]
    where = [f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", page.as_uri()]
    done = subprocess.run([program, *options, *where], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return Opened(done.stdout, re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr))
