"""Regression branches of the center head, evaluated at the center cells of boxes only.

The box losses read few cells of the regression maps. Only the BatchNorm of a branch depends on all
cells, through mean and variance of its input, the output of a convolution with kernels w. Both
follow from the 3x3 patches of the features, which all branches share: with mean m and covariance V
of the patches, a channel with kernel w has mean ``w . m`` and variance ``w . V w``. So training
computes no regression map.

Shapes: B maps (S stacked predictions of each sample), C channels of the features, M hidden channels
of a branch, N branches of all tasks, (Y, X) BEV grid, P boxes of a task, R = 10 regression
channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsdbev.modeling.precision import full_precision

from .targets import REGRESSION


@dataclass(frozen=True)
class CellRegression:
    """Regression branches of a task with their input, in the order of ``REGRESSION``.

    Attributes:
        padded: (B, C, Y + 4, X + 4) float32 input of the branches, padded with two cells of zeros
            on each side.
        hidden_weight: (5 M, C, 3, 3) kernels of the hidden layers with their BatchNorm.
        hidden_bias: (5 M,).
        output_weights: (channels, M, 3, 3) for each branch.
        output_biases: (channels,) for each branch.
    """

    padded: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weights: tuple[Tensor, ...]
    output_biases: tuple[Tensor, ...]

    # In float32 as the losses.
    @full_precision
    def at(self, sample: Tensor, cell: Tensor, batch: int) -> Tensor:
        """Evaluates the branches at the same cells of each stacked prediction.

        Args:
            sample: (P,) int64 sample of each cell, 0 .. batch - 1.
            cell: (P,) int64 ``y * X + x``.
            batch: number of samples; B is a multiple of it.

        Returns:
            (P, S, R) values.
        """
        rows, columns = (size - 4 for size in self.padded.shape[-2:])
        # Two 3x3 convolutions reach two cells to each side.
        reach = torch.arange(5, device=cell.device)
        y, x = (cell // columns)[:, None] + reach, (cell % columns)[:, None] + reach
        by_cell = self.padded.unflatten(0, (-1, batch)).permute(1, 3, 4, 0, 2)
        windows = by_cell[sample[:, None, None], y[:, :, None], x[:, None]]  # (P, 5, 5, S, C)
        stacked = windows.shape[3]
        windows = windows.permute(0, 3, 4, 1, 2).flatten(0, 1)
        hidden = F.relu(F.conv2d(windows, self.hidden_weight, self.hidden_bias))
        # The second convolution pads the hidden map with zeros.
        y_inside, x_inside = (
            (at[:, 1:4] >= 2) & (at[:, 1:4] < 2 + size) for at, size in ((y, rows), (x, columns))
        )
        inside = (y_inside[:, :, None] & x_inside[:, None])[:, None, None]
        hidden = torch.where(inside, hidden.unflatten(0, (-1, stacked)), 0)
        inputs = hidden.unflatten(2, (len(REGRESSION), -1)).flatten(3).unbind(dim=2)
        layers = zip(inputs, self.output_weights, self.output_biases, strict=True)
        return torch.cat([F.linear(each, w.flatten(1), bias) for each, w, bias in layers], dim=-1)


@dataclass(frozen=True)
class TrainingPredictions:
    """Predictions of the head in training.

    Attributes:
        heatmaps: (B, classes, Y, X) logits per task.
        regression: the regression branches per task.
    """

    heatmaps: tuple[Tensor, ...]
    regression: tuple[CellRegression, ...]


def can_fold(task_heads: Sequence[nn.ModuleDict]) -> bool:
    """Returns whether the regression branches have the layers that :func:`fold_regression` reads.

    They do as built, but not with SyncBatchNorm, LoRA, parametrizations or other replaced layers,
    and not with hooks or weights in half precision.
    """
    branches = [branches[name] for branches in task_heads for name in REGRESSION]
    layers = [list(branch.modules()) for branch in branches]
    if any([type(layer) for layer in each] != _FOLDED_TYPES for each in layers):
        return False
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    if any(getattr(layer, name) for each in layers for layer in each for name in hooks):
        return False
    convs = [conv for hidden, output in branches for conv in (hidden.conv, output)]
    norms = [hidden.bn for hidden, _ in branches]
    conv_settings = {
        (c.kernel_size, c.stride, c.padding, c.dilation, c.groups, c.padding_mode) for c in convs
    }
    norm_settings = {(n.eps, n.momentum, n.training) for n in norms}
    return (
        conv_settings == {((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")}
        and all(conv.weight.dtype in (torch.float32, torch.float64) for conv in convs)
        and all((conv.bias is None) == (number % 2 == 0) for number, conv in enumerate(convs))
        and all(norm.affine and norm.track_running_stats for norm in norms)
        and len(norm_settings) == 1
        and norms[0].momentum is not None
    )


#: Types of all modules in a branch: convolution, BatchNorm and ReLU, then the output convolution.
_FOLDED_TYPES = [nn.Sequential, nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d]


# In float32: variances are differences of large sums.
@full_precision
def fold_regression(
    features: Tensor, task_heads: Sequence[nn.ModuleDict]
) -> tuple[CellRegression, ...]:
    """Folds the BatchNorm of each regression branch into the convolution before it.

    In training mode the BatchNorms normalise by the statistics of their maps over the batch and
    update their running statistics, as their forward pass does.

    Args:
        features: (B, C, Y, X) input of the branches.
        task_heads: branches by name per task, for which :func:`can_fold` is true.

    Returns:
        The branches of each task.
    """
    hidden = [branches[name][0] for branches in task_heads for name in REGRESSION]
    weight, norms = torch.cat([layer.conv.weight for layer in hidden]), [h.bn for h in hidden]
    if norms[0].training:
        mean, variance = _output_moments(features, weight)
        _update_running_statistics(norms, mean, variance, features[:, 0].numel())
    else:
        mean = torch.cat([norm.running_mean for norm in norms])
        variance = torch.cat([norm.running_var for norm in norms])
    scale = torch.cat([norm.weight for norm in norms]) * (variance + norms[0].eps).rsqrt()
    bias = torch.cat([norm.bias for norm in norms]) - mean * scale
    weight = weight * scale[:, None, None, None]
    padded, folded = F.pad(features, (2, 2, 2, 2)), []
    tasks = len(task_heads)
    for branches, w, b in zip(task_heads, weight.chunk(tasks), bias.chunk(tasks), strict=True):
        outputs = [branches[name][1] for name in REGRESSION]
        weights, biases = zip(*((output.weight, output.bias) for output in outputs), strict=True)
        folded.append(CellRegression(padded, w, b, weights, biases))
    return tuple(folded)


def _output_moments(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Computes mean and biased variance of a 3x3 convolution's output without the output.

    Args:
        features: (B, C, Y, X) input; the convolution pads it with one cell of zeros.
        weight: (N M, C, 3, 3) kernels.

    Returns:
        (N M,) mean and (N M,) variance over maps and cells.
    """
    # Around the mean of each channel, since the variance would else be a difference of large
    # numbers. The padding becomes minus the mean.
    center = features.mean(dim=(0, 2, 3), keepdim=True)
    patches = F.unfold(F.pad(features, (1, 1, 1, 1)) - center, 3)  # (B, 9 C, Y X)
    count = features[:, 0].numel()
    mean = patches.sum(dim=(0, 2)) / count
    # The product of a matrix and its own transpose is symmetric, so that its gradient is twice that
    # of one factor. Without gradient for the other one, autograd computes only one of two equal
    # products.
    products = torch.bmm(patches, patches.detach().mT).sum(dim=0)
    products = 2 * products - products.detach()
    covariance = products / count - torch.outer(mean, mean)
    kernels = weight.flatten(1)
    variance = ((kernels @ covariance) * kernels).sum(dim=1)
    offset = center.flatten().repeat_interleave(9)
    return kernels @ (mean + offset), variance.clamp(min=0)


@torch.no_grad()
def _update_running_statistics(
    norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, count: int
) -> None:
    """Moves running mean and unbiased running variance towards those of a batch, in place."""
    unbiased = variance * (count / max(count - 1, 1))
    sizes = [norm.num_features for norm in norms]
    for name, batch in (("running_mean", mean), ("running_var", unbiased)):
        running = [getattr(norm, name) for norm in norms]
        torch._foreach_lerp_(running, batch.split(sizes), norms[0].momentum)
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
