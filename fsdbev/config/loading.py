"""Reading a config as the tools do, and writing it with its references resolved."""

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
from fsdbev.utils.plain_yaml import values_of

from .overrides import apply_overrides
from .plugins import load_plugins
from .renamed import check_renamed
from .yaml_file import check_plugins, check_targets, read_yaml_config

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
    cfg = read_config(path)
    if not _is_yaml(path):
        return finish_config(cfg, overrides)
    check_plugins(_plugins(cfg))
    cfg = finish_config(cfg, overrides)
    check_targets(cfg, plugins=_plugins(cfg))  # which the command line may have set
    return cfg


def read_config(path: str) -> DictConfig:
    """The config of a file, as it is there. A ``.py`` file is run; a YAML file is data."""
    return read_yaml_config(path) if _is_yaml(path) else LazyConfig.load(path)


def finish_config(cfg: DictConfig, overrides: Sequence[str] = ()) -> DictConfig:
    """What :func:`load_config` does with a config that is loaded already."""
    check_renamed(cfg)
    cfg = apply_overrides(cfg, overrides)
    load_plugins(_plugins(cfg))
    _check_names(cfg)
    return cfg


def resolved(cfg: DictConfig) -> DictConfig:
    """A copy in which values stand for references, as a YAML config needs it. ValueError for a
    reference to a key that does not exist, as in a part of a config."""
    cfg = copy.deepcopy(cfg)
    OmegaConf.resolve(cfg)
    return cfg


def config_text(cfg: DictConfig) -> str:
    """The config as YAML that ``--config-file`` takes: resolved, with the names of what it calls.
    ValueError as :func:`resolved`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        LazyConfig.save(resolved(cfg), str(file))
        return file.read_text(encoding="utf-8")


def _is_yaml(path: str) -> bool:
    return os.fspath(path).endswith((".yaml", ".yml"))


def _plugins(cfg: DictConfig) -> list[Any]:
    """``train.plugins``; a single name counts as a list of one."""
    train = cfg.get("train")
    names = train.get("plugins") if isinstance(train, DictConfig) else None
    if isinstance(names, ListConfig):
        return list(names)
    return [] if names is None else [names]


def _check_names(cfg: DictConfig) -> None:
    """ValueError for the first name that is not registered, with its place in the config."""
    for place, call in values_of(OmegaConf.to_container(cfg)):
        if not isinstance(call, dict) or "_target_" not in call:
            continue
        find = _finder(call["_target_"])
        if find is not None and isinstance(call.get("name"), str) and "${" not in call["name"]:
            try:
                find(call["name"])
            except ValueError as error:
                raise ValueError(f"{place}.name: {error}") from error


def _finder(target: Any) -> Callable[[str], Any] | None:
    """For a target of a config or, by any name that it is imported by, of a saved one."""
    name = target
    if not isinstance(target, str):
        name = ".".join(getattr(target, part, "") for part in ("__module__", "__qualname__"))
    return _FINDERS.get(name.rpartition(".")[2]) if name.startswith("fsdbev.") else None
