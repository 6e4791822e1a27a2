"""Cases of the view transform: lift_splat, and its entry with cells that are known beforehand.

Shapes: S weight sets, B samples, N cameras, V = B N views, D depth bins, C channels, h x w feature
map.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
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
#: Cells agree where no channel is farther apart than this share of the map's largest value.
_CELL_TOLERANCE = 1e-4
#: Share of cells that must agree: the published geometry is float32, so that a few frustum points
#: fall into a neighbouring cell.
_AGREEING = 0.999
#: The reference goes from splat to splat: it is slow with more frustum points than these.
_SLOW_POINTS = 1_000_000
#: Largest difference of two gradients, relative to one of them (L2 norms).
_GRADIENT_TOLERANCE = 1e-2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--bins", type=int, default=118, help="depth bins")
    add("--channels", type=int, default=80)
    add("--kept", type=float, nargs="+", default=(0.02, 0.7), help="shares that the masks keep")


def cases(args: argparse.Namespace, device: torch.device) -> Iterator[Case]:
    """Every batch and share; student and teacher with BEV-paste; a rig that never moves."""
    for batch in args.batch:
        for kept in args.kept:
            yield _lift_splat_case(_scene(args, device, batch, kept))
    yield _lift_splat_case(_scene(args, device, max(args.batch), args.kept[0], pasted=True))
    for kept in args.kept:
        yield _splat_cells_case(_scene(args, device, args.batch[0], kept))


@dataclass(frozen=True)
class _Scene:
    """Input of the view transform.

    Attributes:
        name: for the reader.
        features: (S, V, D, h, w) weights, (S, V, h, w) foreground, (V, C, h, w) context.
        geometry: ``undo_image_aug`` and ``image2bev``.
        rest: the other keywords that both entries take.
        frustum: depths of the points, and the grid.
        published: the published algorithm for the same cameras.
        cells: (P, D, h, w) int32 cell of every frustum point.
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
    """``pasted``: two weight sets, and every sample receives the next one's views too."""
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
    """Weights of which a share is above the threshold, at random points; all is foreground."""
    height, width = _feature_size(args)
    scores = torch.rand(*shape, args.bins, height, width, generator=generator)
    weights = torch.where(scores < kept, scores + 2 / args.bins, 0.1 / args.bins)
    foreground = torch.full((*shape, height, width), 0.83, device=device)
    context = torch.randn(shape[1], args.channels, height, width, generator=generator)
    weights, context = (tensor.to(device).requires_grad_() for tensor in (weights, context))
    return weights, foreground, context


def _lift_splat_case(scene: _Scene) -> Case:
    settings = {**scene.geometry, **scene.rest}
    frustum = vars(scene.frustum)
    sides = {
        "ours": lambda: lift_splat(*scene.features, **settings, frustum=scene.frustum),
        "reference": lambda: lift_splat_reference(*scene.features, **settings, **frustum),
        "published": lambda: scene.published(*scene.features),
    }
    return _case("lift_splat", scene, sides)


def _splat_cells_case(scene: _Scene) -> Case:
    """A rig that never moves: the published algorithm has its points beforehand, too."""
    points, inputs = scene.published.points(), (*scene.features, scene.cells)
    settings = {**scene.rest, "grid_size": (scene.frustum.count[1], scene.frustum.count[0])}
    sides = {
        "ours": lambda: splat_cells(*inputs, **settings),
        "reference": lambda: splat_cells_reference(*inputs, **settings),
        "published": lambda: scene.published.pooled(points, *scene.features),
    }
    return _case("splat_cells", scene, sides)


def _case(op: str, scene: _Scene, sides: dict[str, Side]) -> Case:
    is_slow = len(scene.features[0]) * scene.cells.numel() > _SLOW_POINTS
    slow = frozenset({"reference"} if is_slow else ())
    return Case(op, scene.name, sides, _maps_differ, scene.features[::2], slow)


def _feature_size(args: argparse.Namespace) -> tuple[int, int]:
    return (args.image_size[0] // 16, args.image_size[1] // 16)


def _maps_differ(own: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> str:
    """(S, B, C, Y, X) maps by the share of cells that agree, gradients by the relative norm."""
    if shapes := shapes_differ(own, other):
        return shapes
    apart = (own[0] - other[0]).abs().amax(dim=2) / own[0].abs().max()
    agreeing = (apart <= _CELL_TOLERANCE).float().mean().item()
    if not agreeing > _AGREEING:
        return f"{100 * agreeing:.3f} % of the cells are the same"
    for name, one, two in zip(("weights", "context"), own[1:], other[1:], strict=True):
        apart = ((one - two).norm() / one.norm()).item()
        if not apart <= _GRADIENT_TOLERANCE:
            return f"gradients of {name} differ by {apart:.2g}"
    return ""
