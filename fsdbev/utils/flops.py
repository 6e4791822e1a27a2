"""Parameters and multiply-adds of a model and its parts, counted with ``FlopCounterMode``.

Shapes: S weight sets, V views, D depth bins, h x w feature map, C context channels, P splats.
"""

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

OTHER = "other"  #: name for computations outside of all parts, such as products of camera matrices


@dataclass(frozen=True)
class PartCost:
    """Size and cost of a part.

    Attributes:
        parameters: number of parameters.
        parameter_bytes, buffer_bytes: bytes of all parameters and of all buffers.
        operators: name of an operator -> multiply-adds.
    """

    parameters: int
    parameter_bytes: int
    buffer_bytes: int
    operators: Mapping[str, int]

    @property
    def macs(self) -> int:
        """Multiply-adds of all operators."""
        return sum(self.operators.values())


@dataclass(frozen=True)
class ModelCost:
    """Cost of evaluating one sample.

    Attributes:
        parts: name -> cost of the model's children, and ``OTHER`` for the rest.
        total: cost of the model.
        image_branch: name of a part -> multiply-adds, over all frames of the sample, of the layers
            that a stream (``StreamingPredictor``) runs only on the newest frame.
        num_frames: frames of the sample.
    """

    parts: Mapping[str, PartCost]
    total: PartCost
    image_branch: Mapping[str, int]
    num_frames: int

    def stream_macs(self) -> dict[str, int]:
        """Returns part -> multiply-adds of a stream, which caches features of earlier frames."""
        earlier = self.num_frames - 1
        return {
            name: part.macs - self.image_branch.get(name, 0) * earlier // self.num_frames
            for name, part in self.parts.items()
        }


def analyze(model: nn.Module, *, image_size: tuple[int, int], num_cameras: int = 6) -> ModelCost:
    """Counts the multiply-adds of one evaluation of a fake sample.

    Counted are convolutions, matrix products and the operators of ``_formulas``. The counts are
    half of those of ``FlopCounterMode``, for which a multiply-add is two operations.

    Args:
        model: the model on the CPU, with any weights; it stays in eval mode.
        image_size: (H, W) of the network images, pixels.
        num_cameras: number of cameras.
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
        if layer:  # called outside of its part's forward, so not in the part's count
            counts[part] += operators(name)
    parts = {name: _cost(part, counts[name]) for name, part in model.named_children()}
    parts[OTHER] = _cost(model, operators() - sum(counts.values(), Counter()), recurse=False)
    return ModelCost(parts, _cost(model, operators()), image_branch, model.num_frames)


def _cost(module: nn.Module, operators: Counter[str], recurse: bool = True) -> PartCost:
    parameters, buffers = list(module.parameters(recurse)), list(module.buffers(recurse))
    count = sum(parameter.numel() for parameter in parameters)
    return PartCost(count, num_bytes(parameters), num_bytes(buffers), operators)


def num_bytes(values: Any) -> int:
    """Returns the bytes of all tensors in nested containers."""
    return sum(leaf.nbytes for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _formulas() -> dict[Any, Callable[..., int]]:
    """Returns formulas of operators that ``FlopCounterMode`` lacks, with fvcore's counts for those
    of PyTorch."""
    aten, fsdbev = torch.ops.aten, torch.ops.fsdbev
    formulas = {
        aten.native_batch_norm: partial(_flops, macs=2),
        aten.mean: partial(_flops, macs=1),
        aten.upsample_bilinear2d: partial(_flops, macs=4, of_output=True),
        aten.upsample_nearest2d: partial(_flops, macs=1, of_output=True),
    }
    if EXTENSION_BUILT:
        formulas |= {fsdbev.lift_splat: _splat_flops, fsdbev.splat_cells: _splat_flops}
    # The counter decomposes operators whose overload is not among the keys.
    return formulas | {operator.default: formula for operator, formula in formulas.items()}


def _flops(values, *rest, out_shape, macs: int, of_output: bool = False, **options) -> int:
    """Returns two operations per multiply-add, for ``macs`` of them per input or output value."""
    return 2 * macs * math.prod(out_shape if of_output else values)


def _splat_flops(weights, foreground, context, _, view_to_bev, *rest, **options) -> int:
    """Returns the upper bound 2 S P D h w C; the images decide how many points are kept."""
    num_sets, _, *frustum = weights  # (S, V, D, h, w); context is (V, C, h, w)
    return 2 * num_sets * view_to_bev[0] * math.prod(frustum) * context[1]
