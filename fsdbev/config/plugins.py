"""Plugins: modules and installed packages that register additional models and parts."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

logger = logging.getLogger(__name__)


def add_working_directory() -> None:
    """Lets imports find modules of the working directory, after all others."""
    if os.getcwd() not in sys.path:  # missing if Python runs a script of another folder
        sys.path.append(os.getcwd())


def load_plugins(names: Sequence[str] = ()) -> None:
    """Imports plugins, which register their models and parts.

    Args:
        names: modules on the Python path or in the working directory, e.g. ``projects.BEVDepth``,
            or entry points of the group ``fsdbev.plugins``, all of which are always loaded.

    Raises:
        ValueError: a plugin does not exist, or its import fails.
    """
    installed = {point.name: point for point in entry_points(group="fsdbev.plugins")}
    if names:
        add_working_directory()
    for name in dict.fromkeys([*installed, *names]):
        try:
            installed[name].load() if name in installed else importlib.import_module(name)
        except Exception as error:  # a plugin's code may raise anything
            logger.error("plugin %s failed", name, exc_info=True)
            raise ValueError(
                f"plugin {name!r} cannot be loaded: {type(error).__name__}: {error}. A plugin is a "
                "module on the Python path or in the working directory, or one of the installed "
                f"plugins: {', '.join(installed) or 'none'}"
            ) from error
