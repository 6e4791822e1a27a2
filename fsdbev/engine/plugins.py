"""Plugins: modules and installed packages that register models and parts of their own."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

logger = logging.getLogger(__name__)

#: Entry points of this group are plugins of installed packages, and are always loaded.
ENTRY_POINT_GROUP = "fsdbev.plugins"


def load_plugins(names: Sequence[str] = ()) -> None:
    """Imports plugins, so that what they register can be found by its name.

    Args:
        names: of modules, as ``projects.BEVDepth``, which are looked for in the working directory
            too; or of entry points. Entry points that are not named are loaded as well.

    Raises:
        ValueError: there is no such plugin, or it fails.
    """
    installed = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    for name in dict.fromkeys([*installed, *names]):
        try:
            _load(name, installed.get(name))
        except Exception as error:
            if _is_missing(name, error):
                raise ValueError(
                    f"there is no plugin {name!r}: no module of that name is on the Python path or "
                    f"in the working directory; installed plugins: {', '.join(installed) or 'none'}"
                ) from error
            logger.error("plugin %s failed", name, exc_info=True)
            raise ValueError(
                f"plugin {name!r} cannot be loaded: {type(error).__name__}: {error}"
            ) from error


def _load(name: str, point: EntryPoint | None) -> None:
    if point is not None:
        point.load()
        return
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as python -m does; scripts have their own folder there
    importlib.import_module(name)


def _is_missing(name: str, error: Exception) -> bool:
    """Whether it is the plugin itself that was not found, not something that it imports."""
    found = isinstance(error, ModuleNotFoundError) and error.name is not None
    return found and (name == error.name or name.startswith(f"{error.name}."))
