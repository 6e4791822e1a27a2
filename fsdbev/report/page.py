"""What a report page is made of, and its HTML.

The page knows nothing of detection: it shows headlines, tables, charts and pictures in sections.
All text is escaped where it is put in. The page loads nothing and runs nothing: styles, charts and
pictures stand in it, and its Content-Security-Policy forbids the rest.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

#: Wide enough to read labels, small enough that eight pictures stay below a few megabytes.
_WIDTH, _QUALITY = 1800, 78


@dataclass(frozen=True)
class Fact:
    """What something is, by name."""

    name: str
    value: str


@dataclass(frozen=True)
class Headline:
    """A number that one looks for first, as text, and in a sentence what it is."""

    name: str
    value: str
    meaning: str
    is_main: bool = False


@dataclass(frozen=True)
class Cell:
    """Text in a table.

    Attributes:
        heat: 0 to 1, how strongly its ground is tinted; None: not at all.
        is_bad: the tint is that of mistakes.
    """

    text: str
    heat: float | None = None
    is_bad: bool = False


@dataclass(frozen=True)
class Table:
    """Rows that begin with their name.

    Attributes:
        caption: what it shows, above it.
        head: the columns' names, the first that of the rows' names.
        rows: as many cells each.
        last_is_sum: the last row is set off from the others.
        is_text: cells are left-aligned words, not numbers.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    last_is_sum: bool = False
    is_text: bool = False
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Attributes:
        svg: as ``svg.inline_svg`` makes it; it is put in as it is.
        caption: what it shows and how to read it.
    """

    svg: str
    caption: str
    kind: str = field(default="chart", init=False)

    @property
    def markup(self) -> Markup:
        return Markup(self.svg)  # made here, of escaped text


@dataclass(frozen=True)
class Card:
    """A picture with what is to be said of it.

    Attributes:
        title: what it shows.
        badge: its one number, as text.
        lines: what to see.
        address: of the picture, ``data:``; "" where there is none.
    """

    title: str
    badge: str
    lines: Sequence[str]
    address: str = ""


@dataclass(frozen=True)
class Cards:
    """Cards one below the other under a title."""

    title: str
    cards: Sequence[Card]
    kind: str = field(default="cards", init=False)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: its address within the page.
        text: paragraphs at its head.
    """

    anchor: str
    title: str
    text: Sequence[str]
    blocks: Sequence[Table | Chart | Cards] = ()


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    facts: Sequence[Fact]
    headlines: Sequence[Headline]
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page)


def jpeg_address(picture: np.ndarray) -> str:
    """``data:`` address of an (H, W, 3) uint8 RGB picture, as JPEG and at most so wide."""
    image = Image.fromarray(picture)
    if image.width > _WIDTH:
        height = round(image.height * _WIDTH / image.width)
        image = image.resize((_WIDTH, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
