"""The page around whatever is reported: one file without scripts, which may load nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .markup import Html, element, join

ASSETS = Path(__file__).with_name("assets")
PALETTE = ASSETS / "palette.css"
"""Colours of every page of AstrID, light and dark."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render(title: str, head: Html, sections: Sequence[Html]) -> str:
    """Return a page.

    Parameters
    ----------
    title : str
    head : Html
        What stands above everything, after the title.
    sections : sequence of Html
        As `markup.section` makes them.
    """
    style = Html(PALETTE.read_text() + (ASSETS / "report.css").read_text())
    start = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", title),
        element("style", style),
    )
    body = element("body", element("header", element("h1", title), head), element("main", *sections))
    return "<!doctype html>\n" + element("html", start, body, lang="en") + "\n"


def cards(facts: Sequence[tuple[str, str, str]]) -> Html:
    """Return the few numbers that matter most: what it is, the number, and what to know about it."""
    boxes = [
        element("div", element("span", name), element("b", value), element("span", note)) for name, value, note in facts
    ]
    return element("div", *boxes, class_="cards")


def notes(lines: Sequence[str]) -> Html | None:
    """Return what a reader must not miss; nothing where there is nothing."""
    if not lines:
        return None
    return element("ul", *(element("li", line) for line in lines), class_="warn")


def stack(*parts: Html | None) -> Html:
    """Return parts one after the other, without those that are not there."""
    return join(*[part for part in parts if part is not None])
