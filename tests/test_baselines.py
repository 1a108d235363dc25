"""The plain threshold is judged like a network, and only where there is something to threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from astrid.baselines import difference_threshold
from astrid.config import MetricsConfig
from astrid.data.frames import Field, Sources
from astrid.data.store import FieldStore, write_fields


def field(*, channels: int = 3, catalogue: bool = True) -> Field:
    """A source of 9 sigma and one of 3 in the difference, and an artefact of 20."""
    image = np.zeros((channels, 50, 50), np.float32)
    for (y, x), sigma in (((10, 10), 9.0), ((30, 10), 3.0), ((40, 40), 20.0)):
        image[-1, y, x] = sigma
    x, y = np.array([10.0, 10.0]), np.array([10.0, 30.0])
    sources = Sources(x, y, x, np.array([9.0, 3.0]), ["transient"] * 2)
    return Field("f", image, np.zeros((50, 50), bool), np.ones((50, 50), bool), sources if catalogue else None, 3.0)


def measured(folder: Path, made: Field) -> dict[str, float]:
    write_fields(folder, [made])
    return difference_threshold(FieldStore(folder), config=MetricsConfig())


def test_five_sigma_finds_the_bright_source_and_the_artefact(tmp_path: Path) -> None:
    found = measured(tmp_path / "pair", field())
    assert found["difference_5sigma/completeness"] == pytest.approx(0.5)
    assert found["difference_5sigma/purity"] == pytest.approx(0.5)
    assert found["difference_5sigma/false_per_mpix"] == pytest.approx(1 / 2500 * 1e6)


def test_there_is_no_baseline_without_a_difference_or_a_catalogue(tmp_path: Path) -> None:
    assert measured(tmp_path / "single", field(channels=1)) == {}
    assert measured(tmp_path / "bare", field(catalogue=False)) == {}
