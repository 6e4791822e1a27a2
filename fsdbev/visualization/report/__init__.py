"""A page that tells how an evaluation went: one HTML file with all that it shows."""

from .charts import ErrorKind, class_curves, error_histograms, score_charts
from .page import Card, Cards, Cell, Chart, Fact, Headline, Page, Section, Table, render
from .pictures import jpeg_address

__all__ = [
    "Card",
    "Cards",
    "Cell",
    "Chart",
    "ErrorKind",
    "Fact",
    "Headline",
    "Page",
    "Section",
    "Table",
    "class_curves",
    "error_histograms",
    "jpeg_address",
    "render",
    "score_charts",
]
