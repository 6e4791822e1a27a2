"""Weights of other code bases under our names: the one place that knows foreign names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_TORCHVISION_RESNET = {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"}


def to_our_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a known foreign model under our names; any others as they are.

    Known: torchvision's ResNets. They become ``backbone.*``; their classifier ``fc`` is left out.
    """
    if _TORCHVISION_RESNET <= weights.keys():
        return {f"backbone.{k}": v for k, v in weights.items() if not k.startswith("fc.")}
    return dict(weights)
