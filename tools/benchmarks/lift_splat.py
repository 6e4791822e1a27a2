"""Benchmark cases of the view transform: lift_splat, and splat_cells with precomputed cells.

Shapes: S weight sets, B samples, N cameras, V = B N views, D depth bins, C channels, h x w feature
map.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from oracles.view_transform import PublishedViewTransform
from torch import Tensor

from fsdbev.data.fake import fake_samples
from fsdbev.layers import (
    Frustum,
    frustum_cells,
    lift_splat,
    lift_splat_reference,
    splat_cells,
    splat_cells_reference,
)
from fsdbev.modeling.bev_paste import BEVPaste
from fsdbev.modeling.view_transform import ViewToBEV
from fsdbev.structures import BEVGrid, Cameras

from .turns import Case, Side, shapes_differ

_DEPTHS = (1.0, 60.0)
_FOREGROUND_THRESHOLD = 0.1
#: Largest difference in a channel between equal cells, relative to the map's largest value.
_CELL_TOLERANCE = 1e-4
#: Fraction of cells that must be equal. The published geometry is float32, which puts a few frustum
#: points into a neighbouring cell.
_MIN_EQUAL = 0.999
#: The reference loops over splats and is slow with more frustum points than this.
_SLOW_POINTS = 1_000_000
#: Largest difference of two gradients, relative to one of them (L2 norms).
_GRADIENT_TOLERANCE = 1e-2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--bins", type=int, default=118, help="depth bins (default: 118)")
    add("--channels", type=int, default=80, help="context channels (default: 80)")
    kept = "fractions of points above the depth threshold (default: 0.02 0.7)"
    add("--kept", type=float, nargs="+", default=(0.02, 0.7), help=kept)


def cases(args: argparse.Namespace, device: torch.device) -> Iterator[Case]:
    """Yields cases of all batch sizes and kept fractions, of BEV-paste, and of static rigs."""
    for batch in args.batch:
        for kept in args.kept:
            yield _lift_splat_case(_scene(args, device, batch, kept))
    yield _lift_splat_case(_scene(args, device, max(args.batch), args.kept[0], pasted=True))
    for kept in args.kept:
        yield _splat_cells_case(_scene(args, device, args.batch[0], kept))


@dataclass(frozen=True)
class _Scene:
    """Inputs of the view transform.

    Attributes:
        name: description for the table.
        features: (S, V, D, h, w) weights, (S, V, h, w) foreground and (V, C, h, w) context.
        geometry: the matrices ``undo_image_aug`` and ``image2bev``.
        rest: keyword arguments that lift_splat and splat_cells share.
        frustum: depths of the frustum points, and the BEV grid.
        published: the published algorithm for the same cameras.
        cells: (P, D, h, w) int32 cell of each frustum point.
    """

    name: str
    features: tuple[Tensor, Tensor, Tensor]
    geometry: dict[str, Tensor]
    rest: dict[str, Any]
    frustum: Frustum
    published: PublishedViewTransform
    cells: Tensor


def _scene(
    args: argparse.Namespace, device: torch.device, batch: int, kept: float, pasted: bool = False
) -> _Scene:
    """Makes random inputs.

    Args:
        args: arguments of the command line.
        device: device of the inputs.
        batch: B.
        kept: fraction of points above the depth threshold.
        pasted: whether there are two weight sets, and BEV-paste adds each sample's successor.
    """
    generator = torch.Generator().manual_seed(0)
    image_size, feature_size = tuple(args.image_size), _feature_size(args)
    size = {"num_frames": 1, "num_cameras": args.views, "image_size": image_size}
    cameras = Cameras.from_samples(fake_samples(batch, **size), device)
    grid = BEVGrid(cell=102.4 / args.grid)
    step = (_DEPTHS[1] - _DEPTHS[0]) / args.bins
    frustum = Frustum(image_size, _DEPTHS[0], step, grid.lower, grid.size, grid.count)
    view_to_bev, paste = ViewToBEV.of_frame(cameras, 0, image_size), None
    if pasted:
        paste = BEVPaste().sample_transforms(batch, generator)
        view_to_bev = BEVPaste().paste_views(view_to_bev, paste)
    geometry = {"undo_image_aug": view_to_bev.undo_image_aug, "image2bev": view_to_bev.image2bev}
    points = {"num_bins": args.bins, "feature_size": feature_size}
    thresholds = {
        "depth_threshold": 1 / args.bins,
        "foreground_threshold": _FOREGROUND_THRESHOLD,
    }
    cells = frustum_cells(**geometry, view=view_to_bev.view, **points, frustum=frustum)
    features = _features(args, (2 if pasted else 1, batch * args.views), kept, generator, device)
    in_cells = (cells >= 0) & (features[0] >= 1 / args.bins)[:, view_to_bev.view]
    return _Scene(
        name=f"B {batch}{', S 2, pasted' * pasted}, {in_cells.float().mean():.1%} kept",
        features=features,
        geometry=geometry,
        rest={
            "view": view_to_bev.view,
            "output": view_to_bev.sample,
            "num_outputs": view_to_bev.num_samples,
            **thresholds,
        },
        frustum=frustum,
        published=PublishedViewTransform(
            cameras=cameras, frustum=frustum, paste=paste, **points, **thresholds
        ),
        cells=cells,
    )


def _features(
    args: argparse.Namespace,
    shape: tuple[int, int],
    kept: float,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws weights, of which a random fraction is above the threshold, foreground and context."""
    height, width = _feature_size(args)
    scores = torch.rand(*shape, args.bins, height, width, generator=generator)
    weights = torch.where(scores < kept, scores + 2 / args.bins, 0.1 / args.bins)
    foreground = torch.full((*shape, height, width), 0.83, device=device)
    context = torch.randn(shape[1], args.channels, height, width, generator=generator)
    weights, context = (tensor.to(device).requires_grad_() for tensor in (weights, context))
    return weights, foreground, context


