"""Data structures without I/O: cameras, rigs, BEV grid, depth bins, boxes, transforms, classes."""

from .boxes import BOX_DIM, BOX_EDGES, Boxes3D, box_corners
from .cameras import (
    CAMERA_AXES,
    INTRINSICS_RULE,
    Cameras,
    is_intrinsics,
    key_ego2global,
    reference_camera,
)
from .classes import CLASS_NAMES, OFFICIAL_SPLITS, TASKS, TRAIN_HALVES
from .columns import Columns
from .grid import BEVGrid, DepthBins
from .labelled_boxes import LabelledBoxes
from .rig import MAX_IMAGE_SIDE, Rig
from .rigid_transforms import (
    invert,
    is_rigid,
    is_rotation,
    make_transform,
    rotation_z,
    transform_points,
)

__all__ = [
    "BOX_DIM",
    "BOX_EDGES",
    "BEVGrid",
    "Boxes3D",
    "CAMERA_AXES",
    "CLASS_NAMES",
    "Cameras",
    "Columns",
    "DepthBins",
    "TRAIN_HALVES",
    "INTRINSICS_RULE",
    "LabelledBoxes",
    "MAX_IMAGE_SIDE",
    "OFFICIAL_SPLITS",
    "Rig",
    "TASKS",
    "is_intrinsics",
    "box_corners",
    "invert",
    "is_rigid",
    "is_rotation",
    "key_ego2global",
    "make_transform",
    "reference_camera",
    "rotation_z",
    "transform_points",
]
