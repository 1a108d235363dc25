"""The card of a group: what its members come to together, who they are, and how one of them is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from astrid.card_sections import ENDS, baselines_table, markdown_table, speed_table, with_interval

OF_MEMBERS = ("objective", "test/auprc", "test/completeness", "test/purity", "test/ece")
"""What is told of each member, where any of them has it."""


@dataclass(frozen=True)
class GroupFacts:
    """What a group's card tells.

    Attributes
    ----------
    name : str
        Of the group's run.
    statistics : str
        What the numbers mean, and by whose method.
    metrics : mapping
        What the members come to together.
    members : mapping of str to mapping
        Final metrics of each member that finished, by its name.
    folders : mapping of str to Path
        Their folders.
    best : str or None
        The best member by validation; None where they can't be compared.
    """

    name: str
    statistics: str
    metrics: Mapping[str, float]
    members: Mapping[str, Mapping[str, float]]
    folders: Mapping[str, Path]
    best: str | None


def group_card(facts: GroupFacts) -> str:
    """Return the card in Markdown."""
    rivals = baselines_table(facts.metrics)
    parts = [
        f"# {len(facts.members)} networks as one: `{facts.name}`",
        f"{facts.statistics[:1].upper()}{facts.statistics[1:]}.",
        "## Results\n\n" + _results(facts.metrics),
        *([] if rivals is None else [f"## Without training\n\n{rivals}"]),
        "## Members\n\n" + _members(facts),
        "## Speed\n\n" + speed_table(facts.metrics),
        "## Use\n\n" + _usage(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _results(metrics: Mapping[str, float]) -> str:
    spreads = ("_std", "_fold_mean", "_fold_std")
    names = [name for name in metrics if name.startswith("test/") and not name.endswith((*ENDS, *spreads))]
    scatter = "_std" if any(name.endswith("_std") and "_fold" not in name for name in metrics) else "_fold_std"
    rows = [
        [name.removeprefix("test/"), with_interval(metrics, name), _spread(metrics, f"{name}{scatter}")]
        for name in names
    ]
    return markdown_table(["metric", "together", "scatter of members"], rows)


def _spread(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.2g}" if name in metrics else ""


def _members(facts: GroupFacts) -> str:
    shown = [name for name in OF_MEMBERS if any(name in metrics for metrics in facts.members.values())]
    rows = [
        [name, f"`{facts.folders[name]}`", *(_value(metrics, column) for column in shown)]
        for name, metrics in facts.members.items()
    ]
    return markdown_table(["member", "folder, with a card of its own", *shown], rows)


def _value(metrics: Mapping[str, float], name: str) -> str:
    return with_interval(metrics, name) if name in metrics else ""


def _usage(facts: GroupFacts) -> str:
    folder = facts.folders[facts.best or next(iter(facts.folders))]
    which = "the best by validation" if facts.best else "no better than the others: each was judged on other fields"
    code = f'from astrid.deployed import load\n\nmodel = load("{folder}")  # {which}'
    return f"A group has no model of its own; its members have one each.\n\n```python\n{code}\n```"