def _lift_splat_case(scene: _Scene) -> Case:
    """Returns the case of lift_splat."""
    settings = {**scene.geometry, **scene.rest}
    frustum = vars(scene.frustum)
    sides = {
        "ours": partial(lift_splat, *scene.features, **settings, frustum=scene.frustum),
        "reference": partial(lift_splat_reference, *scene.features, **settings, **frustum),
        "published": partial(scene.published, *scene.features),
    }
    return _case("lift_splat", scene, sides)


def _splat_cells_case(scene: _Scene) -> Case:
    """Returns the case of splat_cells; the published algorithm has precomputed points too."""
    points, inputs = scene.published.points(), (*scene.features, scene.cells)
    settings = {**scene.rest, "grid_size": (scene.frustum.count[1], scene.frustum.count[0])}
    sides = {
        "ours": partial(splat_cells, *inputs, **settings),
        "reference": partial(splat_cells_reference, *inputs, **settings),
        "published": partial(scene.published.pooled, points, *scene.features),
    }
    return _case("splat_cells", scene, sides)


def _case(op: str, scene: _Scene, sides: dict[str, Side]) -> Case:
    """Returns a case with gradients of weights and context."""
    is_slow = len(scene.features[0]) * scene.cells.numel() > _SLOW_POINTS
    slow = frozenset({"reference"} if is_slow else ())
    return Case(op, scene.name, sides, _maps_differ, scene.features[::2], slow)


def _feature_size(args: argparse.Namespace) -> tuple[int, int]:
    """Returns (h, w)."""
    return (args.image_size[0] // 16, args.image_size[1] // 16)


def _maps_differ(own: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> str:
    """Compares (S, B, C, Y, X) maps by the fraction of equal cells, and gradients by their norm."""
    if shapes := shapes_differ(own, other):
        return shapes
    difference = (own[0] - other[0]).abs().amax(dim=2) / own[0].abs().max()
    equal = (difference <= _CELL_TOLERANCE).float().mean().item()
    if not equal > _MIN_EQUAL:  # also if the fraction is NaN
        return f"{100 * equal:.3f} % of the cells are equal"
    for name, one, two in zip(("weights", "context"), own[1:], other[1:], strict=True):
        relative = ((one - two).norm() / one.norm()).item()
        if not relative <= _GRADIENT_TOLERANCE:
            return f"gradients of {name} differ by {relative:.2g}"
    return ""
