"""Built-in ``detectron2.config``: lazy configs in Python or YAML files.

``LazyCall(target)(**arguments)`` describes a call as the omegaconf node ``{_target_: target,
**arguments}``; ``instantiate`` performs it.
"""

from __future__ import annotations

import builtins
import dataclasses
import enum
import itertools
import logging
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf, SCMode

from .file_io import PathManager

logger = logging.getLogger(__name__)

#: Without this flag omegaconf accepts values of primitive types only, no classes or functions.
_OBJECTS = {"allow_objects": True}
_GET_OBJECT = "hydra.utils.get_object"


class LazyCall:
    """Description of a call, ``LazyCall(target)(**arguments)``, for ``instantiate``.

    Args:
        target: a callable or its dotted name.

    Raises:
        TypeError: if ``target`` is neither a callable, a string nor a mapping.
    """

    def __init__(self, target: Callable | str | Mapping) -> None:
        if not (callable(target) or isinstance(target, str | Mapping)):
            raise TypeError(f"LazyCall needs a callable or the name of one, got {target!r}")
        self._target = target

    def __call__(self, **arguments: Any) -> DictConfig:
        target = self._target
        if dataclasses.is_dataclass(target):
            # omegaconf would convert the class to a structured config.
            target = _import_path(target)
        return DictConfig({**arguments, "_target_": target}, flags=_OBJECTS)


def instantiate(cfg: Any) -> Any:
    """Performs the call that a config node describes, after instantiating its arguments.

    Lists are instantiated item by item. Any other value, including a mapping without ``_target_``,
    is returned unchanged. Lists and mappings of a config reach the callable as omegaconf's
    ``ListConfig`` and ``DictConfig``, as in Detectron2. An exception of a call is logged with its
    place in the config and raised again.
    """
    if isinstance(cfg, ListConfig):
        return ListConfig([instantiate(item) for item in cfg], flags=_OBJECTS)
    if isinstance(cfg, list):
        return [instantiate(item) for item in cfg]
    if isinstance(cfg, DictConfig) and dataclasses.is_dataclass(OmegaConf.get_type(cfg)):
        # A structured config, which omegaconf itself converts to its dataclass; as in Detectron2.
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
    """Functions that load, save and override configs."""

    @staticmethod
    def load(filename: str, keys: None | str | tuple[str, ...] = None) -> Any:
        """Loads a ``.py`` or ``.yaml`` config file.

        Args:
            filename: path, absolute or relative to the working directory.
            keys: name of the value to return, or names for a tuple of values. With None, returns
                a DictConfig of all config objects (DictConfig, ListConfig, dict) whose names do
                not start with an underscore.

        Raises:
            ValueError: if the file has another extension.
            KeyError: if the file does not define one of ``keys``.
            ImportError: if a relative import does not name a value of a config file.
        """
        if filename.endswith(".py"):
            values = _run(filename)
        elif filename.endswith((".yaml", ".yml")):
            # Detectron2 uses yaml.unsafe_load, whose tags can run code.
            with PathManager.open(filename) as file:
                values = OmegaConf.create(yaml.safe_load(file), flags=_OBJECTS)
        else:
            raise ValueError(f"a config file must end in .py, .yaml or .yml, got {filename!r}")
        if keys is not None:
            names = (keys,) if isinstance(keys, str) else tuple(keys)
            for name in names:
                if name not in values:
                    raise KeyError(f"{filename} does not define {name!r}")
            selected = tuple(_as_config(values[name]) for name in names)
            return selected[0] if isinstance(keys, str) else selected
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
        """Calls ``load`` with a path relative to the folder of the calling file."""
        caller = sys._getframe(1).f_code.co_filename
        return LazyConfig.load(os.path.join(os.path.dirname(caller), filename), keys)

    @staticmethod
    def save(cfg: DictConfig | ListConfig, filename: str) -> None:
        """Writes a config as YAML that ``load`` can read.

        Interpolations are kept, classes and functions are written as dotted names. Detectron2
        falls back to a pickle where that is impossible; here it is an error.

        Raises:
            ValueError: if a value, such as a lambda, has no dotted name. The message contains its
                place in the config.
        """
        values = OmegaConf.to_container(
            cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE
        )
        values = _to_yaml_types(values, ())
        # safe_dump writes only the standard tags, which are all that load's safe_load accepts.
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
        with PathManager.open(filename, "w") as file:
            file.write(text)

    @staticmethod
    def apply_overrides(cfg: DictConfig, overrides: list[str]) -> DictConfig:
        """Sets values in place from ``a.b=value`` in Hydra's grammar.

        As in Detectron2, a key that does not exist is added and types are not checked;
        ``fsdbev.config`` checks both.

        Raises:
            KeyError: if a key leads through a value that is no config.
            NotImplementedError: for the deletion of a key, ``~a.b``.
        """
        for override in OverridesParser.create().parse_overrides(overrides):
            key = override.key_or_group
            if override.is_delete():
                raise NotImplementedError(f"~{key}: an override cannot delete a key")
            *parents, _ = itertools.accumulate(key.split("."), "{}.{}".format)
            for parent in parents:
                value = OmegaConf.select(cfg, parent)
                if value is None:
                    break  # update adds the mappings from here on
                if not OmegaConf.is_config(value):
                    raise KeyError(f"{key}: {parent} is {value!r}, which has no keys")
            # merge: a mapping changes the keys that it has and keeps all others.
            OmegaConf.update(cfg, key, override.value(), merge=True)
        return cfg

    @staticmethod
    def to_py(cfg: DictConfig, prefix: str = "cfg.") -> str:
        """Returns the config as lines such as ``cfg.train.seed = 1``, to be read by people.

        Interpolations are resolved, keys are sorted. The package ``black`` formats the text where
        it is installed.

        Args:
            cfg: the config.
            prefix: text before each key.
        """
        values = OmegaConf.to_container(cfg, resolve=True)
        if isinstance(values, Mapping) and "_target_" not in values:
            lines = [f"{prefix}{key} = {code}\n" for key, code in _assignments(values)]
        else:
            lines = [f"{prefix.rstrip('.')} = {_code(values)}\n"]
        text = "".join(lines)
        try:
            import black
        except ImportError:
            return text
        try:
            return black.format_str(text, mode=black.Mode())
        except black.InvalidInput:  # a value whose repr is no expression
            return text


