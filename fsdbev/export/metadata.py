"""Metadata of exported graphs: a description of inputs, outputs, model and post-processing.

Shapes: B samples, T frames (0 is the key frame), N cameras, K groups of classes, M candidates of a
group, R detections at most, C channels, D depth bins, (H, W) image size, (h, w) feature map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fsdbev import __version__
from fsdbev.modeling import FSDBEV
from fsdbev.modeling.center_head.decode import NMS_INPUT, NMS_OUTPUT
from fsdbev.structures import ClassGroup

from .graph import GraphOptions

#: Meaning of each input of a graph.
INPUTS = {
    "images": "RGB images of the network's size, 0 to 255; the graph normalises them. Images of "
    "all frames, the key frame first and then back in time, (B, T, N, 3, H, W); for a stream "
    "images of the key frame only, (B, N, 3, H, W)",
    "camera_vector": "camera parameters of the key frame, (B, N, 27): fx, fy, cx, cy of the "
    "original image; a00, a01, a03, a10, a11, a13 of image_aug; m00, m01, m10, m11, m22 of "
    "bev_aug; the first three rows of cam2keyego, row by row",
    "score_threshold": "scores of boxes are higher than this threshold",
    "undo_image_aug": "inverse of image_aug, (B, N, 4, 4): takes (u, v, depth) of the network "
    "image to the original image",
    "image2bev": "bev_aug @ cam2keyego @ inverse of the intrinsics for each frame, (B, T, N, 4, "
    "4): takes (u depth, v depth, depth) of the original image to the frame of the boxes, metres. "
    "cam2keyego takes points of a camera at the time of its frame to the key frame's ego",
    "cells": "index y * X + x of the BEV cell of each frustum point, -1 for points off the grid, "
    "(B, T, N, D, h, w), see frustum",
    "earlier_features": "output features of the earlier frames, the latest frame first, "
    "(B, T - 1, N, C, h, w)",
    "earlier_foreground": "output foreground of the earlier frames, (B, T - 1, N, h, w)",
    "has_earlier": "whether an earlier frame exists, (B, T - 1). The key frame replaces a missing "
    "frame: give the key frame's matrices or cells in its place; its features may be any values",
}
#: Meaning of each output, for graphs with and without NMS.
OUTPUTS = {
    "boxes": "x, y, z of the centre, length, width, height (metres), yaw (radians), velocity along "
    "x and y (m/s), in the key frame's ego after bev_aug",
    "scores": "0 to 1; -inf marks a slot without a box",
    "classes": "indices into class_names",
    "count": "number of detections of each sample. They are the first boxes, ordered by group and "
    "by descending score within a group; the values of all other boxes are meaningless",
    "features": "features of the key frame; pass them as earlier_features of later samples",
    "foreground": "foreground of the key frame; pass it as earlier_foreground of later samples",
}
CANDIDATES = (
    "boxes, scores and classes are (B, K, M): the best cells of each group of classes by "
    "descending score, before non-maximum suppression. The caller suppresses each sample and "
    "group, see groups"
)
FRUSTUM = (
    "frustum point (k, i, j) is at u = j (W - 1) / (w - 1), v = i (H - 1) / (h - 1) of the "
    "network image and depth start + k step. The inverse of image_aug takes (u, v, depth) to the "
    "original image; bev_aug @ cam2keyego @ inverse of the intrinsics takes (u depth, v depth, "
    "depth) of the original image to p, metres in the grid's frame. On each axis the cell is "
    "trunc((p - lower) / size), rounded toward zero. A point with 0 <= cell < count on all three "
    "axes is in cell y * X + x. All of this is computed in float64"
)


def describe_model(model: FSDBEV) -> dict[str, Any]:
    """Describes the classes, sizes, frames of reference and thresholds of a model."""
    head, grid, bins, classes = model.head, model.grid, model.depth_bins, model.classes
    return {
        "class_names": list(classes.names),
        "groups": [_describe_group(group) for group in classes.groups],
        "ranges": classes.ranges,
        "num_frames": model.num_frames,
        "grid": {
            "frame": "the key frame's ego after bev_aug, metres; the frame of boxes and cells",
            "lower": grid.lower,
            "size": grid.size,
            "count": grid.count,
        },
        "depth_bins": {"start": bins.start, "step": bins.step, "count": bins.count},
        "frustum": FRUSTUM,
        "normalisation": {
            "done_by": "the graph",
            "mean": model.pixel_mean.flatten().tolist(),
            "std": model.pixel_std.flatten().tolist(),
        },
        "thresholds": {
            "score": head.decoder.score_threshold,
            "foreground": model.view_transform.foreground_threshold,
            "depth_weight": model.view_transform.depth_threshold,
            "center_range": head.decoder.center_range,
        },
    }


def describe_graph(
    options: GraphOptions, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Describes the inputs and outputs of a graph: names, shapes, types and meanings."""
    return {
        "inputs": [_describe(name, value, INPUTS) for name, value in inputs.items()],
        "outputs": [_describe(name, value, OUTPUTS) for name, value in outputs.items()],
        "gives": "detections" if options.nms else CANDIDATES,
    }


def versions() -> dict[str, str]:
    """Returns the versions of this package and of PyTorch."""
    return {"fsdbev": __version__, "torch": torch.__version__}


def _describe(name: str, value: Tensor, meanings: Mapping[str, str]) -> dict[str, Any]:
    """Describes one input or output."""
    dtype = str(value.dtype).removeprefix("torch.")
    return {"name": name, "shape": list(value.shape), "dtype": dtype, "meaning": meanings[name]}


def _describe_group(group: ClassGroup) -> dict[str, Any]:
    """Describes the classes and the NMS of a group (docs/model.md, "Head, targets, decoding")."""
    if group.center_distance is not None:
        rule = {"distance": "of centres in x and y, metres", "at_most": group.center_distance}
    else:
        rule = {"overlap": "rotated IoU in BEV", "above": group.iou_threshold}
        rule["after_scaling_length_and_width_by"] = dict(zip(group.names, group.dim_scale))
    limits = {"best_taken": NMS_INPUT, "kept_at_most": NMS_OUTPUT}
    return {"class_names": list(group.names), "suppresses": rule | limits}
