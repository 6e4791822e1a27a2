"""Every argument of what configs build or call can be written in a config.

omegaconf's lists and mappings turn dataclass instances into mappings, so that arguments there are
plain values or accept mappings; tensors, arrays and keys other than text have no form at all.
"""

import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from fsdbev.config import load_plugins, read_config
from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.modeling.registry import PART_REGISTRY, parameters_of
from fsdbev.structures import ClassGroup, ClassSet
from fsdbev.utils.plain_yaml import iter_values

ROOT = Path(__file__).parents[2]
#: Configs with every call of the project; all others change values of these.
CONFIGS = [
    ROOT / "configs/fsdbev_tiny_synthetic.py",
    *ROOT.glob("projects/*/configs/*_synthetic.py"),
]
OURS = ("fsdbev", "projects")


def problem_of(annotation: Any, *, contained: bool = False, as_mapping: bool = False) -> str:
    """Returns why no config can contain a value of this type; "" if one can.

    Args:
        contained: whether the value is an item of a list or a mapping.
        as_mapping: whether a mapping is accepted instead.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        arguments = [a for a in arguments if a is not types.NoneType]
        as_mapping = Mapping in map(get_origin, arguments)
        found = [problem_of(a, contained=contained, as_mapping=as_mapping) for a in arguments]
        # One form is enough for an argument; the items of a list may have any of them.
        return "" if "" in found and not contained else "; ".join(filter(None, found))
    if inspect.isclass(origin) and issubclass(origin, Iterable):
        if issubclass(origin, Mapping):
            if arguments[0] not in (str, int):
                return f"keys of {annotation} are neither text nor numbers"
            arguments = arguments[1:]
        found = [problem_of(a, contained=True) for a in arguments if a is not Ellipsis]
        return "; ".join(filter(None, found))
    if annotation in (Tensor, np.ndarray):
        return f"a {annotation.__name__} cannot be written"
    if contained and is_dataclass(annotation) and not (as_mapping and can_be_mapping(annotation)):
        return f"{annotation.__name__} becomes a mapping in a list"
    return ""


def can_be_mapping(cls: type) -> bool:
    """Returns whether omegaconf can turn instances of a dataclass into mappings."""
    try:
        OmegaConf.structured(cls)
    except OmegaConfBaseException:
        return False
    return True


def problems(called) -> list[str]:
    """Returns the arguments of a class or function that no config can contain."""
    owners = [called]
    if inspect.isclass(called):
        owners = [c.__init__ for c in called.__mro__ if inspect.isfunction(vars(c).get("__init__"))]
    hints = {}
    for owner in reversed(owners):
        hints |= get_type_hints(owner)
    found = {name: problem_of(hints[name]) for name in parameters_of(called)[0] if name in hints}
    return [f"{called.__name__}.{name}: {text}" for name, text in found.items() if text]


def called_by_configs() -> list:
    """Classes and functions that a config of the project calls, those of other packages apart."""
    targets = {}
    for path in CONFIGS:
        for _, call in iter_values(OmegaConf.to_container(read_config(str(path)))):
            if isinstance(call, dict) and "_target_" in call:
                target = call["_target_"]  # the name of a dataclass, any other class itself
                target = get_object(target) if isinstance(target, str) else target
                targets[target] = target.__module__
    return [target for target, module in targets.items() if module.startswith(OURS)]


def test_arguments_of_all_parts_and_models_and_of_what_configs_call():
    load_plugins([f"projects.{path.parents[1].name}" for path in CONFIGS[1:]])
    registered = [*dict(PART_REGISTRY).values(), *dict(META_ARCH_REGISTRY).values()]
    ours = [c for c in registered if c.__module__.startswith(OURS)]
    called = called_by_configs()
    assert len(ours) > 15 and {ClassSet} <= set(called) and len(called) > 12
    assert [text for each in [*ours, *called, ClassGroup] for text in problems(each)] == []


@dataclass
class Rule:
    """An option with alternatives that omegaconf cannot convert."""

    limit: "Rule | Limit"


@dataclass
class Limit:
    factor: float = 1.0


def of_rules(*, rules: Sequence[Rule] = ()): ...
def of_limits(*, limits: dict[str, Limit]): ...
def of_pairs(*, factors: Mapping[tuple[str, str], float]): ...
def of_tensors(*, weights: Tensor | None = None): ...
def of_rules_or_mappings(*, rules: Sequence[Rule | Mapping[str, Any]] = ()): ...
def of_plain_values(
    *,
    grid: Limit | None,
    limits: Sequence[Limit | Mapping[str, Any] | str],
    names: dict[str, Sequence[str]] | None,
    path: str | Path,
    size: tuple[int, int],
): ...


@pytest.mark.parametrize(
    ("called", "message"),
    [
        (of_rules, "of_rules.rules: Rule becomes a mapping"),
        (of_limits, "of_limits.limits: Limit becomes a mapping"),
        (of_pairs, "keys of"),
        (of_tensors, "a Tensor cannot be written"),
        (of_rules_or_mappings, "Rule becomes a mapping"),
        (of_plain_values, None),
    ],
)
def test_what_the_check_finds(called, message):
    found = problems(called)
    assert message in found[0] if message else not found
