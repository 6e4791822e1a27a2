"""The small model of the reference tensors, its inputs, and how outputs are compared."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from cases import batch, reference_state_dict
from torch import Tensor, nn

from fsdbev.checkpoint.convert import to_our_names
from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.d2.structures import Instances
from fsdbev.structures import Boxes3D

HERE = pathlib.Path(__file__).parent
CONFIG = HERE.parents[1] / "configs/common/models/fsdbev_r50.py"
SIZES = [
    "model.grid.cell=3.2",
    "model.depth_bins.step=2.0",
    "model.backbone.width=8",
    "model.neck.out_channels=32",
    "model.depth_net.mid_channels=32",
    "model.depth_net.context_channels=16",
    "model.depth_net.aspp_channels=16",
    "model.depth_net.dropout=0.0",
    "model.bev_encoder.out_channels=64",
    "model.head.shared_channels=16",
    "model.head.branch_channels=16",
    "model.head.max_candidates=100",
    "model.bev_paste=null",
]


@dataclass(frozen=True)
class TrainingRun:
    """One training step of the reference.

    Attributes:
        case: of ``cases.py``; the file of the same name holds what came out.
        fill: ``model.teacher_fill``.
        prefix: of the arrays in the file.
    """

    case: str
    fill: str
    prefix: str = ""

    def reference(self) -> dict[str, np.ndarray]:
        arrays = np.load(HERE / f"{self.case}.npz")
        return {
            name.removeprefix(self.prefix): value
            for name, value in arrays.items()
            if name.startswith(self.prefix)
        }


#: Where every cell has a label, both fills are the same.
TRAINING_RUNS = {
    "dense, paper fill": TrainingRun("tiny_train", "paper"),
    "dense, release fill": TrainingRun("tiny_train", "release"),
    "sparse, paper fill": TrainingRun("tiny_train_sparse", "paper", "paper."),
    "sparse, release fill": TrainingRun("tiny_train_sparse", "release", "release."),
}


def load_model(case: str, *overrides: str) -> nn.Module:
    """The small model with the case's weights, taken from the release's names."""
    config = LazyConfig.apply_overrides(LazyConfig.load(str(CONFIG)), [*SIZES, *overrides])
    model = instantiate(config.model)
    weights = {k: torch.as_tensor(v) for k, v in reference_state_dict(case).items()}
    model.load_state_dict(to_our_names(weights), strict=True)
    return model


def samples(case: str | dict) -> list[dict]:
    """The case's inputs as the model takes them."""
    arrays = batch(case)
    boxes, classes = arrays.pop("gt_boxes_3d"), arrays.pop("gt_classes")
    found = []
    for i in range(len(boxes)):
        sample = {key: torch.from_numpy(value[i]) for key, value in arrays.items()}
        instances = Instances(tuple(arrays["images"].shape[-2:]))
        instances.gt_boxes_3d = Boxes3D(torch.from_numpy(boxes[i]))
        instances.gt_classes = torch.from_numpy(classes[i])
        found.append(sample | {"instances": instances})
    return found


def record(model: nn.Module, *names: str) -> dict[str, list]:
    """Outputs of the named submodules, one list each, filled as the model runs."""
    outputs = {name: [] for name in names}
    for name in names:
        getattr(model, name).register_forward_hook(
            lambda module, args, output, name=name: outputs[name].append(output)
        )
    return outputs


def relative_error(ours: Tensor, reference: np.ndarray) -> float:
    ours = ours.detach().double().numpy()
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


def share_of_equal_cells(ours: Tensor, reference: np.ndarray) -> float:
    """(..., C, Y, X) maps -> share of the cells in which all channels agree to 1e-4."""
    difference = np.abs(ours.detach().numpy() - reference).max(axis=-3)
    return (difference < 1e-4 * np.abs(reference).max()).mean()
