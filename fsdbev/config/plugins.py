"""Plugins: modules and installed packages that register models and parts of their own."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

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
    if names and os.getcwd() not in sys.path:  # python -m has it there, scripts their own folder
        sys.path.append(os.getcwd())
    for name in dict.fromkeys([*installed, *names]):
        try:
            if name in installed:
                installed[name].load()
            else:
                importlib.import_module(name)
        except Exception as error:
            logger.error("plugin %s failed", name, exc_info=True)
            raise ValueError(
                f"plugin {name!r} cannot be loaded: {type(error).__name__}: {error}. A plugin is a "
                "module on the Python path or in the working directory, or one of the installed "
                f"plugins: {', '.join(installed) or 'none'}"
            ) from error
