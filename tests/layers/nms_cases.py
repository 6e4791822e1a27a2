"""Boxes for the tests of rotated IoU and NMS, and shapely's opinion of them."""

import pytest
import shapely
import torch

from fsdbev.layers import EXTENSION_BUILT
from fsdbev.layers._extension import KERNEL_DEVICES

needs_extension = pytest.mark.skipif(not EXTENSION_BUILT, reason="compiled operators not built")
needs_cuda = pytest.mark.skipif(
    "cuda" not in KERNEL_DEVICES or not torch.cuda.is_available(),
    reason="needs a CUDA device and kernels for it",
)


def random_boxes(*shape, seed=0, dtype=torch.float32):
    """(*shape, 5) boxes, many of which overlap, and (*shape) scores."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([6.0, 6.0, 5.0, 3.0, 7.0], dtype=torch.float64)
    shift = torch.tensor([-3.0, -3.0, 0.1, 0.1, -3.5], dtype=torch.float64)
    boxes = torch.rand(*shape, 5, generator=generator, dtype=torch.float64) * scale + shift
    return boxes.to(dtype), torch.rand(*shape, generator=generator)


def polygons(boxes):
    """(M, 5) boxes -> M polygons of shapely."""
    x, y, length, width, yaw = boxes.double().unbind(dim=1)
    along = torch.stack([yaw.cos(), yaw.sin()], dim=1) * length[:, None] / 2
    aside = torch.stack([-yaw.sin(), yaw.cos()], dim=1) * width[:, None] / 2
    corners = torch.stack([along + aside, aside - along, -along - aside, along - aside], dim=1)
    return shapely.polygons((torch.stack([x, y], dim=1)[:, None] + corners).numpy())


def shapely_iou(a, b):
    """IoU of (M, 5) boxes with (M, 5) boxes, pair by pair; (M,) float64, good to 1e-8.

    Without a grid for its corners, GEOS finds nothing common to some pairs of almost equal boxes.
    """
    a, b = polygons(a), polygons(b)
    overlap = shapely.area(shapely.intersection(a, b, grid_size=1e-10))
    return torch.from_numpy(overlap / (shapely.area(a) + shapely.area(b) - overlap))


def shapely_nms(boxes, scores, threshold):
    """Indices of (M, 5) boxes that greedy suppression keeps."""
    keep = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all(shapely_iou(boxes[[k]], boxes[[i]]) <= threshold for k in keep):
            keep.append(i)
    return keep
