"""Weights of other code bases under our names, and ours under the release's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TypeVar

from .release import our_name, release_name

Value = TypeVar("Value")

_WRAPPER = "module."  # what DistributedDataParallel puts before every name
_TORCHVISION_RESNET = {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"}
_BACKBONE = "backbone."
_CLASSIFIER = "fc."


class Form(Enum):
    """Whose names weights have."""

    RELEASE = "the FSD-BEV release"
    TORCHVISION = "a torchvision ResNet"
    OURS = "this project"

    def name_of(self, ours: str) -> str:
        """The name in this form of one of our parameters, or ours where the form has none."""
        if self is Form.RELEASE:
            return release_name(ours) or ours
        return ours.removeprefix(_BACKBONE) if self is Form.TORCHVISION else ours


def form_of(weights: Mapping[str, Value]) -> Form:
    """Whose names these are; what is neither the release's nor torchvision's counts as ours."""
    names = _unwrapped(weights)
    if names.keys() >= _TORCHVISION_RESNET:
        return Form.TORCHVISION
    return Form.RELEASE if any(our_name(name) for name in names) else Form.OURS


def to_our_names(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Weights of a known foreign model under our names; any others as they are.

    Known: the FSD-BEV release, and torchvision's ResNets. These become ``backbone.*``; their
    classifier ``fc`` is left out. The prefix ``module.`` of a distributed model is taken off.

    Raises:
        ValueError: two names stand for the same parameter.
    """
    weights = _unwrapped(weights)
    if form_of(weights) is Form.TORCHVISION:
        return {_BACKBONE + k: v for k, v in weights.items() if not k.startswith(_CLASSIFIER)}
    return _renamed(weights, lambda name: our_name(name) or name)


def to_release_names(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Our weights under the names of the FSD-BEV release: what ``to_our_names`` undoes.

    Raises:
        ValueError: the release has no name for some of them; the message lists them all.
    """
    unknown = [name for name in weights if release_name(name) is None]
    if unknown:
        raise ValueError(f"the FSD-BEV release has no parameter like {', '.join(unknown)}")
    return _renamed(weights, lambda name: release_name(name) or name)


def _unwrapped(weights: Mapping[str, Value]) -> Mapping[str, Value]:
    if weights and all(name.startswith(_WRAPPER) for name in weights):
        return {name.removeprefix(_WRAPPER): value for name, value in weights.items()}
    return weights


def _renamed(weights: Mapping[str, Value], rename: Callable[[str], str]) -> dict[str, Value]:
    renamed = {rename(name): value for name, value in weights.items()}
    if len(renamed) < len(weights):
        twice = [name for name in weights if rename(name) != name and rename(name) in weights]
        raise ValueError(f"these are there twice, once under our name: {', '.join(twice)}")
    return renamed
