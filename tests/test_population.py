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


def counted(valid: int, positive: int, **scores: float) -> dict[str, float]:
    return {"valid_pixels": valid, "positive_pixels": positive, **scores}


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (counted(1000, 970, auroc=0.1), ["97.0 % of the pixels are positive: is the mask inverted?"]),
        (counted(1000, 10, auroc=0.2), ["AUROC is 0.200, worse than chance"]),
        (counted(1000, 10, auroc=0.3), []),  # 2.2 standard deviations
        (counted(100_000, 1000, auroc=0.3), ["AUROC is 0.300, worse than chance"]),
        (counted(1000, 500, auroc=0.45), []),  # beyond chance, but no inverted mask
        (counted(1000, 0), []),
        (counted(0, 0), []),
    ],
)
def test_an_inverted_mask_is_warned_of(
    metrics: dict[str, float], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_inverted(metrics)
    assert len(caplog.records) == len(said)
    assert all(text in caplog.text for text in said)
