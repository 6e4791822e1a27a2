"""Loading of config files with overrides and plugins, and configs as resolved YAML text."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from fsdbev.d2.config import LazyConfig
from fsdbev.modeling.registry import build_meta_arch, build_part, find_meta_arch, find_part
from fsdbev.utils.plain_yaml import iter_values

from .overrides import apply_overrides
from .plugins import load_plugins
from .renamed import check_renamed
from .yaml_file import check_plugins, check_targets, read_yaml_config

#: Name of a function that builds a registered class -> function that looks the class up.
_FINDERS = {build_part.__name__: find_part, build_meta_arch.__name__: find_meta_arch}


def load_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Loads a config file: applies overrides, imports the plugins of ``train.plugins`` and checks
    that all parts and models are registered.

    Args:
        path: a ``.py`` or YAML file.
        overrides: ``key=value`` texts, see :mod:`.overrides`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: an override is wrong; a plugin cannot be loaded; a part or model is not
            registered; a key or target was renamed; or a YAML config breaks a rule of
            :mod:`.yaml_file`.
    """
    cfg = read_config(path)
    if not _is_yaml(path):
        return complete_config(cfg, overrides)
    # Before anything is imported: the file itself may only name plugins of this project. Those of
    # the command line are trusted, and their targets are allowed.
    check_plugins(_plugin_names(cfg))
    cfg = complete_config(cfg, overrides)
    check_targets(cfg, plugins=_plugin_names(cfg))
    return cfg


def read_config(path: str) -> DictConfig:
    """Reads a config file without overrides and checks. A ``.py`` file is executed."""
    return read_yaml_config(path) if _is_yaml(path) else LazyConfig.load(path)


def complete_config(cfg: DictConfig, overrides: Sequence[str] = ()) -> DictConfig:
    """Applies the steps of :func:`load_config` that follow reading to a config.

    Raises:
        ValueError: see :func:`load_config`.
    """
    check_renamed(cfg)
    cfg = apply_overrides(cfg, overrides)
    load_plugins(_plugin_names(cfg))
    _check_registered(cfg)
    return cfg


def resolved(cfg: DictConfig) -> DictConfig:
    """Returns a copy in which references are replaced by their values.

    Raises:
        ValueError: a reference names a missing key, as in a file of ``configs/common``.
    """
    cfg = copy.deepcopy(cfg)
    OmegaConf.resolve(cfg)
    return cfg


def config_text(cfg: DictConfig) -> str:
    """Returns the resolved config as YAML text, which ``--config-file`` accepts.

    Raises:
        ValueError: see :func:`resolved`.
    """
    # LazyConfig.save turns classes and functions into their names, and writes only to files.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        LazyConfig.save(resolved(cfg), str(file))
        return file.read_text(encoding="utf-8")


def _is_yaml(path: str) -> bool:
    return os.fspath(path).endswith((".yaml", ".yml"))


def _plugin_names(cfg: DictConfig) -> list[Any]:
    """Returns ``train.plugins``; a single name becomes a list."""
    train = cfg.get("train")
    names = train.get("plugins") if isinstance(train, DictConfig) else None
    if isinstance(names, ListConfig):
        return list(names)
    return [] if names is None else [names]


def _check_registered(cfg: DictConfig) -> None:
    """Checks that all named parts and models are registered; ValueError with the first place."""
    for place, call in iter_values(OmegaConf.to_container(cfg)):
        if not isinstance(call, dict) or "_target_" not in call:
            continue
        find = _finder(call["_target_"])
        # A reference is resolved, and its value checked, only when the part is built.
        if find is not None and isinstance(call.get("name"), str) and "${" not in call["name"]:
            try:
                find(call["name"])
            except ValueError as error:
                raise ValueError(f"{place}.name: {error}") from error


def _finder(target: Any) -> Callable[[str], Any] | None:
    """Returns the look-up function for a call's target; None if the target needs no registry.

    A target is an object or, in a saved config, a dotted name. Such a name may lead through any
    package that imports the object, so only its last part is compared.
    """
    name = target
    if not isinstance(target, str):
        name = ".".join(getattr(target, part, "") for part in ("__module__", "__qualname__"))
    return _FINDERS.get(name.rpartition(".")[2]) if name.startswith("fsdbev.") else None
