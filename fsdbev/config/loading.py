"""Loading of config files with overrides and plugins, and configs as resolved YAML text."""

from __future__ import annotations

import copy
import inspect
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from fsdbev.d2.config import LazyConfig
from fsdbev.modeling.registry import (
    META_ARCH_REGISTRY,
    build_meta_arch,
    build_part,
    find_meta_arch,
    find_part,
    parameters_of,
)
from fsdbev.utils.plain_yaml import iter_values

from .overrides import apply_overrides
from .plugins import add_working_directory, load_plugins
from .renamed import REMEDY, check_renamed
from .yaml_file import check_plugins, check_targets, read_yaml_config

logger = logging.getLogger(__name__)

#: Types of default values that are added to a config, alone or in a list.
_PLAIN = (type(None), bool, int, float, str)
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
    trusted = _plugins_of_overrides(overrides)
    check_plugins(name for name in _plugin_names(cfg) if name not in trusted)
    raw = OmegaConf.to_container(cfg).get("train") or {}
    if "${" in str(raw.get("plugins") if isinstance(raw, dict) else raw):
        # An override of the key referred to would change what was checked.
        raise ValueError(f"{path}: train.plugins of a YAML config has no references")
    cfg = complete_config(cfg, overrides)
    check_targets(cfg, plugins=_plugin_names(cfg))
    return cfg


def read_config(path: str) -> DictConfig:
    """Reads a config file without overrides and checks. A ``.py`` file is executed; it can import
    modules of the working directory."""
    if _is_yaml(path):
        return read_yaml_config(path)
    add_working_directory()
    return LazyConfig.load(path)


def complete_config(cfg: DictConfig, overrides: Sequence[str] = ()) -> DictConfig:
    """Applies the steps of :func:`load_config` that follow reading to a config.

    Raises:
        ValueError: see :func:`load_config`.
    """
    check_renamed(cfg)
    # Names of parts come first, so that the other overrides can set arguments of the new parts.
    keys = [text.partition("=")[0] for text in overrides]
    is_first = [key.startswith("train") or key.endswith(".name") for key in keys]
    renamed = apply_overrides(cfg, [o for o, first in zip(overrides, is_first) if first])
    load_plugins(_plugin_names(renamed))
    _check_registered(renamed)
    _fit_arguments(cfg, renamed)
    others = [text for text, first in zip(overrides, is_first) if not first]
    if others:
        cfg = apply_overrides(renamed, others)
        _check_registered(cfg)  # once more, for a name in a mapping, as model.neck={name: FPN}
        _fit_arguments(renamed, cfg)
    else:
        cfg = renamed
    _check_second_models(cfg)
    _check_classes(cfg)
    _follow_backbone(cfg)
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
    """Returns the config as YAML text, which ``--config-file`` accepts; references are kept.

    Raises:
        ValueError: a value cannot be written as YAML.
    """
    # LazyConfig.save turns classes and functions into their names, and writes only to files.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        LazyConfig.save(cfg, str(file))
        return file.read_text(encoding="utf-8")


def _is_yaml(path: str) -> bool:
    return os.fspath(path).endswith((".yaml", ".yml"))


def _plugin_names(cfg: DictConfig) -> list[Any]:
    """Returns ``train.plugins``; a single name becomes a list."""
    train = cfg.get("train")
    names = train.get("plugins") if isinstance(train, DictConfig) else None
    if isinstance(names, ListConfig):
        return OmegaConf.to_container(names, resolve=True)
    return [] if names is None else [names]


def _plugins_of_overrides(overrides: Sequence[str]) -> list[Any]:
    own = [text for text in overrides if text.startswith("train.plugins=")]
    return _plugin_names(apply_overrides(OmegaConf.create({"train": {"plugins": None}}), own))


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


