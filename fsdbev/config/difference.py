"""Differences between two configs."""

from __future__ import annotations

import json
from typing import NamedTuple

import yaml
from omegaconf import DictConfig

from fsdbev.utils.plain_yaml import iter_values

from .loading import config_text, resolved

_ABSENT = "(not there)"


class Change(NamedTuple):
    """Dotted key with two different values, both as JSON or ``(not there)``."""

    key: str
    base: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}: {self.base} -> {self.value}"


def difference(base: DictConfig, cfg: DictConfig) -> list[Change]:
    """Returns the values that differ after references are resolved, sorted by key."""
    before, after = _texts(base), _texts(cfg)
    keys = sorted({*after, *before})
    changes = [Change(key, before.get(key, _ABSENT), after.get(key, _ABSENT)) for key in keys]
    return [change for change in changes if change.base != change.value]


def _texts(cfg: DictConfig) -> dict[str, str]:
    """Returns dotted key -> JSON text of each leaf value; empty lists and mappings are leaves."""
    values = iter_values(yaml.safe_load(config_text(resolved(cfg))))
    leaves = ((k, v) for k, v in values if not v or not isinstance(v, dict | list))
    return {key: json.dumps(value, ensure_ascii=False) for key, value in leaves}