def _assignments(values: Mapping) -> Iterator[tuple[str, str]]:
    """Yields (dotted key, value as code), sorted by key; a call is one value."""
    for key, value in sorted(values.items()):
        if isinstance(value, Mapping) and value and "_target_" not in value:
            yield from ((f"{key}.{rest}", code) for rest, code in _assignments(value))
        else:
            yield key, _code(value)


def _code(value: Any) -> str:
    """Returns a value of a config as code; a class or function as its dotted name."""
    if isinstance(value, list):
        return f"[{', '.join(map(_code, value))}]"
    if not isinstance(value, Mapping):
        is_named = hasattr(value, "__qualname__")
        return f"{value.__module__}.{value.__qualname__}" if is_named else repr(value)
    items = {key: _code(item) for key, item in sorted(value.items()) if key != "_target_"}
    if "_target_" not in value:
        return "{" + ", ".join(f"{key!r}: {code}" for key, code in items.items()) + "}"
    target = value["_target_"]
    name = target if isinstance(target, str) else _code(target)
    return f"{name}({', '.join(f'{key}={code}' for key, code in items.items())})"


def _as_config(value: Any) -> Any:
    return DictConfig(value, flags=_OBJECTS) if isinstance(value, dict) else value


def _run(filename: str) -> dict[str, Any]:
    """Runs a config file and returns its global names.

    Relative imports run other config files, located by path: their folders need not be packages.
    As in Detectron2, imported files are not cached: a config that edits an imported node changes
    its own copy only.
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
        for imported in fromlist or ():
            if imported not in values:
                raise ImportError(f"{filename}: there is no {imported!r} in {path}")
            setattr(module, imported, _as_config(values[imported]))
        return module

    with PathManager.open(filename) as file:
        # Compiled with its path, which tracebacks show and load_rel reads from the caller's frame.
        code = compile(file.read(), filename, "exec")
    namespace = {
        "__name__": f"config file {filename}",
        "__file__": filename,
        # The import statement looks up its function here. Detectron2 replaces builtins.__import__
        # during the load instead, which also affects the other threads of the process.
        "__builtins__": {**vars(builtins), "__import__": import_},
    }
    exec(code, namespace)
    return namespace


def _relative_file(importer: str, name: str, level: int) -> str:
    """Returns the file of ``from <level dots><name> import ...`` in the config ``importer``."""
    folder = os.path.dirname(importer)
    for _ in range(level - 1):
        folder = os.path.dirname(folder) if folder else ".."
    path = os.path.join(folder, *name.split(".")) + ".py"
    if not name or not PathManager.isfile(path):
        raise ImportError(
            f"{importer}: a relative import in a config file must name values of another config "
            f"file, as in 'from .folder.file import value', but {path} does not exist"
        )
    return path


def _import_path(target: Any) -> str:
    """Returns the dotted name of a class, function, method, enum member or dtype.

    Raises:
        ValueError: if importing that name does not return ``target``.
    """
    if isinstance(target, torch.dtype):
        return str(target)
    if isinstance(target, enum.Enum):
        return f"{_import_path(type(target))}.{target.name}"
    name = f"{getattr(target, '__module__', None)}.{getattr(target, '__qualname__', None)}"
    try:
        found = get_object(name)
    except Exception:  # importing a module can raise anything; the message below covers all
        found = None
    if found is None or found != target:
        raise ValueError(f"{target!r} cannot be imported by a name")
    return name


def _to_yaml_types(value: Any, path: tuple) -> Any:
    """Converts a value at ``path`` of a config to types that YAML can represent.

    A dataclass instance becomes the node of a call; a class or function that is not a ``_target_``
    becomes the node of a call that imports it.
    """
    # A str or int enum would lose its class in YAML.
    if value is None or (
        isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)
    ):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_to_yaml_types(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _to_yaml_types(item, (*path, key)) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _to_yaml_types({"_target_": type(value), **fields}, path)
    try:
        name = _import_path(value)
    except ValueError as error:
        place = ".".join(str(part) for part in path)
        raise ValueError(
            f"{place}: {error}, so the config cannot be saved. Define it at the top level of a "
            "module or describe it by a LazyCall"
        ) from None
    return name if path and path[-1] == "_target_" else {"_target_": _GET_OBJECT, "path": name}