def _fit_arguments(before: DictConfig, cfg: DictConfig) -> None:
    """Fits the arguments of parts and models whose ``name`` changed, in place.

    Removes the arguments that the new class does not have and adds those that it has in addition:
    with their defaults, as a reference to the model's key of that name, such as ``classes`` or
    ``grid``, or as missing (``???``).
    """
    calls_before = dict(iter_values(OmegaConf.to_container(before)))
    for place, call in iter_values(OmegaConf.to_container(cfg)):
        find = _finder(call.get("_target_")) if isinstance(call, dict) else None
        call_before = calls_before.get(place)
        name_before = call_before.get("name") if isinstance(call_before, dict) else None
        if find is None or call.get("name") == name_before or "${" in str(call.get("name")):
            continue
        node = OmegaConf.select(cfg, place)
        if node is None:  # an argument that an outer part no longer has
            continue
        parameters, takes_others = parameters_of(find(call["name"]))
        if not takes_others:
            for key in call.keys() - parameters.keys() - {"name", "_target_"}:
                del node[key]
        for key, parameter in parameters.items():
            default = parameter.default
            if default is parameter.empty:
                of_model = f"{place.partition('.')[0]}.{key}"
                default = "???" if OmegaConf.select(cfg, of_model) is None else f"${{{of_model}}}"
            items = default if isinstance(default, list | tuple) else [default]
            if key not in call and all(isinstance(item, _PLAIN) for item in items):
                node[key] = default
        logger.info("%s: %s; arguments %s", place, call["name"], ", ".join(map(str, node)))


def _follow_backbone(cfg: DictConfig) -> None:
    """Lets the neck ask a replaced backbone, if its channels refer to sizes of the old one."""
    channels = OmegaConf.select(cfg, "model.neck.in_channels")
    if isinstance(channels, DictConfig):
        try:
            OmegaConf.to_container(channels, resolve=True)
        except InterpolationResolutionError:
            cfg.model.neck.in_channels = None
            logger.info("model.neck.in_channels: those of the output_shape() of model.backbone")


def _check_second_models(cfg: DictConfig) -> None:
    """Checks that no model beside ``model`` refers to the sizes of ``model``.

    Raises:
        ValueError: one does, and would silently change with the other.
    """
    for place, call in iter_values(OmegaConf.to_container(cfg)):
        if place == "model" or not isinstance(call, dict) or not _is_model(call.get("_target_")):
            continue
        for key, text in iter_values(call):
            if isinstance(text, str) and ("${model." in text or "${model}" in text):
                raise ValueError(
                    f"{place}.{key}: {text} is a size of another model; refer to ${{{place}.KEY}}"
                )


def _check_classes(cfg: DictConfig) -> None:
    """Checks that the model says its classes if its class needs them, which older configs lack.

    Raises:
        ValueError: it does not.
    """
    model = OmegaConf.to_container(cfg).get("model")
    if not isinstance(model, dict) or _finder(model.get("_target_")) is not find_meta_arch:
        return
    name = model.get("name")
    if not isinstance(name, str) or "${" in name:
        return
    parameters, _ = parameters_of(find_meta_arch(name))
    needed = "classes" in parameters and parameters["classes"].default is inspect.Parameter.empty
    if needed and "classes" not in model:
        raise ValueError(
            "model.classes is missing: a config says which classes its model detects, as "
            f"L(ClassSet)(names=[...]). {REMEDY}"
        )


def _finder(target: Any) -> Callable[[str], Any] | None:
    """Returns the look-up function for a call's target; None if the target needs no registry."""
    name = _name_of(target)
    return _FINDERS.get(name.rpartition(".")[2]) if name.startswith("fsdbev.") else None


def _is_model(target: Any) -> bool:
    is_registered = _name_of(target).rpartition(".")[2] in dict(META_ARCH_REGISTRY)
    return _finder(target) is find_meta_arch or is_registered


def _name_of(target: Any) -> str:
    """Returns the dotted name of a call's target.

    A target is an object or, in a saved config, a dotted name. Such a name may lead through any
    package that imports the object, so only its last part tells which object it is.
    """
    if isinstance(target, str):
        return target
    return ".".join(getattr(target, part, "") for part in ("__module__", "__qualname__"))
