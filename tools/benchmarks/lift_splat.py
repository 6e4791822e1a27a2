"""Cases of the view transform: lift_splat, and its entry with cells that are known beforehand."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fsdbev.layers import (
    Frustum,
    frustum_cells,
    frustum_cells_reference,
    lift_splat,
    lift_splat_reference,
    splat_cells,
    splat_cells_reference,
)
from fsdbev.modeling.bev_paste import BEVPaste
from fsdbev.modeling.view_transform import Splats

from .interleaved import Case, Values, bytes_of, shapes_differ
from .reference_view_transform import ReferenceViewTransform
from .surround_view import MASKS, THRESHOLD, Sizes

#: Cells agree where no channel is farther apart than this share of the map's largest value.
_CELL_TOLERANCE = 1e-4
#: Share of cells (or points) that must agree: the reference's geometry is float32, so that a few
#: frustum points land next door.
_AGREEING = 0.999
#: The twin, which goes from splat to splat, is slow where there are more frustum points than these.
_SLOW_POINTS = 1_000_000
#: How large the difference of two gradients may be, relative to one of them (L2 norms).
_GRADIENT_TOLERANCE = 1e-2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, nargs="+", default=(1, 8), help="samples")
    parser.add_argument(
        "--kept", type=float, nargs="+", default=(0.02, 0.7), help="shares that the masks keep"
    )
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=tuple(MASKS))


def heading(args: argparse.Namespace, sizes: Sizes) -> str:
    return str(sizes)


def cases(args: argparse.Namespace, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Every batch with every mask; student and teacher with BEV-paste; a rig that never moves."""
    for batch in args.batch:
        for kept in args.kept:
            for masks in args.masks:
                yield lift_splat_case(make_scene(sizes, device, batch, kept, masks))
    batch, kept, masks = max(args.batch), args.kept[0], args.masks[-1]
    yield lift_splat_case(make_scene(sizes, device, batch, kept, masks, pasted=True))
    for kept in args.kept:
        yield splat_cells_case(make_scene(sizes, device, args.batch[0], kept, masks))
    yield frustum_cells_case(make_scene(sizes, device, args.batch[0], kept, masks))


@dataclass(frozen=True)
class Scene:
    """What the view transform is given, and what the sides have in common.

    Letters as in ``fsdbev.layers.lift_splat``.

    Attributes:
        name: for the reader.
        features: (S, V, D, h, w) weights, (S, V, h, w) foreground, (V, C, h, w) context.
        cameras: ``undo_image_aug``, ``image2bev`` and ``view``.
        receivers: ``output`` and ``num_outputs``.
        frustum: the points and the grid.
        reference: the published algorithm for the same cameras.
        cells: (P, D, h, w) int32 cell of every frustum point.
    """

    name: str
    features: tuple[Tensor, Tensor, Tensor]
    cameras: dict[str, Tensor]
    receivers: dict[str, Any]
    frustum: Frustum
    reference: ReferenceViewTransform
    cells: Tensor

    @property
    def thresholds(self) -> dict[str, float]:
        depth, foreground = self.reference.thresholds
        return {"depth_threshold": depth, "foreground_threshold": foreground}

    def kept(self) -> Tensor:
        """(S, P, D, h, w) whether a frustum point ends up in a cell."""
        weights, foreground, _ = self.features
        depth, least = self.reference.thresholds
        mask = (weights >= depth) & (foreground >= least)[:, :, None]
        return (self.cells >= 0) & mask[:, self.cameras["view"]]

    def bev_shape(self) -> tuple[int, ...]:
        weights, _, context = self.features
        batch, grid_size = self.receivers["num_outputs"], self.frustum.count[1::-1]
        return (len(weights), batch, context.shape[1], *grid_size)


