"""Reference implementation of the target heatmaps in plain PyTorch.

Shapes: M boxes, V views, C classes, (h, w) = (2 (H // stride), 2 (W // stride)) middle pixels, P
peaks, (Y, X) BEV grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_not_negative, check_range, check_tensors

#: Largest number of pixels along an axis of an original image; the kernels have the same limit.
_LARGEST_IMAGE = 2**20
#: Number of peaks drawn at a time; bounds the memory of drawing to (_CHUNK, Y, X) floats.
_CHUNK = 256


def elliptical_heatmaps_reference(
    boxes: Tensor,
    view: Tensor,
    class_ids: Tensor,
    image_aug: Tensor,
    source_sizes: Tensor,
    num_classes: int,
    image_size: tuple[int, int],
    stride: int,
) -> Tensor:
    """See :func:`fsdbev.layers.elliptical_heatmaps`."""
    _check_elliptical_heatmaps(
        boxes, view, class_ids, image_aug, source_sizes, num_classes, image_size, stride
    )
    rows, columns = (pixels // stride for pixels in image_size)
    boxes = boxes.double()
    drawn = boxes.isfinite().all(dim=1) & (boxes[:, :2] <= boxes[:, 2:]).all(dim=1)
    result = boxes.new_zeros(len(image_aug), num_classes, rows, columns, dtype=torch.float32)
    for v, size in enumerate(source_sizes.tolist()):
        left, top, weights = _bilinear_grid(image_aug[v].double(), size, rows, columns, stride)
        for class_id in class_ids[drawn & (view == v)].unique().tolist():
            # The maximum over boxes is taken at the neighbours, before the interpolation.
            neighbours = torch.zeros_like(weights)
            for box in boxes[drawn & (view == v) & (class_ids == class_id)]:
                x = _elliptical_1d(box[0], box[2], size[0])
                y = _elliptical_1d(box[1], box[3], size[1])
                along_x, along_y = (x[left], x[left + 1]), (y[top], y[top + 1])
                for corner, largest in enumerate(neighbours):
                    largest.copy_(largest.maximum(along_x[corner % 2] * along_y[corner // 2]))
            pixels = (neighbours * weights).sum(dim=0)
            result[v, class_id] = pixels.unflatten(1, (-1, 2)).unflatten(0, (-1, 2)).mean((1, 3))
    return result


def _bilinear_grid(
    image_aug: Tensor, size: list[int], rows: int, columns: int, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Maps the middle 2 x 2 pixels of every cell to the original image of (width, height).

    Returns:
        (h, w) int64 index of the left neighbour and of the top neighbour, to use with
        :func:`_elliptical_1d`, and (4, h, w) float32 bilinear weights of (left, top), (right, top),
        (left, bottom), (right, bottom).
    """
    x, y = (_middle_pixels(cells, stride, image_aug.device) for cells in (columns, rows))
    (a, b, _, c), (d, e, _, f) = image_aug[:2]
    determinant = a * e - b * d
    uv = []
    for p, q, length in ((e, -b, size[0]), (-d, a, size[1])):
        p, q = p / determinant, q / determinant
        position = p * x[None, :] + q * y[:, None] - (p * c + q * f)
        uv.append(position.clamp(-1, length))  # farther out all values are 0
    left, top = (position.floor() for position in uv)
    # float32 from here on, in the kernels' order of operations, so that both round alike.
    right_part, bottom_part = (uv[0] - left).float(), (uv[1] - top).float()
    both = right_part * bottom_part
    bottom, right = bottom_part - both, right_part - both
    weights = torch.stack([1 - right_part - bottom, right, bottom, both])
    return left.long() + 1, top.long() + 1, weights


def _middle_pixels(cells: int, stride: int, device: torch.device) -> Tensor:
    """Returns the (2 cells,) float64 middle pixels of one axis, two per cell."""
    first = torch.arange(cells, dtype=torch.float64, device=device) * stride + stride // 2 - 1
    return torch.stack([first, first + 1], dim=1).flatten()


def _elliptical_1d(start: Tensor, stop: Tensor, size: int) -> Tensor:
    """Evaluates a box's Gaussian along one axis at the pixels -1 .. size + 1, float32.

    The values are 0 beyond the radius and outside the image 0 .. size - 1.
    """
    centre, radius = ((start + stop) / 2).trunc(), ((stop - start) / 2).trunc()
    # Positions are clamped to -1 .. size, and their right neighbour is one pixel farther.
    position = torch.arange(-1, size + 2, dtype=torch.float64, device=start.device)
    offset = position - centre
    # -offset^2 / (2 sigma^2) with sigma = (2 radius + 1) / 4.
    values = torch.exp(-8 * (offset / (2 * radius + 1)).square()).float()
    outside = (offset.abs() > radius) | (position < 0) | (position >= size)
    return values.masked_fill(outside, 0)


