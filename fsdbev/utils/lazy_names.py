"""Public names of a package that are imported at first use (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable, Callable]:
    """Makes ``__getattr__`` and ``__dir__`` of a package whose modules are slow to import.

    Args:
        package: ``__name__`` of the package.
        homes: public name -> module that defines it.

    Returns:
        the two functions, to be assigned in the package's ``__init__.py``.
    """
    namespace = vars(sys.modules[package])

    def get_name(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Stored, so that Python does not call this function for the name again.
        value = namespace[name] = getattr(importlib.import_module(homes[name]), name)
        return value

    def list_names() -> list[str]:
        return sorted({*namespace, *homes})

    return get_name, list_names