def make_scene(
    sizes: Sizes, device: torch.device, batch: int, kept: float, masks: str, pasted: bool = False
) -> Scene:
    """``pasted``: two weight sets, and every sample receives the next one's views too."""
    generator = torch.Generator().manual_seed(0)
    num_views, feature_size = batch * sizes.views, sizes.feature_size
    shape = (2 if pasted else 1, num_views, sizes.bins, *feature_size)
    weights, foreground = MASKS[masks](kept, shape, generator)
    context = torch.randn(num_views, sizes.channels, *feature_size, generator=generator)
    rig, frustum = sizes.cameras(batch, device), sizes.frustum()
    splats, paste = Splats.of_frame(rig, 0, sizes.image_size), None
    if pasted:
        paste = BEVPaste().sample_transforms(batch, generator)
        splats = BEVPaste().paste_splats(splats, paste)
    cameras = {name: getattr(splats, name) for name in ("undo_image_aug", "image2bev", "view")}
    frustum_size = {"num_bins": sizes.bins, "feature_size": feature_size}
    return Scene(
        name=f"B {batch} {masks} {kept:g}" + (", S 2, pasted" if pasted else ""),
        features=(
            weights.to(device).requires_grad_(),
            foreground.to(device),
            context.to(device).requires_grad_(),
        ),
        cameras=cameras,
        receivers={"output": splats.sample, "num_outputs": splats.num_samples},
        frustum=frustum,
        reference=ReferenceViewTransform(
            cameras=rig,
            frustum=frustum,
            depth_threshold=1 / sizes.bins,
            foreground_threshold=THRESHOLD,
            paste=paste,
            **frustum_size,
        ),
        cells=frustum_cells(**cameras, **frustum_size, frustum=frustum),
    )


def lift_splat_case(scene: Scene) -> Case:
    settings = {**scene.cameras, **scene.receivers, **scene.thresholds}
    sides = {
        "ours": lambda: lift_splat(*scene.features, **settings, frustum=scene.frustum),
        "twin": lambda: lift_splat_reference(*scene.features, **settings, **vars(scene.frustum)),
        "reference": lambda: scene.reference(*scene.features),
    }
    return _splatting_case("lift_splat", scene, sides)


def splat_cells_case(scene: Scene) -> Case:
    """A rig that never moves: the published algorithm has its points beforehand, too."""
    settings = {"view": scene.cameras["view"], **scene.receivers, **scene.thresholds}
    settings["grid_size"] = scene.bev_shape()[-2:]
    places = scene.reference.places()
    sides = {
        "ours": lambda: splat_cells(*scene.features, scene.cells, **settings),
        "twin": lambda: splat_cells_reference(*scene.features, scene.cells, **settings),
        "reference": lambda: scene.reference.pooled(places, *scene.features),
    }
    return _splatting_case("splat_cells", scene, sides, scene.cells)


def frustum_cells_case(scene: Scene) -> Case:
    size = {"num_bins": scene.cells.shape[1], "feature_size": tuple(scene.cells.shape[2:])}
    sides = {
        "ours": lambda: frustum_cells(**scene.cameras, **size, frustum=scene.frustum),
        "twin": lambda: frustum_cells_reference(**scene.cameras, **size, **vars(scene.frustum)),
        "reference": scene.reference.cell_numbers,
    }
    batch = scene.receivers["num_outputs"]
    return Case("frustum_cells", f"B {batch}", sides, _points_differ, (bytes_of(scene.cells),))


def _splatting_case(
    op: str, scene: Scene, sides: dict[str, Callable[[], Tensor]], *places: Tensor
) -> Case:
    weights, _, context = scene.features
    read = bytes_of(*scene.features, *places)
    bev = math.prod(scene.bev_shape()) * torch.float32.itemsize
    forward, backward = read + bev, read + bev + bytes_of(weights, context)
    kept = scene.kept()
    return Case(
        op=op,
        sizes=scene.name,
        sides=sides,
        difference=_maps_differ,
        moved=(forward, forward + backward),
        inputs=(weights, context),
        kept=kept.float().mean().item(),
        slow=frozenset({"twin"}) if kept.numel() > _SLOW_POINTS else frozenset(),
    )


def _maps_differ(own: Values, other: Values) -> str:
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


def _points_differ(own: Values, other: Values) -> str:
    if shapes := shapes_differ(own, other):
        return shapes
    agreeing = (own[0] == other[0]).float().mean().item()
    return "" if agreeing > _AGREEING else f"{100 * agreeing:.3f} % of the points are the same"
