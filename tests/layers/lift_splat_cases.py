"""Small arguments of lift_splat, and the four implementations that must agree.

Shapes: S weight sets, V views, P (view, output) pairs, D depth bins, C channels, h x w features.
"""

from dataclasses import replace

import torch

from fsdbev.layers import (
    Frustum,
    frustum_cells,
    frustum_cells_reference,
    lift_splat,
    lift_splat_reference,
    splat_cells,
    splat_cells_reference,
)


def reference(weights, foreground, context, *, frustum, **rest):
    """Calls the reference with the operator's keywords."""
    geometry = (rest[k] for k in ("undo_image_aug", "image2bev", "view", "output", "num_outputs"))
    thresholds = (rest["depth_threshold"], rest["foreground_threshold"])
    return lift_splat_reference(
        weights, foreground, context, *geometry, *frustum.arguments(), *thresholds
    )


def through_cells(weights, foreground, context, *, undo_image_aug, image2bev, frustum, **rest):
    """Computes the cells, then the sums."""
    cells = frustum_cells(
        undo_image_aug=undo_image_aug,
        image2bev=image2bev,
        view=rest["view"],
        num_bins=weights.shape[2],
        feature_size=tuple(weights.shape[3:]),
        frustum=frustum,
    )
    grid_size = (frustum.count[1], frustum.count[0])
    return splat_cells(weights, foreground, context, cells, grid_size=grid_size, **rest)


def reference_through_cells(weights, foreground, context, *, frustum, **rest):
    """Computes both steps with their references."""
    matrices = (rest[k] for k in ("undo_image_aug", "image2bev", "view"))
    sizes = (weights.shape[2], tuple(weights.shape[3:]))
    cells = frustum_cells_reference(*matrices, *sizes, *frustum.arguments())
    pairs = (rest[k] for k in ("view", "output", "num_outputs"))
    thresholds = (rest["depth_threshold"], rest["foreground_threshold"])
    grid_size = (frustum.count[1], frustum.count[0])
    return splat_cells_reference(
        weights, foreground, context, cells, *pairs, grid_size, *thresholds
    )


ALL = {
    "op": lift_splat,
    "reference": reference,
    "cells": through_cells,
    "reference of cells": reference_through_cells,
}


def by_hand(**changes):
    """Arguments for expectations by hand; ``changes`` may include attributes of the frustum.

    One view of 1 x 3 features and two bins: u = 0, 2, 4 pixels, depth 1 and 3 m. BEV frame:
    x = depth, y = u * depth, on a 4 x 4 grid of cells 2 m long and 4 m wide from (0, 0).
    """
    image2bev = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0.5], [0, 0, 0, 1]])
    arguments = dict(
        weights=torch.tensor([0.5, 0.6, 0.7, 0.1, 0.2, 0.3]).reshape(1, 1, 2, 1, 3),
        foreground=torch.ones(1, 1, 1, 3),
        context=torch.tensor([[1.0, 10, 100], [-1, -10, -100]]).reshape(1, 2, 1, 3),
        undo_image_aug=torch.eye(4)[None],
        image2bev=image2bev[None],
        view=torch.tensor([0]),
        output=torch.tensor([0]),
        num_outputs=1,
        depth_threshold=0.0,
        foreground_threshold=0.0,
    )
    frustum = Frustum(
        image_size=(1, 5),
        depth_start=1.0,
        depth_step=2.0,
        lower=(0.0, 0.0, 0.0),
        size=(2.0, 4.0, 1.0),
        count=(4, 4, 1),
    )
    of_frustum = {name: changes.pop(name) for name in list(changes) if hasattr(frustum, name)}
    return {**arguments, "frustum": replace(frustum, **of_frustum), **changes}


def cells_of(bev):
    """Returns {(y, x): value of channel 0} of the cells that are not zero."""
    plane = bev[0, 0, 0]
    return {tuple(c): round(plane[tuple(c)].item(), 5) for c in plane.nonzero().tolist()}


def scene(
    sets=2, views=3, bins=7, channels=5, height=3, width=4, outputs=2, dtype=torch.float32, seed=0
):
    """Random cameras over a 9 x 6 grid, with BEV-paste pairs; about half of the points are used."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    view_to_bev = 2 * views
    undo = torch.eye(4).double() + 0.05 * (rand(views, 4, 4) - 0.5)
    undo[:, 3] = torch.tensor([0.0, 0, 0, 1])
    image2bev = 2 * (rand(view_to_bev, 4, 4) - 0.5)
    image2bev[:, :, :2] /= 10
    return dict(
        weights=rand(sets, views, bins, height, width).to(dtype),
        foreground=rand(sets, views, height, width).to(dtype),
        context=(rand(views, channels, height, width) - 0.5).to(dtype),
        undo_image_aug=undo,
        image2bev=image2bev,
        view=torch.arange(view_to_bev) % views if views else torch.zeros(0, dtype=torch.int64),
        output=torch.arange(view_to_bev) % outputs,
        num_outputs=outputs,
        frustum=Frustum(
            image_size=(16 * height, 16 * width),
            depth_start=1.0,
            depth_step=0.5,
            lower=(-9.0, -6.0, -5.0),
            size=(2.0, 2.0, 8.0),
            count=(9, 6, 1),
        ),
        depth_threshold=0.3,
        foreground_threshold=0.3,
    )


def gradients(op, arguments):
    """Returns the BEV features and the gradients of weights and context."""
    leaves = {k: arguments[k].detach().clone().requires_grad_() for k in ("weights", "context")}
    bev = op(**{**arguments, **leaves})
    (bev * torch.linspace(-1, 1, bev.numel(), dtype=bev.dtype).view_as(bev)).sum().backward()
    return bev.detach(), leaves["weights"].grad, leaves["context"].grad
