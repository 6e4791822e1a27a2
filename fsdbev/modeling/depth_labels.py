"""Depth and foreground labels per feature cell, and the depth loss.

Rules of docs/model.md, "Foreground self-distillation".

Shapes: V images, (H, W) image size, (h, w) = (H, W) / stride cells of P = stride x stride pixels,
D depth bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fsdbev.structures import DepthBins

from .precision import full_precision


@dataclass(frozen=True)
class DepthLabels:
    """Depth and foreground labels of the feature cells of one frame.

    Attributes:
        distribution: (V, D, h, w) float32 label depth distribution, zeros for cells without label.
        foreground: (V, h, w) bool, whether the cell contains a foreground point.
        known: (V, h, w) bool, whether the cell has a depth label.
    """

    distribution: Tensor
    foreground: Tensor
    known: Tensor


def downsample_labels(
    gt_depth: Tensor, gt_foreground: Tensor, depth_bins: DepthBins, stride: int = 16
) -> DepthLabels:
    """Computes the labels of feature cells from the points of an image.

    The distribution of a background cell is one-hot at the bin of its nearest point. That of a
    foreground cell is the normalised histogram of its foreground points. Points outside the range
    of ``depth_bins`` are dropped first.

    Args:
        gt_depth: (V, H, W) depth of the point at each pixel in metres, 0 for pixels without point.
        gt_foreground: (V, H, W) bool, whether the point belongs to a foreground object.
        depth_bins: bins of the distribution.
        stride: side of a cell, pixels.

    Raises:
        ValueError: H or W is not a multiple of ``stride``.
    """
    height, width = gt_depth.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(f"image size {height} x {width} must be a multiple of {stride}")
    depth = _patches(gt_depth, stride)
    in_range = depth_bins.contains(depth)
    bins = torch.where(in_range, depth_bins.index(depth), -1)
    is_foreground = _patches(gt_foreground, stride) & in_range
    foreground = is_foreground.any(dim=-1, keepdim=True)
    distribution = torch.where(
        foreground,
        _histogram(torch.where(is_foreground, bins, -1), depth_bins.count),
        _nearest(bins, depth_bins.count),
    )
    return DepthLabels(
        distribution=distribution.permute(0, 3, 1, 2).contiguous(),
        foreground=foreground.squeeze(-1),
        known=(distribution > 0).any(dim=-1),
    )


def _patches(image: Tensor, stride: int) -> Tensor:
    """Splits (V, H, W) into (V, h, w, P) cells of pixels."""
    patches = image.unflatten(2, (-1, stride)).unflatten(1, (-1, stride))
    return patches.transpose(2, 3).flatten(3)


def _nearest(bins: Tensor, num_bins: int) -> Tensor:
    """Returns (V, h, w, D) one-hot at the smallest of (V, h, w, P) bins; -1 marks no point."""
    nearest = torch.where(bins >= 0, bins, num_bins).amin(dim=-1)
    # Cells without a point are one-hot in an extra bin, which is cut off.
    return F.one_hot(nearest, num_bins + 1)[..., :num_bins].float()


def _histogram(bins: Tensor, num_bins: int) -> Tensor:
    """Returns the (V, h, w, D) share of each of (V, h, w, P) bins; -1 marks no point."""
    counts = torch.zeros(*bins.shape[:-1], num_bins + 1, device=bins.device)
    # Bin 0 of the counts collects the pixels without point. The source is one expanded value, since
    # a tensor of ones would be as large as the image.
    counts.scatter_add_(-1, bins + 1, torch.ones((), device=bins.device).expand(bins.shape))
    counts = counts[..., 1:]
    return counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)


@full_precision
def depth_loss(
    depth_prob: Tensor,
    labels: DepthLabels,
    *,
    foreground_weight: float = 0.9,
    background_weight: float = 0.1,
) -> Tensor:
    """Computes the weighted binary cross-entropy of depth over the cells with a label.

    Entropies are summed over bins, averaged over cells by their weights, and divided by at least
    0.1 (docs/model.md, "Foreground self-distillation"; BEVDepth, arXiv:2206.10092).

    Args:
        depth_prob: (V, D, h, w) predicted probability.
        labels: labels of the same cells.
        foreground_weight: weight of cells with a foreground label.
        background_weight: weight of the other cells.
    """
    # In float32 by full_precision: CUDA autocast refuses binary_cross_entropy.
    target = labels.distribution.to(depth_prob)
    entropy = F.binary_cross_entropy(depth_prob, target, reduction="none").sum(dim=1)
    weight = torch.where(labels.foreground, foreground_weight, background_weight) * labels.known
    weight = weight.to(depth_prob)
    # The bound only matters without labelled cells: by default one cell weighs at least 0.1.
    return (entropy * weight).sum() / weight.sum().clamp(min=0.1)
