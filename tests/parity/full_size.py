"""The published models at full size, with weights and inputs made by the scheme of ``cases.py``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import cases
import numpy as np
import torch
from release_shapes import release_shapes
from small_model import HERE
from torch import Tensor, nn

from fsdbev.checkpoint.convert import to_our_names
from fsdbev.d2.config import LazyConfig, instantiate


@dataclass(frozen=True)
class FullSizeCase:
    """What the release computed, as ``full_<name>.npz`` has it.

    Large arrays are there by a sample of their elements: ``<array>|index`` flat indices,
    ``|value``, ``|stats`` mean, deviation and norm of the whole, ``|shape``.

    Attributes:
        depth: of the ResNet.
        config: our config file.
    """

    name: str
    depth: int
    config: str

    def reference(self) -> dict[str, np.ndarray]:
        return dict(np.load(HERE / f"full_{self.name}.npz"))

    def inputs(self) -> dict:
        """The case as ``cases.batch`` takes it."""
        case = json.loads(str(self.reference()["case"]))
        return case | {"size": tuple(case["size"])}

    def weights(self) -> dict[str, Tensor]:
        """Those of ``cases.py`` in the release's names, some scaled so that nothing saturates at
        this width: by the first pattern of ``scale`` that the whole name matches."""
        scale = json.loads(str(self.reference()["scale"]))
        weights = cases.reference_state_dict(self.inputs(), release_shapes(self.depth))
        for name in weights:
            factor = next((f for pattern, f in scale if re.fullmatch(pattern, name)), None)
            if factor is not None:
                weights[name] = weights[name] * np.float32(factor)
        return {name: torch.as_tensor(value) for name, value in weights.items()}

    def load_model(self, *overrides: str) -> nn.Module:
        config = LazyConfig.load(str(HERE.parents[1] / "configs" / self.config))
        model = instantiate(LazyConfig.apply_overrides(config, list(overrides)).model)
        model.load_state_dict(to_our_names(self.weights()), strict=True)
        return model


def sampled(ours: Tensor, reference: dict[str, np.ndarray], name: str) -> tuple[Tensor, np.ndarray]:
    """Our and the reference's values of a large array at the elements that the reference has."""
    ours = ours.detach()
    assert ours.numel() == np.prod(reference[f"{name}|shape"]), (name, tuple(ours.shape))
    index = torch.from_numpy(reference[f"{name}|index"]).long()
    return ours.flatten()[index], reference[f"{name}|value"]
