"""Depth and foreground labels at stride 16, and the depth loss (SPEC section 7).

Shapes: V images, (H, W) image size, (h, w) = (H, W) / 16 cells of P = 16 x 16 pixels,
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
    """Labels of a frame's cells.

    Attributes:
        distribution: (V, D, h, w) label depth distribution, all zero where there is no label.
        foreground: (V, h, w) bool, some foreground point lies in the cell.
        known: (V, h, w) bool, the cell has a depth label.
    """

    distribution: Tensor
    foreground: Tensor
    known: Tensor


def downsample_labels(
    gt_depth: Tensor, gt_foreground: Tensor, depth_bins: DepthBins, stride: int = 16
) -> DepthLabels:
    """Points of the image -> labels of its cells.

    A background cell takes its nearest point; a foreground cell the histogram of its foreground
    points. Points outside the range of ``depth_bins`` don't count.

    Args:
        gt_depth: (V, H, W) metres, 0 where there is no point.
        gt_foreground: (V, H, W) bool, the point there belongs to a foreground object.
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
    """(V, H, W) -> (V, h, w, P)."""
    patches = image.unflatten(2, (-1, stride)).unflatten(1, (-1, stride))
    return patches.transpose(2, 3).flatten(3)


def _nearest(bins: Tensor, num_bins: int) -> Tensor:
    """(V, h, w, P) bins, -1 for none -> (V, h, w, D) one-hot at the smallest, zeros if none."""
    nearest = torch.where(bins >= 0, bins, num_bins).amin(dim=-1)
    return F.one_hot(nearest, num_bins + 1)[..., :num_bins].float()


def _histogram(bins: Tensor, num_bins: int) -> Tensor:
    """(V, h, w, P) bins, -1 for none -> (V, h, w, D) share of each bin, zeros if none."""
    counts = torch.zeros(*bins.shape[:-1], num_bins + 1, device=bins.device)
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
    """Binary cross-entropy against the label distribution, over the cells that have one.

    Args:
        depth_prob: (V, D, h, w) predicted probability.
        foreground_weight, background_weight: of a cell, by its label.
    """
    entropy = F.binary_cross_entropy(depth_prob, labels.distribution, reduction="none").sum(dim=1)
    weight = torch.where(labels.foreground, foreground_weight, background_weight) * labels.known
    return (entropy * weight).sum() / weight.sum().clamp(min=0.1)
