"""The difference of two configs."""

from __future__ import annotations

import json
from typing import NamedTuple

import yaml
from omegaconf import DictConfig

from fsdbev.utils.plain_yaml import values_of

from .loading import config_text

_NONE = "(not there)"


class Change(NamedTuple):
    """A dotted key whose values differ, with both as text: as JSON, or ``(not there)``."""

    key: str
    base: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}: {self.base} -> {self.value}"


def difference(base: DictConfig, cfg: DictConfig) -> list[Change]:
    """The values that differ, references resolved; in alphabetical order of their keys."""
    before, after = _texts(base), _texts(cfg)
    keys = sorted({*after, *before})
    changes = [Change(key, before.get(key, _NONE), after.get(key, _NONE)) for key in keys]
    return [change for change in changes if change.base != change.value]


def _texts(cfg: DictConfig) -> dict[str, str]:
    """Values by their places; of lists and mappings, the empty ones count as values."""
    texts = {}
    for key, value in values_of(yaml.safe_load(config_text(cfg))):
        if not value or not isinstance(value, dict | list):
            texts[key] = json.dumps(value, ensure_ascii=False)
    return texts
