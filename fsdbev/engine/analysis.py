"""Parameters and multiply-adds of a model by part, measured with fvcore on one forward pass.

Letters: S weight sets, V views (images), P splats, D depth bins, C channels, h x w feature map,
T frames, N cameras, (H, W) image size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import get_shape
from torch import Tensor, nn

#: Name of what no part does: the camera matrices.
OTHER = "other"


@dataclass(frozen=True)
class PartCost:
    """Parameters of a part, and its multiply-adds by operator."""

    parameters: int
    operators: Mapping[str, int]

    @property
    def macs(self) -> int:
        return sum(self.operators.values())


@dataclass(frozen=True)
class ModelCost:
    """What one forward pass of one sample takes in evaluation.

    Attributes:
        parts: cost of every part of the model by its name, and of what lies between them
            (``OTHER``).
        total: of the whole model, counted as a whole.
        image_branch: multiply-adds of what runs on images alone, by the part that it is in: the
            model's ``image_branch``, which a stream (``StreamingPredictor``) runs on one frame.
        num_frames: T; the image branch runs so many times.
        not_counted: operators that ran and have no count, and how often.
    """

    parts: Mapping[str, PartCost]
    total: PartCost
    image_branch: Mapping[str, int]
    num_frames: int
    not_counted: Mapping[str, int]

    def stream_macs(self) -> dict[str, int]:
        """Multiply-adds of the parts where earlier frames' image features are kept."""
        earlier = self.num_frames - 1
        return {
            name: part.macs - self.image_branch.get(name, 0) * earlier // self.num_frames
            for name, part in self.parts.items()
        }


def analyze(model: nn.Module, *, image_size: tuple[int, int], num_cameras: int = 6) -> ModelCost:
    """Traces an evaluation of one sample on the CPU, decoding and NMS included.

    Counts are fvcore's: one multiply-add is one; two for each value of a batch norm, four for each
    value that bilinear upsampling gives, one for each that nearest upsampling gives or averaging
    takes. ``fsdbev::lift_splat`` counts C for every frustum point, kept or not: how many are kept
    depends on the images, and this is the most that it can be.

    Args:
        model: with random weights or any others, on the CPU; it is put into evaluation mode.
        image_size: (H, W) of the network image.
        num_cameras: N.
    """
    if num_cameras < 1:
        raise ValueError(f"num_cameras must be at least 1, got {num_cameras}")
    sample = _empty_sample(model.num_frames, num_cameras, image_size)
    traced = _TensorsInAndOut(model.eval(), tuple(sample))
    analysis = FlopCountAnalysis(traced, tuple(sample.values()))
    analysis.set_op_handle("fsdbev::lift_splat", _splat_macs(view=5))
    analysis.set_op_handle("fsdbev::splat_cells", _splat_macs(view=4))
    analysis.unsupported_ops_warnings(False)  # not_counted has them
    with torch.no_grad():
        counts = analysis.by_module_and_operator()

    parts = {
        name: PartCost(_num_parameters(part), counts[f"model.{name}"])
        for name, part in model.named_children()
    }
    total = PartCost(_num_parameters(model), counts[""])
    rest = Counter(total.operators)
    for part in parts.values():
        rest.subtract(part.operators)
    own_parameters = total.parameters - sum(part.parameters for part in parts.values())
    parts[OTHER] = PartCost(own_parameters, {name: n for name, n in rest.items() if n})
    image_branch: Counter[str] = Counter()
    for name in model.image_branch:
        image_branch[name.split(".")[0]] += sum(counts[f"model.{name}"].values())
    return ModelCost(parts, total, image_branch, model.num_frames, analysis.unsupported_ops())


class _TensorsInAndOut(nn.Module):
    """A model for one sample as the tracer takes it: tensors in, tensors out.

    The tracer forgets what leads to no output. So that all that runs is counted, an empty piece of
    what every layer gives is put out too.
    """

    def __init__(self, model: nn.Module, keys: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.keys = keys

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        pieces: list[Tensor] = []

        def keep(layer: nn.Module, arguments: tuple, output: Any) -> None:
            if isinstance(output, Tensor):
                pieces.append(output.new_empty(0))

        layers = (module for module in self.model.modules() if not list(module.children()))
        hooks = [layer.register_forward_hook(keep) for layer in layers]
        try:
            found = self.model([dict(zip(self.keys, values, strict=True))])[0]["instances"]
        finally:
            for hook in hooks:
                hook.remove()
        return found.pred_boxes_3d.tensor, found.scores, found.pred_classes, *pieces


def _empty_sample(num_frames: int, num_cameras: int, image_size: tuple[int, int]) -> dict:
    """Black images of cameras that all are at the ego's origin: counts depend on shapes alone."""
    rig = (num_frames, num_cameras)
    eye = torch.eye(4)
    return {
        "images": torch.zeros(*rig, 3, *image_size),
        "cam2ego": eye.expand(*rig, 4, 4),
        "ego2global": eye.expand(*rig, 4, 4),
        "intrinsics": torch.eye(3).expand(*rig, 3, 3),
        "image_aug": eye.expand(num_cameras, 4, 4),
        "bev_aug": eye,
    }


def _splat_macs(*, view: int) -> Callable[[list[Any], list[Any]], int]:
    """S P D h w C of an operator whose inputs 0 and 2 are (S, V, D, h, w) weights and (V, C, h, w)
    context, and whose input ``view`` is the (P,) view."""

    def count(inputs: list[Any], outputs: list[Any]) -> int:
        num_sets, _, *frustum = get_shape(inputs[0])
        return num_sets * get_shape(inputs[view])[0] * math.prod(frustum) * get_shape(inputs[2])[1]

    return count


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
