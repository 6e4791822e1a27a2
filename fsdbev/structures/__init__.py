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
from .classes import (
    NUSCENES_CLASSES,
    OFFICIAL_SPLITS,
    TRAIN_HALVES,
    ClassGroup,
    ClassSet,
    check_split_name,
)
from .columns import Columns
from .grid import BEVGrid, DepthBins, flip_probabilities
from .labelled_boxes import LabelledBoxes
from .lens import LENS_MODELS, Lens
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
    "Cameras",
    "ClassGroup",
    "ClassSet",
    "Columns",
    "DepthBins",
    "TRAIN_HALVES",
    "INTRINSICS_RULE",
    "LENS_MODELS",
    "LabelledBoxes",
    "Lens",
    "MAX_IMAGE_SIDE",
    "NUSCENES_CLASSES",
    "OFFICIAL_SPLITS",
    "Rig",
    "is_intrinsics",
    "box_corners",
    "flip_probabilities",
    "check_split_name",
    "invert",
    "is_rigid",
    "is_rotation",
    "key_ego2global",
    "make_transform",
    "reference_camera",
    "rotation_z",
    "transform_points",
]
