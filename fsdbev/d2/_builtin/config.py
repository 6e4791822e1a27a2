"""Built-in side of ``detectron2.config``: configs as Python files that describe calls.

``LazyCall(target)(**arguments)`` writes down a call as an omegaconf node ``{_target_: target,
**arguments}``, and ``instantiate`` makes it.
"""

from __future__ import annotations

import builtins
import dataclasses
import enum
import logging
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf, SCMode

from .file_io import PathManager

logger = logging.getLogger(__name__)

_OBJECTS = {"allow_objects": True}
_GET_OBJECT = "hydra.utils.get_object"


class LazyCall:
    """``LazyCall(target)(**arguments)`` is the node of a call that ``instantiate`` will make.

    ``target`` is a callable or the dotted name of one. Arguments are given by keyword only.
    """

    def __init__(self, target: Callable | str | Mapping) -> None:
        if not (callable(target) or isinstance(target, str | Mapping)):
            raise TypeError(f"LazyCall needs a callable or the name of one, got {target!r}")
        self._target = target

    def __call__(self, **arguments: Any) -> DictConfig:
        target = self._target
        if dataclasses.is_dataclass(target):  # omegaconf would take the class for a schema
            target = _name_of(target)
        return DictConfig({**arguments, "_target_": target}, flags=_OBJECTS)


def instantiate(cfg: Any) -> Any:
    """Makes the call that a node describes, its arguments first; anything else is returned as is.

    Lists are searched for calls, mappings without ``_target_`` are not. Lists and mappings of a
    config reach the callable as omegaconf's ``ListConfig`` and ``DictConfig``. What a call raises
    is logged with its place in the config, and raised on.
    """
    if isinstance(cfg, ListConfig):
        return ListConfig([instantiate(item) for item in cfg], flags=_OBJECTS)
    if isinstance(cfg, list):
        return [instantiate(item) for item in cfg]
    if isinstance(cfg, DictConfig) and dataclasses.is_dataclass(OmegaConf.get_type(cfg)):
        return OmegaConf.to_object(cfg)
    if not (isinstance(cfg, Mapping) and "_target_" in cfg):
        return cfg
    arguments = {key: instantiate(value) for key, value in cfg.items()}
    target = arguments.pop("_target_")
    try:
        if isinstance(target, str):
            target = get_object(target)
        if not callable(target):
            raise TypeError(f"_target_ must be callable, got {target!r}")
        return target(**arguments)
    except Exception:
        place = cfg._get_full_key("_target_") if isinstance(cfg, DictConfig) else "_target_"
        logger.error("%s: calling %s failed", place, target)
        raise


class LazyConfig:
    """Reads and writes configs."""

    @staticmethod
    def load(filename: str, keys: None | str | tuple[str, ...] = None) -> Any:
        """Loads a ``.py`` or ``.yaml`` config file.

        Args:
            filename: path, relative ones from the working directory.
            keys: a name to return the value of, or several for a tuple; None for a DictConfig of
                all configs (dicts and lists of omegaconf, plain dicts) whose names have no leading
                underscore.
        """
        if filename.endswith(".py"):
            values = _run(filename)
        elif filename.endswith((".yaml", ".yml")):
            with PathManager.open(filename) as file:
                values = OmegaConf.create(yaml.safe_load(file), flags=_OBJECTS)
        else:
            raise ValueError(f"a config file ends in .py, .yaml or .yml, got {filename!r}")
        if keys is not None:
            names = (keys,) if isinstance(keys, str) else tuple(keys)
            found = tuple(_as_config(_value(values, name, filename)) for name in names)
            return found[0] if isinstance(keys, str) else found
        if isinstance(values, DictConfig):
            return values
        configs = {
            name: _as_config(value)
            for name, value in values.items()
            if isinstance(value, DictConfig | ListConfig | dict) and not name.startswith("_")
        }
        return DictConfig(configs, flags=_OBJECTS)

    @staticmethod
    def load_rel(filename: str, keys: None | str | tuple[str, ...] = None) -> Any:
        """``load`` with a path relative to the folder of the calling file."""
        caller = sys._getframe(1).f_code.co_filename
        return LazyConfig.load(os.path.join(os.path.dirname(caller), filename), keys)

    @staticmethod
    def save(cfg: DictConfig | ListConfig, filename: str) -> None:
        """Writes a config as YAML that ``load`` reads: interpolations resolved, objects by their
        dotted names. ValueError names the place of what has no such name, as a lambda."""
        values = OmegaConf.to_container(
            cfg, resolve=True, structured_config_mode=SCMode.INSTANTIATE
        )
        text = yaml.safe_dump(_plain(values, ()), sort_keys=False, allow_unicode=True, width=100)
        with PathManager.open(filename, "w") as file:
            file.write(text)

    @staticmethod
    def apply_overrides(cfg: DictConfig, overrides: list[str]) -> DictConfig:
        """Sets values in place by ``a.b=value`` in Hydra's grammar, without checking them."""
        for override in OverridesParser.create().parse_overrides(overrides):
            OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
        return cfg


