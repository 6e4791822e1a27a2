"""Conversion of parameter names: from other code bases to ours, and from ours to the release's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TypeVar

import torch
from torch import Tensor

from .release import our_name, release_name

Value = TypeVar("Value")

_DDP_PREFIX = "module."  # DistributedDataParallel adds it to every name
#: Names that together identify a torchvision ResNet.
_TORCHVISION_RESNET = {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"}
_BACKBONE = "backbone."
_CLASSIFIER = "fc."


class Form(Enum):
    """Naming scheme of weights."""

    RELEASE = "the FSD-BEV release"
    TORCHVISION = "a torchvision ResNet"
    OURS = "this project"

    def name_of(self, ours: str) -> str:
        """Returns the name of our parameter ``ours`` in this scheme, or ``ours`` if the scheme has
        none."""
        if self is Form.RELEASE:
            return release_name(ours) or ours
        return ours.removeprefix(_BACKBONE) if self is Form.TORCHVISION else ours


def form_of(weights: Mapping[str, Value]) -> Form:
    """Returns the naming scheme of weights; ``OURS`` if the names are neither the release's nor
    torchvision's."""
    names = _without_ddp_prefix(weights)
    if names.keys() >= _TORCHVISION_RESNET:
        return Form.TORCHVISION
    return Form.RELEASE if any(our_name(name) for name in names) else Form.OURS


def to_our_names(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Renames weights of the FSD-BEV release or of a torchvision ResNet to our names; other names
    stay as they are.

    A ResNet's weights become ``backbone.*``, without its classifier ``fc``. The prefix ``module.``
    of a distributed model is removed.

    Raises:
        ValueError: two names refer to the same parameter.
    """
    weights = _without_ddp_prefix(weights)
    if form_of(weights) is Form.TORCHVISION:
        return {_BACKBONE + k: v for k, v in weights.items() if not k.startswith(_CLASSIFIER)}
    return _renamed(weights, our_name)


def to_release_names(weights: Mapping[str, Value]) -> dict[str, Value]:
    """Renames our weights to the names of the FSD-BEV release, the inverse of ``to_our_names``.

    Raises:
        ValueError: the release has no name for some parameters; the message lists all of them.
    """
    unknown = [name for name in weights if release_name(name) is None]
    if unknown:
        raise ValueError(f"the FSD-BEV release has no names for {', '.join(unknown)}")
    return _renamed(weights, release_name)


def to_half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Casts float32 weights of convolutions and linear layers to float16. Vectors (biases, weights
    and statistics of BatchNorm) keep float32: they are small, and a variance can exceed float16.

    Raises:
        ValueError: a weight exceeds the range of float16.
    """
    half = {
        name: value.half() if value.dtype == torch.float32 and value.ndim > 1 else value
        for name, value in weights.items()
    }
    for name, value in half.items():
        if value.dtype == torch.float16 and not value.isfinite().all():
            largest = weights[name].abs().max().item()
            raise ValueError(f"{name}: {largest:.3g} is not within the range of float16 (65504)")
    return half


def _without_ddp_prefix(weights: Mapping[str, Value]) -> Mapping[str, Value]:
    """Removes the prefix of DistributedDataParallel if all names have it."""
    if weights and all(name.startswith(_DDP_PREFIX) for name in weights):
        return {name.removeprefix(_DDP_PREFIX): value for name, value in weights.items()}
    return weights


def _renamed(weights: Mapping[str, Value], rename: Callable[[str], str | None]) -> dict[str, Value]:
    """Renames weights; those for which ``rename`` returns None keep their names.

    Raises:
        ValueError: a new name is also the name of another parameter.
    """
    renamed = {rename(name) or name: value for name, value in weights.items()}
    if len(renamed) < len(weights):
        twice = [name for name in weights if rename(name) in weights.keys() - {name}]
        raise ValueError(f"parameters appear twice, once under our name: {', '.join(twice)}")
    return renamed
