"""What a drawn thing stands for: its method and its numbers, from a figure's artists into the SVG.

An artist's gid carries both to where the file is written; there the group gets `data-method`, by which the page's legend
finds it, and a <title>, which a browser shows under the pointer. Text from data is escaped.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from matplotlib.figure import Figure

SIGN = "paydirt:"


class Mark(NamedTuple):
    """A method, or "" for nobody's, and words for the pointer, or ""."""

    method: str
    text: str


def mark(artist: Any, method: str = "", text: str = "") -> None:
    """Say what `artist` stands for."""
    artist.set_gid(gid(method, text))


def gid(method: str = "", text: str = "") -> str:
    """The same, for artists that are given their gid when they are made."""
    return SIGN + json.dumps([method, text])


def take(figure: Figure) -> dict[str, Mark]:
    """Replace the gids of a figure by plain ids; returns what each id stands for."""
    found = {}
    for number, artist in enumerate(figure.findobj(lambda a: str(a.get_gid() or "").startswith(SIGN))):
        key = f"mark{number}"
        found[key] = Mark(*json.loads(str(artist.get_gid())[len(SIGN) :]))
        artist.set_gid(key)
    return found


def give(svg: str, marks: dict[str, Mark]) -> str:
    """The SVG with a method and a title in every marked group."""

    def add(found: re.Match[str]) -> str:
        meant = marks.get(found[1])
        if meant is None:
            return found[0]
        of = f" data-method={quoteattr(meant.method)}" if meant.method else ""
        title = f"<title>{escape(meant.text)}</title>" if meant.text else ""
        return f'<g id="{found[1]}"{of}>{title}'

    return re.sub(r'<g id="(mark\d+)">', add, svg)
