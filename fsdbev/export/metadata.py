"""What stands beside exported graphs: everything that one needs to know to run them.

Shapes: B samples, T frames (0 is the key frame), N cameras, K tasks, M candidates of a task,
R detections at most, C channels, D depth bins, (H, W) image size, (h, w) feature map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fsdbev import __version__
from fsdbev.modeling import FSDBEV
from fsdbev.modeling.center_head.decode import NMS_INPUT, NMS_OUTPUT, CenterTask, CircleNMS

from .graph import GraphOptions

#: What the inputs of a graph mean.
INPUTS = {
    "images": "RGB, 0 to 255, of the network's size; the graph normalises them. All frames, the "
    "key frame first and then back in time, (B, T, N, 3, H, W); of a stream the key frame's alone, "
    "(B, N, 3, H, W)",
    "camera_vector": "of the key frame, (B, N, 27): fx, fy, cx, cy of the original image; a00, "
    "a01, a03, a10, a11, a13 of image_aug; m00, m01, m10, m11, m22 of bev_aug; the first three "
    "rows of cam2keyego, row by row",
    "score_threshold": "boxes must score higher",
    "undo_image_aug": "inverse of image_aug, (B, N, 4, 4): network image (u, v, depth) -> original "
    "image",
    "image2bev": "bev_aug @ cam2keyego @ inverse of the intrinsics, of every frame, (B, T, N, 4, "
    "4): (u depth, v depth, depth) of the original image -> the frame of the boxes, metres. "
    "cam2keyego takes points of a camera at the time of its frame to the key frame's ego",
    "cells": "number y * X + x of the BEV cell of every frustum point, -1 off the grid, (B, T, N, "
    "D, h, w), see frustum",
    "earlier_features": "features that the graph gave for the earlier frames, the latest first, "
    "(B, T - 1, N, C, h, w)",
    "earlier_foreground": "foreground that it gave for them, (B, T - 1, N, h, w)",
    "has_earlier": "false where there is no such frame, (B, T - 1): the key frame stands in for it "
    "(give its matrices or cells too), and its features may hold anything",
}
#: What the outputs mean, with NMS in the graph or without.
OUTPUTS = {
    "boxes": "x, y, z of the centre, length, width, height (metres), yaw (radians), velocity along "
    "x and y (metres a second), in the key frame's ego frame as bev_aug leaves it",
    "scores": "0 to 1; -inf: no box",
    "classes": "places in class_names",
    "count": "so many boxes of a sample are detections, the first ones; the others mean nothing. "
    "By task, and by descending score within a task",
    "features": "to be kept: earlier_features of samples to come",
    "foreground": "to be kept: earlier_foreground of samples to come",
}
CANDIDATES = (
    "boxes, scores and classes are (B, K, M): the best cells of every task by descending score, "
    "before non-maximum suppression, which the user does for every sample and task, see tasks"
)
FRUSTUM = (
    "frustum point (k, i, j) lies at u = j (W - 1) / (w - 1), v = i (H - 1) / (h - 1) of the "
    "network image, depth start + k step. The inverse of image_aug takes (u, v, depth) to the "
    "original image, bev_aug @ cam2keyego @ inverse of the intrinsics takes (u depth, v depth, "
    "depth) of that to p, metres of the grid's frame. On each axis its cell is trunc((p - lower) / "
    "size), toward zero; where 0 <= cell < count on all three axes it lies in cell y * X + x. "
    "Computed in float64"
)


def describe_model(model: FSDBEV) -> dict[str, Any]:
    """The model's sizes, frames of reference and thresholds."""
    head, grid, bins = model.head, model.grid, model.depth_bins
    names = _class_names(head.tasks, head.class_ids)
    return {
        "class_names": names,
        "tasks": [_describe_task(task) for task in head.tasks],
        "num_frames": model.num_frames,
        "grid": {
            "frame": "key frame's ego, metres; boxes and cells are in it",
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
            "depth_weight": 1 / bins.count,
            "center_range": head.decoder.center_range,
        },
    }


def describe_graph(
    options: GraphOptions, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Names, shapes, types and meanings of what a graph takes and gives."""
    return {
        "inputs": [_describe(name, value, INPUTS) for name, value in inputs.items()],
        "outputs": [_describe(name, value, OUTPUTS) for name, value in outputs.items()],
        "gives": "detections" if options.nms else CANDIDATES,
    }


def versions() -> dict[str, str]:
    return {"fsdbev": __version__, "torch": torch.__version__}


def _describe(name: str, value: Tensor, meanings: Mapping[str, str]) -> dict[str, Any]:
    dtype = str(value.dtype).removeprefix("torch.")
    return {"name": name, "shape": list(value.shape), "dtype": dtype, "meaning": meanings[name]}


def _class_names(tasks: tuple[CenterTask, ...], class_ids: list[list[int]]) -> list[str]:
    named = {i: n for task, ids in zip(tasks, class_ids) for i, n in zip(ids, task.class_names)}
    return [named[i] for i in sorted(named)]


def _describe_task(task: CenterTask) -> dict[str, Any]:
    if isinstance(task.nms, CircleNMS):
        rule = {"distance": "squared, of centres in x and y", "at_most": task.nms.squared_distance}
    else:
        scale = dict(zip(task.class_names, task.nms.dim_scale))
        rule = {"overlap": "rotated IoU in BEV", "above": task.nms.iou_threshold}
        rule["after_scaling_length_and_width_by"] = scale
    limits = {"best_taken": NMS_INPUT, "kept_at_most": NMS_OUTPUT}
    return {"class_names": list(task.class_names), "suppresses": rule | limits}
