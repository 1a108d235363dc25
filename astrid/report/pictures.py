"""Pictures inside a page: PNG as data, always with words for who can't see them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from .markup import Html, element

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG = b"\x89PNG\r\n\x1a\n"


def picture(png: bytes, *, alt: str, caption: str | None = None) -> Html:
    """Return a figure; the page holds the PNG itself.

    Parameters
    ----------
    png : bytes
    alt : str
        What is seen, in words.
    caption : str or None
        What else a reader wants to know.
    """
    image = element("img", src=data_uri(png), alt=alt)
    return element("figure", image, None if caption is None else element("figcaption", caption))


def data_uri(png: bytes) -> str:
    """Return a PNG as the address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def drawn(figure: Figure) -> bytes:
    """Return a matplotlib figure as PNG."""
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def read_pictures(folder: Path, damaged: list[str]) -> dict[str, bytes]:
    """Return the PNGs of a folder by name, as far as they are whole; of each that isn't, a note is added."""
    found = {path: read_png(path) for path in sorted(folder.glob("*.png"))}
    damaged.extend(f"{path.name} is damaged: it must be a whole PNG" for path, png in found.items() if png is None)
    return {path.stem: png for path, png in found.items() if png is not None}


def read_png(path: Path) -> bytes | None:
    """Return a PNG from disk; None where it is none, as when its run was killed while it wrote."""
    content = path.read_bytes()
    return content if content.startswith(PNG) and content.rstrip().endswith(b"IEND\xaeB`\x82") else None
