"""Elements of a report page, and its rendering as HTML.

The elements are independent of detection: headlines, tables, charts and pictures in sections. The
template escapes all text. The page is self-contained: styles, charts and pictures are embedded, and
its Content-Security-Policy forbids scripts and external content.
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

#: Largest width of a picture in pixels, and its JPEG quality. Labels are readable, and eight
#: pictures need a few megabytes at most.
_MAX_WIDTH, _QUALITY = 1800, 78


@dataclass(frozen=True)
class Fact:
    """A named property of the evaluation, at the head of the page."""

    name: str
    value: str


@dataclass(frozen=True)
class Headline:
    """A main result.

    Attributes:
        name: name of the metric.
        value: the number, as text.
        meaning: explanation in one or two sentences.
        is_main: whether it is shown larger than the others.
    """

    name: str
    value: str
    meaning: str
    is_main: bool = False


@dataclass(frozen=True)
class Cell:
    """Cell of a table.

    Attributes:
        text: content.
        heat: strength of the background tint, 0 to 1; None for no tint.
        is_bad: whether the tint has the colour of mistakes.
    """

    text: str
    heat: float | None = None
    is_bad: bool = False


@dataclass(frozen=True)
class Table:
    """Table whose rows begin with their names.

    Attributes:
        caption: title above the table.
        head: column names; the first one is the heading of the row names.
        rows: cells by row, as many as there are columns.
        last_is_sum: whether the last row is a total, which is set off from the others.
        is_text: whether the cells are left-aligned text instead of numbers.
        kind: type of the block in the template.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    last_is_sum: bool = False
    is_text: bool = False
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Chart:
    """Chart with a caption.

    Attributes:
        svg: ``<svg>`` element from :func:`.svg.inline_svg`, inserted without escaping.
        caption: what the chart shows and how to read it.
        kind: type of the block in the template.
    """

    svg: str
    caption: str
    kind: str = field(default="chart", init=False)

    @property
    def markup(self) -> Markup:
        """The element, marked as safe."""
        # Safe: matplotlib wrote the element and escaped all text in it.
        return Markup(self.svg)


@dataclass(frozen=True)
class Card:
    """Picture with a description.

    Attributes:
        title: title.
        badge: number beside the title, as text.
        lines: description.
        address: ``data:`` address of the picture; "" without a picture.
    """

    title: str
    badge: str
    lines: Sequence[str]
    address: str = ""


@dataclass(frozen=True)
class Cards:
    """Titled column of cards.

    Attributes:
        title: title.
        cards: cards from top to bottom.
        kind: type of the block in the template.
    """

    title: str
    cards: Sequence[Card]
    kind: str = field(default="cards", init=False)


@dataclass(frozen=True)
class Section:
    """Section of the page.

    Attributes:
        anchor: id of the section, the target of its link in the contents.
        title: title.
        text: paragraphs at the beginning.
        blocks: tables, charts and cards below the text.
    """

    anchor: str
    title: str
    text: Sequence[str]
    blocks: Sequence[Table | Chart | Cards] = ()


@dataclass(frozen=True)
class Page:
    """Report page.

    Attributes:
        title: title.
        facts: properties of the evaluation.
        headlines: main results.
        sections: sections below them.
    """

    title: str
    facts: Sequence[Fact]
    headlines: Sequence[Headline]
    sections: Sequence[Section]


def render_page(page: Page) -> str:
    """Renders a page as HTML."""
    # Jinja2 escapes nothing by default, and prints nothing for a misspelt name; StrictUndefined
    # raises an error instead.
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page)


def jpeg_address(picture: np.ndarray) -> str:
    """Returns the ``data:`` address of a picture as JPEG, scaled down to ``_MAX_WIDTH``.

    Args:
        picture: (H, W, 3) uint8 RGB.
    """
    image = Image.fromarray(picture)
    if image.width > _MAX_WIDTH:
        height = round(image.height * _MAX_WIDTH / image.width)
        image = image.resize((_MAX_WIDTH, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
