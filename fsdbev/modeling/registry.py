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


def parameters_of(registered: Callable) -> tuple[dict[str, inspect.Parameter], bool]:
    """Returns the parameters of a class or function by name.

    For a constructor with ``**parts`` this includes the parameters of the next class's constructor.

    Returns:
        the parameters, and whether other keyword arguments are accepted too, as by a constructor
        with ``**kwargs`` whose base class is ``nn.Module``.
    """
    if not inspect.isclass(registered):
        signatures = [inspect.signature(registered)]
    else:
        # nn.Module and object accept **kwargs in their signatures, but not in their calls.
        owners = [cls for cls in registered.__mro__ if "__init__" in vars(cls)]
        owners = [cls for cls in owners if cls not in (nn.Module, object)]
        signatures = [inspect.signature(cls.__init__) for cls in owners]
    found: dict[str, inspect.Parameter] = {}
    for signature in signatures:
        parameters = signature.parameters.values()
        named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        # A parameter of the subclass replaces one of the same name in its base class.
        found = {p.name: p for p in named if p.name != "self"} | found
        # A constructor without **parts passes nothing on to the next class.
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found, False
    return found, bool(signatures)


def _build(registered: Callable, name: str, arguments: dict[str, Any]) -> Any:
    # Checked before the call: Python's TypeError names one argument at a time and, for arguments
    # passed on as **parts, the base class.
    parameters, takes_others = parameters_of(registered)
    unknown = [argument for argument in arguments if argument not in parameters]
    needed = [key for key, parameter in parameters.items() if parameter.default is parameter.empty]
    kinds = {
        "unknown arguments": [] if takes_others else unknown,
        "missing arguments": [key for key in needed if key not in arguments],
    }
    problems = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    if problems:
        raise ValueError(f"{name} takes {', '.join(parameters)}; {'; '.join(problems)}")
    return registered(**arguments)
