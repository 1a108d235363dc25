"""How training went."""

from __future__ import annotations

from collections.abc import Sequence

from astrid.tracking.stored_runs import StoredRun
from astrid.units import counted

from .data import cell_text
from .markup import Html, folded, paragraph, section, table
from .material import Material
from .pictures import drawn, picture

CURVES = "training_curves"
SHOWN = ("train/", "val/")
AVERAGED = (
    "val/loss is that of the mean over eight orientations of each field, train/loss that of one orientation: so "
    "the gap between them doesn't tell over-fitting by itself."
)


def training(material: Material) -> Html | None:
    """Return the curves and the epochs; nothing for what was not trained."""
    if material.is_evaluation or "members" in material.tables:
        return None
    history = epochs(material.run)
    if not history:
        return section("Training", paragraph("No epoch was finished."))
    monitor = material.run.params.get("training.monitor", "val/auprc")
    best = material.run.tags.get("best_epoch")
    png = material.figures.get(CURVES)
    if png is None:
        from astrid.plots import training_curves

        best_epoch = int(best) if best is not None and best.isdecimal() else None
        png = drawn(training_curves(history, score=monitor, best_epoch=best_epoch))
    averaged = material.run.params.get("model.test_time_augmentation") == "True"
    curves = picture(png, alt=in_words(history, monitor), caption=AVERAGED if averaged else None)
    return section("Training", curves, folded("each epoch", _table(history)))


def epochs(run: StoredRun) -> list[dict[str, float]]:
    """Return the values of each finished epoch, with its number as `epoch`."""
    found: dict[int, dict[str, float]] = {}
    for name, points in run.histories.items():
        if name.startswith(SHOWN):
            for step, value in points:
                found.setdefault(step, {"epoch": float(step)})[name] = value
    return [found[step] for step in sorted(found) if "train/loss" in found[step]]


def in_words(history: Sequence[dict[str, float]], monitor: str) -> str:
    """Say what the curves show."""
    first, last = history[0], history[-1]
    parts = [f"Curves over {counted(len(history), 'epoch')}."]
    for name in ("train/loss", "val/loss", monitor):
        if name in first and name in last:
            parts.append(f"{name} from {first[name]:.4g} to {last[name]:.4g}.")
    return " ".join(parts)


def _table(history: Sequence[dict[str, float]]) -> Html:
    names = list(dict.fromkeys(name for values in history for name in values))
    rows = [[cell_text(values.get(name)) for name in names] for values in history]
    return table(names, rows, caption="What each epoch came to")
