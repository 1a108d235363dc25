"""What several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Folder of real astronomical data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("ASTRID_DATA", PROJECT_ROOT / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"sample data not found at {folder}; set ASTRID_DATA to its folder")
    return folder
