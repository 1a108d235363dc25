"""HTML that what it says can't break: text is escaped, unless it was built here."""

from __future__ import annotations

import html
from collections.abc import Sequence

VOID = ("img", "br", "meta")
"""Elements without content."""


class Html(str):
    """Markup that is finished; any other text is escaped where it is put into an element."""


def element(name: str, /, *children: str | None, **attributes: str | None) -> Html:
    """Return an element; an attribute is written with `-` for `_`, and `class_` for `class`; None is left out.

    Examples
    --------
    >>> element("p", "1 < 2, ", element("b", "sure"), class_="note")
    '<p class="note">1 &lt; 2, <b>sure</b></p>'
    """
    given = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None]
    opening = " ".join([name, *(f'{key}="{html.escape(value)}"' for key, value in given)])
    if name in VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(*children)}</{name}>")


def join(*parts: str | None) -> Html:
    """Put markup and text one after the other; None is nothing."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts if part is not None))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> Html:
    """Return a table whose first column names the row; cells that begin with a number stay on one line.

    Parameters
    ----------
    heads : sequence of str
    rows : sequence of sequences of str
        Of as many cells each.
    caption : str
        What the table shows, for everybody who looks for it.
    """
    head = element("tr", *(element("th", text, scope="col") for text in heads))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell, class_=_kind(cell)) for cell in cells))
        for first, *cells in rows
    ]
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _kind(cell: str) -> str | None:
    return "number" if cell[:1].isdigit() or (cell[:1] in "-+" and cell[1:2].isdigit()) else None


def pairs(facts: Sequence[tuple[str, str]]) -> Html:
    """Return names with what they stand for."""
    return element("dl", *(element("div", element("dt", name), element("dd", text)) for name, text in facts))


def paragraph(text: str, *, kind: str | None = None) -> Html:
    """Return a paragraph; `kind` is its class."""
    return element("p", text, class_=kind)


def folded(summary: str, *content: str) -> Html:
    """Return content that a click unfolds."""
    return element("details", element("summary", summary), *content)


def code(*lines: str) -> Html:
    """Return lines that can be copied."""
    return element("pre", element("code", "\n".join(lines)), tabindex="0")


def section(title: str, *content: str | None) -> Html:
    """Return a part of the page under its heading."""
    name = "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
    return element("section", element("h2", title, id=name), *content, aria_labelledby=name)
