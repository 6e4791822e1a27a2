"""YAML configs: data, whoever wrote them. What they may call is decided here.

A ``config.yaml`` that a training saved can be handed on, and so its reader takes nothing on trust:

- It holds plain values only; no tags, no aliases, no key twice, at most ``MOST_BYTES``.
- ``_target_``, and the ``path`` of ``hydra.utils.get_object``, name classes and functions that are
  defined in one of ``CALLABLE``, in ``projects``, or in a plugin that the command line names.
- ``train.plugins`` names modules of ``projects`` alone; others are named on the command line.
- A ``${...}`` refers to another place of the config: no resolvers. Inside of a text, as in paths
  that Detectron2 saves, it refers to a plain value. With all of them replaced a config has at most
  ``MOST_VALUES`` values.

A ``.py`` config is a program, and is run as one.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

#: Modules whose public classes and functions a YAML config may call, with those inside of them.
CALLABLE = (
    "detectron2.layers",
    "detectron2.modeling",
    "detectron2.solver",
    "fsdbev.data.bev_aug",
    "fsdbev.data.build",
    "fsdbev.data.image_aug",
    "fsdbev.data.mapper",
    "fsdbev.data.samplers",
    "fsdbev.engine.optim",
    "fsdbev.engine.schedule",
    "fsdbev.evaluation.nuscenes",
    "fsdbev.modeling",
    "fsdbev.structures",
    "fvcore.common.param_scheduler",
    "torch.nn.modules",
    "torch.optim",
)
#: A saved config in full has 10 thousand.
MOST_BYTES = 1_000_000
MOST_VALUES = 100_000

GET_OBJECT = "hydra.utils.get_object"
_TARGET = "_target_"
_PROJECTS = "projects"
_REFERENCE = re.compile(r"\$\{(\.*)([\w.\[\]]+)\}")
#: A text with references in it, and how long it may be.
_TEXT = re.compile(r"[^${}\\]*(?:\$\{\.*[\w.\[\]]+\}[^${}\\]*)+")
_LONGEST_TEXT = 1000
#: Packages by which what is in ``CALLABLE`` is also known.
_SHORT = ("torch.nn", "torch", "fsdbev.data", "fsdbev.engine", "fsdbev.evaluation")


def is_yaml(path: str) -> bool:
    return os.fspath(path).endswith((".yaml", ".yml"))


def read_yaml_config(path: str) -> DictConfig:
    """A YAML config, of which nothing has been imported or called.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML of plain values, or breaks one of the rules of this module.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"config {path!r} does not exist")
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise ValueError(f"a config has at most {MOST_BYTES} bytes")
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
        if not isinstance(content, dict):
            raise ValueError(f"a config is a mapping, got a {type(content).__name__}")
        for place, value in _values(content, ""):
            _check_value(place, value)
        _check_plugins(content)
        if _Expansion(content).size(()) > MOST_VALUES:
            raise ValueError(f"its references stand for more than {MOST_VALUES} values")
        return OmegaConf.create(content, flags={"allow_objects": True})
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: {str(error) or type(error).__name__}") from error


def check_targets(cfg: DictConfig, plugins: Sequence[str] = ()) -> None:
    """ValueError for the first target of a YAML config that it may not call. Modules of which one
    is allowed are imported.

    Args:
        plugins: names of modules that are trusted as ``projects`` is.
    """
    allowed = (*CALLABLE, _PROJECTS, *plugins)
    for place, value in _values(OmegaConf.to_container(cfg), ""):
        for key in _named_by(value):
            problem = _problem_of(value.get(key), allowed)
            if problem:
                raise ValueError(
                    f"{place}.{key}: {value.get(key)!r} {problem}. A YAML config calls what is in "
                    f"{', '.join(CALLABLE)} or projects. If you trust it, name its module on the "
                    "command line, train.plugins=[MODULE], or write a .py config"
                )


