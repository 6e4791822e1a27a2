"""matplotlib figures as inline SVG in the page's colours.

Charts are drawn in placeholder colours, which are then replaced by variables of the style sheet, so
that one drawing fits the light and the dark theme of the page.
"""

from __future__ import annotations

import io
import re

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

#: Placeholder colours: six nearly black ones that no chart uses otherwise.
INK, MUTED, GRID, GOOD, BAD, OTHER = (f"#0a0a0{number}" for number in range(1, 7))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    OTHER: "var(--other)",
}
#: Text is kept as text and shown in the page's font; with a fixed salt, ids depend only on the
#: content, so equal figures give equal files.
_OPTIONS = {"svg.fonttype": "none", "svg.hashsalt": "fsdbev", "font.family": "sans-serif"}


def new_chart(width: float, height: float) -> Figure:
    """Creates a transparent figure of ``width`` x ``height`` inches."""
    # Without pyplot, which would need a display or change the process's backend.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    return figure


def inline_svg(figure: Figure, label: str) -> str:
    """Converts a figure to an ``<svg>`` element.

    Args:
        figure: chart in the placeholder colours.
        label: text for screen readers, without markup.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_OPTIONS):
        # Without the date, which would make equal figures differ.
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Inline SVG needs neither metadata nor namespaces; both contain addresses of other sites.
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    # Ids such as "axes_1" are the same in every figure, but must be unique in a page.
    text = re.sub(r' id="[A-Za-z][A-Za-z0-9]*_\d+"', "", text)
    # Depending on its version matplotlib writes the font as one property or as several.
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    # matplotlib's SVG coordinates are points, 72 to an inch.
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
