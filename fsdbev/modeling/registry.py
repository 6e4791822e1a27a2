"""Classes by name, so that a config or the command line can say which one stands where.

``META_ARCH_REGISTRY`` (Detectron2's) holds whole models, ``PART_REGISTRY`` what they are made of. A
plugin registers its own with ``@PART_REGISTRY.register()``; ``train.plugins`` names the plugins.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from fvcore.common.registry import Registry
from torch import nn

from fsdbev.d2.modeling import META_ARCH_REGISTRY

#: Parts of models: backbones, depth networks, BEV encoders, heads and what else a config names.
PART_REGISTRY = Registry("PART")


def build_part(*, name: str, **arguments: Any) -> Any:
    """The part ``name`` of ``PART_REGISTRY``, made with ``arguments``.

    Raises:
        ValueError: there is no such part, or it does not take these arguments.
    """
    return _build(find_part(name), name, arguments)


def build_meta_arch(*, name: str, **arguments: Any) -> nn.Module:
    """The model ``name`` of ``META_ARCH_REGISTRY``, made with ``arguments``: its parts.

    Raises:
        ValueError: there is no such model, or it does not take these arguments.
    """
    return _build(find_meta_arch(name), name, arguments)


def find_part(name: str) -> Callable:
    """What is registered under ``name`` in ``PART_REGISTRY``; ValueError lists what is there."""
    return _find(PART_REGISTRY, "part of a model", name)


def find_meta_arch(name: str) -> Callable:
    """As ``find_part``, in ``META_ARCH_REGISTRY``."""
    return _find(META_ARCH_REGISTRY, "meta-architecture", name)


def _find(registry: Registry, kind: str, name: str) -> Callable:
    known = dict(registry)
    if name in known:
        return known[name]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(
        f"no {kind} is registered as {name!r}; {hint}there are {', '.join(sorted(known))}. "
        "What a plugin brings is there once train.plugins names it"
    )


def _build(registered: Callable, name: str, arguments: dict[str, Any]) -> Any:
    accepted, needed = _parameters(registered)
    unknown = [argument for argument in arguments if argument not in accepted]
    missing = [argument for argument in needed if argument not in arguments]
    if unknown or missing:
        wrong = [f"does not know {', '.join(unknown)}"] if unknown else []
        wrong += [f"lacks {', '.join(missing)}"] if missing else []
        raise ValueError(f"{name} takes {', '.join(accepted)}; it {' and '.join(wrong)}")
    return registered(**arguments)


def _parameters(registered: Callable) -> tuple[list[str], list[str]]:
    """Names of what a class or function takes, and of what it must be given. What a constructor
    hands on as ``**parts`` is what the constructor of the next class takes."""
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