def _as_config(value: Any) -> Any:
    return DictConfig(value, flags=_OBJECTS) if isinstance(value, dict) else value


def _value(values: Mapping, name: str, filename: str) -> Any:
    if name not in values:
        raise KeyError(f"{filename} has no {name!r}")
    return values[name]


def _run(filename: str) -> dict[str, Any]:
    """Runs a config file and returns its global names.

    Its relative imports run other config files, found by their path alone. Each import runs them
    anew, so that no two configs share a node.
    """

    def import_(
        name: str,
        globals: Mapping | None = None,
        locals: Mapping | None = None,
        fromlist: Iterable[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        if level == 0:
            return builtins.__import__(name, globals, locals, fromlist, level)
        path = _relative_file(filename, name, level)
        values = _run(path)
        module = types.ModuleType(path)
        for wanted in fromlist or ():
            if wanted not in values:
                raise ImportError(f"{filename}: there is no {wanted!r} in {path}")
            setattr(module, wanted, _as_config(values[wanted]))
        return module

    with PathManager.open(filename) as file:
        code = compile(file.read(), filename, "exec")
    namespace = {
        "__name__": f"config file {filename}",
        "__file__": filename,
        # the import statement looks up its function here
        "__builtins__": {**vars(builtins), "__import__": import_},
    }
    exec(code, namespace)
    return namespace


def _relative_file(importer: str, name: str, level: int) -> str:
    """The file of ``from <level dots><name> import ...`` in the config file ``importer``."""
    folder = os.path.dirname(importer)
    for _ in range(level - 1):
        folder = os.path.dirname(folder) if folder else ".."
    path = os.path.join(folder, *name.split(".")) + ".py"
    if not name or not PathManager.isfile(path):
        raise ImportError(
            f"{importer}: relative imports of a config file name values of another config file, "
            f"as in 'from .folder.file import value', but {path} is no file"
        )
    return path


def _name_of(target: Any) -> str:
    """Dotted name by which ``get_object`` finds a class, function, method, enum member, dtype."""
    if isinstance(target, torch.dtype):
        return str(target)
    if isinstance(target, enum.Enum):
        return f"{_name_of(type(target))}.{target.name}"
    name = f"{getattr(target, '__module__', None)}.{getattr(target, '__qualname__', None)}"
    try:
        found = get_object(name)
    except Exception:
        found = None
    if found is None or found != target:
        raise ValueError(f"{target!r} cannot be imported by a name")
    return name


def _plain(value: Any, path: tuple) -> Any:
    """The value in what YAML knows. A dataclass instance becomes the node of a call; a class or a
    function that is no ``_target_`` becomes a call that looks it up by name."""
    if value is None or (
        isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)
    ):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _plain(item, (*path, key)) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _plain({"_target_": type(value), **fields}, path)
    try:
        name = _name_of(value)
    except ValueError as error:
        place = ".".join(str(part) for part in path)
        raise ValueError(
            f"{place}: {error}, so that the config cannot be saved. Move it to the top level of a "
            "module, or describe it by a LazyCall"
        ) from None
    return name if path and path[-1] == "_target_" else {"_target_": _GET_OBJECT, "path": name}
