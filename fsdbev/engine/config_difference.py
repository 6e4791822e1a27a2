"""What a run changed: the difference of its config from what its config file builds on."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fsdbev.d2.config import LazyConfig

from .config import dotted_name, read_config

#: Functions that read another config file: fsdbev.model_zoo's and LazyConfig's.
_READERS = ("get_config", "load", "load_rel")


class _NotThere:
    def __repr__(self) -> str:
        return "(not there)"


#: Stands for the value of a key that one of the two configs does not have.
NOT_THERE = _NotThere()


@dataclass(frozen=True)
class Change:
    """A key of the config whose value is not the base's.

    Attributes:
        key: dotted, from the config's root.
        base, value: before and after, as plain lists, mappings and scalars with references as they
            are written; functions and classes by their dotted names; or ``NOT_THERE``.
    """

    key: str
    base: Any
    value: Any

    def __str__(self) -> str:
        return f"{self.key}: {_text(self.base)} -> {_text(self.value)}"


def difference_from_base(path: str, cfg: DictConfig) -> list[Change]:
    """What the config file ``path`` and the overrides behind it made of what the file builds on.

    The base is what the file takes from other config files, by a relative import or by
    ``get_config``, before it changes anything. What the file makes up itself is its own base, so
    that there only overrides are a difference. A reference (``${...}``) that stays is no
    change where what it refers to has changed: that key is in the list. Lists count as one value.

    Args:
        path: of a ``.py`` or ``.yaml`` config file. A saved ``config.yaml`` builds on nothing.
        cfg: ``load_config(path, overrides)``.

    Returns:
        The changes, in the order of ``cfg``, keys that are gone behind their neighbours.
    """
    base = read_config(path)
    for name, value in _taken(path).items():
        if name in base:
            base[name] = value
    changes = _changes(
        _plain(OmegaConf.to_container(base)), _plain(OmegaConf.to_container(cfg)), ""
    )
    return [change for change in changes if not _refer_to_the_same(change, base, cfg)]


def _taken(path: str) -> dict[str, Any]:
    """Configs that a config file takes from others, by the names that it gives them."""
    if not path.endswith(".py"):
        return {}
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    namespace: dict[str, Any] = {"__file__": path}
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.level:
            namespace |= _imported(path, statement)
        elif isinstance(statement, ast.Import | ast.ImportFrom) or _reads_config(statement):
            exec(compile(ast.Module([statement], []), path, "exec"), namespace)
    return {
        name: value
        for name, value in namespace.items()
        if isinstance(value, DictConfig | ListConfig) and not name.startswith("_")
    }


def _imported(path: str, statement: ast.ImportFrom) -> dict[str, Any]:
    folder = os.path.join(os.path.dirname(path), *[os.pardir] * (statement.level - 1))
    file = os.path.join(folder, *(statement.module or "").split(".")) + ".py"
    values = LazyConfig.load(file, tuple(alias.name for alias in statement.names))
    return {a.asname or a.name: value for a, value in zip(statement.names, values, strict=True)}


def _reads_config(statement: ast.stmt) -> bool:
    """Whether it is ``name = get_config(...)``, several names or a part of it as well."""
    value = statement.value if isinstance(statement, ast.Assign) else None
    while isinstance(value, ast.Attribute | ast.Subscript):
        value = value.value
    if not isinstance(value, ast.Call):
        return False
    return getattr(value.func, "attr", getattr(value.func, "id", None)) in _READERS


def _changes(base: Mapping, value: Mapping, place: str) -> Iterator[Change]:
    """Of two mappings in plain types, as ``_plain`` gives them."""
    for key in dict.fromkeys([*value, *base]):
        here = f"{place}.{key}" if place else str(key)
        before, after = base.get(key, NOT_THERE), value.get(key, NOT_THERE)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _changes(before, after, here)
        elif type(before) is not type(after) or before != after:
            yield Change(here, before, after)


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _refer_to_the_same(change: Change, base: DictConfig, cfg: DictConfig) -> bool:
    """Whether a reference and the value that it has, or two references, differ in writing only."""
    if not (_is_reference(change.base) or _is_reference(change.value)):
        return False
    try:
        return OmegaConf.select(base, change.key) == OmegaConf.select(cfg, change.key)
    except OmegaConfBaseException:
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        called_first = sorted(value.items(), key=lambda item: item[0] != "_target_")
        return {key: _plain(item) for key, item in called_first}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return dotted_name(value).lstrip(".") or repr(value)


def _text(value: Any) -> str:
    """As YAML has it, in one line."""
    if value is NOT_THERE:
        return repr(value)
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
