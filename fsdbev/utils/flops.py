"""Parameters and multiply-adds of a model by part, by PyTorch's ``FlopCounterMode``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fsdbev.data.fake import fake_samples
from fsdbev.layers import EXTENSION_BUILT

OTHER = "other"  #: name of what is in no part, such as products of camera matrices


@dataclass(frozen=True)
class PartCost:
    """Parameters of a part, bytes of these and of its buffers, and multiply-adds by operator."""

    parameters: int
    parameter_bytes: int
    buffer_bytes: int
    operators: Mapping[str, int]

    @property
    def macs(self) -> int:
        return sum(self.operators.values())


@dataclass(frozen=True)
class ModelCost:
    """The cost of evaluating one sample of ``num_frames`` frames.

    ``parts`` are the children of the model by name, and what is in none (``OTHER``). Of these
    ``image_branch`` has the multiply-adds that a stream (``StreamingPredictor``) runs on one frame.
    """

    parts: Mapping[str, PartCost]
    total: PartCost
    image_branch: Mapping[str, int]
    num_frames: int

    def stream_macs(self) -> dict[str, int]:
        """Multiply-adds of the parts where earlier frames' image features are kept."""
        earlier = self.num_frames - 1
        return {
            name: part.macs - self.image_branch.get(name, 0) * earlier // self.num_frames
            for name, part in self.parts.items()
        }


def analyze(model: nn.Module, *, image_size: tuple[int, int], num_cameras: int = 6) -> ModelCost:
    """Counts one evaluation of a fake sample, by a model on the CPU with any weights.

    Counts are half of ``FlopCounterMode``'s, for which a multiply-add is two operations. They are
    of convolutions, matrix products and the operators of ``_formulas``.
    """
    sizes = {"num_frames": model.num_frames, "num_cameras": num_cameras, "image_size": image_size}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_formulas()) as counter:
        model.eval()(fake_samples(1, **sizes))

    def operators(*path: str) -> Counter[str]:
        flops = counter.flop_counts[".".join([type(model).__name__, *path])]
        return Counter({str(operator).partition(".")[2]: n // 2 for operator, n in flops.items()})

    counts = {name: operators(name) for name, _ in model.named_children()}
    image_branch: Counter[str] = Counter()
    for name in model.image_branch:
        part, _, layer = name.partition(".")
        image_branch[part] += operators(name).total()
        if layer:  # such a layer runs apart from its part
            counts[part] += operators(name)
    parts = {name: _cost(part, counts[name]) for name, part in model.named_children()}
    parts[OTHER] = _cost(model, operators() - sum(counts.values(), Counter()), recurse=False)
    return ModelCost(parts, _cost(model, operators()), image_branch, model.num_frames)


def _cost(module: nn.Module, operators: Counter[str], recurse: bool = True) -> PartCost:
    parameters, buffers = list(module.parameters(recurse)), list(module.buffers(recurse))
    count = sum(parameter.numel() for parameter in parameters)
    return PartCost(count, num_bytes(parameters), num_bytes(buffers), operators)


def num_bytes(values: Any) -> int:
    return sum(leaf.nbytes for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _formulas() -> dict[Any, Callable[..., int]]:
    """What ``FlopCounterMode`` lacks. PyTorch's operators count as they do in fvcore."""
    aten, fsdbev = torch.ops.aten, torch.ops.fsdbev
    formulas = {
        aten.native_batch_norm: partial(_flops, macs=2),
        aten.mean: partial(_flops, macs=1),
        aten.upsample_bilinear2d: partial(_flops, macs=4, of_output=True),
        aten.upsample_nearest2d: partial(_flops, macs=1, of_output=True),
    }
    if EXTENSION_BUILT:
        formulas |= {fsdbev.lift_splat: _splat_flops, fsdbev.splat_cells: _splat_flops}
    # the counter decomposes operators whose overload is not among the keys
    return formulas | {operator.default: formula for operator, formula in formulas.items()}


def _flops(values, *rest, out_shape, macs: int, of_output: bool = False, **options) -> int:
    """Counts ``macs`` for each value that goes in, or that comes out."""
    return 2 * macs * math.prod(out_shape if of_output else values)


def _splat_flops(weights, foreground, context, _, view_to_bev, *rest, **options) -> int:
    """2 S P D h w C, the most that it can be: how many points are kept depends on the images."""
    num_sets, _, *frustum = weights  # (S, V, D, h, w), and P splats of (V, C, h, w) context
    return 2 * num_sets * view_to_bev[0] * math.prod(frustum) * context[1]
