"""What a run saw: its data, and how good they were."""

from __future__ import annotations

from astrid.tracking.tables import Table

from .markup import Html, folded, pairs, paragraph, section, table
from .material import Material, judged_split
from .pictures import picture

QUALITY = "quality"
"""How the names begin of the table and the figures that an assessment of the frames leaves in the folder."""
FACTS = {
    "data": "data",
    "data.fingerprint": "fingerprint",
    "data.train_tiles": "tiles to train on",
    "data.val_tiles": "tiles to validate on",
    "data.split_unit": "what the splits share",
}
LONGEST = 400
"""Rows of a table on the page; the files hold them all."""


def data_and_quality(material: Material) -> Html:
    """Return what the data were, the assessed quality of the frames, and the test fields."""
    tags = material.run.tags
    facts = [(title, tags[name]) for name, title in FACTS.items() if name in tags]
    fields = material.tables.get("test_fields")
    if fields is not None:
        facts.append((f"{judged_split(material)} fields", str(len(fields.rows))))
        facts += [(f"their {what}", f"{int(total):,}") for what, total in _totals(fields).items()]
    return section("Data and quality", pairs(facts), *_quality(material), _by_field(fields))


def _totals(fields: Table) -> dict[str, float]:
    names = {"positive_pixels": "positive pixels", "negative_pixels": "negative pixels"}
    columns = {name: fields.columns.index(name) for name in names if name in fields.columns}
    numbers = {name: [row[at] for row in fields.rows] for name, at in columns.items()}
    return {
        names[name]: sum(cell for cell in cells if isinstance(cell, float | int)) for name, cells in numbers.items()
    }


def _quality(material: Material) -> list[Html]:
    tables = [shown(own, caption=f"Table {name}") for name, own in material.tables.items() if name.startswith(QUALITY)]
    pngs = {name: png for name, png in material.figures.items() if name.startswith(QUALITY)}
    drawn = [picture(png, alt=f"Figure {name}: quality of the frames") for name, png in pngs.items()]
    if tables or drawn:
        return [*drawn, *(folded("quality of each frame", one) for one in tables)]
    return [paragraph("The quality of the frames was not assessed by this run.", kind="soft")]


def _by_field(fields: Table | None) -> Html | None:
    return None if fields is None else folded("each test field", shown(fields, caption="What each test field showed"))


def shown(own: Table, *, caption: str) -> Html:
    """Return a stored table, its first rows where there are very many."""
    rows = [[cell_text(cell) for cell in row] for row in own.rows[:LONGEST]]
    cut = "" if len(own.rows) <= LONGEST else f" (the first {LONGEST} of {len(own.rows)} rows)"
    return table(own.columns, rows, caption=caption + cut)


def cell_text(cell: str | float | bool | None) -> str:
    """Return a cell as text: whole numbers whole, others with four digits."""
    if cell is None:
        return ""
    if isinstance(cell, float) and not cell.is_integer():
        return f"{cell:.4g}"
    return str(int(cell)) if isinstance(cell, float) else str(cell)
