"""Reading a config as the tools do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fsdbev.d2.config import LazyConfig
from fsdbev.modeling.registry import build_meta_arch, build_part, find_meta_arch, find_part

from .config_yaml import check_targets, is_yaml, read_yaml_config
from .overrides import apply_overrides
from .plugins import load_plugins

#: By the name of what takes ``name`` from a registry: what looks for it there.
_FINDERS = {build_part.__name__: find_part, build_meta_arch.__name__: find_meta_arch}


def load_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """A config file with overrides applied; the plugins that it names in ``train.plugins`` are
    loaded, and what it builds by name is registered.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an override is wrong, see ``overrides``; a plugin cannot be loaded; a part or a
            model is not registered; a YAML config breaks a rule of ``config_yaml``.
    """
    cfg = finish_config(read_config(path), overrides)
    if is_yaml(path):
        # those that the file itself may not name are the command line's
        check_targets(cfg, plugins=cfg.get("train", {}).get("plugins") or ())
    return cfg


def read_config(path: str) -> DictConfig:
    """The config of a file, as it is there. A ``.py`` file is run; a YAML file is data."""
    return read_yaml_config(path) if is_yaml(path) else LazyConfig.load(path)


def finish_config(cfg: DictConfig, overrides: Sequence[str] = ()) -> DictConfig:
    """What :func:`load_config` does with a config that is loaded already."""
    cfg = apply_overrides(cfg, overrides)
    load_plugins(cfg.get("train", {}).get("plugins", ()))
    _check_names(cfg)
    return cfg


def _check_names(cfg: DictConfig) -> None:
    """ValueError for the first name that is not registered, with its place in the config."""
    for place, call in _calls(OmegaConf.to_container(cfg), ""):
        find = _finder(call["_target_"])
        if find is not None and isinstance(call.get("name"), str) and "${" not in call["name"]:
            try:
                find(call["name"])
            except ValueError as error:
                raise ValueError(f"{place}.name: {error}") from error


def _finder(target: Any) -> Callable[[str], Any] | None:
    """For a target of a config or, by any name that it is imported by, of a saved one."""
    name = target if isinstance(target, str) else dotted_name(target)
    return _FINDERS.get(name.rpartition(".")[2]) if name.startswith("fsdbev.") else None


def dotted_name(target: Any) -> str:
    """Module and name of a class or a function."""
    return ".".join(getattr(target, part, "") for part in ("__module__", "__qualname__"))


def _calls(value: Any, place: str) -> Iterator[tuple[str, dict]]:
    """All nodes with a ``_target_``, outer ones first."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield place, value
        for key, item in value.items():
            yield from _calls(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _calls(item, f"{place}.{index}")
