"""Operators: typed functions over compiled kernels, each with a reference implementation.

The kernels in ``csrc/`` are built at installation if a compiler is available. Without them the
references in plain PyTorch or Pillow run instead, after one warning.
"""

from ._extension import EXTENSION_BUILT
from .heatmaps import draw_gaussians, elliptical_heatmaps
from .lift_splat import Frustum, frustum_cells, lift_splat, splat_cells
from .nms import circle_nms, grouped_nms, rotated_iou, rotated_nms
from .reference.heatmaps import draw_gaussians_reference, elliptical_heatmaps_reference
from .reference.lift_splat import (
    frustum_cells_reference,
    lift_splat_reference,
    passes_thresholds,
    splat_cells_reference,
)
from .reference.nms import grouped_nms_reference, rotated_iou_reference
from .reference.resample import resample_image_reference
from .resample import resample_image

__all__ = [
    "EXTENSION_BUILT",
    "Frustum",
    "circle_nms",
    "draw_gaussians",
    "draw_gaussians_reference",
    "elliptical_heatmaps",
    "elliptical_heatmaps_reference",
    "frustum_cells",
    "frustum_cells_reference",
    "grouped_nms",
    "grouped_nms_reference",
    "lift_splat",
    "lift_splat_reference",
    "resample_image",
    "resample_image_reference",
    "rotated_iou",
    "rotated_iou_reference",
    "rotated_nms",
    "splat_cells",
    "splat_cells_reference",
    "passes_thresholds",
]
