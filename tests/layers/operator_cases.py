"""Small valid arguments of every registered operator, and its reference in plain PyTorch."""

import torch
from lift_splat_cases import scene
from nms_cases import random_boxes

from fsdbev.layers import frustum_cells
from fsdbev.layers.reference.heatmaps import draw_gaussians_reference, elliptical_heatmaps_reference
from fsdbev.layers.reference.lift_splat import (
    frustum_cells_reference,
    lift_splat_reference,
    splat_cells_reference,
)
from fsdbev.layers.reference.nms import grouped_nms_reference, rotated_iou_reference
from fsdbev.layers.resample import _turn


def splat_arguments(values):
    """Returns the arguments of lift_splat, frustum_cells and splat_cells in schema order."""
    *features, undo, image2bev, view, output, outputs, frustum, depth, foreground = values.values()
    geometry = (undo, image2bev, view)
    lift = [*features, *geometry, output, outputs, *frustum.arguments(), depth, foreground]
    sizes = (features[0].shape[2], list(features[0].shape[3:]))
    options = {"num_bins": sizes[0], "feature_size": tuple(sizes[1]), "frustum": frustum}
    table = frustum_cells(undo_image_aug=undo, image2bev=image2bev, view=view, **options)
    grid = [frustum.count[1], frustum.count[0]]
    splat = [*features, table, view, output, outputs, grid, depth, foreground]
    return lift, [*geometry, *sizes, *frustum.arguments()], splat


def arguments_of(name, seed=0):
    """Returns valid arguments of an operator, in the order of its schema."""
    if name.startswith(("lift", "frustum", "splat")):
        lift, frustum, splat = splat_arguments(scene(seed=seed))
        grad = torch.rand(2, 2, 5, 6, 9)
        return {
            "lift_splat": lift,
            "lift_splat_backward": [grad, *lift[:7], *lift[8:]],
            "frustum_cells": frustum,
            "splat_cells": splat,
            "splat_cells_backward": [grad, *splat[:6], *splat[7:]],
        }[name]
    generator = torch.Generator().manual_seed(seed)
    boxes, scores = random_boxes(3, 6, seed=seed)
    corners = torch.rand(5, 2, 2, generator=generator).sort(dim=1).values.flatten(1) * 60
    index = torch.tensor([0, 1, 0, 1, 1])
    aug = torch.eye(4).repeat(2, 1, 1) * torch.tensor([0.5, 0.7])[:, None, None]
    image = torch.randint(0, 256, (11, 17, 3), generator=generator, dtype=torch.uint8)
    return {
        "elliptical_heatmaps": [
            *(corners, index, index, aug, torch.tensor([[64, 48], [50, 60]])),
            *(2, [24, 32], 4),
        ],
        "draw_gaussians": [torch.tensor([[0, 1], [4, 2]]), index[:2] + 1, index[:2], 2, [4, 5]],
        "rotated_iou": [boxes, boxes[:, :4]],
        "grouped_nms": [boxes, scores, torch.full((3,), 0.2), torch.tensor([True, False] * 2)[1:]]
        + [5, 4],
        "resample_image": [image, [9, 7], [-1, 2], [8, 6], True, _turn(5.0, (8, 6))],
    }[name]


REFERENCES = {
    "lift_splat": lift_splat_reference,
    "lift_splat_backward": None,  # only shapes: gradients are compared in test_lift_splat.py
    "frustum_cells": frustum_cells_reference,
    "splat_cells": splat_cells_reference,
    "splat_cells_backward": None,
    "elliptical_heatmaps": elliptical_heatmaps_reference,
    "draw_gaussians": draw_gaussians_reference,
    "rotated_iou": rotated_iou_reference,
    "grouped_nms": grouped_nms_reference,
    "resample_image": None,  # Pillow accepts an angle, no fixed-point matrix: test_resample.py
}
