"""Overrides of config values on the command line, ``key.of.the.config=value``, in Hydra's grammar.

An override replaces an existing value. The type of the old value decides which new ones it accepts:

- bool, int, float, str: the same type; a float also accepts an int, and ``auto`` also a bool;
- str: also words that the grammar refuses, such as ``/a,b(c)``; ``~`` is the home folder;
- list: a list of any length whose items have types of the old items, mappings their keys; an empty
  list: any list;
- mapping or call: null, which removes the part, or ``{key: value}``, which changes only those keys;
- null or missing (``???``): any value; other objects, such as functions: none.

Overrides cannot set ``_target_`` or references: only config files decide what is called.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from fsdbev.utils.plain_yaml import iter_values

from .renamed import successor_of

_LABELS = {DictConfig: "null or {key: value}", ListConfig: "list [a,b]", str: "str (as '\"12\"')"}


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Returns a copy of ``cfg`` with the overrides applied in order.

    Raises:
        ValueError: an override is malformed, its key is unknown or its value has a wrong type.
    """
    # A new config, because merged nodes have flags of their own, which disable struct mode.
    cfg = OmegaConf.create(OmegaConf.to_container(cfg), flags={"allow_objects": True})
    OmegaConf.set_struct(cfg, True)  # refuses unknown keys
    for text in overrides:
        try:
            _set(cfg, *_parse(text))
        except (HydraException, ValueError, RecursionError) as error:
            raise ValueError(f"override {text!r}: {error}") from error
    OmegaConf.set_struct(cfg, False)
    return cfg


def _parse(text: str) -> tuple[str, Any]:
    """Returns key and value of an override."""
    key, equals, value = text.partition("=")
    parse = OverridesParser.create().parse_override
    try:
        override = parse(text)
        if override.is_sweep_override():
            raise HydraException("a list is 'key=[a,b]'")
        value = override.value()
    except HydraException as error:
        # With a comma and without a slash it is rather meant to be a list, or a number.
        if not equals or value[:1] in "[{'\"" or "," in value and "/" not in value:
            raise ValueError(f"it must read key=value, or 'key=\"a,b\"'; {error}") from error
        override, value = parse(f"{key}=x"), os.path.expanduser(value)
    if override.type != OverrideType.CHANGE or override.package:
        raise ValueError("it must be one key=value, not an added or deleted key")
    for word in ("_target_", "${", "???"):
        if word in f"{override.key_or_group}={value}":
            raise ValueError(f"{word} cannot be set on the command line, only in a config file")
    return override.key_or_group, value


def _set(cfg: DictConfig, place: str, value: Any) -> None:
    try:
        current = OmegaConf.select(cfg, place)
        if isinstance(current, DictConfig) and isinstance(value, dict):
            for name, item in value.items():
                _set(cfg, f"{place}.{name}", item)
        else:
            OmegaConf.update(cfg, place, _convert(place, [current], value), merge=False)
    except (AttributeError, LookupError, TypeError) as error:  # OmegaConf's for an unknown key
        keys = [key for key, _ in iter_values(OmegaConf.to_container(cfg)) if "_target_" not in key]
        nearest = difflib.get_close_matches(place, keys, n=1, cutoff=0.0)
        hint = successor_of(place) or f"the nearest key is {', '.join(nearest)!r}"
        raise ValueError(f"unknown key {place!r}; {hint}") from error


def _convert(place: str, examples: Sequence[Any], value: Any) -> Any:
    """Returns ``value`` converted to a type of ``examples``; ValueError if it has another one."""
    types = {type(example) for example in examples} | ({bool} if "auto" in examples else set())
    if not types or type(None) in types or (value is None and DictConfig in types):
        return value
    if isinstance(value, list) and ListConfig in types:
        items = [item for old in examples if isinstance(old, ListConfig) for item in old]
        return [_convert(place, items, item) for item in value]
    mappings = [old for old in examples if isinstance(old, DictConfig) and "_target_" not in old]
    if isinstance(value, dict) and mappings:  # an item of a list, see _set for all others
        known = dict.fromkeys(key for old in mappings for key in old)
        for key in value.keys() - known.keys():
            raise ValueError(f"mappings of {place} have the keys {', '.join(known)}, got {key!r}")
        old_values = {key: [old[key] for old in mappings if key in old] for key in value}
        return {key: _convert(f"{place}.{key}", old_values[key], value[key]) for key in value}
    # type() instead of isinstance: a bool is an instance of int, but not accepted as a number.
    if type(value) is int and float in types and int not in types:
        return float(value)
    if type(value) in types & {bool, int, float, str}:
        return value
    expected = " or ".join(sorted(_LABELS.get(kind, kind.__name__) for kind in types))
    raise ValueError(f"{place} takes {expected}, got {value!r} ({type(value).__name__})")
