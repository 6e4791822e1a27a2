"""Heatmaps that training aims at: of 2D boxes in the images, of 3D boxes on the BEV grid."""

from __future__ import annotations

import torch
from torch import Tensor

from ._extension import EXTENSION_BUILT, has_kernels
from .reference.heatmaps import draw_gaussians_reference, elliptical_heatmaps_reference


def elliptical_heatmaps(
    boxes: Tensor,
    view: Tensor,
    class_ids: Tensor,
    image_aug: Tensor,
    source_sizes: Tensor,
    *,
    num_classes: int,
    image_size: tuple[int, int],
    stride: int,
) -> Tensor:
    """Elliptical Gaussians of 2D boxes, seen through an affine map (SPEC.md section 10).

    Each box is a Gaussian on the pixels of its original image, of peak 1 at trunc(centre), with
    radii trunc(width / 2), trunc(height / 2) and sigma (2 radius + 1) / 4 along each axis, cut at
    the radii (where it is still above e^-4) and at the image's border; of several of a class the
    largest counts. That map is seen through ``image_aug`` with bilinear interpolation, and a cell
    is the mean of its four middle pixels. Only what these look at is evaluated, near the boxes.

    Shapes: M boxes of all views, V views, C classes, H x W network image.

    Args:
        boxes: (M, 4) x1, y1, x2, y2, pixels of the original image. A box with a value that is not
            finite, or of negative size, draws nothing; one of no size is one pixel.
        view: (M,) int64, 0 .. V - 1.
        class_ids: (M,) int64, 0 .. C - 1.
        image_aug: (V, 4, 4) original -> network image; only its affine map of (u, v) counts.
        source_sizes: (V, 2) int64 width and height of the original images, at most 2^20.
        num_classes: C.
        image_size: (H, W) of the network image.
        stride: pixels to a cell along each axis; even.

    Returns:
        (V, C, H // stride, W // stride) float32. No gradient.

    Raises:
        ValueError: shapes, dtypes, devices or indices do not fit together, or a matrix has no
            inverse.
    """
    arguments = (boxes, view, class_ids, image_aug, source_sizes)
    settings = (num_classes, image_size, stride)
    if has_kernels(boxes.device):
        return torch.ops.fsdbev.elliptical_heatmaps(*arguments, *settings)
    return elliptical_heatmaps_reference(*arguments, *settings)


def draw_gaussians(
    xy: Tensor, radius: Tensor, plane: Tensor, *, planes: int, shape: tuple[int, int]
) -> Tensor:
    """Peaks of height 1 and sigma ``(2 * radius + 1) / 6`` cells, cut to the square of that radius
    and at the border, the larger value where they overlap (SPEC.md section 8).

    Every value of a square is above the published cut at float epsilon times the peak.

    Args:
        xy: (P, 2) int64 center cells, on the grid.
        radius: (P,) int64, cells.
        plane: (P,) int64, the map each is drawn on, 0 .. planes - 1; those of plane -1 are not
            drawn, whatever their cell and radius.
        planes: number of maps.
        shape: (Y, X) cells of a map.

    Returns:
        (planes, Y, X) float32.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together, a center is off the grid, a
            radius is negative, or a plane is none of these.
    """
    arguments = (xy, radius, plane, planes, shape)
    if has_kernels(xy.device):
        return torch.ops.fsdbev.draw_gaussians(*arguments)
    return draw_gaussians_reference(*arguments)


def _fake_elliptical(boxes, view, class_ids, image_aug, source_sizes, classes, image_size, stride):
    if stride < 1:
        raise ValueError(f"stride must be even and positive, got {stride}")
    cells = (pixels // stride for pixels in image_size)
    return boxes.new_empty((image_aug.shape[0], classes, *cells), dtype=torch.float32)


def _fake_gaussians(xy, radius, plane, planes, shape):
    return xy.new_empty((planes, *shape), dtype=torch.float32)


if EXTENSION_BUILT:
    torch.library.register_fake("fsdbev::elliptical_heatmaps", _fake_elliptical)
    torch.library.register_fake("fsdbev::draw_gaussians", _fake_gaussians)
