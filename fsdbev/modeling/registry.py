"""Registries that let configs and the command line select classes by name.

``META_ARCH_REGISTRY`` (Detectron2's) contains meta-architectures, ``PART_REGISTRY`` their parts.
Plugins register classes with ``@PART_REGISTRY.register()``; ``train.plugins`` lists the plugins.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from fvcore.common.registry import Registry
from torch import nn

from fsdbev.d2.modeling import META_ARCH_REGISTRY

#: Registry of the parts of models: backbones, depth networks, BEV encoders, heads and others.
PART_REGISTRY = Registry("PART")


def build_part(*, name: str, **arguments: Any) -> Any:
    """Builds the part registered as ``name`` in ``PART_REGISTRY``.

    Args:
        name: registered name.
        arguments: keyword arguments of the part.

    Raises:
        ValueError: no part has this name, or an argument is unknown or missing.
    """
    return _build(find_part(name), name, arguments)


def build_meta_arch(*, name: str, **arguments: Any) -> nn.Module:
    """Builds the model registered as ``name`` in ``META_ARCH_REGISTRY``.

    Args:
        name: registered name.
        arguments: keyword arguments of the model, such as its parts.

    Raises:
        ValueError: no model has this name, or an argument is unknown or missing.
    """
    return _build(find_meta_arch(name), name, arguments)


def find_part(name: str) -> Callable:
    """Returns the class or function registered as ``name`` in ``PART_REGISTRY``.

    Raises:
        ValueError: no part has this name; the message lists the registered ones.
    """
    return _find(PART_REGISTRY, "part of a model", name)


def find_meta_arch(name: str) -> Callable:
    """Returns the class registered as ``name`` in ``META_ARCH_REGISTRY``; see ``find_part``."""
    return _find(META_ARCH_REGISTRY, "meta-architecture", name)


def _find(registry: Registry, kind: str, name: str) -> Callable:
    # Not registry.get, whose KeyError neither suggests a name nor mentions plugins.
    known = dict(registry)
    if name in known:
        return known[name]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(
        f"no {kind} is registered as {name!r}; {hint}there are {', '.join(sorted(known))}. "
        "For a class of a plugin, add the plugin to train.plugins"
    )


def _build(registered: Callable, name: str, arguments: dict[str, Any]) -> Any:
    # Checked before the call: Python's TypeError names one argument at a time and, for arguments
    # passed on as **parts, the base class.
    accepted, needed = _parameters(registered)
    unknown = [argument for argument in arguments if argument not in accepted]
    missing = [argument for argument in needed if argument not in arguments]
    kinds = {"unknown arguments": unknown, "missing arguments": missing}
    problems = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    if problems:
        raise ValueError(f"{name} takes {', '.join(accepted)}; {'; '.join(problems)}")
    return registered(**arguments)


def _parameters(registered: Callable) -> tuple[list[str], list[str]]:
    """Returns the names of all parameters of a class or function, and of the required ones.

    For a constructor with ``**parts`` this includes the parameters of the next class's constructor.
    """
    if not inspect.isclass(registered):
        signatures = [inspect.signature(registered)]
    else:
        owners = [cls for cls in registered.__mro__ if "__init__" in vars(cls)]
        signatures = [inspect.signature(cls.__init__) for cls in owners]
    found: dict[str, inspect.Parameter] = {}
    for signature in signatures:
        parameters = signature.parameters.values()
        named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        found = {p.name: p for p in named if p.name != "self"} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(found), [name for name, p in found.items() if p.default is p.empty]
