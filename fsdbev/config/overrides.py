"""Overrides from the command line, ``key.of.the.config=value``, in Hydra's grammar.

An override changes a value that is there to one of its type:

- bool, int, float, str to the same; an int becomes a float where one is needed; ``auto`` to a bool;
- a list to one of any length, each item of the type of some item there; an empty list to any list;
- a mapping or a call to null, which takes the part out; ``{key: value}`` sets those keys alone;
- null or missing (``???``) to anything; another object, as a function, to nothing.

It sets no ``_target_`` and no reference: what is called is decided in config files.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from fsdbev.utils.plain_yaml import values_of

from .renamed import successor_of

_NAMES = {DictConfig: "null or {key: value}", ListConfig: "list", str: "str (as '\"12\"' for 12)"}


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A copy of ``cfg`` with the overrides applied in order.

    Raises:
        ValueError: an override is malformed, names an unknown key (the message has the nearest
            one), has a value of the wrong type, or is not allowed at all.
    """
    # A new config, because nodes that were merged have a flag of their own against struct mode.
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
    """Key and value of an override."""
    override = OverridesParser.create().parse_override(text)
    key, value = override.key_or_group, override.value()
    if override.type != OverrideType.CHANGE or override.package or override.is_sweep_override():
        raise ValueError("it must be one key=value: it adds and deletes no key, a list is [a,b]")
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
            OmegaConf.update(cfg, place, _converted(place, [current], value), merge=False)
    except (AttributeError, LookupError, TypeError) as error:  # of OmegaConf: there is no such key
        keys = [key for key, _ in values_of(OmegaConf.to_container(cfg)) if "_target_" not in key]
        nearest = difflib.get_close_matches(place, keys, n=1, cutoff=0.0)
        hint = successor_of(place) or f"the nearest key is {', '.join(nearest)!r}"
        raise ValueError(f"unknown key {place!r}; {hint}") from error


def _converted(place: str, models: Sequence[Any], value: Any) -> Any:
    """``value`` as it may take the place of one of ``models``. ValueError if it may not."""
    types = {type(model) for model in models} | ({bool} if "auto" in models else set())
    if not types or type(None) in types or (value is None and DictConfig in types):
        return value
    if isinstance(value, list) and ListConfig in types:
        items = [item for model in models if isinstance(model, ListConfig) for item in model]
        return [_converted(place, items, item) for item in value]
    if type(value) is int and float in types and int not in types:
        return float(value)
    if type(value) in types & {bool, int, float, str}:
        return value
    expected = " or ".join(sorted(_NAMES.get(kind, kind.__name__) for kind in types))
    raise ValueError(f"{place} takes {expected}, got {value!r} ({type(value).__name__})")