def draw_gaussians_reference(
    xy: Tensor, radius: Tensor, plane: Tensor, planes: int, shape: tuple[int, int]
) -> Tensor:
    """See :func:`fsdbev.layers.draw_gaussians`."""
    _check_draw_gaussians(xy, radius, plane, planes, shape)
    maps = torch.zeros(planes + 1, *shape, device=xy.device)  # the last one takes skipped peaks
    plane = torch.where(plane < 0, planes, plane)
    for part in torch.arange(len(xy), device=xy.device).split(_CHUNK):
        along_x = _gaussian_1d(xy[part, 0], radius[part], shape[1])
        along_y = _gaussian_1d(xy[part, 1], radius[part], shape[0])
        peaks = along_y[:, :, None] * along_x[:, None, :]
        maps.scatter_reduce_(0, plane[part, None, None].expand_as(peaks), peaks, "amax")
    return maps[:-1]


def _gaussian_1d(center: Tensor, radius: Tensor, length: int) -> Tensor:
    """Evaluates (P, length) float32 Gaussians of (P,) centers; zero beyond the (P,) radii."""
    # Each axis is rounded to float32 before the product, as in the kernels.
    center, radius = center.double()[:, None], radius.double()[:, None]
    distance = torch.arange(length, device=center.device) - center
    values = torch.exp(-distance.square() / (2 * ((2 * radius + 1) / 6).square()))
    return (values * (distance.abs() <= radius)).float()


def _check_elliptical_heatmaps(
    boxes: Tensor,
    view: Tensor,
    class_ids: Tensor,
    image_aug: Tensor,
    source_sizes: Tensor,
    num_classes: int,
    image_size: tuple[int, int],
    stride: int,
) -> None:
    if image_aug.dim() != 3 or image_aug.shape[1:] != (4, 4):
        raise ValueError(f"image_aug must be (V, 4, 4), got {tuple(image_aug.shape)}")
    views = image_aug.shape[0]
    number = boxes.shape[0] if boxes.dim() else 0
    check_tensors(
        {
            "boxes": (boxes, (number, 4), None),
            "view": (view, (number,), torch.int64),
            "class_ids": (class_ids, (number,), torch.int64),
            "image_aug": (image_aug, (views, 4, 4), None),
            "source_sizes": (source_sizes, (views, 2), torch.int64),
        }
    )
    check_not_negative(num_classes=num_classes)
    if len(image_size) != 2 or min(image_size) < 0:
        raise ValueError(f"image_size must be (H, W), not negative, got {tuple(image_size)}")
    if stride < 2 or stride % 2:
        raise ValueError(f"stride must be even and positive, got {stride}")
    check_range("view", view, 0, views)
    check_range("class_ids", class_ids, 0, num_classes)
    check_range("source_sizes", source_sizes, 0, _LARGEST_IMAGE + 1)
    affine = image_aug.double()[:, :2, [0, 1, 3]]
    has_inverse = affine.isfinite().all(dim=(1, 2)) & (affine[:, :, :2].det() != 0)
    if not has_inverse.all():
        bad = has_inverse.int().argmin().item()
        raise ValueError(f"image_aug[{bad}] must have an inverse; it has none on (u, v)")


def _check_draw_gaussians(
    xy: Tensor, radius: Tensor, plane: Tensor, planes: int, shape: tuple[int, int]
) -> None:
    if xy.dim() != 2 or xy.shape[1] != 2:
        raise ValueError(f"xy must be (P, 2), got {tuple(xy.shape)}")
    for name, tensor in (("radius", radius), ("plane", plane)):
        if tensor.shape != xy.shape[:1]:
            raise ValueError(
                f"{name} must be (P,) beside xy {tuple(xy.shape)}, got {tuple(tensor.shape)}"
            )
    tensors = {"xy": xy, "radius": radius, "plane": plane}
    check_tensors({name: (value, value.shape, torch.int64) for name, value in tensors.items()})
    check_not_negative(planes=planes)
    if len(shape) != 2 or min(shape) < 0:
        raise ValueError(f"shape must be (Y, X), not negative, got {tuple(shape)}")
    check_range("plane", plane, -1, planes)
    drawn = plane >= 0
    if (radius[drawn] < 0).any():
        raise ValueError(f"radius must not be negative, got {radius[drawn].min().item()}")
    check_range("xy's x", xy[drawn, 0], 0, shape[1])
    check_range("xy's y", xy[drawn, 1], 0, shape[0])
