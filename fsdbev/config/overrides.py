"""Overrides of config values on the command line, ``key.of.the.config=value``, in Hydra's grammar.

An override replaces an existing value. The type of the old value decides which new ones it accepts:

- bool, int, float, str: the same type; a float also accepts an int, and ``auto`` also a bool;
- list: a list of any length whose items have types of the old items, mappings their keys; an empty
  list: any list;
- mapping or call: null, which removes the part, or ``{key: value}``, which changes only those keys;
- null or missing (``???``): any value; other objects, such as functions: none.

Overrides cannot set ``_target_`` or references: only config files decide what is called.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from fsdbev.utils.plain_yaml import iter_values

from .renamed import successor_of

_LABELS = {DictConfig: "null or {key: value}", ListConfig: "list", str: "str (as '\"12\"' for 12)"}


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Returns a copy of ``cfg`` with the overrides applied in order.

    Raises:
        ValueError: an override is malformed or not allowed, names an unknown key (the message
            suggests the nearest one), or has a value of the wrong type.
    """
    # A new config, because merged nodes have flags of their own, which disable struct mode.
    cfg = OmegaConf.create(OmegaConf.to_container(cfg), flags={"allow_objects": True})
    OmegaConf.set_struct(cfg, True)  # refuses unknown keys
    for text in overrides:
        try:
            _set(cfg, *_parse(text))
        except HydraException as error:
            raise ValueError(f"override {text!r}: it must read key=value; {error}") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"override {text!r}: {error}") from error
    OmegaConf.set_struct(cfg, False)
    return cfg


def _parse(text: str) -> tuple[str, Any]:
    """Returns key and value of an override."""
    override = OverridesParser.create().parse_override(text)
    key, value = override.key_or_group, override.value()
    if override.type != OverrideType.CHANGE or override.package or override.is_sweep_override():
        raise ValueError("it must be one key=value, not an added or deleted key; a list is [a,b]")
    for word in ("_target_", "${", "???"):
        if word in f"{key}={value}":
            raise ValueError(f"{word} cannot be set on the command line, only in a config file")
    return key, value


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
        return {key: _convert_entry(place, mappings, key, item) for key, item in value.items()}
    # type() instead of isinstance: a bool is an instance of int, but not accepted as a number.
    if type(value) is int and float in types and int not in types:
        return float(value)
    if type(value) in types & {bool, int, float, str}:
        return value
    expected = " or ".join(sorted(_LABELS.get(kind, kind.__name__) for kind in types))
    raise ValueError(f"{place} takes {expected}, got {value!r} ({type(value).__name__})")


def _convert_entry(place: str, mappings: Sequence[DictConfig], key: str, value: Any) -> Any:
    """Returns ``value`` converted to a type that ``key`` has in one of ``mappings``."""
    examples = [old[key] for old in mappings if key in old]
    if not examples:
        keys = dict.fromkeys(known for old in mappings for known in old)
        raise ValueError(f"mappings of {place} have the keys {', '.join(keys)}, got {key!r}")
    return _convert(f"{place}.{key}", examples, value)
