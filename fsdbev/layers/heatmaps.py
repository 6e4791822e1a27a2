"""Target heatmaps: elliptical Gaussians of 2D boxes in images, Gaussian peaks on the BEV grid.

Shapes: M boxes of all views, V views, C classes, (H, W) network image, P peaks, (Y, X) BEV grid.
"""

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
    """Draws elliptical Gaussians of 2D boxes, sampled through an affine map.

    See docs/model.md, "Training data".

    Each box is a Gaussian on the pixels of its original image with peak 1 at trunc(centre), radii
    trunc(width / 2) and trunc(height / 2), and sigma (2 radius + 1) / 4 along each axis. It is cut
    at the radii, where its value is still above e^-4, and at the image border. Overlapping boxes of
    a class are combined by the maximum. The map is sampled through ``image_aug`` with bilinear
    interpolation, and a cell is the mean of its four middle pixels. Only pixels near the boxes
    are evaluated.

    Args:
        boxes: (M, 4) x1, y1, x2, y2, pixels of the original image. Boxes with a non-finite value or
            a negative size are skipped; a box of size zero is one pixel.
        view: (M,) int64 view of each box, 0 .. V - 1.
        class_ids: (M,) int64 class of each box, 0 .. C - 1.
        image_aug: (V, 4, 4) original -> network image; only its affine map of (u, v) is used.
        source_sizes: (V, 2) int64 width and height of the original images, at most 2^20.
        num_classes: C.
        image_size: (H, W) of the network image.
        stride: pixels per cell along each axis; even.

    Returns:
        (V, C, H // stride, W // stride) float32, without gradient.

    Raises:
        ValueError: shapes, dtypes, devices or indices are inconsistent, or a matrix is singular.
    """
    arguments = (boxes, view, class_ids, image_aug, source_sizes)
    settings = (num_classes, image_size, stride)
    if has_kernels(boxes.device):
        return torch.ops.fsdbev.elliptical_heatmaps(*arguments, *settings)
    return elliptical_heatmaps_reference(*arguments, *settings)


def draw_gaussians(
    xy: Tensor, radius: Tensor, plane: Tensor, *, planes: int, shape: tuple[int, int]
) -> Tensor:
    """Draws Gaussian peaks on BEV maps (docs/model.md, "Head, targets, decoding").

    Peaks have height 1 and sigma ``(2 * radius + 1) / 6`` cells. They are cut to the square of the
    radius and at the border of the map, and combined by the maximum.

    Args:
        xy: (P, 2) int64 center cells on the grid.
        radius: (P,) int64 radius in cells.
        plane: (P,) int64 map of each peak, 0 .. planes - 1. Peaks of plane -1 are skipped; their
            cell and radius are not checked.
        planes: number of maps.
        shape: (Y, X) cells of a map.

    Returns:
        (planes, Y, X) float32.

    Raises:
        ValueError: shapes, dtypes or devices are inconsistent, a center is off the grid, a radius
            is negative, or a plane is out of range.
    """
    # The release zeroes values below float epsilon times the peak. Inside the square none is so
    # small: at a corner, 3 sigma from the center along each axis, the value is at least e^-9.
    arguments = (xy, radius, plane, planes, shape)
    if has_kernels(xy.device):
        return torch.ops.fsdbev.draw_gaussians(*arguments)
    return draw_gaussians_reference(*arguments)


def _fake_elliptical(boxes, view, class_ids, image_aug, source_sizes, classes, image_size, stride):
    # Fake functions run without the kernel's checks; a stride of 0 would divide by zero below.
    if stride < 1:
        raise ValueError(f"stride must be even and positive, got {stride}")
    cells = (pixels // stride for pixels in image_size)
    return boxes.new_empty((image_aug.shape[0], classes, *cells), dtype=torch.float32)


def _fake_gaussians(xy, radius, plane, planes, shape):
    return xy.new_empty((planes, *shape), dtype=torch.float32)


if EXTENSION_BUILT:
    torch.library.register_fake("fsdbev::elliptical_heatmaps", _fake_elliptical)
    torch.library.register_fake("fsdbev::draw_gaussians", _fake_gaussians)
