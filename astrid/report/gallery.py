"""Single objects to look at: hits, misses and false alarms, their light and what the network makes of it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from astrid.inspection.cutouts import SHOWN, Cutout
from astrid.inspection.objects import JudgedObject
from astrid.tracking.tables import Table

from .data import shown
from .markup import Html, element, folded, paragraph, section
from .material import Material
from .pictures import data_uri

TITLES = {"hit": "Hits", "miss": "Misses", "false alarm": "False alarms"}
SOFTENING, BRIGHTEST = 3.0, 60.0
"""Of the arcsinh stretch, in background sigma, as in the figure of whole fields."""
GAP = 1
"""Pixels between the pictures of one object."""


def gallery(material: Material) -> Html | None:
    """Return the gallery; nothing where no objects were kept."""
    if not material.cutouts:
        return None
    objects = material.tables.get("objects")
    channels = len(material.cutouts[0].light)
    what = "science, reference and difference image" if channels == 3 else "light of each channel"
    return section(
        "Objects",
        paragraph(
            f"From left to right: {what}, arcsinh of background sigma; then the probability, black 0 to white 1. "
            "The object is in the middle. Look at one more closely by its number: astrid inspect RUN --object NUMBER.",
            kind="soft",
        ),
        *(_of_outcome(outcome, material.cutouts, objects) for outcome in TITLES),
        None if objects is None else folded("every object", shown(objects, caption="What became of each object")),
    )


def _of_outcome(outcome: str, cutouts: Sequence[Cutout], objects: Table | None) -> Html | None:
    own = [cutout for cutout in cutouts if cutout.judged.outcome == outcome]
    title = element("h3", TITLES[outcome])
    if not own:
        return element("div", title, paragraph("none", kind="soft"))
    total = len(own) if objects is None or "outcome" not in objects.columns else _count(objects, outcome)
    chosen = f"{len(own)} of {total}" + ("" if len(own) == total else f", {SHOWN[own[0].judged.outcome]}")
    return element("div", title, paragraph(chosen, kind="soft"), strip(own))


def _count(objects: Table, outcome: str) -> int:
    """Return how many objects came to an outcome; a field or a kind may be called like one."""
    at = objects.columns.index("outcome")
    return sum(row[at] == outcome for row in objects.rows)


def strip(cutouts: Sequence[Cutout]) -> Html:
    """Return cutouts beside each other."""
    items = [element("li", _image(one), element("p", caption(one.judged))) for one in cutouts]
    return element("ul", *items, class_="gallery")


def _image(cutout: Cutout) -> Html:
    judged = cutout.judged
    seen = f"light of each channel, then the probability, {judged.probability:.2f} in the middle"
    return element("img", src=data_uri(side_by_side(cutout)), alt=f"{judged.outcome} {judged.id}: {seen}")


def caption(judged: JudgedObject) -> Html:
    """Return what is known of an object in a line."""
    known = [f"p {judged.probability:.2f}"]
    if judged.snr is not None:
        known.append(f"S/N {judged.snr:.1f}")
    if judged.cause is not None:
        known.append(judged.cause)
    return element("span", element("b", judged.id), element("br"), ", ".join(known))


def side_by_side(cutout: Cutout) -> bytes:
    """Return channels and probability of a cutout as one greyscale PNG."""
    from matplotlib.image import imsave

    seen = [*(stretched(plane) for plane in cutout.light), cutout.probability.astype(np.float64)]
    gap = np.full((seen[0].shape[0], GAP), 0.5)
    parts = [part for plane in seen for part in (plane, gap)][:-1]
    written = io.BytesIO()
    imsave(written, np.concatenate(parts, axis=1), cmap="gray", vmin=0, vmax=1, origin="lower", format="png")
    return written.getvalue()


def stretched(plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return light in background sigma as grey from 0 to 1: arcsinh, from -3 to 60 sigma."""
    low, high = np.arcsinh([-1.0, BRIGHTEST / SOFTENING])
    return np.asarray(np.clip((np.arcsinh(plane / SOFTENING) - low) / (high - low), 0, 1), dtype=np.float64)
