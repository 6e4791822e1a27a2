"""Cases of the heatmaps that training aims at: in the images, and on the BEV grid."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.layers import (
    draw_gaussians,
    draw_gaussians_reference,
    elliptical_heatmaps,
    elliptical_heatmaps_reference,
)
from fsdbev.modeling.center_head.targets import center_targets
from fsdbev.structures import CLASS_NAMES, TASKS, BEVGrid, Boxes3D

from .interleaved import Case, Values, bytes_of, farther_than
from .reference_heatmaps import reference_center_targets, reference_heatmaps
from .surround_view import SOURCE, Sizes

_STRIDE = 4
_CLASSES = len(CLASS_NAMES)
#: The published code warps in steps of 1/32 pixel (SPEC.md section 9).
_WARPING_TOLERANCE = 1e-2
_TOLERANCE = 1e-5
_TASKS = [[CLASS_NAMES.index(name) for name in task] for task in TASKS]
_TARGETS = {"tasks": _TASKS, "min_radius": 2, "min_overlap": 0.1, "max_boxes": 500}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image-boxes", type=int, default=10, help="2D boxes in an image")
    parser.add_argument("--sample-boxes", type=int, default=60, help="3D boxes in a sample")


def heading(args: argparse.Namespace, sizes: Sizes) -> str:
    rows, columns = (size // _STRIDE for size in sizes.image_size)
    maps = f"{SOURCE[1]}x{SOURCE[0]} -> {rows}x{columns}, {_CLASSES} classes"
    return f"{maps}; BEV {sizes.grid}x{sizes.grid}"


def cases(args: argparse.Namespace, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """One camera and a whole rig; maps and targets of the largest batch."""
    for views in dict.fromkeys((1, sizes.views)):
        yield _images_case(sizes, views, args.image_boxes, device)
    grid = BEVGrid(cell=102.4 / sizes.grid)
    yield _gaussians_case(grid, max(args.batch), args.sample_boxes, device)
    yield _targets_case(grid, max(args.batch), args.sample_boxes, device)


def _images_case(sizes: Sizes, views: int, number: int, device: torch.device) -> Case:
    generator = torch.Generator().manual_seed(0)
    source = torch.tensor(SOURCE)
    center = torch.rand(views * number, 2, generator=generator) * source
    half = 8 + torch.rand(views * number, 2, generator=generator) * source / 8
    boxes = torch.cat([(center - half).clamp(min=0), (center + half).minimum(source)], dim=1)
    class_ids = torch.randint(_CLASSES, (len(boxes),), generator=generator)
    view = torch.arange(views).repeat_interleave(number)
    image_aug = sizes.cameras(1, torch.device("cpu")).image_aug[0, :views]
    inputs = (boxes, view, class_ids, image_aug, source.expand(views, 2))
    arguments = tuple(tensor.to(device) for tensor in inputs)
    settings = {"num_classes": _CLASSES, "image_size": sizes.image_size, "stride": _STRIDE}
    sides = {
        "ours": lambda: elliptical_heatmaps(*arguments, **settings),
        "twin": lambda: elliptical_heatmaps_reference(*arguments, **settings),
        "reference": lambda: reference_heatmaps(*inputs, **settings),
    }
    cells = math.prod(size // _STRIDE for size in sizes.image_size)
    moved = views * _CLASSES * cells * torch.float32.itemsize + bytes_of(*inputs)
    name = f"{views} camera{'s' if views > 1 else ''}, {number} boxes each"
    return Case("elliptical_heatmaps", name, sides, farther_than(_WARPING_TOLERANCE), (moved,))


def _gaussians_case(grid: BEVGrid, batch: int, number: int, device: torch.device) -> Case:
    generator = torch.Generator().manual_seed(0)
    planes = batch * _CLASSES
    inputs = [
        torch.randint(limit, shape, generator=generator)
        for limit, shape in (
            (min(grid.shape), (batch * number, 2)),
            (6, (batch * number,)),
            (planes, (batch * number,)),
        )
    ]
    xy, radius, plane = (tensor.to(device) for tensor in inputs)
    settings = {"planes": planes, "shape": grid.shape}
    sides = {
        "ours": lambda: draw_gaussians(xy, radius, plane, **settings),
        "twin": lambda: draw_gaussians_reference(xy, radius, plane, **settings),
    }
    moved = (planes * math.prod(grid.shape) * torch.float32.itemsize + bytes_of(*inputs),)
    name = f"{batch} samples, {number} boxes each"
    return Case("draw_gaussians", name, sides, farther_than(_TOLERANCE), moved)


def _targets_case(grid: BEVGrid, batch: int, number: int, device: torch.device) -> Case:
    generator = torch.Generator().manual_seed(0)
    instances = [_objects(number, grid, generator) for _ in range(batch)]

    def ours() -> Values:
        targets = center_targets(instances, grid=grid, device=device, **_TARGETS)
        return (*targets.heatmaps, targets.regression, targets.task, targets.cell)

    def reference() -> Values:
        return reference_center_targets(instances, grid=grid, device=device, **_TARGETS)

    maps = batch * _CLASSES * math.prod(grid.shape) * torch.float32.itemsize
    moved = maps + sum(bytes_of(i.gt_boxes_3d.tensor, i.gt_classes) for i in instances)
    name = f"{batch} samples, {number} boxes each"
    sides = {"ours": ours, "reference": reference}
    return Case("center_targets", name, sides, farther_than(_TOLERANCE), (moved,))


def _objects(number: int, grid: BEVGrid, generator: torch.Generator) -> Instances:
    """Objects that stand on the grid."""

    def uniform(low: Tensor, high: Tensor) -> Tensor:
        return low + (high - low) * torch.rand(number, len(low), generator=generator)

    place = torch.tensor([*grid.x_range, *grid.y_range]).view(2, 2) * 0.99
    size = torch.tensor([[0.5, 8.0], [0.5, 2.5], [1.2, 3.0]])
    rest = torch.tensor([[-math.pi, math.pi], [-8.0, 8.0], [-8.0, 8.0]])
    height = torch.tensor([[-1.0, 1.0]])
    low, high = torch.cat([place, height, size, rest]).T
    instances = Instances((0, 0))
    instances.gt_boxes_3d = Boxes3D(uniform(low, high))
    instances.gt_classes = torch.randint(_CLASSES, (number,), generator=generator)
    return instances
