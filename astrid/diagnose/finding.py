"""What a check found: one fault with its evidence, a figure and the knob to turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

EXPLAINS: Mapping[str, frozenset[str]] = {
    "loss_not_finite": frozenset(
        {
            *("learning_rate_high", "exploding_gradients", "plateau", "dead_units", "label_noise", "imbalance"),
            "not_finite",
        }
    ),
    "learning_rate_high": frozenset(
        {
            *("exploding_gradients", "vanishing_gradients", "dead_units", "plateau", "imbalance"),
            *("overfitting", "label_noise", "frozen", "not_finite"),
        }
    ),
    "not_finite": frozenset({"dead_units", "label_noise", "imbalance", "plateau"}),
    "learning_rate_low": frozenset({"plateau", "imbalance", "label_noise"}),
    "frozen": frozenset({"plateau", "imbalance", "label_noise"}),
    "dead_units": frozenset({"vanishing_gradients", "plateau", "imbalance", "label_noise", "learning_rate_low"}),
    "shifted_labels": frozenset({"label_noise", "plateau", "imbalance", "overfitting"}),
    "label_noise": frozenset({"plateau", "imbalance", "overfitting"}),
    "leak": frozenset({"overfitting"}),
}
"""By kind of a finding, the kinds that follow from it: they are left out, since mending the cause mends them."""


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes
    ----------
    kind : str
        Name of the fault, also that of its figure.
    text : str
        What is wrong, in a sentence with its numbers.
    evidence : dict of float
        The numbers that the sentence rests on, by name.
    knob : str
        What to turn.
    figure : Figure
        What the evidence looks like.
    """

    kind: str
    text: str
    evidence: dict[str, float]
    knob: str
    figure: Figure


def causes(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what another finding explains."""
    found = list(findings)
    explained = frozenset().union(*(EXPLAINS.get(finding.kind, frozenset()) for finding in found))
    return [finding for finding in found if finding.kind not in explained]
