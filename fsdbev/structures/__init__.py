"""Plain data: cameras, BEV grid and depth bins, 3D boxes, 4x4 transforms, class names. No I/O."""

from .boxes import BOX_DIM, Boxes3D
from .cameras import Cameras, key_ego2global, reference_camera
from .classes import CLASS_NAMES, TASKS
from .grid import BEVGrid, DepthBins
from .transforms import invert, make_transform, rotation_z, transform_points

__all__ = [
    "BOX_DIM",
    "BEVGrid",
    "Boxes3D",
    "CLASS_NAMES",
    "Cameras",
    "DepthBins",
    "TASKS",
    "invert",
    "key_ego2global",
    "make_transform",
    "reference_camera",
    "rotation_z",
    "transform_points",
]
