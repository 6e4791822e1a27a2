"""SA-BEV (arXiv 2307.11477) as a plugin; importing it registers its classes."""

from . import modeling

__all__ = ["modeling"]