class _Loader(yaml.SafeLoader):
    """Plain values, no aliases, no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError(
                f"line {self.peek_event().start_mark.line + 1}: a config has no aliases"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            line = node.start_mark.line + 1
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise ValueError(f"mapping of line {line}: a key is text or a whole number")
            if key in keys[:number]:
                raise ValueError(f"mapping of line {line}: {key!r} is there twice")
        return super().construct_mapping(node, deep)


def _values(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Everything in a config with its place."""
    yield place, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _values(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _values(item, f"{place}.{number}")


def _check_value(place: str, value: Any) -> None:
    if isinstance(value, dict):
        for key in value:
            _refuse_dollar(f"{place}: key", key)
        for key in _named_by(value):
            _refuse_dollar(f"{place}.{key}", value.get(key))
    elif value is not None and not isinstance(value, bool | int | float | str | list):
        raise ValueError(f"{place}: a {type(value).__name__} is no value of a config")
    elif isinstance(value, str) and "${" in value:
        if not _TEXT.fullmatch(value) or len(value) > _LONGEST_TEXT:
            raise ValueError(
                f"{place}: {value[:_LONGEST_TEXT]!r} has more than references to other places of "
                "the config, ${a.b}, which are all that is allowed: resolvers are off"
            )


class _Expansion:
    """How large a config is with every reference replaced by what it refers to, at most."""

    def __init__(self, content: dict) -> None:
        self._content = content
        self._sizes: dict[tuple[str, ...], int | None] = {}  # None: being counted

    def size(self, place: tuple[str, ...]) -> int:
        """Values at a place and inside of it. ValueError if it refers to itself."""
        if place not in self._sizes:
            self._sizes[place] = None
            self._sizes[place] = self._inside(*self._found(place))
        size = self._sizes[place]
        if size is None:
            raise ValueError(f"{'.'.join(place)} refers to itself")
        return size

    def _found(self, place: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
        """What is at a place, or the reference that it is behind, with its place."""
        value: Any = self._content
        for depth, key in enumerate(place):
            if not isinstance(value, dict | list):
                return value, place[:depth]
            number = int(key) if key.isdecimal() else None
            if isinstance(value, dict):
                value = value.get(key, value.get(number))
            else:
                value = value[number] if number is not None and number < len(value) else None
        return value, place

    def _inside(self, value: Any, place: tuple[str, ...]) -> int:
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            return 1 + sum(self._inside(item, (*place, str(key))) for key, item in items)
        if not isinstance(value, str):
            return 1
        targets = [self._target(match, place) for match in _REFERENCE.finditer(value)]
        if not _REFERENCE.fullmatch(value):  # texts in texts would multiply
            for target in targets:
                self._check_plain(target)
        return 1 + sum(map(self.size, targets))

    @staticmethod
    def _target(match: re.Match[str], place: tuple[str, ...]) -> tuple[str, ...]:
        base = place[: -len(match[1])] if match[1] else ()
        return (*base, *re.findall(r"[^.\[\]]+", match[2]))

    def _check_plain(self, place: tuple[str, ...]) -> None:
        found = self._found(place)[0]
        is_long = "${" in str(found) or len(str(found)) > _LONGEST_TEXT
        if isinstance(found, dict | list) or is_long:
            raise ValueError(f"{'.'.join(place)} is no short plain value, and stands inside a text")


def _refuse_dollar(place: str, name: Any) -> None:
    if "$" in str(name):
        raise ValueError(f"{place}: {name!r} holds a reference; a name is written out")


def _check_plugins(content: dict) -> None:
    train = content.get("train") or {}
    if not isinstance(train, dict):
        raise ValueError(f"train: {train!r} is no mapping")
    plugins = train.get("plugins") or []
    for name in plugins if isinstance(plugins, list) else [plugins]:
        if not (isinstance(name, str) and _is_inside(name, (_PROJECTS,))):
            raise ValueError(
                f"train.plugins: {name!r} is not in projects, and a YAML config loads no others. "
                f"If you trust it, take it out of the file and give train.plugins=[{name}] on "
                "the command line"
            )


def _named_by(value: Any) -> list[str]:
    """The keys of a mapping whose values name what is called."""
    if not isinstance(value, dict) or _TARGET not in value:
        return []
    return [_TARGET, "path"] if value[_TARGET] == GET_OBJECT else [_TARGET]


def _is_inside(name: str, modules: Sequence[str]) -> bool:
    parts = name.split(".")
    is_public = all(part.isidentifier() and not part.startswith("_") for part in parts)
    return is_public and any(name == m or name.startswith(f"{m}.") for m in modules)


def _problem_of(name: Any, allowed: Sequence[str]) -> str | None:
    """Why a YAML config may not call what has this name. What is found under it counts: by way of
    a module that is allowed one comes to others that it imports."""
    if name == GET_OBJECT:
        return None
    if not isinstance(name, str) or not _is_inside(name, (*allowed, *_SHORT)):
        return "is not one of what a YAML config may call"
    if not _is_inside(name, allowed) and not _is_short(name):
        return "is not one of what a YAML config may call"
    try:
        found = get_object(name)
    except Exception as error:  # whatever an import raises
        return f"cannot be found ({type(error).__name__}: {error})"
    if isinstance(found, torch.dtype):
        return None
    owner = type(found) if isinstance(found, Enum) else found
    if not (inspect.isclass(owner) or inspect.isroutine(owner)):
        return "is no class and no function"
    home = f"{getattr(owner, '__module__', None)}.{getattr(owner, '__qualname__', None)}"
    return None if _is_inside(home, allowed) else f"is {home}, which a YAML config may not call"


def _is_short(name: str) -> bool:
    """``torch.nn.Linear``, ``torch.bfloat16``: one name behind a short form."""
    return name.rpartition(".")[0] in _SHORT
