"""Overrides from the command line, ``key.of.the.config=value``, checked before anything runs.

Values are written in Hydra's grammar: ``1``, ``1e-3``, ``true``, ``null``, ``text``, ``"text"``,
``[1, 2]``, ``{key: 1}``. What an override may do:

==========================  =======================================================================
the value in the config is  and can become
==========================  =======================================================================
null or missing (``???``)   anything
bool, int, str              the same type
``auto``                    a bool too
float                       a float or an int, which becomes a float
a list                      a list of any length, each item of the type of some item there; an empty
                            list can become any list; ``list.0=value`` sets one item
a mapping or a call         null, which takes the part out; ``{key: value}`` sets those keys alone
another object, a function  nothing: it is changed in the config file
==========================  =======================================================================

No override adds or deletes a key, touches a ``_target_`` or the path of what is looked up by its
name, or holds an interpolation: what is called is decided in config files.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

_TARGET = "_target_"
_LOOKUP = "get_object"  # Hydra's, by which a saved config names what is no call
_MISSING = "???"
_DEEPEST = 20  # lists and mappings inside of each other


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A copy of ``cfg`` with the overrides applied in order, by the rules of this module.

    Raises:
        ValueError: an override that is malformed, names an unknown key (the message has the nearest
            one), has a value of the wrong type, or is not allowed at all.
    """
    cfg = copy.deepcopy(cfg)
    for text in overrides:
        try:
            override = _parse(text)
            path = override.key_or_group.split(".")
            _set(_parent(cfg, path), path, override.value())
        except ValueError as error:
            raise ValueError(f"override {text!r}: {error}") from error
    return cfg


def _parse(text: str) -> Override:
    if _depth(text) > _DEEPEST:
        raise ValueError(f"its lists and mappings are more than {_DEEPEST} deep")
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ValueError(f"it must read key=value in Hydra's grammar; {error}") from error
    if override.is_add() or override.is_force_add() or override.is_delete():
        raise ValueError(
            "keys cannot be added or deleted on the command line; write a config file that does so"
        )
    if override.is_sweep_override():
        raise ValueError("it has several values; a list is written as key=[a,b]")
    if override.package is not None:
        raise ValueError("a key has no '@'")
    _refuse_code(override.key_or_group.split("."), override.value())
    return override


def _depth(text: str) -> int:
    """Of brackets; those in quotes count as well."""
    deepest = depth = 0
    for character in text:
        depth += (character in "[{(") - (character in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _refuse_code(path: Iterable[str], value: Any) -> None:
    """Refuses what would change which callable runs, or when a value is computed."""
    if _TARGET in path:
        raise ValueError(f"{_TARGET} cannot be set on the command line, only in a config file")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_code([str(key)], str(key))
            _refuse_code([], item)
    elif isinstance(value, list):
        for item in value:
            _refuse_code([], item)
    elif isinstance(value, str) and "${" in value:
        raise ValueError("interpolations belong in config files; give the value itself")
    elif value == _MISSING:
        raise ValueError(f"{_MISSING} stands for a missing value; give one")


def _parent(cfg: DictConfig, path: Sequence[str]) -> DictConfig | ListConfig:
    """The mapping or list that holds the last key of the path."""
    node = cfg
    for depth, part in enumerate(path[:-1], start=1):
        key = _existing_key(node, part, path[: depth - 1])
        here = ".".join(path[:depth])
        if OmegaConf.is_interpolation(node, key):
            raise ValueError(f"{here} refers to another part of the config; override that one")
        node = None if OmegaConf.is_missing(node, key) else node[key]
        if not OmegaConf.is_config(node):
            raise ValueError(f"{here} is {_describe(node)} and has no keys")
    return node


def _existing_key(node: DictConfig | ListConfig, part: str, path: Sequence[str]) -> Any:
    """The key or index of the node that ``part`` names; ValueError where there is none."""
    here = ".".join(path) or "the config"
    if isinstance(node, ListConfig):
        if not part.isdecimal() or int(part) >= len(node):
            raise ValueError(f"{here} is a list of {len(node)} items, and {part!r} is none of them")
        return int(part)
    keys = {str(key): key for key in node if key != _TARGET}
    if part in keys:
        return keys[part]
    nearest = difflib.get_close_matches(part, keys, n=1, cutoff=0.0)
    hint = f"the nearest key is {'.'.join([*path, *nearest])!r}" if nearest else "it has no keys"
    raise ValueError(f"unknown key {'.'.join([*path, part])!r}: {here} has no {part!r}; {hint}")


def _set(node: DictConfig | ListConfig, path: Sequence[str], value: Any) -> None:
    """Sets the last key of the path, which ``node`` must have, in place."""
    key = _existing_key(node, path[-1], path[:-1])
    if isinstance(node, DictConfig) and _name(node.get(_TARGET)).endswith(_LOOKUP):
        raise ValueError(f"{'.'.join(path)} says what is looked up; it is changed in a config file")
    current = None if OmegaConf.is_missing(node, key) else node[key]
    if isinstance(current, DictConfig) and isinstance(value, dict):
        if OmegaConf.is_interpolation(node, key):
            raise ValueError(f"{'.'.join(path)} refers to another part of the config")
        for name, item in value.items():
            _set(current, [*path, str(name)], item)
        return
    try:
        node[key] = _converted(current, value)
    except _WrongType as error:
        raise ValueError(
            f"{'.'.join(path)} is {_describe(current)}; {error}, got {_describe(value)}"
        ) from None


class _WrongType(Exception):
    """Says what would have been right."""


def _converted(current: Any, value: Any) -> Any:
    """``value`` as it may take the place of ``current``, by the table of this module."""
    if current is None:
        return value
    if isinstance(current, DictConfig):
        if value is None:
            return None
        raise _WrongType("override one of its keys, or give null to take it out")
    if isinstance(current, ListConfig):
        return _converted_list(current, value)
    if type(current) is float and type(value) is int:
        return float(value)
    if type(current) not in (bool, int, float, str):
        raise _WrongType("it can only be changed in the config file")
    if current == "auto" and type(value) is bool:
        return value
    if type(value) is not type(current):
        is_number_for_text = type(current) is str and type(value) in (int, float)
        remedy = " (quote a number that is text: 'key=\"1\"')" if is_number_for_text else ""
        raise _WrongType(f"expected {type(current).__name__}{remedy}")
    return value


def _converted_list(current: ListConfig, value: Any) -> list:
    if not isinstance(value, list):
        raise _WrongType("expected a list")
    models = [None if OmegaConf.is_missing(current, i) else current[i] for i in range(len(current))]
    return [_converted_item(models, item) for item in value] if models else value


def _converted_item(models: list, item: Any) -> Any:
    """``item`` as the first of ``models`` takes it that does."""
    for model in sorted(
        models, key=lambda model: type(model) is float
    ):  # an int stays one if it can
        try:
            return _converted(model, item)
        except _WrongType:
            continue
    raise _WrongType("expected a list of items of the types that are there")


def _describe(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict | DictConfig):
        return f"a call of {_name(value[_TARGET])}" if _TARGET in value else "a mapping"
    if isinstance(value, list | ListConfig):
        return f"the list {list(value)}"
    return f"{value!r} ({type(value).__name__})"


def _name(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__qualname__", repr(target))
