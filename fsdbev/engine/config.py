"""Reading a config as the tools do."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from fsdbev.d2.config import LazyConfig

from .overrides import apply_overrides
from .plugins import load_plugins


def load_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """A config file with overrides applied; the plugins that it names in ``train.plugins`` are
    loaded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an override is wrong, see ``overrides``, or a plugin cannot be loaded.
    """
    cfg = apply_overrides(LazyConfig.load(path), overrides)
    load_plugins(cfg.get("train", {}).get("plugins", ()))
    return cfg
