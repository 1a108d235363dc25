"""What is judged is counted, and a mask the wrong way round is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from histograms import fill

from astrid.metrics.population import population, warn_of_inverted


def test_pixels_are_counted_and_their_share_is_given() -> None:
    found = population(fill([0.0, 1.0, 2.0, 3.0], [0, 0, 0, 1]))
    assert found == {"valid_pixels": 4, "positive_pixels": 1, "prevalence": 0.25}
    assert population(fill(np.zeros(0), np.zeros(0))) == {"valid_pixels": 0, "positive_pixels": 0}


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"prevalence": 0.97, "auroc": 0.1}, ["97 % of the valid pixels are positive: is the mask inverted?"]),
        ({"prevalence": 0.01, "auroc": 0.2}, ["AUROC is 0.200, below the 0.5 of chance"]),
        ({"prevalence": 0.5, "auroc": 0.45}, []),
        ({}, []),
    ],
)
def test_an_inverted_mask_is_warned_of(
    metrics: dict[str, float], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_inverted(metrics)
    assert len(caplog.records) == len(said)
    assert all(text in caplog.text for text in said)
