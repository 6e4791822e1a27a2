"""matplotlib figures as SVG that stands in a page and takes the page's colours.

Charts are drawn in the colours named here, which no eye would choose; in the page's text they are
the style sheet's variables, so that one drawing suits a light and a dark page.
"""

from __future__ import annotations

import io
import re

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, GRID, GOOD, BAD, OTHER = (f"#0a0a0{number}" for number in range(1, 7))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    OTHER: "var(--other)",
}
#: Texts stay texts, of the page's font; identifiers depend on the content alone.
_OPTIONS = {"svg.fonttype": "none", "svg.hashsalt": "fsdbev", "font.family": "sans-serif"}


def new_chart(width: float, height: float) -> Figure:
    """A see-through page of ``width`` x ``height`` inches; needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    return figure


def inline_svg(figure: Figure, label: str) -> str:
    """The figure as an ``<svg>`` element.

    Args:
        label: read to those who cannot see it; plain words without markup.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_OPTIONS):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r' id="[A-Za-z][A-Za-z0-9]*_\d+"', "", text)  # the same in every figure
    # versions of matplotlib write the font in one property or in several
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    width, height = figure.get_size_inches()
    text = re.sub(
        r"<svg [^>]*>",
        f'<svg viewBox="0 0 {72 * width:g} {72 * height:g}" role="img" aria-label="{label}">',
        text,
        count=1,
    )
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    return text
